/*
 * decoder.h - the "decoder" of a tokenizer.json, as far as it acts on one token at a time: it is
 * applied to the whole vocabulary once, so that decoding is looking up texts.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_DECODER_H
#define QUIRE_RUNTIME_TOKENIZER_DECODER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/token_table.h"

enum { QR_MAX_DECODER_STEPS = 8, QR_MAX_DECODED_BYTES = 1 << 20 };

enum qr_decoder_kind {
    QR_DECODER_BYTE_LEVEL,    /* from the byte alphabet */
    QR_DECODER_BYTE_FALLBACK, /* <0x0A> to its byte */
    QR_DECODER_REPLACE,
    QR_DECODER_METASPACE, /* `space` to spaces, or to nothing in a text's first token */
    QR_DECODER_STRIP,     /* `space` at the ends, at most so many */
    QR_DECODER_SEPARATE,  /* a space before every token but the first */
};

struct qr_decoder_step {
    enum qr_decoder_kind kind;
    struct qr_normalizer_step replace;
    char space[QR_MAX_CHAR_BYTES + 1];
    bool drops_first; /* a Metaspace that had put a space before the text */
    uint32_t n_left;
    uint32_t n_right;
};

/* Zero-initialise; release with qr_decoder_free. */
struct qr_decoder {
    struct qr_decoder_step steps[QR_MAX_DECODER_STEPS];
    int32_t n_steps;
};

QR_BEGIN_DECLS

/* The next step, zeroed but for its kind; NULL when there are too many. */
struct qr_decoder_step *qr_decoder_add(struct qr_decoder *decoder, enum qr_decoder_kind kind);
/*
 * Replaces the texts of all tokens, those that a vocabulary writes, by what they stand for.
 * QR_ERR_INVALID when one becomes longer than QR_MAX_DECODED_BYTES, QR_ERR_UNSUPPORTED when a
 * pattern backtracks too long on one.
 */
QR_MUST_CHECK enum qr_status qr_decoder_apply(const struct qr_decoder *decoder,
                                              struct qr_token_table *tokens);
void qr_decoder_free(struct qr_decoder *decoder);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_DECODER_H */
