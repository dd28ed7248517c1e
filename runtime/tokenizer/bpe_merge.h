/*
 * bpe_merge.h - byte-pair encoding of one piece of text: joins neighbouring symbols in
 * the order of the vocabulary's ranks until none can be joined (Sennrich et al., 2016).
 *
 * A heap of candidate pairs over a linked list of symbols: n log n for any text, a
 * megabyte of one letter too. Both byte-level BPE (ranks of merges) and SentencePiece
 * (ranks of scores) go through here.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_BPE_MERGE_H
#define QUIRE_RUNTIME_TOKENIZER_BPE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct qr_bpe_symbol {
    uint32_t begin;  /* bytes from the piece's beginning */
    uint32_t length; /* bytes */
    int32_t id;      /* -1: not a token by itself */
    int32_t prev;    /* index of the neighbour, -1: none */
    int32_t next;
    bool is_frozen; /* never joined */
};

struct qr_bpe_candidate {
    int32_t rank;
    int32_t left; /* index of the left symbol */
    uint32_t left_length;
    uint32_t right_length;
    int32_t id; /* what the two become */
};

/* Working memory, for reuse. Zero-initialise; release with qr_bpe_scratch_free. */
struct qr_bpe_scratch {
    struct qr_bpe_symbol *symbols; /* [n_symbols]; after merging follow `next` from 0 */
    int32_t n_symbols;
    int32_t symbols_capacity;
    struct qr_bpe_candidate *heap; /* [n_heap] */
    int32_t n_heap;
    int32_t heap_capacity;
};

/*
 * The token that two neighbours become, -1 when they do not join; *rank: the smaller is
 * joined first, of equal ones the leftmost. `text` is the piece.
 */
typedef int32_t (*qr_bpe_join_fn)(const void *model, const char *text,
                                  const struct qr_bpe_symbol *left,
                                  const struct qr_bpe_symbol *right, int32_t *rank);

QR_BEGIN_DECLS

/* Appends a symbol that follows the last one; the piece's first when n_symbols is 0. */
QR_MUST_CHECK enum qr_status qr_bpe_add_symbol(struct qr_bpe_scratch *scratch, uint32_t length,
                                               int32_t id, bool is_frozen);
/* Joins the symbols of scratch->symbols in place. */
QR_MUST_CHECK enum qr_status qr_bpe_merge(struct qr_bpe_scratch *scratch, qr_bpe_join_fn join,
                                          const void *model, const char *text);
void qr_bpe_scratch_free(struct qr_bpe_scratch *scratch);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BPE_MERGE_H */
