/*
 * sentencepiece.h - SentencePiece's models (Kudo and Richardson, 2018): the text is mapped and
 * its spaces become U+2581; then it is cut, as a whole, by BPE, where pairs join by the score
 * of what they become, or by the unigram model. Characters without a piece fall back to bytes.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_H
#define QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/charsmap.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/token_lookup.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "runtime/tokenizer/trie.h"
#include "runtime/tokenizer/unigram.h"

#define QR_SPACE_SYMBOL "\xe2\x96\x81" /* U+2581 */

enum { QR_SPACE_SYMBOL_BYTES = 3 };

struct qr_piece {
    int32_t id;
    int32_t rank; /* by falling score; equal scores share a rank */
    bool is_unused;
};

/* Immutable once the reader has filled it and it is prepared. */
struct qr_sentencepiece {
    struct qr_string_table texts; /* of the pieces that joining can make */
    struct qr_piece *pieces;      /* [texts.count] */
    struct qr_trie user_defined;  /* taken whole wherever they stand; values are ids */
    int32_t byte_ids[256];        /* with byte fallback; else -1 */
    int32_t unknown_id;
    bool has_unused; /* some piece is */
    bool has_byte_fallback;
    bool add_dummy_prefix;
    bool remove_extra_whitespaces;
    bool escape_whitespaces;
    bool treat_whitespace_as_suffix;
    struct qr_charsmap charsmap;   /* empty: identity */
    struct qr_unigram unigram;     /* of the unigram model; texts and pieces are BPE's */
    struct qr_token_lookup lookup; /* of texts; ids are indices into pieces */
    int32_t byte_pieces[256];      /* of one byte: index into pieces, -1: none */
    int32_t *pair_pieces;          /* [QR_BYTE_PAIRS], by qr_byte_pair; of two bytes */
    bool is_plain[256];            /* the byte is a character that normalising leaves alone */
    bool words_stand_alone;        /* no piece goes on beyond the end of a word */
    bool ends_word[256]; /* the byte is a character that is in no longer piece, or begins U+2581 */
};

extern const struct qr_model_ops qr_sentencepiece_ops;
extern const struct qr_model_ops qr_sentencepiece_unigram_ops;

QR_BEGIN_DECLS

/*
 * Replaces *out by the text that is cut into pieces. Dummy prefix and suffix, and the removal
 * of white space, belong to the two ends of the whole text. QR_ERR_INVALID when it gets longer
 * than QR_MAX_TEXT_BYTES.
 */
QR_MUST_CHECK enum qr_status qr_sentencepiece_normalize(const struct qr_sentencepiece *model,
                                                        const struct qr_segment *segment,
                                                        struct qr_buffer *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_H */
