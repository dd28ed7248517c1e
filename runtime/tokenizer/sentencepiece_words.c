/* sentencepiece_words.c - see sentencepiece_words.h for the contract. */
#include "runtime/tokenizer/sentencepiece_words.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "runtime/tokenizer/sentencepiece.h"
#include "runtime/tokenizer/trie.h"
#include "runtime/tokenizer/unicode_script.h"

enum { N_CODEPOINTS = 0x110000 };

#define REPLACEMENT    "\xef\xbf\xbd" /* U+FFFD */
#define UNKNOWN_SYMBOL "\xe2\x96\x85" /* U+2585 */

struct line_cutter {
    const struct qr_trie *left_out;
    struct qr_buffer word;
};

static enum qr_status begin_cutting(const void *model, void **state)
{
    struct line_cutter *cutter = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*cutter));

    *state = cutter;
    if (cutter == NULL)
        return QR_ERR_NOMEM;
    *cutter = (struct line_cutter){.left_out = model, .word = {.arena = QR_ARENA_ENGINE}};
    return qr_buffer_append(&cutter->word, QR_SPACE_SYMBOL, QR_SPACE_SYMBOL_BYTES);
}

static void end_cutting(void *state)
{
    struct line_cutter *cutter = state;

    if (cutter != NULL)
        qr_buffer_free(&cutter->word);
    qr_free(cutter);
}

/* The word, which begins with a space symbol, and another one begins. */
static enum qr_status finish_word(struct line_cutter *cutter, struct qr_word_counts *counts)
{
    if (cutter->word.length == QR_SPACE_SYMBOL_BYTES)
        return QR_OK;
    QR_TRY(qr_word_counts_add(counts, cutter->word.data, cutter->word.length, 1));
    cutter->word.length = QR_SPACE_SYMBOL_BYTES;
    return QR_OK;
}

/* A special token becomes NUL, which has no piece: nothing joins across it. */
static enum qr_status cut_line(void *state, const char *line, size_t n_bytes,
                               struct qr_word_counts *counts)
{
    struct line_cutter *cutter = state;

    if (n_bytes > 0 && line[n_bytes - 1] == '\n')
        n_bytes--;
    if (memmem(line, n_bytes, UNKNOWN_SYMBOL, strlen(UNKNOWN_SYMBOL)) != NULL)
        return QR_OK;
    for (size_t at = 0; at < n_bytes;) {
        size_t length;
        if (qr_trie_longest(cutter->left_out, line + at, n_bytes - at, &length) >= 0) {
            QR_TRY(qr_buffer_append(&cutter->word, "", 1));
            at += length;
            continue;
        }
        int n = qr_utf8_char_length(line + at, n_bytes - at);
        if (line[at] == ' ' || (n == QR_SPACE_SYMBOL_BYTES &&
                                memcmp(line + at, QR_SPACE_SYMBOL, QR_SPACE_SYMBOL_BYTES) == 0))
            QR_TRY(finish_word(cutter, counts));
        else if (n > 0)
            QR_TRY(qr_buffer_append(&cutter->word, line + at, (size_t)n));
        else
            QR_TRY(qr_buffer_append(&cutter->word, REPLACEMENT, strlen(REPLACEMENT)));
        at += n > 0 ? (size_t)n : 1;
    }
    return finish_word(cutter, counts);
}

static enum qr_status count_words(struct qr_word_counts *counts,
                                  const struct qr_trainer_config *config, const char *const *files,
                                  int32_t n_files, struct qr_error *err)
{
    static const char *const always[] = {"<unk>", "<s>", "</s>"};
    struct qr_trie left_out = {0};
    const struct qr_word_cutter cutter = {&left_out, begin_cutting, cut_line, end_cutting};
    enum qr_status status = QR_OK;

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]) && status == QR_OK; i++)
        status = qr_trie_add(&left_out, always[i], strlen(always[i]), 0);
    for (int32_t i = 0; i < config->n_special && status == QR_OK; i++)
        status =
            qr_trie_add(&left_out, config->special_tokens[i], strlen(config->special_tokens[i]), 0);
    if (status == QR_OK)
        status = qr_word_counts_read(counts, &cutter, config, files, n_files, err);
    qr_trie_free(&left_out);
    return status;
}

/* The code point at text[*at], which is valid UTF-8; *at goes on. */
static int32_t next_codepoint(const char *text, size_t n_bytes, size_t *at)
{
    utf8proc_int32_t codepoint;

    *at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + *at,
                                    (utf8proc_ssize_t)(n_bytes - *at), &codepoint);
    return codepoint;
}

static void count_chars(const struct qr_word_counts *counts, int64_t *by_codepoint)
{
    for (int32_t i = 0; i < counts->words.count; i++) {
        const char *text = qr_string_table_text(&counts->words, i);
        size_t n_bytes = qr_string_table_length(&counts->words, i);
        for (size_t at = 0; at < n_bytes;)
            by_codepoint[next_codepoint(text, n_bytes, &at)] += counts->counts[i];
    }
    by_codepoint[0] = 0; /* NUL cannot be a piece of SentencePiece's */
}

static int by_falling_count(const void *a, const void *b)
{
    const struct qr_training_char *left = a;
    const struct qr_training_char *right = b;

    if (left->count != right->count)
        return left->count < right->count ? 1 : -1;
    return (left->codepoint > right->codepoint) - (left->codepoint < right->codepoint);
}

static enum qr_status choose_chars(struct qr_training_text *text, const int64_t *by_codepoint,
                                   float coverage)
{
    int64_t total = 0;
    int64_t covered = 0;
    int32_t n = 0;

    for (int32_t i = 0; i < N_CODEPOINTS; i++)
        n += by_codepoint[i] > 0;
    text->chars = qr_calloc(QR_ARENA_ENGINE, (size_t)n, sizeof(*text->chars));
    if (text->chars == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0, k = 0; i < N_CODEPOINTS; i++) {
        total += by_codepoint[i];
        if (by_codepoint[i] > 0)
            text->chars[k++] = (struct qr_training_char){.codepoint = i, .count = by_codepoint[i]};
    }
    qsort(text->chars, (size_t)n, sizeof(*text->chars), by_falling_count);
    while (text->n_chars < n && (float)((double)covered / (double)total) < coverage)
        covered += text->chars[text->n_chars++].count;
    return qr_unicode_scripts(text->chars, text->n_chars);
}

static enum qr_status cut_words(struct qr_training_text *text, const struct qr_word_counts *counts,
                                int32_t *index_of)
{
    size_t n_symbols = 0;

    for (int32_t i = 0; i < N_CODEPOINTS; i++)
        index_of[i] = -1;
    for (int32_t i = 0; i < text->n_chars; i++)
        index_of[text->chars[i].codepoint] = i;
    text->n_words = counts->words.count;
    text->words = qr_calloc(QR_ARENA_ENGINE, (size_t)text->n_words, sizeof(*text->words));
    text->symbols = qr_calloc(QR_ARENA_ENGINE, counts->words.bytes.length, sizeof(*text->symbols));
    if (text->words == NULL || text->symbols == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < text->n_words; i++) {
        const char *bytes = qr_string_table_text(&counts->words, i);
        size_t n_bytes = qr_string_table_length(&counts->words, i);
        struct qr_training_word *word = &text->words[i];
        word->begin = n_symbols;
        word->count = counts->counts[i];
        for (size_t at = 0; at < n_bytes;)
            text->symbols[n_symbols++] = index_of[next_codepoint(bytes, n_bytes, &at)];
        word->length = (int32_t)(n_symbols - word->begin);
    }
    return QR_OK;
}

enum qr_status qr_training_text_read(struct qr_training_text *text,
                                     const struct qr_trainer_config *config,
                                     const char *const *files, int32_t n_files,
                                     struct qr_error *err)
{
    struct qr_word_counts counts = {0};
    int64_t *by_codepoint = qr_calloc(QR_ARENA_ENGINE, N_CODEPOINTS, sizeof(*by_codepoint));
    int32_t *index_of = qr_calloc(QR_ARENA_ENGINE, N_CODEPOINTS, sizeof(*index_of));
    enum qr_status status = by_codepoint == NULL || index_of == NULL ? QR_ERR_NOMEM : QR_OK;

    if (status == QR_OK)
        status = count_words(&counts, config, files, n_files, err);
    if (status == QR_OK) {
        count_chars(&counts, by_codepoint);
        status = choose_chars(text, by_codepoint, config->character_coverage);
    }
    if (status == QR_OK)
        status = cut_words(text, &counts, index_of);
    qr_word_counts_free(&counts);
    qr_free(by_codepoint);
    qr_free(index_of);
    return status;
}

void qr_training_text_free(struct qr_training_text *text)
{
    qr_free(text->chars);
    qr_free(text->words);
    qr_free(text->symbols);
    *text = (struct qr_training_text){0};
}
