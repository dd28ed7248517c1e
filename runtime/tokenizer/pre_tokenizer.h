/*
 * pre_tokenizer.h - cuts text into the pieces that BPE works on: a sequence of steps,
 * each of which cuts the pieces of the one before.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H
#define QUIRE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"
#include "runtime/tokenizer/regex.h"

enum { QR_MAX_PRE_TOKENIZER_STEPS = 8 };

struct qr_pre_tokenizer_step {
    struct qr_regex *regex; /* NULL: nothing is cut */
    bool drops_matches;
    bool drops_gaps;       /* what lies between the matches */
    bool add_prefix_space; /* to a piece that does not begin with one */
};

/* Zero-initialise; release with qr_pre_tokenizer_free. */
struct qr_pre_tokenizer {
    struct qr_pre_tokenizer_step steps[QR_MAX_PRE_TOKENIZER_STEPS];
    int32_t n_steps;
};

/* The working memory of one thread. Zero-initialise. */
struct qr_pre_tokenizer_scans {
    struct qr_regex_scan scans[QR_MAX_PRE_TOKENIZER_STEPS];
};

typedef enum qr_status (*qr_piece_fn)(void *arg, const char *text, size_t n_bytes);

QR_BEGIN_DECLS

QR_MUST_CHECK enum qr_status qr_pre_tokenizer_begin(const struct qr_pre_tokenizer *pre_tokenizer,
                                                    struct qr_pre_tokenizer_scans *scans);
/*
 * Calls `emit` with each piece of the text, in order. Bytes that are not UTF-8 are
 * pieces of one byte.
 */
QR_MUST_CHECK enum qr_status qr_pre_tokenizer_cut(const struct qr_pre_tokenizer *pre_tokenizer,
                                                  struct qr_pre_tokenizer_scans *scans,
                                                  const char *text, size_t n_bytes,
                                                  qr_piece_fn emit, void *arg);
void qr_pre_tokenizer_end(struct qr_pre_tokenizer_scans *scans);
void qr_pre_tokenizer_free(struct qr_pre_tokenizer *pre_tokenizer);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H */
