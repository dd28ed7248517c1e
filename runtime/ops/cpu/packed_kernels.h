/*
 * packed_kernels.h - products with packed matrices (packed.h), one table for each instruction set.
 *
 * With block formats the activations are rounded to 8 bits, a scale for every 32 of them; products
 * are of integers and exact, and each step of 32 is added to the F32 sum of its result, steps in
 * order. With F32, F16 and BF16, 128 products are summed in order by fused multiply-adds, and such
 * sums are added in order. So all sets give the same bits, and a row's results depend on nothing
 * but the row. BF16 is different with the sets that multiply pairs of BF16 at once (avx512bf16,
 * amx): activations are rounded to BF16, and each set has an order of its own (packed_bf16.inc.h),
 * which depends on nothing but the row either. Written once (packed_kernels.inc.h) and compiled for
 * each set; any thread.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_PACKED_KERNELS_H
#define QUIRE_RUNTIME_OPS_CPU_PACKED_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/cpu_features.h"
#include "runtime/ops/cpu/packed.h"

enum {
    QR_PACK_CHUNK = 128,   /* columns summed by themselves; of F32, F16, BF16 */
    QR_PACK_ROW_BLOCK = 16 /* rows of activations whose steps lie side by side */
};

/*
 * Rows of activations as 8-bit integers: x[r][k] is about value * scale of its step. A step of 16
 * rows is one piece of memory, whatever the width, and what a matrix unit takes at a time; n_blocks
 * is the number of rows, in blocks of 16, of which the last may have less.
 */
struct qr_packed_rows {
    int8_t *values; /* [n_blocks][n_in / 32][16 rows][32] in [-127, 127] */
    float *scales;  /* [n_blocks][n_in / 32][16 rows] */
    /* [n_blocks][n_in / 32][2][16 rows]: less than 0 by the sum of all 32 values, and of the first
     * 16 */
    int32_t *sums;
    uint16_t *halves; /* [n_blocks][n_in / 32, rounded up][16 rows][32] BF16, zeros behind n_in */
};

/* Which of the steps of all rows (of 32 values and one scale) is step `step` of row `row`.
 */
static inline size_t qr_packed_step(int32_t n_in, int32_t row, int32_t step)
{
    size_t n_steps = (size_t)(n_in + QR_PACK_STEP - 1) / QR_PACK_STEP;
    return ((size_t)(row / QR_PACK_ROW_BLOCK) * n_steps + (size_t)step) * QR_PACK_ROW_BLOCK +
           (size_t)(row % QR_PACK_ROW_BLOCK);
}

/* Where its sum is in `sums`; that of the first 16 values is QR_PACK_ROW_BLOCK behind it. */
static inline size_t qr_packed_sum(int32_t n_in, int32_t row, int32_t step)
{
    return 2 * qr_packed_step(n_in, row, step) - (size_t)(row % QR_PACK_ROW_BLOCK);
}

struct qr_packed_args {
    enum qr_dtype dtype;
    int32_t first_tile;            /* that `tiles` begins with */
    const uint8_t *tiles;          /* [.] of dtype; those of a call are among them */
    const float *x;                /* [n_rows][n_in]; of F32, F16, BF16 */
    struct qr_packed_rows rounded; /* n_rows of n_in; of the block formats, and as said of BF16 */
    float *out;                    /* [n_rows][n_out] */
    int32_t n_in;
    int32_t n_out;
    int32_t n_rows; /* at least 1 */
    /* Tiles from the first of a call to the first of the one that its thread will most likely be
     * given next; 0: not known. What follows is fetched there. */
    int32_t call_stride;
};

struct qr_packed_kernels {
    /* Results of tiles [first, last), all rows. */
    void (*matmul)(const struct qr_packed_args *args, int32_t first, int32_t last);
    /*
     * Rounds x [n_in] into row `row` of `rows`: scale = max |x| / 127, each value to nearest. A row
     * with infinities or NaN has NaN for the scale of such a step.
     */
    void (*quantize)(const float *x, int32_t n_in, const struct qr_packed_rows *rows, int32_t row);
    /* The same of x [QR_PACK_ROW_BLOCK][n_in], all rows of a block from `row` on. */
    void (*quantize_block)(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                           int32_t row);
    /* Rounds x [n_in] to nearest into rows->halves, which matrices of BF16 are multiplied with
     * then; NULL: they are multiplied with args->x as it is. */
    void (*round_to_bf16)(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                          int32_t row);
};

extern const struct qr_packed_kernels qr_packed_kernels_scalar;
extern const struct qr_packed_kernels qr_packed_kernels_neon;
extern const struct qr_packed_kernels qr_packed_kernels_avx2;
extern const struct qr_packed_kernels qr_packed_kernels_avx512;
extern const struct qr_packed_kernels qr_packed_kernels_avx512vnni;
extern const struct qr_packed_kernels qr_packed_kernels_avx512bf16;
extern const struct qr_packed_kernels qr_packed_kernels_amx;

QR_BEGIN_DECLS

/* The table of a supported instruction set. */
const struct qr_packed_kernels *qr_packed_kernels_of(enum qr_isa isa);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_PACKED_KERNELS_H */
