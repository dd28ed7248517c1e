/*
 * synthetic.h - weights without a checkpoint: the shapes of a config.json, filled with seeded
 * random numbers, so that sizes can be measured for which no checkpoint is at hand.
 *
 * An element is a function of the seed, its tensor's name and its place there: the same model
 * comes out in any order of loading, and on any device. Matrices [n_out][n_in] are uniform with
 * variance 1 / n_in, which keeps activations near 1 (LeCun et al., "Efficient BackProp", 1998),
 * vectors are 1.
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
/*
 * What the elements of a tensor follow from: those of a matrix from a key that its name gives,
 * uniform in [-bound, bound); bound 0: all are 1.
 */
void qr_synthetic_describe(const char *name, int32_t n_dims, const int64_t *dims, uint64_t *key,
                           float *bound);
/*
 * Element i of data [n]: word i % 4 of the Philox4x32-10 block of `key` at the counter
 * {low word of j, high word of j, 0, 0} with j = i - i % 4, its upper 24 bits as the F32
 * (bits * 2^-23 - 1) * bound; to F16 rounded, to BF16 cut off. Any device gives the same.
 */
void qr_synthetic_fill_elements(uint64_t key, float bound, enum qr_dtype dtype, int64_t n,
                                void *data);
/* The two together: fills data [dims[0]]...[dims[n_dims - 1]] of dtype. */
void qr_synthetic_fill(const char *name, int32_t n_dims, const int64_t *dims, enum qr_dtype dtype,
                       void *data);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_SYNTHETIC_H */
