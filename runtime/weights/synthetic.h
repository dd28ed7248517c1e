/*
 * synthetic.h - weights without a checkpoint: the shapes of a config.json, filled with seeded
 * random numbers, so that sizes can be measured for which no checkpoint is at hand.
 *
 * An element is a function of the seed, its tensor's name and its place there: the same model
 * comes out in any order of loading. Matrices [n_out][n_in] are uniform with variance 1 / n_in,
 * which keeps activations near 1 (LeCun et al., "Efficient BackProp", 1998), vectors are 1.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_SYNTHETIC_H
#define QUIRE_RUNTIME_WEIGHTS_SYNTHETIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

#define QR_SYNTHETIC_PREFIX "synthetic:"

struct qr_synthetic_spec {
    char config_path[1024]; /* a config.json or a directory that holds one */
    bool has_dtype;         /* else that of the config, or BF16 */
    enum qr_dtype dtype;
};

QR_BEGIN_DECLS

/* Whether `model` has the form synthetic:CONFIG.json[,bf16|f16|f32]. */
bool qr_is_synthetic(const char *model);
/* QR_ERR_INVALID: an unknown dtype, or no path. */
QR_MUST_CHECK enum qr_status qr_synthetic_parse(const char *model, struct qr_synthetic_spec *spec,
                                                struct qr_error *err);
/* That of the spec, else the one that a config.json calls torch_dtype ("bfloat16"), else BF16. */
enum qr_dtype qr_synthetic_dtype(const struct qr_synthetic_spec *spec, const char *torch_dtype);
/* Fills data [dims[0]]...[dims[n_dims - 1]] of dtype. */
void qr_synthetic_fill(const char *name, int32_t n_dims, const int64_t *dims, enum qr_dtype dtype,
                       void *data);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_SYNTHETIC_H */
