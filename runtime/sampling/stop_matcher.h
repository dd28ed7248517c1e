/*
 * stop_matcher.h - finds stop strings in text that arrives piece by piece, also
 * across the borders of tokens.
 *
 * Bytes that may yet turn out to be the beginning of a stop string are held back;
 * everything before them is released. The earliest match ends the text; of matches
 * that begin at the same byte the longest counts. Fixed size after init.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_STOP_MATCHER_H
#define QUIRE_RUNTIME_SAMPLING_STOP_MATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

enum { QR_MAX_STOP_STRINGS = 16, QR_MAX_STOP_BYTES = 256 /* of one string */ };

struct qr_stop_matcher {
    int32_t n_stops;
    const char *stops[QR_MAX_STOP_STRINGS]; /* borrowed */
    size_t stop_bytes[QR_MAX_STOP_STRINGS];
    size_t n_held;
    char held[QR_MAX_STOP_BYTES];
};

struct qr_stop_result {
    size_t n_released; /* bytes written to `out` */
    int32_t matched;   /* index of the stop string that ended the text, or -1 */
};

QR_BEGIN_DECLS

/* stops[n_stops]: non-empty C strings of at most QR_MAX_STOP_BYTES, which must outlive the matcher.
 */
void qr_stop_matcher_init(struct qr_stop_matcher *matcher, const char *const *stops,
                          int32_t n_stops);
/*
 * Takes the next bytes and writes what is safe to show to `out`, which has room for
 * n_bytes + QR_MAX_STOP_BYTES. After a match nothing more may be pushed. With
 * `include_stop` the matched string is released too.
 */
struct qr_stop_result qr_stop_matcher_push(struct qr_stop_matcher *matcher, const char *text,
                                           size_t n_bytes, bool include_stop, char *out);
/*
 * The text has ended: settles what is held to out[QR_MAX_STOP_BYTES]. It can still hold a
 * match, where a shorter stop string stood whole and only a longer one was waited for.
 */
struct qr_stop_result qr_stop_matcher_flush(struct qr_stop_matcher *matcher, bool include_stop,
                                            char *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_STOP_MATCHER_H */
