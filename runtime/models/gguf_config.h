/*
 * gguf_config.h - a model's settings from the metadata of its GGUF file. Private to
 * runtime/models/.
 */
#ifndef QUIRE_RUNTIME_MODELS_GGUF_CONFIG_H
#define QUIRE_RUNTIME_MODELS_GGUF_CONFIG_H

#include <jansson.h>

#include "runtime/models/model_config.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf.h"

QR_BEGIN_DECLS

/* As qr_model_config_load, of a .gguf file or the first part of one. */
QR_MUST_CHECK enum qr_status qr_gguf_config_load(const char *path, struct qr_model_config *config,
                                                 struct qr_error *err);
/*
 * The metadata in the fields of a config.json, so that one reader checks both. `checkpoint` has the
 * tensors of all parts of the file. On QR_OK the caller owns *out.
 */
QR_MUST_CHECK enum qr_status qr_gguf_config_to_json(const struct qr_gguf *gguf,
                                                    const struct qr_checkpoint *checkpoint,
                                                    json_t **out, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_GGUF_CONFIG_H */
