/* tokenizer_json.h - the parts of the reader of Hugging Face tokenizer.json. */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKENIZER_JSON_H
#define QUIRE_RUNTIME_TOKENIZER_TOKENIZER_JSON_H

#include <jansson.h>

#include "base/status.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/pre_tokenizer.h"

QR_BEGIN_DECLS

/* "model": vocabulary, merges and flags of a BPE; fills the model and the token table. */
QR_MUST_CHECK enum qr_status qr_json_read_bpe(const char *name, const json_t *object,
                                              struct qr_byte_level *model,
                                              struct qr_token_table *tokens, struct qr_error *err);
/* "pre_tokenizer"; it must work on bytes, that is hold a ByteLevel. */
QR_MUST_CHECK enum qr_status qr_json_read_pre_tokenizer(const char *name, const json_t *object,
                                                        struct qr_pre_tokenizer *out,
                                                        struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKENIZER_JSON_H */
