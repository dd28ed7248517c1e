/*
 * byte_alphabet.h - GPT-2's reversible mapping of bytes to printable characters
 * (Radford et al., 2019), in which byte-level vocabularies are written.
 *
 * Bytes that print in Latin-1 stand for themselves; the others take the code points
 * from U+0100 on, in order.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_BYTE_ALPHABET_H
#define QUIRE_RUNTIME_TOKENIZER_BYTE_ALPHABET_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { QR_BYTE_CHAR_MAX = 2 }; /* bytes of UTF-8 that one mapped byte takes at most */

QR_BEGIN_DECLS

/* Writes the character of `byte` as UTF-8 to out[QR_BYTE_CHAR_MAX]; returns its bytes. */
size_t qr_byte_to_char(uint8_t byte, char *out);
/* The byte that the code point stands for; -1 when it is not in the alphabet. */
int32_t qr_codepoint_to_byte(int32_t codepoint);
/*
 * Translates mapped UTF-8 back to bytes, in place or to another buffer of n_bytes.
 * Returns the number of bytes written, or -1 when a character is not in the alphabet.
 */
int64_t qr_chars_to_bytes(const char *text, size_t n_bytes, char *out);

/* "<0x0A>", as vocabularies of characters name a byte, to 10; -1 when it is something else. */
int qr_parse_byte_name(const char *text, size_t n_bytes);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_BYTE_ALPHABET_H */
