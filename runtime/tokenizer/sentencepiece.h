/*
 * sentencepiece.h - SentencePiece's BPE (Kudo and Richardson, 2018): spaces become
 * U+2581, the whole text is one piece, and pairs join by the score of what they become.
 * Characters without a piece fall back to bytes.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_H
#define QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "runtime/tokenizer/trie.h"

#define QR_SPACE_SYMBOL "\xe2\x96\x81" /* U+2581 */

enum { QR_SPACE_SYMBOL_BYTES = 3 };

struct qr_piece {
    int32_t id;
    int32_t rank; /* by falling score; equal scores share a rank */
};

/* Immutable once the reader has filled it. */
struct qr_sentencepiece {
    struct qr_string_table texts; /* of the pieces that joining can make */
    struct qr_piece *pieces;      /* [texts.count] */
    size_t max_piece_bytes;
    struct qr_trie user_defined; /* taken whole wherever they stand; values are ids */
    int32_t byte_ids[256];       /* with byte fallback; else -1 */
    int32_t unknown_id;
    bool has_byte_fallback;
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    bool escape_whitespaces;
};

extern const struct qr_model_ops qr_sentencepiece_ops;

#endif /* QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_H */
