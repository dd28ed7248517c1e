/*
 * cuda_elementwise.h - the small ops of a step on the device: embedding, norms, activation,
 * gathering rows, conversions, and weights made or quantised in place of being loaded.
 *
 * Pointers are device memory aligned to 16. Rows are computed each by itself in one order.
 * Threads: the engine's. Work is enqueued; failures are latched (base/cuda/cuda.h).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_ELEMENTWISE_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_ELEMENTWISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "runtime/ops/cuda/cuda_types.h"
#include "runtime/ops/op_types.h"

struct qr_cuda_elementwise {
    struct qr_cuda *cuda;            /* borrowed */
    struct qr_cuda_kernel copy_rows; /* of embed and gather_rows */
    struct qr_cuda_kernel norm;
    struct qr_cuda_kernel activate;
    struct qr_cuda_kernel add_bias;
    struct qr_cuda_kernel soft_cap;
    struct qr_cuda_kernel convert;
    struct qr_cuda_kernel fill_synthetic;
    struct qr_cuda_kernel quantize;
};

/* A vector of weights. */
struct qr_cuda_vector {
    enum qr_cuda_type type; /* F32, F16 or BF16 */
    const void *data;       /* device, [dim] */
};

QR_BEGIN_DECLS

/* Finds the kernels. Nothing to close. */
QR_MUST_CHECK enum qr_status qr_cuda_elementwise_open(struct qr_cuda *cuda,
                                                      struct qr_cuda_elementwise *out,
                                                      struct qr_error *err);

/* out[r] = table[rows[r]] * factor, or added to what stands there; rows [n_rows],
 * out F32 [n_rows][table->n_in] */
void qr_cuda_embed(struct qr_cuda_elementwise *ops, const struct qr_cuda_matrix *table,
                   float factor, bool adds, const int32_t *rows, int32_t n_rows, float *out);

/* Rows that a norm is taken of: x [n_rows][dim] of x_type, out [n_rows][dim] of out_type (each F32,
 * F16 or BF16); out may be x where the types are equal. `adds` (out_type F32): to what stands in
 * out. */
struct qr_cuda_norm_rows {
    const void *x;
    void *out;
    enum qr_cuda_type x_type;
    enum qr_cuda_type out_type;
    int32_t n_rows;
    bool adds;
};
void qr_cuda_norm(struct qr_cuda_elementwise *ops, const struct qr_norm *norm,
                  const struct qr_cuda_norm_rows *rows);

/* gate = act(gate) * up, up NULL: act(gate); both [n] of type (F32, F16, BF16) */
void qr_cuda_activate(struct qr_cuda_elementwise *ops, enum qr_activation activation,
                      enum qr_cuda_type type, void *gate, const void *up, int64_t n);

/* x[r] += bias; x [n_rows][dim] of type (F32, F16, BF16), bias [dim] */
void qr_cuda_add_bias(struct qr_cuda_elementwise *ops, const struct qr_cuda_vector *bias,
                      enum qr_cuda_type type, void *x, int32_t n_rows, int32_t dim);

/* x = cap * tanh(x / cap); x F32 [n] */
void qr_cuda_soft_cap(struct qr_cuda_elementwise *ops, float cap, float *x, int64_t n);

/* out[i] = x[rows[i]]; x F32 [][dim], rows [n_rows], out F32 [n_rows][dim] */
void qr_cuda_gather_rows(struct qr_cuda_elementwise *ops, const float *x, const int32_t *rows,
                         int32_t n_rows, int32_t dim, float *out);

/* to[i] = from[i], rounded to nearest even; F32, F16, BF16; [n]; no overlap unless the types are
 * equally wide */
void qr_cuda_convert(struct qr_cuda_elementwise *ops, enum qr_cuda_type from_type, const void *from,
                     int64_t n, enum qr_cuda_type to_type, void *to);

/* The elements that a synthetic checkpoint has (runtime/weights/synthetic.c): data [n] of type
 * (F32, F16, BF16) are uniform in [-bound, bound] by `key`, or 1 where bound is 0. */
void qr_cuda_fill_synthetic(struct qr_cuda_elementwise *ops, enum qr_cuda_type type, uint64_t key,
                            float bound, int64_t n, void *data);

/*
 * A matrix from [n_out][n_in] of from_type (F32, F16, BF16; finite) to E4M3 or INT8 with a scale
 * for each row: scales[n] = max |from[n]| / 448 (INT8: 127), 1 for a row of zeros;
 * to[n][k] = from[n][k] / scales[n] to the nearest, ties to even. to: [n_out] rows of
 * qr_cuda_row_bytes; scales [n_out].
 */
void qr_cuda_quantize(struct qr_cuda_elementwise *ops, enum qr_cuda_type from_type,
                      const void *from, int32_t n_out, int32_t n_in, enum qr_cuda_type to_type,
                      void *to, float *scales);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_ELEMENTWISE_H */
