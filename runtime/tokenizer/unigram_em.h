/*
 * unigram_em.h - the two steps of training a unigram model (Kudo, 2018): expectation
 * maximisation finds the pieces' probabilities, pruning takes away those whose loss would
 * cost the text's likelihood the least.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_UNIGRAM_EM_H
#define QUIRE_RUNTIME_TOKENIZER_UNIGRAM_EM_H

#include <stdint.h>

#include "base/status.h"
#include "base/thread_pool.h"
#include "runtime/tokenizer/training_lattice.h"
#include "runtime/tokenizer/training_pieces.h"

struct qr_em_worker {
    struct qr_lattice lattice;
    int64_t *counts; /* [pieces.count] */
    enum qr_status status;
};

/*
 * The caller fills text, total and pieces (indexed). Zero-initialise; release with
 * qr_unigram_em_free.
 */
struct qr_unigram_em {
    struct qr_unigram_text text;
    int64_t total; /* of the words' counts */
    struct qr_training_pieces pieces;
    struct qr_thread_pool *pool;
    struct qr_em_worker *workers; /* [n_threads] */
    int32_t n_threads;
    double *loss; /* [pieces.count] before the last pruning: of likelihood a word, if one goes */
};

struct qr_ranked {
    double value;
    int32_t index;
};

QR_BEGIN_DECLS

/* Starts the threads. */
QR_MUST_CHECK enum qr_status qr_unigram_em_begin(struct qr_unigram_em *em, int32_t n_threads);
/* One iteration; pieces that are hardly expected at all go. */
QR_MUST_CHECK enum qr_status qr_unigram_maximise(struct qr_unigram_em *em);
/* Leaves three quarters of the pieces, but no fewer than `goal`. */
QR_MUST_CHECK enum qr_status qr_unigram_prune(struct qr_unigram_em *em, int32_t goal);
void qr_unigram_em_free(struct qr_unigram_em *em);

/* For qsort of struct qr_ranked; of equal values the smaller index comes first. */
int qr_by_falling_value(const void *a, const void *b);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_UNIGRAM_EM_H */
