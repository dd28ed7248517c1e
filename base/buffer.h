/*
 * buffer.h - a growable run of bytes, always NUL-terminated so that it can be read
 * as a C string.
 *
 * Zero-initialise with the arena, append, then qr_buffer_free. One thread at a time.
 */
#ifndef QUIRE_BASE_BUFFER_H
#define QUIRE_BASE_BUFFER_H

#include <stddef.h>

#include "base/alloc.h"

struct qr_buffer {
    char *data;      /* NULL until the first append */
    size_t length;   /* bytes, without the NUL */
    size_t capacity; /* bytes allocated */
    enum qr_arena arena;
};

QR_BEGIN_DECLS

/* QR_ERR_NOMEM leaves the buffer as it was. */
QR_MUST_CHECK enum qr_status qr_buffer_append(struct qr_buffer *buffer, const void *bytes,
                                              size_t n_bytes);
QR_MUST_CHECK enum qr_status qr_buffer_printf(struct qr_buffer *buffer, const char *fmt, ...)
    QR_PRINTF(2, 3);
/* Makes room for `n_bytes` more, so that appends up to that size cannot fail. */
QR_MUST_CHECK enum qr_status qr_buffer_reserve(struct qr_buffer *buffer, size_t n_bytes);
void qr_buffer_clear(struct qr_buffer *buffer); /* keeps the capacity */
void qr_buffer_free(struct qr_buffer *buffer);

QR_END_DECLS

#endif /* QUIRE_BASE_BUFFER_H */
