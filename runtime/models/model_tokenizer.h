/*
 * model_tokenizer.h - the tokenizer that belongs to a model, wherever the model keeps it.
 */
#ifndef QUIRE_RUNTIME_MODELS_MODEL_TOKENIZER_H
#define QUIRE_RUNTIME_MODELS_MODEL_TOKENIZER_H

#include "base/status.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/gguf.h"

QR_BEGIN_DECLS

/*
 * `path` is what qr_model_open takes, or a tokenizer file alone: a .gguf file carries its
 * vocabulary, a synthetic model has bytes, all else is left to qr_tokenizer_open. On QR_OK the
 * caller owns *out.
 */
QR_MUST_CHECK enum qr_status qr_model_open_tokenizer(const char *path, struct qr_tokenizer **out,
                                                     struct qr_error *err);
/* The vocabulary in the metadata of `gguf`, which is borrowed for the call only. */
QR_MUST_CHECK enum qr_status qr_tokenizer_from_gguf(const struct qr_gguf *gguf,
                                                    struct qr_tokenizer **out,
                                                    struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_MODEL_TOKENIZER_H */
