/*
 * byte_level.h - BPE by ranked merges: a pre-tokenizer cuts the text, each piece begins as single
 * bytes (Radford et al., 2019), or as characters (Sennrich et al., 2016), and merges join them.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_BYTE_LEVEL_H
#define QUIRE_RUNTIME_TOKENIZER_BYTE_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/bpe_merge.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/token_lookup.h"
#include "runtime/tokenizer/tokenizer_impl.h"

struct qr_merge_slot {
    int32_t left; /* token ids */
    int32_t right;
    int32_t rank;
    int32_t id; /* what the two become; -1: the slot is empty */
};

/* What two neighbouring bytes become. */
struct qr_byte_join {
    int32_t rank;
    int32_t id; /* -1: they are not joined */
};

/* Immutable once the reader has filled it and it is prepared. */
struct qr_byte_level {
    struct qr_pre_tokenizer pre_tokenizer;
    struct qr_string_table vocab; /* tokens, of bytes in their alphabet, in the file's order */
    int32_t *vocab_ids;           /* [vocab.count] */
    struct qr_merge_slot *merges; /* [n_merge_slots], open addressing */
    size_t n_merge_slots;         /* a power of two, or 0 */
    int merge_shift;              /* of a hash's high bits to a slot */
    struct qr_byte_join *joins;   /* [QR_BYTE_PAIRS], by qr_byte_pair */
    struct qr_token_lookup tokens;
    int32_t byte_ids[256];     /* -1: the vocabulary lacks the byte */
    int32_t unknown_id;        /* -1: none */
    bool fuses_unknown;        /* several in a row become one */
    bool whole_piece_first;    /* a piece that is a token is not merged ("ignore_merges") */
    bool begins_with_chars;    /* characters, not bytes, are what merges begin with */
    bool has_byte_fallback;    /* a character without a token is its bytes */
    int32_t fallback_ids[256]; /* of <0x00> and so on; -1: none */
};

extern const struct qr_model_ops qr_byte_level_ops; /* by bytes */
extern const struct qr_model_ops qr_char_level_ops; /* by characters */

QR_BEGIN_DECLS

/* NULL when memory is exhausted. */
QR_MUST_CHECK struct qr_byte_level *qr_byte_level_alloc(void);
/* Makes the table for `count` merges; then they are added in order of rank. */
QR_MUST_CHECK enum qr_status qr_byte_level_reserve_merges(struct qr_byte_level *model,
                                                          size_t count);
void qr_byte_level_add_merge(struct qr_byte_level *model, struct qr_merge_slot merge);
/* The id of a token written in the byte alphabet, -1: none. */
int32_t qr_byte_level_find(const struct qr_byte_level *model, const char *text, size_t n_bytes);
/* Replaces the scratch's symbols by those that a piece begins with, by characters. */
QR_MUST_CHECK enum qr_status qr_char_level_begin(const struct qr_byte_level *model,
                                                 const char *text, size_t n_bytes,
                                                 struct qr_bpe_scratch *scratch,
                                                 struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BYTE_LEVEL_H */
