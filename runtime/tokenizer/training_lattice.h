/*
 * training_lattice.h - all the ways to cut a word into pieces of a unigram model: what is
 * expected of each piece, and the best way (Kudo, 2018).
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TRAINING_LATTICE_H
#define QUIRE_RUNTIME_TOKENIZER_TRAINING_LATTICE_H

#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/training_pieces.h"

/* A piece in a word. */
struct qr_lattice_node {
    int32_t begin; /* characters from the word's beginning */
    int32_t end;
    int32_t piece; /* -1: a character without a piece */
    double score;
};

/* Working memory of one thread. Zero-initialise; release with qr_lattice_free. */
struct qr_lattice {
    struct qr_lattice_node *nodes; /* [n_nodes], by beginning */
    int32_t n_nodes;
    int32_t nodes_capacity;
    int32_t length;  /* characters of the word */
    double *forward; /* [length + 1] */
    double *backward;
    int32_t *best; /* [length + 1]: the node that ends the best way to a position */
    int32_t *path; /* nodes of the best way, from its last one on */
    int32_t length_capacity;
};

/* Counts of pieces are kept in whole numbers, so that their sum has no order. */
#define QR_EXPECTED_ONE ((double)(1 << 24))

QR_BEGIN_DECLS

/*
 * Finds the pieces in symbols[length]. `left_out` is a piece that does not count (-1: all do).
 * A character without a piece is there with a low score.
 */
QR_MUST_CHECK enum qr_status qr_lattice_set(struct qr_lattice *lattice,
                                            const struct qr_training_pieces *pieces,
                                            const int32_t *symbols, int32_t length,
                                            int32_t left_out);
/* Adds to expected[piece] how often the piece is expected in `count` such words, in fractions. */
void qr_lattice_expect(struct qr_lattice *lattice, int64_t count, int64_t *expected);
/* Puts the best way into lattice->path and returns its nodes; *score: its log probability. */
int32_t qr_lattice_best(struct qr_lattice *lattice, double *score);
void qr_lattice_free(struct qr_lattice *lattice);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TRAINING_LATTICE_H */
