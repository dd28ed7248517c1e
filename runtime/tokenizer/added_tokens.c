/* added_tokens.c - see added_tokens.h for the contract. */
#include "runtime/tokenizer/added_tokens.h"

#include "base/array.h"
#include "runtime/tokenizer/unicode.h"

enum qr_status qr_added_tokens_add(struct qr_added_tokens *added,
                                   const struct qr_added_token *token, const char *text,
                                   size_t n_bytes)
{
    void *grown = qr_array_grow(QR_ARENA_ENGINE, added->items, added->count, &added->capacity,
                                sizeof(*added->items));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    added->items = grown;
    added->items[added->count] = *token;
    QR_TRY(qr_trie_add(&added->tries[token->is_normalized], text, n_bytes, added->count));
    added->count++;
    return QR_OK;
}

/* Whether the match stands by itself: no letter, digit or mark of a word beside it. */
static bool is_single_word(const char *text, size_t n_bytes, size_t begin, size_t end)
{
    size_t length;

    if (begin > 0) {
        size_t before = qr_unicode_char_back(text, 0, begin);
        if (qr_unicode_is_word(qr_unicode_char(text + before, begin - before, &length)))
            return false;
    }
    return end == n_bytes ||
           !qr_unicode_is_word(qr_unicode_char(text + end, n_bytes - end, &length));
}

bool qr_added_tokens_next(const struct qr_added_tokens *added, bool is_normalized,
                          bool with_special, const char *text, size_t n_bytes, size_t from,
                          struct qr_added_match *match)
{
    const struct qr_trie *trie = &added->tries[is_normalized];

    if (trie->count == 0)
        return false;
    for (size_t i = from; (i = qr_trie_candidate(trie, text, n_bytes, i)) < n_bytes;) {
        size_t length;
        int32_t index = qr_trie_longest(trie, text + i, n_bytes - i, &length);
        if (index < 0) {
            i++;
            continue;
        }
        const struct qr_added_token *token = &added->items[index];
        size_t end = i + length;
        /* As in the reference implementation a match that does not count hides those in it. */
        if ((token->is_special && !with_special) ||
            (token->is_single_word && !is_single_word(text, n_bytes, i, end))) {
            i = end;
            continue;
        }
        *match = (struct qr_added_match){
            .id = token->id,
            .begin = token->takes_left ? qr_unicode_skip_space_back(text, from, i) : i,
            .end = token->takes_right ? qr_unicode_skip_space(text, n_bytes, end) : end,
        };
        return true;
    }
    return false;
}

int32_t qr_added_tokens_find_special(const struct qr_added_tokens *added, const char *text,
                                     size_t n_bytes)
{
    for (int i = 0; i < 2; i++) {
        size_t length;
        int32_t index = qr_trie_longest(&added->tries[i], text, n_bytes, &length);
        if (index >= 0 && length == n_bytes && added->items[index].is_special)
            return added->items[index].id;
    }
    return -1;
}

void qr_added_tokens_free(struct qr_added_tokens *added)
{
    qr_free(added->items);
    for (int i = 0; i < 2; i++)
        qr_trie_free(&added->tries[i]);
    *added = (struct qr_added_tokens){0};
}
