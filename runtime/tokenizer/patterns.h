/*
 * patterns.h - the pre-tokenizers that files name rather than write out.
 *
 * The names are those of GGUF's "tokenizer.ggml.pre" (as llama.cpp writes it); the patterns
 * come from the tokenizer.json or the code that each family of models was published with.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_PATTERNS_H
#define QUIRE_RUNTIME_TOKENIZER_PATTERNS_H

#include "base/status.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/json_fields.h"

QR_BEGIN_DECLS

/*
 * Sets up the pre-tokenizer, and what goes with it: composing to NFC, and whether a piece
 * that is a token is merged. NULL is "default". QR_ERR_UNSUPPORTED when nothing has that name.
 */
QR_MUST_CHECK enum qr_status qr_pattern_apply(const char *pattern, struct qr_tokenizer *tok,
                                              struct qr_byte_level *model,
                                              const struct qr_json_place *place);
/*
 * The name of the pattern of a "tokenizer_class", a field of tokenizer_config.json.
 * QR_ERR_UNSUPPORTED when it is not known.
 */
QR_MUST_CHECK enum qr_status qr_pattern_of_class(const json_t *class_name, const char **pattern,
                                                 struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_PATTERNS_H */
