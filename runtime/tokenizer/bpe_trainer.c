/* bpe_trainer.c - see bpe_trainer.h for the contract. */
#include "runtime/tokenizer/bpe_trainer.h"

#include <string.h>

#include "base/array.h"
#include "runtime/tokenizer/bpe_writer.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/pair_queue.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/word_counts.h"

enum { MERGES_BETWEEN_REPORTS = 64 };

/* A word's symbols are symbols[begin .. begin + length). */
struct word {
    size_t begin;
    int32_t length;
    int64_t count;
};

struct trainer {
    const struct qr_bpe_trainer_config *config;
    struct qr_string_table vocab; /* tokens in the byte alphabet */
    struct qr_bpe_merge *merges;  /* [n_merges] */
    int32_t n_merges;
    int32_t merges_capacity;
    struct word *words; /* [n_words] */
    int32_t n_words;
    int32_t *symbols; /* token ids */
    struct qr_pair_queue queue;
};

static void report(const struct trainer *trainer, int64_t done, int64_t total)
{
    if (trainer->config->progress != NULL)
        trainer->config->progress(trainer->config->progress_arg, "merging", done, total);
}

static enum qr_status check_config(const struct qr_bpe_trainer_config *config, struct qr_error *err)
{
    int32_t least = QR_BPE_N_BYTES + config->n_special;

    if (config->vocab_size < least)
        return qr_fail(err, QR_ERR_INVALID,
                       "vocab_size: %d is too small; the 256 bytes and %d special tokens need "
                       "at least %d",
                       config->vocab_size, config->n_special, least);
    for (int32_t i = 0; i < config->n_special; i++) {
        if (config->special_tokens[i][0] == '\0')
            return qr_fail(err, QR_ERR_INVALID, "special token %d is empty", i);
        for (int32_t k = 0; k < i; k++) {
            if (strcmp(config->special_tokens[i], config->special_tokens[k]) == 0)
                return qr_fail(err, QR_ERR_INVALID, "the special token \"%s\" is given twice",
                               config->special_tokens[i]);
        }
    }
    return QR_OK;
}

/* The special tokens get the first ids, then the bytes in the order of their characters. */
static enum qr_status add_base_vocab(struct trainer *trainer, int32_t byte_id[QR_BPE_N_BYTES])
{
    const struct qr_bpe_trainer_config *config = trainer->config;
    int32_t id;

    for (int32_t i = 0; i < config->n_special; i++)
        QR_TRY(qr_string_table_add(&trainer->vocab, config->special_tokens[i],
                                   strlen(config->special_tokens[i]), &id));
    for (int32_t codepoint = 0; codepoint < 2 * QR_BPE_N_BYTES; codepoint++) {
        int32_t byte = qr_codepoint_to_byte(codepoint);
        char text[QR_BYTE_CHAR_MAX];
        if (byte >= 0)
            QR_TRY(qr_string_table_add(&trainer->vocab, text, qr_byte_to_char((uint8_t)byte, text),
                                       &byte_id[byte]));
    }
    return QR_OK;
}

static enum qr_status cut_words(struct trainer *trainer, const struct qr_word_counts *counts,
                                const int32_t byte_id[QR_BPE_N_BYTES])
{
    size_t n_symbols = counts->words.bytes.length;

    trainer->n_words = counts->words.count;
    trainer->words = qr_calloc(QR_ARENA_ENGINE, (size_t)trainer->n_words, sizeof(*trainer->words));
    trainer->symbols = qr_calloc(QR_ARENA_ENGINE, n_symbols, sizeof(*trainer->symbols));
    if (trainer->words == NULL || trainer->symbols == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < n_symbols; i++)
        trainer->symbols[i] = byte_id[(uint8_t)counts->words.bytes.data[i]];
    for (int32_t i = 0; i < trainer->n_words; i++) {
        trainer->words[i] = (struct word){
            .begin = counts->words.entries[i].offset,
            .length = (int32_t)counts->words.entries[i].length,
            .count = counts->counts[i],
        };
    }
    return QR_OK;
}

static enum qr_status count_pairs(struct trainer *trainer)
{
    for (int32_t i = 0; i < trainer->n_words; i++) {
        const struct word *word = &trainer->words[i];
        const int32_t *symbols = trainer->symbols + word->begin;
        for (int32_t k = 0; k + 1 < word->length; k++)
            QR_TRY(
                qr_pair_queue_change(&trainer->queue, symbols[k], symbols[k + 1], word->count, i));
    }
    return qr_pair_queue_flush(&trainer->queue);
}

/* Joins the pair wherever it stands in the word, from the left. */
static enum qr_status merge_in_word(struct trainer *trainer, int32_t word_index,
                                    const struct qr_pair_entry *pair, int32_t merged)
{
    struct word *word = &trainer->words[word_index];
    struct qr_pair_queue *queue = &trainer->queue;
    int32_t *symbols = trainer->symbols + word->begin;
    int64_t count = word->count;
    int32_t n_out = 0;

    for (int32_t i = 0; i < word->length; i++) {
        if (symbols[i] != pair->left || i + 1 >= word->length || symbols[i + 1] != pair->right) {
            symbols[n_out++] = symbols[i];
            continue;
        }
        if (n_out > 0) {
            int32_t before = symbols[n_out - 1];
            QR_TRY(qr_pair_queue_change(queue, before, pair->left, -count, word_index));
            QR_TRY(qr_pair_queue_change(queue, before, merged, count, word_index));
        }
        i++;
        if (i + 1 < word->length) {
            int32_t after = symbols[i + 1];
            QR_TRY(qr_pair_queue_change(queue, pair->right, after, -count, word_index));
            QR_TRY(qr_pair_queue_change(queue, merged, after, count, word_index));
        }
        symbols[n_out++] = merged;
    }
    word->length = n_out;
    return QR_OK;
}

static enum qr_status add_merged_token(struct trainer *trainer, int32_t left, int32_t right,
                                       int32_t *merged)
{
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    const struct qr_string_table *vocab = &trainer->vocab;
    enum qr_status status;

    status = qr_buffer_append(&text, qr_string_table_text(vocab, left),
                              qr_string_table_length(vocab, left));
    if (status == QR_OK)
        status = qr_buffer_append(&text, qr_string_table_text(vocab, right),
                                  qr_string_table_length(vocab, right));
    if (status == QR_OK)
        status = qr_string_table_add(&trainer->vocab, text.data, text.length, merged);
    qr_buffer_free(&text);
    return status;
}

static enum qr_status add_merge(struct trainer *trainer, const struct qr_pair_entry *pair)
{
    int32_t merged;

    void *grown = qr_array_grow(QR_ARENA_ENGINE, trainer->merges, trainer->n_merges,
                                &trainer->merges_capacity, sizeof(*trainer->merges));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    trainer->merges = grown;
    QR_TRY(add_merged_token(trainer, pair->left, pair->right, &merged));
    trainer->merges[trainer->n_merges++] =
        (struct qr_bpe_merge){.left = pair->left, .right = pair->right};
    for (int32_t i = 0; i < pair->words.count; i++)
        QR_TRY(merge_in_word(trainer, pair->words.items[i], pair, merged));
    return qr_pair_queue_flush(&trainer->queue);
}

static enum qr_status merge_pairs(struct trainer *trainer)
{
    int64_t min_frequency = trainer->config->min_frequency;
    int32_t total = trainer->config->vocab_size;
    struct qr_pair_entry pair;

    while (trainer->vocab.count < total && qr_pair_queue_pop(&trainer->queue, &pair)) {
        enum qr_status status = QR_OK;
        bool is_rare = pair.count < 1 || pair.count < min_frequency;
        if (!is_rare)
            status = add_merge(trainer, &pair);
        qr_free(pair.words.items);
        QR_TRY(status);
        if (is_rare)
            break;
        if (trainer->n_merges % MERGES_BETWEEN_REPORTS == 0)
            report(trainer, trainer->vocab.count, total);
    }
    report(trainer, trainer->vocab.count, trainer->vocab.count);
    return QR_OK;
}

static enum qr_status read_words(struct trainer *trainer, const char *const *files, int32_t n_files,
                                 struct qr_error *err)
{
    const struct qr_bpe_trainer_config *config = trainer->config;
    int32_t byte_id[QR_BPE_N_BYTES];
    struct qr_word_counts counts = {0};
    struct qr_regex *regex = NULL;

    enum qr_status status = qr_regex_compile(QR_GPT2_PATTERN, &regex, err);
    if (status == QR_OK)
        status = qr_word_counts_read(&counts, regex, files, n_files, config->progress,
                                     config->progress_arg, err);
    if (status == QR_OK)
        status = add_base_vocab(trainer, byte_id);
    if (status == QR_OK)
        status = cut_words(trainer, &counts, byte_id);
    qr_word_counts_free(&counts);
    qr_regex_free(regex);
    return status;
}

enum qr_status qr_bpe_train(const struct qr_bpe_trainer_config *config, const char *const *files,
                            int32_t n_files, const char *output_dir, struct qr_error *err)
{
    struct trainer trainer = {.config = config};
    enum qr_status status = check_config(config, err);

    if (status == QR_OK)
        status = read_words(&trainer, files, n_files, err);
    if (status == QR_OK)
        status = count_pairs(&trainer);
    if (status == QR_OK)
        status = merge_pairs(&trainer);
    if (status == QR_OK)
        status = qr_bpe_write(output_dir, &trainer.vocab, config->n_special, trainer.merges,
                              trainer.n_merges, err);
    if (status == QR_ERR_NOMEM)
        status = qr_fail(err, QR_ERR_NOMEM, "out of memory while training");
    qr_pair_queue_free(&trainer.queue);
    qr_string_table_free(&trainer.vocab);
    qr_free(trainer.merges);
    qr_free(trainer.words);
    qr_free(trainer.symbols);
    return status;
}
