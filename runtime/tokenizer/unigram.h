/*
 * unigram.h - the unigram language model (Kudo, 2018): of all ways to cut a text into pieces
 * the one whose scores add up to the most (Viterbi, 1967).
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_UNIGRAM_H
#define QUIRE_RUNTIME_TOKENIZER_UNIGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/trie.h"

/* Immutable once it is filled. */
struct qr_unigram {
    struct qr_trie pieces; /* values are ids */
    double *scores;        /* [highest id + 1] */
    int32_t unknown_id;    /* -1: none */
    double unknown_score;  /* of a character that is no piece */
    bool is_single;        /* sums are kept in 32 bits, as SentencePiece does */
    bool has_byte_fallback;
    int32_t byte_ids[256]; /* -1: none */
};

struct qr_unigram_node {
    double score; /* of the best cut up to here */
    int32_t id;   /* of its last piece; -1: a character that is no piece; -2: no cut yet */
    uint32_t begin;
};

/* Working memory, for reuse. Zero-initialise; release with qr_unigram_scratch_free. */
struct qr_unigram_scratch {
    struct qr_unigram_node *nodes; /* [capacity] */
    size_t capacity;
};

QR_BEGIN_DECLS

/* An empty model in *model: no unknown piece, no bytes. */
void qr_unigram_init(struct qr_unigram *model);
void qr_unigram_destroy(struct qr_unigram *model);

/*
 * Appends the ids of text[n_bytes]. A run of characters that are no pieces is its bytes with
 * byte fallback, else one unknown piece. Equal scores: the cut found first, from the left.
 */
QR_MUST_CHECK enum qr_status qr_unigram_encode(const struct qr_unigram *model,
                                               struct qr_unigram_scratch *scratch, const char *text,
                                               size_t n_bytes, struct qr_token_ids *ids,
                                               struct qr_error *err);
void qr_unigram_scratch_free(struct qr_unigram_scratch *scratch);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_UNIGRAM_H */
