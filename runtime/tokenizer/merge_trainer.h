/*
 * merge_trainer.h - learns merges from words: again and again the most frequent pair of
 * neighbouring symbols becomes a token (Sennrich et al., 2016).
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_MERGE_TRAINER_H
#define QUIRE_RUNTIME_TOKENIZER_MERGE_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/bpe_writer.h"
#include "runtime/tokenizer/pair_queue.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/trainer.h"
#include "runtime/tokenizer/word_counts.h"

struct qr_merge_rules {
    int64_t min_count; /* at least 1: pairs seen less often are not merged */
    /* A merge that makes a token which is there already makes it anew; else it is left out. */
    bool repeats_tokens;
    /* Whether two tokens (ids, or -1 for what is none) may become one; NULL: all may. */
    bool (*may_join)(const void *arg, int32_t left, int32_t right);
    /* Called when `merged` has become a token. May be NULL. */
    QR_MUST_CHECK enum qr_status (*on_merge)(void *arg, int32_t left, int32_t right,
                                             int32_t merged);
    void *arg;
};

/*
 * The caller fills vocab, words and symbols (token ids) and sets the queue's order.
 * Zero-initialise; release with qr_merge_trainer_free.
 */
struct qr_merge_trainer {
    struct qr_merge_rules rules;
    struct qr_string_table vocab; /* tokens by id */
    struct qr_bpe_merge *merges;  /* [n_merges] */
    int32_t n_merges;
    int32_t merges_capacity;
    struct qr_training_word *words; /* [n_words] */
    int32_t n_words;
    int32_t *symbols;
    struct qr_pair_queue queue;
};

QR_BEGIN_DECLS

/* Until the vocabulary has `vocab_size` tokens or no pair is left. Of config progress counts. */
QR_MUST_CHECK enum qr_status qr_merge_trainer_run(struct qr_merge_trainer *trainer,
                                                  int32_t vocab_size,
                                                  const struct qr_trainer_config *config);
void qr_merge_trainer_free(struct qr_merge_trainer *trainer);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_MERGE_TRAINER_H */
