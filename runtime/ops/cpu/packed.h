/*
 * packed.h - matrices as the CPU's kernels stream through them.
 *
 * 16 rows of a matrix, that is 16 results of a product, stand together as a tile: a vector holds
 * the same column, or some neighbouring ones, of each, so that a kernel multiplies it with as much
 * of an activation, and sums of the results need no adding across lanes. Nothing is rounded on the
 * way: a tile has the numbers of the rows that it was made from, and about their size.
 *
 * A tile begins on a cache line. One of floats is its columns:
 *   F32, F16    [columns][16 rows]
 *   BF16        [columns / 2][16 rows][2]
 * up to a multiple of 32 of them, with zeros. One of blocks is its quants, then its scales. Quants:
 * for every 32 elements (a step), in groups g of four, [g][16 rows][4]:
 *   Q8_0        8 groups of bytes, raised by 128
 *   Q4_0, Q4_K  4 groups of bytes: group g in the lower bits, group g + 4 in the upper
 *   Q6_K        as Q4_K the lower 4 bits; then 2 groups of bytes with the upper 2: bits 2 f and
 *               2 f + 1 of byte-group h belong to group h + 2 f
 * and of scales, for 16 rows side by side:
 *   Q8_0, Q4_0  for every 32 elements F16 d[16]
 *   Q4_K        for every 256 elements F16 d[16], F16 dmin[16], then for each of the 8 parts
 *               uint8_t s[16], m[16]
 *   Q6_K        for every 256 elements F16 d[16], then int8_t s[16] for each of the 16 runs
 * (names as in base/dequantize.h). The rows that the last tile lacks are zeros.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_PACKED_H
#define QUIRE_RUNTIME_OPS_CPU_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum {
    QR_PACK_VERSION = 1, /* of all this and of base/quantize.h: other bytes, another number */
    QR_PACK_ROWS = 16,   /* of a tile */
    QR_PACK_STEP = 32,   /* elements */
    QR_PACK_ALIGN = 64,
};

/* Where the parts of a tile are. */
struct qr_packed_layout {
    size_t step_bytes;     /* of quants */
    int32_t scale_columns; /* elements, that share a run of scales */
    size_t scale_bytes;    /* of such a run */
    size_t scales_at;      /* from the tile's beginning */
    size_t tile_bytes;
};

QR_BEGIN_DECLS

/* Whether matrices of this format are packed: F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K. */
bool qr_packs(enum qr_dtype dtype);
/* Whether products round the activations that they are given to 8 bits, on every instruction set.
 */
static inline bool qr_packed_rounds(enum qr_dtype dtype)
{
    return dtype >= QR_DTYPE_COUNT;
}
/* n_in: elements of a row, a multiple of the block size. */
struct qr_packed_layout qr_packed_layout_of(enum qr_dtype dtype, int64_t n_in);
/* Makes a tile of n_rows (1 to 16) rows [n_rows][n_in] of dtype. */
void qr_pack_tile(enum qr_dtype dtype, const void *rows, int32_t n_rows, int64_t n_in,
                  uint8_t *tile);
/* Row `row` of the matrix as F32, the numbers that qr_dequantize gives: out [n_in] */
void qr_packed_widen_row(enum qr_dtype dtype, const uint8_t *tiles, int64_t n_in, int64_t row,
                         float *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_PACKED_H */
