/*
 * unicode.h - Unicode's normalisation forms and properties of characters, for text that need
 * not be valid UTF-8.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_UNICODE_H
#define QUIRE_RUNTIME_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

enum { QR_MAX_CHAR_BYTES = 4 };

/* Unicode Annex 15. */
enum qr_unicode_form { QR_NFC, QR_NFD, QR_NFKC, QR_NFKD };

QR_BEGIN_DECLS

/* Appends text in that form. Bytes that are not UTF-8 stay as they are. */
QR_MUST_CHECK enum qr_status qr_unicode_normalize(enum qr_unicode_form form, const char *text,
                                                  size_t n_bytes, struct qr_buffer *out);

/*
 * The character at `text`, n_bytes > 0; *length is its bytes. What is not UTF-8 is a character
 * of one byte, -1.
 */
int32_t qr_unicode_char(const char *text, size_t n_bytes, size_t *length);
/* The property White_Space. */
bool qr_unicode_is_space(int32_t codepoint);
/* Letters, digits, marks and connectors: what \w matches (Unicode Technical Standard 18). */
bool qr_unicode_is_word(int32_t codepoint);
/* Where the white space that text[from ...] begins with ends. */
size_t qr_unicode_skip_space(const char *text, size_t n_bytes, size_t from);
/* The beginning of the white space that ends at `end`, not before `least`. */
size_t qr_unicode_skip_space_back(const char *text, size_t least, size_t end);
/* The beginning of the character that ends at `end`, not before `least`; end > least. */
size_t qr_unicode_char_back(const char *text, size_t least, size_t end);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_UNICODE_H */
