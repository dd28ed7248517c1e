/*
 * kernels.h - the CPU's vector kernels, one table for each instruction set.
 *
 * Written once (kernels.inc.h) and compiled for each set; all give the same bits.
 * A kernel computes a range of its results and may run on any thread.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_KERNELS_H
#define QUIRE_RUNTIME_OPS_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu_features.h"
#include "base/dtype.h"
#include "runtime/ops/op_types.h"
#include "runtime/ops/ops.h"

struct qr_norm_args {
    enum qr_norm_kind kind;
    float eps;
    float weight_offset;
    enum qr_dtype weight_dtype;
    enum qr_dtype bias_dtype;
    const void *weight; /* [dim] of weight_dtype */
    const void *bias;   /* [dim] of bias_dtype; NULL: none */
    const float *x;     /* [n_rows][dim] */
    float *out;         /* [n_rows][dim], may be x */
    int32_t dim;
    bool adds; /* to what stands in out */
};

struct qr_cpu_kernels {
    /* rows [first, last) */
    void (*norm)(const struct qr_norm_args *args, int32_t first, int32_t last);
    /* gate[i] = act(gate[i]) * up[i] for i in [0, n), n a whole row; up NULL: act(gate[i]) */
    void (*activate)(enum qr_activation activation, float *gate, const float *up, int32_t n);
    /* x[i] = cap * tanh(x[i] / cap), i in [0, n) */
    void (*soft_cap)(float *x, int32_t n, float cap);
    /* x[i] += y[i], i in [0, n) */
    void (*add)(float *x, const float *y, int32_t n);
    /* Turns the pairs (i, i + half) of each head: [head_dim]; turns: [half][2 (cos, sin)] */
    void (*rotate)(float *heads, int32_t n_heads, int32_t head_dim, const float *turns,
                   int32_t half);
    /* out[i] = row[i] widened from dtype, i in [0, n) */
    void (*widen)(enum qr_dtype dtype, const void *row, int32_t n, float *out);
    qr_select_row select;
};

extern const struct qr_cpu_kernels qr_cpu_kernels_scalar;
extern const struct qr_cpu_kernels qr_cpu_kernels_neon;
extern const struct qr_cpu_kernels qr_cpu_kernels_avx2;
extern const struct qr_cpu_kernels qr_cpu_kernels_avx512;

QR_BEGIN_DECLS

/* The table of a supported instruction set. */
const struct qr_cpu_kernels *qr_cpu_kernels_of(enum qr_isa isa);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_KERNELS_H */
