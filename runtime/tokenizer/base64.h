/* base64.h - bytes from their base64 form (RFC 4648). */
#ifndef QUIRE_RUNTIME_TOKENIZER_BASE64_H
#define QUIRE_RUNTIME_TOKENIZER_BASE64_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/status.h"

QR_BEGIN_DECLS

/* Appends the bytes; QR_ERR_INVALID when text[n_bytes] is not base64, padded to whole quartets. */
QR_MUST_CHECK enum qr_status qr_base64_decode(const char *text, size_t n_bytes,
                                              struct qr_buffer *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BASE64_H */
