/*
 * kernels.h - the CPU's vector kernels, one table for each instruction set.
 *
 * Written once (kernels.inc.h) and compiled for each set; all give the same bits.
 * A kernel computes a range of its results and may run on any thread.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_KERNELS_H
#define QUIRE_RUNTIME_OPS_CPU_KERNELS_H

#include <stdint.h>

#include "base/cpu_features.h"
#include "base/dtype.h"

/* out[r][n] = sum over k of weight[n][k] * x[r][k] */
struct qr_matmul_args {
    enum qr_dtype dtype;
    const void *weight; /* [n_out][n_in] of dtype */
    const float *x;     /* [n_rows][n_in] */
    float *out;         /* [n_rows][n_out] */
    int32_t n_in;
    int32_t n_out;
    int32_t n_rows;
};

struct qr_rms_norm_args {
    enum qr_dtype dtype;
    const void *weight; /* [dim] of dtype */
    const float *x;     /* [n_rows][dim] */
    float *out;         /* [n_rows][dim] */
    int32_t dim;
    float eps;
};

struct qr_cpu_kernels {
    /*
     * Results n in [first, last), all rows. Lane l of a 16-lane sum adds the terms k = l,
     * l + 16, l + 32, ... in this order by fused multiply-adds, then the lanes are added in
     * the fixed tree of simd_scalar.h: the order does not depend on n_rows, on the tile or
     * on the threads.
     */
    void (*matmul)(const struct qr_matmul_args *args, int32_t first, int32_t last);
    /* rows [first, last) */
    void (*rms_norm)(const struct qr_rms_norm_args *args, int32_t first, int32_t last);
    /* gate[i] = gate[i] / (1 + e^-gate[i]) * up[i] for i in [0, n), n a whole row */
    void (*swiglu)(float *gate, const float *up, int32_t n);
    /* out[i] = row[i] widened from dtype, i in [0, n) */
    void (*widen)(enum qr_dtype dtype, const void *row, int32_t n, float *out);
};

extern const struct qr_cpu_kernels qr_cpu_kernels_scalar;
extern const struct qr_cpu_kernels qr_cpu_kernels_avx2;
extern const struct qr_cpu_kernels qr_cpu_kernels_avx512;

QR_BEGIN_DECLS

/* The table of a supported instruction set. */
const struct qr_cpu_kernels *qr_cpu_kernels_of(enum qr_isa isa);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_KERNELS_H */
