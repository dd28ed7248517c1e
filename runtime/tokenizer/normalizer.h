/* normalizer.h - Unicode normalisation of text that need not be valid UTF-8. */
#ifndef QUIRE_RUNTIME_TOKENIZER_NORMALIZER_H
#define QUIRE_RUNTIME_TOKENIZER_NORMALIZER_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/status.h"

QR_BEGIN_DECLS

/* Appends text in form NFC (Unicode Annex 15). Bytes that are not UTF-8 stay as they are. */
QR_MUST_CHECK enum qr_status qr_normalize_nfc(const char *text, size_t n_bytes,
                                              struct qr_buffer *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_NORMALIZER_H */
