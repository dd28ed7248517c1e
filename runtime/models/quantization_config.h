/*
 * quantization_config.h - the quantisations of a config.json that Quire's checkpoints can be read
 * in (runtime/weights/checkpoint.h). Private to runtime/models/.
 */
#ifndef QUIRE_RUNTIME_MODELS_QUANTIZATION_CONFIG_H
#define QUIRE_RUNTIME_MODELS_QUANTIZATION_CONFIG_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

QR_BEGIN_DECLS

/*
 * Writes to `out` what of quantization_config in `root` cannot be read, and leaves it alone where
 * all can: FP8 weights with one scale, one for each row, or one for each block of 128 times 128.
 * Whatever activations are to become, they stay as they are.
 */
void qr_quantization_find_unsupported(const json_t *root, char *out, size_t out_size);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_QUANTIZATION_CONFIG_H */
