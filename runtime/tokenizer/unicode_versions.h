/*
 * unicode_versions.h - characters as Hugging Face's tokenizers sees them, whichever versions of
 * Unicode the libraries here know.
 *
 * It uses several: its patterns, and what is lower case, are of Unicode 16; its normalisation
 * forms and marks of Unicode 9, its punctuation of Unicode 8. The libraries here may know none
 * but Unicode 14. The tables are asked of it by tools/fixtures/unicode_versions.py.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_UNICODE_VERSIONS_H
#define QUIRE_RUNTIME_TOKENIZER_UNICODE_VERSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

QR_BEGIN_DECLS

/*
 * The character itself, or, where the libraries here may not know it, one of as many bytes in
 * UTF-8 that they know and that has its general category; of Han and kana also its script.
 */
int32_t qr_unicode_stand_in(int32_t codepoint);
/*
 * *seen is text[n_bytes], valid UTF-8, or, where a character has a stand-in, a copy with the
 * stand-ins, in `copy`.
 */
QR_MUST_CHECK enum qr_status qr_unicode_see(const char *text, size_t n_bytes,
                                            struct qr_buffer *copy, const char **seen);
bool qr_unicode_has_stand_in(const char *text, size_t n_bytes); /* any character; valid UTF-8 */

bool qr_unicode_is_mark(int32_t codepoint); /* one that combines */
/* No normalisation form decomposes it, moves it, or joins it with another. */
bool qr_unicode_is_inert(int32_t codepoint);
/* Of U+0130, whose lower case is two characters, the first. */
int32_t qr_unicode_lower(int32_t codepoint);
/* A pattern that matches a character of punctuation; ASCII's symbols count as such. */
const char *qr_unicode_punctuation(void);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_UNICODE_VERSIONS_H */
