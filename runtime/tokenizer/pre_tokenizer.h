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
#include "runtime/tokenizer/unicode.h"

enum { QR_MAX_PRE_TOKENIZER_STEPS = 8 };

/* Which parts of a piece, matches and the gaps between them, are joined again. */
enum qr_joins {
    QR_JOINS_NONE,
    QR_JOINS_WITH_PREVIOUS, /* a match belongs to the gap before it */
    QR_JOINS_WITH_NEXT,     /* and here to the gap after it */
    QR_JOINS_MATCHES,       /* matches that touch are one */
};

enum qr_prepends { QR_PREPENDS_NEVER, QR_PREPENDS_FIRST, QR_PREPENDS_ALWAYS };

struct qr_pre_tokenizer_step {
    struct qr_regex *regex; /* NULL: nothing is cut */
    bool drops_matches;
    bool drops_gaps;       /* what lies between the matches */
    bool inverts;          /* gaps take the part of matches where parts are joined */
    bool add_prefix_space; /* to a piece that does not begin with one */
    enum qr_joins joins;
    char space[QR_MAX_CHAR_BYTES + 1]; /* what spaces become; "": they stay */
    enum qr_prepends prepends;         /* `space` to pieces, or to the first of the text */
    bool maps_bytes; /* the next steps see the pieces in the byte alphabet; once at most */
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
 * pieces of one byte. `at_start`: a whole text begins with this one.
 */
QR_MUST_CHECK enum qr_status qr_pre_tokenizer_cut(const struct qr_pre_tokenizer *pre_tokenizer,
                                                  struct qr_pre_tokenizer_scans *scans,
                                                  const char *text, size_t n_bytes, bool at_start,
                                                  qr_piece_fn emit, void *arg);
void qr_pre_tokenizer_end(struct qr_pre_tokenizer_scans *scans);
void qr_pre_tokenizer_free(struct qr_pre_tokenizer *pre_tokenizer);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H */
