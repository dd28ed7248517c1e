/*
 * unicode_script.h - the scripts of characters: SentencePiece's trainers make no piece of
 * more than one.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_UNICODE_SCRIPT_H
#define QUIRE_RUNTIME_TOKENIZER_UNICODE_SCRIPT_H

#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/sentencepiece_words.h"

QR_BEGIN_DECLS

/*
 * Sets the script of chars[n_chars], a number that equals where the scripts do. Hiragana and
 * Katakana count as Han; U+2581 has QR_NO_SCRIPT.
 */
QR_MUST_CHECK enum qr_status qr_unicode_scripts(struct qr_training_char *chars, int32_t n_chars);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_UNICODE_SCRIPT_H */
