/* utf8.h - what must be known about UTF-8 without a Unicode library. */
#ifndef QUIRE_BASE_UTF8_H
#define QUIRE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

QR_BEGIN_DECLS

/*
 * Length in bytes of the well-formed character at `text` (RFC 3629: no overlong
 * forms, no surrogates, at most U+10FFFF). 0 when the bytes are not well-formed.
 * -1 when they are the beginning of a character that `n_bytes` cuts off.
 */
int qr_utf8_char_length(const char *text, size_t n_bytes);

/* Offset of the first byte that is not well-formed UTF-8; n_bytes when all is. */
size_t qr_utf8_valid_prefix(const char *text, size_t n_bytes);

/* Whether the byte goes on with a character that an earlier one began. */
static inline bool qr_utf8_is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

static inline bool qr_utf8_is_valid(const char *text, size_t n_bytes)
{
    return qr_utf8_valid_prefix(text, n_bytes) == n_bytes;
}

QR_END_DECLS

#endif /* QUIRE_BASE_UTF8_H */
