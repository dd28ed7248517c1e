/*
 * checkpoint.h - named weight tensors of a checkpoint on disk, memory-mapped.
 *
 * A Hugging Face directory: one model.safetensors, or several with
 * model.safetensors.index.json. Nothing is copied: a tensor's data points into the
 * mapping and lives as long as the checkpoint. Everything a file claims (header
 * length, offsets, dtype, overlaps, sizes) is checked on open; errors name the file,
 * the tensor and the value. Format: https://github.com/huggingface/safetensors.
 */
#ifndef QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_H
#define QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

enum { QR_TENSOR_MAX_DIMS = 4 };

struct qr_tensor {
    enum qr_dtype dtype;
    int32_t n_dims;
    int64_t dims[QR_TENSOR_MAX_DIMS]; /* row-major, outermost first */
    const void *data;                 /* [dims...] of dtype, borrowed from the checkpoint;
                                         aligned to the element size */
};

struct qr_checkpoint;

QR_BEGIN_DECLS

/* `dir` holds the safetensors file(s). On QR_OK the caller owns *out. */
QR_MUST_CHECK enum qr_status qr_checkpoint_open(const char *dir, struct qr_checkpoint **out,
                                                struct qr_error *err);
/*
 * A checkpoint that has whatever tensor is asked for, once each, with seeded random numbers of
 * this dtype (synthetic.h). `name` stands for it in errors.
 */
QR_MUST_CHECK enum qr_status qr_checkpoint_open_synthetic(const char *name, enum qr_dtype dtype,
                                                          struct qr_checkpoint **out,
                                                          struct qr_error *err);
void qr_checkpoint_close(struct qr_checkpoint *checkpoint); /* accepts NULL */

/* NULL when there is no tensor of that name; always, of a synthetic one. */
const struct qr_tensor *qr_checkpoint_find(const struct qr_checkpoint *checkpoint,
                                           const char *name);
/* The tensor `name` with exactly these dimensions, or an error that says what was found. */
QR_MUST_CHECK enum qr_status qr_checkpoint_get(struct qr_checkpoint *checkpoint, const char *name,
                                               int32_t n_dims, const int64_t *dims,
                                               struct qr_tensor *out, struct qr_error *err);
int64_t qr_checkpoint_n_parameters(const struct qr_checkpoint *checkpoint);
int64_t qr_checkpoint_n_bytes(const struct qr_checkpoint *checkpoint);
/* The dtype that most bytes have: what `quire info` prints. */
const char *qr_checkpoint_dtype_name(const struct qr_checkpoint *checkpoint);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_WEIGHTS_CHECKPOINT_H */
