/*
 * training_pieces.h - the pieces of a unigram model that is being trained, over text whose
 * characters are numbers: which of them stand at a position.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TRAINING_PIECES_H
#define QUIRE_RUNTIME_TOKENIZER_TRAINING_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/word_counts.h"

/* Words without unknown characters. symbols[begin + length] of each word is -1. */
struct qr_unigram_text {
    int32_t *symbols; /* [n_symbols]: numbers of characters */
    size_t n_symbols;
    struct qr_training_word *words; /* [n_words] */
    int32_t n_words;
};

/* symbols[begin .. begin + length) of the text. */
struct qr_training_piece {
    size_t begin;
    int32_t length; /* characters */
    double score;   /* log probability */
};

struct qr_piece_edge {
    int32_t node; /* -1: the slot is empty */
    int32_t symbol;
    int32_t child;
};

/* Zero-initialise; release with qr_training_pieces_free. Lookups are thread-safe. */
struct qr_training_pieces {
    struct qr_training_piece *items; /* [count] */
    int32_t count;
    double min_score;
    struct qr_piece_edge *edges; /* [n_edges], open addressing */
    size_t n_edges;              /* a power of two */
    int32_t *piece_at;           /* [n_nodes]: the piece that ends at the node, -1: none */
    int32_t n_nodes;
};

QR_BEGIN_DECLS

/* When items have been set: makes what the lookups need, anew. */
QR_MUST_CHECK enum qr_status qr_training_pieces_index(struct qr_training_pieces *pieces,
                                                      const int32_t *symbols);
/* The node that `symbol` leads to from `node`, at first 0; -1 when no piece goes on so. */
int32_t qr_training_pieces_step(const struct qr_training_pieces *pieces, int32_t node,
                                int32_t symbol);
void qr_training_pieces_free(struct qr_training_pieces *pieces);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TRAINING_PIECES_H */
