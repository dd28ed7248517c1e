/*
 * tokenizer_json.h - the parts of the reader of Hugging Face tokenizer.json. Each reads one
 * field of the file; `name` is the file's, for errors. QR_ERR_UNSUPPORTED says what is asked
 * for and what is supported.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_TOKENIZER_JSON_H
#define QUIRE_RUNTIME_TOKENIZER_TOKENIZER_JSON_H

#include <jansson.h>

#include "base/status.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "runtime/tokenizer/unigram.h"

QR_BEGIN_DECLS

/* "pattern": a regular expression, or plain text, which matches itself. */
QR_MUST_CHECK enum qr_status qr_json_read_pattern(const struct qr_json_place *place,
                                                  const json_t *object, struct qr_regex **out);
/* A field that is one character, of which an absent one is `usual`. */
QR_MUST_CHECK enum qr_status qr_json_read_char(const struct qr_json_place *place,
                                               const json_t *object, const char *key,
                                               const char *usual, char out[QR_MAX_CHAR_BYTES + 1]);

/* Reads one step of a field that is a step or steps in a row; `reader` is the caller's. */
typedef enum qr_status (*qr_json_step_fn)(void *reader, const json_t *object);
/*
 * Calls `read` with the object, or, where it is a "Sequence", with each step in its array
 * `key`, and with theirs: up to 8 Sequences within each other.
 */
QR_MUST_CHECK enum qr_status qr_json_read_steps(const struct qr_json_place *place,
                                                const json_t *object, const char *key,
                                                qr_json_step_fn read, void *reader);
/* A "Replace": "pattern" by "content", of which a step of that kind gets both. */
QR_MUST_CHECK enum qr_status qr_json_read_replace(const struct qr_json_place *place,
                                                  const json_t *object,
                                                  struct qr_normalizer_step *step);
/* A string that must be there, appended to `out`. */
QR_MUST_CHECK enum qr_status qr_json_read_content(const struct qr_json_place *place,
                                                  const json_t *object, const char *key,
                                                  struct qr_buffer *out);

/* "model" of type BPE; fills the model, and the token table with the vocabulary's texts. */
QR_MUST_CHECK enum qr_status qr_json_read_bpe(const char *name, const json_t *object,
                                              struct qr_byte_level *model,
                                              struct qr_token_table *tokens, struct qr_error *err);
/* "model" of type Unigram. */
QR_MUST_CHECK enum qr_status qr_json_read_unigram(const char *name, const json_t *object,
                                                  struct qr_unigram *model,
                                                  struct qr_token_table *tokens,
                                                  struct qr_error *err);
/* "normalizer". */
QR_MUST_CHECK enum qr_status qr_json_read_normalizer(const char *name, const json_t *object,
                                                     struct qr_normalizer *out,
                                                     struct qr_error *err);
/* "pre_tokenizer". *has_byte_level: pieces are in the byte alphabet from then on. */
QR_MUST_CHECK enum qr_status qr_json_read_pre_tokenizer(const char *name, const json_t *object,
                                                        struct qr_pre_tokenizer *out,
                                                        bool *has_byte_level, struct qr_error *err);
/* "decoder"; what is left to do at the beginning of a text goes to *strip. */
QR_MUST_CHECK enum qr_status qr_json_read_decoder(const char *name, const json_t *object,
                                                  struct qr_decoder *out, struct qr_strip *strip,
                                                  struct qr_error *err);
/* "post_processor": what is put before and after a text. */
QR_MUST_CHECK enum qr_status qr_json_read_post_processor(const char *name, const json_t *object,
                                                         struct qr_tokenizer *tok,
                                                         struct qr_error *err);
/*
 * One of "added_tokens": adds it to the token table, and to the added tokens, normalised where
 * it says so. `place` is where the object stands.
 */
QR_MUST_CHECK enum qr_status qr_json_read_added_token(const struct qr_json_place *place,
                                                      const json_t *object, int64_t id,
                                                      struct qr_tokenizer *tok);
/*
 * "added_tokens_decoder" of a tokenizer_config.json: added tokens by id, all of them or those
 * whose ids the vocabulary does not have.
 */
QR_MUST_CHECK enum qr_status qr_json_read_added_tokens_decoder(const json_t *config, bool only_new,
                                                               struct qr_tokenizer *tok,
                                                               struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_TOKENIZER_JSON_H */
