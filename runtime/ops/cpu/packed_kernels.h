/*
 * packed_kernels.h - products with packed matrices (packed.h), one table for each instruction set.
 *
 * With block formats the activations are rounded to 8 bits, a scale for every 32 of them; products
 * are of integers and exact, and each step of 32 is added to the F32 sum of its result, steps in
 * order. With F32, F16 and BF16, 128 products are summed in order by fused multiply-adds, and such
 * sums are added in order. So all sets give the same bits, and a row's results depend on nothing
 * but the row.
 * Written once (packed_kernels.inc.h) and compiled for each set; any thread.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_PACKED_KERNELS_H
#define QUIRE_RUNTIME_OPS_CPU_PACKED_KERNELS_H

#include <stdint.h>

#include "base/cpu_features.h"
#include "runtime/ops/cpu/packed.h"

/* Rows of activations as 8-bit integers: x[r][k] is about values[r][k] * scales[r][k / 32]. */
struct qr_packed_rows {
    int8_t *values; /* [n_rows][n_in] in [-127, 127] */
    float *scales;  /* [n_rows][n_in / 32] */
    /* [n_rows][n_in / 32][2]: less than 0 by the sum of all 32 values, and of the first 16 */
    int32_t *sums;
};

enum { QR_PACK_CHUNK = 128 }; /* columns summed by themselves; of F32, F16, BF16 */

struct qr_packed_args {
    enum qr_dtype dtype;
    int32_t first_tile;            /* that `tiles` begins with */
    const uint8_t *tiles;          /* [.] of dtype; those of a call are among them */
    const float *x;                /* [n_rows][n_in]; of F32, F16, BF16 */
    struct qr_packed_rows rounded; /* [n_rows][n_in]; of the block formats */
    float *out;                    /* [n_rows][n_out] */
    int32_t n_in;
    int32_t n_out;
    int32_t n_rows;
};

struct qr_packed_kernels {
    /* Results of tiles [first, last), all rows. */
    void (*matmul)(const struct qr_packed_args *args, int32_t first, int32_t last);
    /*
     * Rounds x [n_in] into row `row` of `rows`: scale = max |x| / 127, each value to nearest. A row
     * with infinities or NaN has NaN for the scale of such a step.
     */
    void (*quantize)(const float *x, int32_t n_in, const struct qr_packed_rows *rows, int32_t row);
};

extern const struct qr_packed_kernels qr_packed_kernels_scalar;
extern const struct qr_packed_kernels qr_packed_kernels_neon;
extern const struct qr_packed_kernels qr_packed_kernels_avx2;
extern const struct qr_packed_kernels qr_packed_kernels_avx512;
extern const struct qr_packed_kernels qr_packed_kernels_avx512vnni;

QR_BEGIN_DECLS

/* The table of a supported instruction set. */
const struct qr_packed_kernels *qr_packed_kernels_of(enum qr_isa isa);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_PACKED_KERNELS_H */
