/* merge_trainer.c - see merge_trainer.h for the contract. */
#include "runtime/tokenizer/merge_trainer.h"

#include "base/array.h"
#include "base/buffer.h"

enum { MERGES_BETWEEN_REPORTS = 64 };

static enum qr_status change(struct qr_merge_trainer *trainer, int32_t left, int32_t right,
                             int64_t delta, int32_t word)
{
    const struct qr_merge_rules *rules = &trainer->rules;

    if (rules->may_join != NULL && !rules->may_join(rules->arg, left, right))
        return QR_OK;
    return qr_pair_queue_change(&trainer->queue, left, right, delta, word);
}

static enum qr_status count_pairs(struct qr_merge_trainer *trainer)
{
    for (int32_t i = 0; i < trainer->n_words; i++) {
        const struct qr_training_word *word = &trainer->words[i];
        const int32_t *symbols = trainer->symbols + word->begin;
        for (int32_t k = 0; k + 1 < word->length; k++)
            QR_TRY(change(trainer, symbols[k], symbols[k + 1], word->count, i));
    }
    return qr_pair_queue_flush(&trainer->queue);
}

/* Joins the pair wherever it stands in the word, from the left. */
static enum qr_status merge_in_word(struct qr_merge_trainer *trainer, int32_t word_index,
                                    const struct qr_pair_entry *pair, int32_t merged)
{
    struct qr_training_word *word = &trainer->words[word_index];
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
            QR_TRY(change(trainer, before, pair->left, -count, word_index));
            QR_TRY(change(trainer, before, merged, count, word_index));
        }
        i++;
        if (i + 1 < word->length) {
            int32_t after = symbols[i + 1];
            QR_TRY(change(trainer, pair->right, after, -count, word_index));
            QR_TRY(change(trainer, merged, after, count, word_index));
        }
        symbols[n_out++] = merged;
    }
    word->length = n_out;
    return QR_OK;
}

static enum qr_status add_token(struct qr_merge_trainer *trainer, int32_t left, int32_t right,
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

static enum qr_status add_merge(struct qr_merge_trainer *trainer, const struct qr_pair_entry *pair)
{
    const struct qr_merge_rules *rules = &trainer->rules;
    int32_t n_tokens = trainer->vocab.count;
    int32_t merged;

    void *grown = qr_array_grow(QR_ARENA_ENGINE, trainer->merges, trainer->n_merges,
                                &trainer->merges_capacity, sizeof(*trainer->merges));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    trainer->merges = grown;
    QR_TRY(add_token(trainer, pair->left, pair->right, &merged));
    if (merged < n_tokens && !rules->repeats_tokens)
        return QR_OK;
    trainer->merges[trainer->n_merges++] =
        (struct qr_bpe_merge){.left = pair->left, .right = pair->right};
    if (rules->on_merge != NULL)
        QR_TRY(rules->on_merge(rules->arg, pair->left, pair->right, merged));
    for (int32_t i = 0; i < pair->words.count; i++)
        QR_TRY(merge_in_word(trainer, pair->words.items[i], pair, merged));
    return qr_pair_queue_flush(&trainer->queue);
}

static void report(const struct qr_trainer_config *config, int64_t done, int64_t total)
{
    if (config->progress != NULL)
        config->progress(config->progress_arg, "merging", done, total);
}

enum qr_status qr_merge_trainer_run(struct qr_merge_trainer *trainer, int32_t vocab_size,
                                    const struct qr_trainer_config *config)
{
    struct qr_pair_entry pair;
    int64_t n_done = 0;

    QR_TRY(count_pairs(trainer));
    while (trainer->vocab.count < vocab_size && qr_pair_queue_pop(&trainer->queue, &pair)) {
        enum qr_status status = QR_OK;
        bool is_rare = pair.count < trainer->rules.min_count;
        if (!is_rare)
            status = add_merge(trainer, &pair);
        qr_free(pair.words.items);
        QR_TRY(status);
        if (is_rare)
            break;
        if (++n_done % MERGES_BETWEEN_REPORTS == 0 && trainer->vocab.count < vocab_size)
            report(config, trainer->vocab.count, vocab_size);
    }
    report(config, trainer->vocab.count, trainer->vocab.count);
    return QR_OK;
}

void qr_merge_trainer_free(struct qr_merge_trainer *trainer)
{
    qr_pair_queue_free(&trainer->queue);
    qr_string_table_free(&trainer->vocab);
    qr_free(trainer->merges);
    qr_free(trainer->words);
    qr_free(trainer->symbols);
    *trainer = (struct qr_merge_trainer){.n_merges = 0};
}
