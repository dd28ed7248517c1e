/*
 * normalizer.h - what is done to a text before it is cut: a sequence of steps, each of which
 * rewrites the text of the one before. Texts need not be valid UTF-8: bytes that are not
 * stay as they are.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_NORMALIZER_H
#define QUIRE_RUNTIME_TOKENIZER_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"
#include "runtime/tokenizer/charsmap.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/unicode.h"

enum {
    QR_MAX_NORMALIZER_STEPS = 16,
    QR_MAX_TEXT_BYTES = INT32_MAX / 4, /* positions in a text are 32 bits wide */
};

enum qr_normalizer_kind {
    QR_NORMALIZER_FORM,      /* to one of Unicode's normalisation forms */
    QR_NORMALIZER_LOWERCASE, /* character by character */
    QR_NORMALIZER_PREPEND,   /* content before a text that is not empty */
    QR_NORMALIZER_REPLACE,   /* every match of the regex by the content */
    QR_NORMALIZER_STRIP,     /* white space at the ends */
    QR_NORMALIZER_UNACCENT,  /* drops combining marks */
    QR_NORMALIZER_CHARSMAP,  /* a "Precompiled" map, as tokenizer.json applies it */
};

struct qr_normalizer_step {
    enum qr_normalizer_kind kind;
    enum qr_unicode_form form;
    struct qr_regex *regex;
    struct qr_buffer content;
    bool strips_left;
    bool strips_right;
    struct qr_charsmap charsmap;
};

/* Zero-initialise; release with qr_normalizer_free. Immutable once it is filled. */
struct qr_normalizer {
    struct qr_normalizer_step steps[QR_MAX_NORMALIZER_STEPS];
    int32_t n_steps;
};

QR_BEGIN_DECLS

/* The next step, zeroed but for its kind; NULL when there are too many. */
struct qr_normalizer_step *qr_normalizer_add(struct qr_normalizer *normalizer,
                                             enum qr_normalizer_kind kind);
/*
 * Replaces *out by the text after all steps. QR_ERR_UNSUPPORTED when a pattern's backtracking
 * gets out of hand, QR_ERR_INVALID when the text grows out of all proportion.
 */
QR_MUST_CHECK enum qr_status qr_normalizer_run(const struct qr_normalizer *normalizer,
                                               const char *text, size_t n_bytes,
                                               struct qr_buffer *out);
/* One step alone: replaces *out by what it makes of the text. */
QR_MUST_CHECK enum qr_status qr_normalizer_run_step(const struct qr_normalizer_step *step,
                                                    const char *text, size_t n_bytes,
                                                    struct qr_buffer *out);
void qr_normalizer_step_free(struct qr_normalizer_step *step);
void qr_normalizer_free(struct qr_normalizer *normalizer);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_NORMALIZER_H */
