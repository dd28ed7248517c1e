/* added_tokens.c - see added_tokens.h for the contract. */
#include "runtime/tokenizer/added_tokens.h"

#include <utf8proc.h>

#include "base/array.h"

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
    QR_TRY(qr_trie_add(&added->tries[token->is_normalized][1], text, n_bytes, added->count));
    if (!token->is_special)
        QR_TRY(qr_trie_add(&added->tries[token->is_normalized][0], text, n_bytes, added->count));
    added->count++;
    return QR_OK;
}

static bool is_white_space(utf8proc_int32_t codepoint)
{
    if ((codepoint >= 0x09 && codepoint <= 0x0d) || codepoint == 0x85)
        return true;
    utf8proc_category_t category = utf8proc_category(codepoint);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

static size_t skip_white_space(const char *text, size_t n_bytes, size_t from)
{
    while (from < n_bytes) {
        utf8proc_int32_t codepoint;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + from,
                                              (utf8proc_ssize_t)(n_bytes - from), &codepoint);
        if (n <= 0 || !is_white_space(codepoint))
            break;
        from += (size_t)n;
    }
    return from;
}

/* The beginning of the white space that ends at `end`, not before `least`. */
static size_t skip_white_space_back(const char *text, size_t least, size_t end)
{
    while (end > least) {
        size_t begin = end - 1;
        while (begin > least && ((unsigned char)text[begin] & 0xc0) == 0x80)
            begin--;
        if (skip_white_space(text, end, begin) != end)
            break;
        end = begin;
    }
    return end;
}

bool qr_added_tokens_next(const struct qr_added_tokens *added, bool is_normalized,
                          bool with_special, const char *text, size_t n_bytes, size_t from,
                          struct qr_added_match *match)
{
    const struct qr_trie *trie = &added->tries[is_normalized][with_special];

    if (trie->count == 0)
        return false;
    for (size_t i = from; i < n_bytes; i++) {
        size_t length;
        int32_t index = qr_trie_longest(trie, text + i, n_bytes - i, &length);
        if (index < 0)
            continue;
        const struct qr_added_token *token = &added->items[index];
        size_t end = i + length;
        *match = (struct qr_added_match){
            .id = token->id,
            .begin = token->takes_left ? skip_white_space_back(text, from, i) : i,
            .end = token->takes_right ? skip_white_space(text, n_bytes, end) : end,
        };
        return true;
    }
    return false;
}

void qr_added_tokens_free(struct qr_added_tokens *added)
{
    qr_free(added->items);
    for (int i = 0; i < 4; i++)
        qr_trie_free(&added->tries[i / 2][i % 2]);
    *added = (struct qr_added_tokens){0};
}
