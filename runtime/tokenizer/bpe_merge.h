/*
 * bpe_merge.h - byte-pair encoding of one piece of text: joins neighbouring symbols in
 * the order of the vocabulary's ranks until none can be joined (Sennrich et al., 2016).
 *
 * Each symbol has the rank of its pair with the next one. In a short piece the smallest is
 * found by a look at all of them, in a long one by a queue: a megabyte of one letter takes no
 * longer than other text. Both byte-level BPE (ranks of merges) and SentencePiece (ranks of
 * scores) go through here.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_BPE_MERGE_H
#define QUIRE_RUNTIME_TOKENIZER_BPE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/rank_queue.h"

struct qr_bpe_symbol {
    uint32_t begin;  /* bytes from the piece's beginning */
    uint32_t length; /* bytes */
    int32_t id;      /* -1: not a token by itself */
    int32_t prev;    /* index of the neighbour, -1: none */
    int32_t next;
    int32_t joined; /* what it and the next one become, where they can be joined */
    bool is_frozen; /* never joined */
};

/* Working memory, for reuse. Zero-initialise; release with qr_bpe_scratch_free. */
struct qr_bpe_scratch {
    struct qr_bpe_symbol *symbols; /* [n_symbols]; after merging follow `next` from 0 */
    int32_t *ranks;                /* [n_symbols]: of a symbol's pair with the next one */
    int32_t n_symbols;
    int32_t capacity; /* of symbols and ranks */
    struct qr_rank_queue queue;
};

/*
 * The token that two neighbours become, -1 when they do not join; *rank in [0, INT32_MAX):
 * the smaller is joined first, of equal ones the leftmost. `text` is the piece.
 */
typedef int32_t (*qr_bpe_join_fn)(const void *model, const char *text,
                                  const struct qr_bpe_symbol *left,
                                  const struct qr_bpe_symbol *right, int32_t *rank);

QR_BEGIN_DECLS

/* Drops the symbols, and makes room for those of a piece of `n_bytes`: at most one a byte. */
QR_MUST_CHECK enum qr_status qr_bpe_begin(struct qr_bpe_scratch *scratch, size_t n_bytes);
/* Joins the symbols of scratch->symbols in place. */
QR_MUST_CHECK enum qr_status qr_bpe_merge(struct qr_bpe_scratch *scratch, qr_bpe_join_fn join,
                                          const void *model, const char *text);
void qr_bpe_scratch_free(struct qr_bpe_scratch *scratch);

/* Appends a symbol of `length` bytes after the last one. */
static inline void qr_bpe_add_symbol(struct qr_bpe_scratch *scratch, uint32_t length, int32_t id,
                                     bool is_frozen)
{
    int32_t i = scratch->n_symbols++;
    struct qr_bpe_symbol *last = i > 0 ? &scratch->symbols[i - 1] : NULL;

    if (last != NULL)
        last->next = i;
    scratch->symbols[i] = (struct qr_bpe_symbol){
        .begin = last != NULL ? last->begin + last->length : 0,
        .length = length,
        .id = id,
        .prev = i - 1,
        .next = -1,
        .is_frozen = is_frozen,
    };
}

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BPE_MERGE_H */
