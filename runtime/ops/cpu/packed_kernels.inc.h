/*
 * packed_kernels.inc.h - the kernels of packed_kernels.h, written once.
 *
 * The including file has included one of the simd_int8_*.h headers and defines QR_KERNELS (the
 * name of the table), QR_TILE_ROWS and QR_TILES (rows and tiles whose sums are kept in registers),
 * and QR_FLOAT_ROWS and QR_FLOAT_TILES, the same of the floats.
 *
 * With few rows the quants are taken from the tile as they are used. With many, a piece of a tile
 * is widened to bytes, and its scales to F32, in memory that stays in the first cache while the
 * rows pass by; the sums wait in `out` between two pieces. Both add the same terms in the same
 * order.
 */
#include <math.h>
#include <stdalign.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/ops/cpu/packed_kernels.h"

#define QR_INLINE static inline __attribute__((always_inline))

enum {
    STEP = QR_PACK_STEP,
    GROUPS = STEP / 4,
    GROUP_BYTES = 4 * QR_LANES,
    F16_RUN = 2 * QR_LANES,
    K_STEPS = 256 / STEP,
    PIECE_STEPS = 16, /* a multiple of K_STEPS; their bytes for QR_TILES tiles fit the cache */
    FEW_ROWS = 2 * QR_TILE_ROWS,
};

/* A piece of a tile in the form for many rows. */
struct wide_piece {
    uint8_t quants[PIECE_STEPS * GROUPS * GROUP_BYTES];
    float scales[PIECE_STEPS][2][QR_LANES]; /* for each half of a step; one of them but in Q6_K */
    float minimums[PIECE_STEPS][QR_LANES];  /* Q4_K */
};

/* Where a tile's numbers are, from some step on. */
struct source {
    const uint8_t *quants;
    const uint8_t *scales;         /* of the tile, as packed; */
    const struct wide_piece *wide; /* or widened */
};

/* Parts of a step with a scale of their own. */
QR_INLINE int halves_of(enum qr_dtype dtype)
{
    return dtype == QR_DTYPE_Q6_K ? 2 : 1;
}

/* Group g of a packed step. */
QR_INLINE qr_u8x64 packed_group(enum qr_dtype dtype, const uint8_t *step, int g)
{
    if (dtype == QR_DTYPE_Q8_0)
        return qr_u8x64_load(step + g * GROUP_BYTES);
    qr_u8x64 nibbles = qr_u8x64_load(step + g % 4 * GROUP_BYTES);
    nibbles = qr_u8x64_bits(nibbles, g / 4 * 4, 0x0F);
    if (dtype != QR_DTYPE_Q6_K)
        return nibbles;
    qr_u8x64 upper = qr_u8x64_load(step + (4 + g % 2) * GROUP_BYTES);
    int shift = 4 - g / 2 * 2; /* upwards */
    upper = shift >= 0 ? qr_u8x64_bits_up(upper, shift, 0x30) : qr_u8x64_bits(upper, -shift, 0x30);
    return qr_u8x64_or(nibbles, upper);
}

/* Scale of half `half` of step `step` of a tile. */
QR_INLINE qr_f32x16 packed_scale(enum qr_dtype dtype, const uint8_t *scales, int32_t step, int half)
{
    if (dtype == QR_DTYPE_Q8_0 || dtype == QR_DTYPE_Q4_0)
        return qr_f32x16_load_f16((const uint16_t *)(const void *)(scales + step * F16_RUN));
    size_t run_bytes = dtype == QR_DTYPE_Q4_K ? 2 * F16_RUN + K_STEPS * 2 * QR_LANES
                                              : F16_RUN + K_STEPS * 2 * QR_LANES;
    const uint8_t *run = scales + (size_t)(step / K_STEPS) * run_bytes;
    qr_f32x16 d = qr_f32x16_load_f16((const uint16_t *)(const void *)run);
    int part = step % K_STEPS * 2 + half;
    if (dtype == QR_DTYPE_Q4_K)
        return qr_f32x16_mul(d, qr_f32x16_load_u8(run + 2 * F16_RUN + part * QR_LANES));
    return qr_f32x16_mul(d, qr_f32x16_load_s8(run + F16_RUN + part * QR_LANES));
}

/* Of Q4_K alone. */
QR_INLINE qr_f32x16 packed_minimum(const uint8_t *scales, int32_t step)
{
    size_t run_bytes = 2 * F16_RUN + K_STEPS * 2 * QR_LANES;
    const uint8_t *run = scales + (size_t)(step / K_STEPS) * run_bytes;
    qr_f32x16 d = qr_f32x16_load_f16((const uint16_t *)(const void *)(run + F16_RUN));
    int part = step % K_STEPS * 2 + 1;
    return qr_f32x16_mul(d, qr_f32x16_load_u8(run + 2 * F16_RUN + part * QR_LANES));
}

QR_INLINE qr_u8x64 group_of(enum qr_dtype dtype, bool is_wide, const struct source *source,
                            int32_t step, int g)
{
    const size_t packed = dtype == QR_DTYPE_Q8_0   ? GROUPS * GROUP_BYTES
                          : dtype == QR_DTYPE_Q6_K ? (GROUPS / 2 + 2) * GROUP_BYTES
                                                   : GROUPS / 2 * GROUP_BYTES;
    if (is_wide)
        return qr_u8x64_load(source->quants + ((size_t)step * GROUPS + (size_t)g) * GROUP_BYTES);
    return packed_group(dtype, source->quants + (size_t)step * packed, g);
}

/* What the dot products of a half begin with; x_sums: of its step. The integers of a tile are not
 * below 0, but stand for q - 8 in Q4_0 and q - 32 in Q6_K. */
QR_INLINE qr_i32x16 begin_dot(enum qr_dtype dtype, const int32_t *x_sums, int half)
{
    if (dtype == QR_DTYPE_Q8_0)
        return qr_dot_raised_begin(x_sums[0]);
    if (dtype == QR_DTYPE_Q4_0)
        return qr_i32x16_shift_up(qr_i32x16_set1(x_sums[0]), 3);
    if (dtype == QR_DTYPE_Q6_K)
        return qr_i32x16_shift_up(qr_i32x16_set1(half == 0 ? x_sums[1] : x_sums[0] - x_sums[1]), 5);
    return qr_i32x16_set1(0);
}

/* Adds half `half` of step `step` to sums[rows][tiles]. x_step: the step from the matrix's first.
 */
QR_INLINE void add_half(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                        int rows, int tiles, int32_t row, const struct source *sources,
                        int32_t step, int32_t x_step, int half,
                        qr_f32x16 sums[QR_TILE_ROWS][QR_TILES])
{
    const int n_groups = GROUPS / halves_of(dtype);
    size_t n_in = (size_t)args->n_in;
    const int8_t *x = args->rounded.values + (size_t)row * n_in + (size_t)x_step * STEP;
    const float *x_scales = args->rounded.scales + (size_t)row * (n_in / STEP) + x_step;
    const int32_t *x_sums = args->rounded.sums + ((size_t)row * (n_in / STEP) + (size_t)x_step) * 2;
    qr_i32x16 dots[QR_TILE_ROWS][QR_TILES];

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++)
            dots[r][t] = begin_dot(dtype, x_sums + (size_t)r * (n_in / STEP) * 2, half);
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_groups; i++) {
        int g = half * n_groups + i;
        qr_u8x64 w[QR_TILES];
        for (int t = 0; t < tiles; t++)
            w[t] = group_of(dtype, is_wide, &sources[t], step, g);
        for (int r = 0; r < rows; r++) {
            const int8_t *four = x + (size_t)r * n_in + g * 4;
            for (int t = 0; t < tiles; t++)
                dots[r][t] = dtype == QR_DTYPE_Q8_0 ? qr_dot_raised(dots[r][t], w[t], four)
                                                    : qr_dot_u7(dots[r][t], w[t], four);
        }
    }
    for (int t = 0; t < tiles; t++) {
        const struct source *from = &sources[t];
        qr_f32x16 scale = is_wide ? qr_f32x16_load(from->wide->scales[step][half])
                                  : packed_scale(dtype, from->scales, x_step, half);
        qr_f32x16 minimum = qr_f32x16_zero();
        if (dtype == QR_DTYPE_Q4_K)
            minimum = is_wide ? qr_f32x16_load(from->wide->minimums[step])
                              : packed_minimum(from->scales, x_step);
        for (int r = 0; r < rows; r++) {
            float x_scale = x_scales[(size_t)r * (n_in / STEP)];
            sums[r][t] = qr_f32x16_fma(qr_f32x16_from_i32(dots[r][t]),
                                       qr_f32x16_mul(scale, qr_f32x16_set1(x_scale)), sums[r][t]);
            if (dtype == QR_DTYPE_Q4_K)
                sums[r][t] = qr_f32x16_fma(
                    minimum, qr_f32x16_set1(x_scale * (float)x_sums[(size_t)r * (n_in / STEP) * 2]),
                    sums[r][t]);
        }
    }
}

/* Results of a tile that the matrix has. */
QR_INLINE int lanes_of(const struct qr_packed_args *args, int32_t tile)
{
    int32_t left = args->n_out - tile * QR_LANES;
    return left < QR_LANES ? left : QR_LANES;
}

/* Steps [first, first + n) for rows x tiles results; `sources` begin at step `first`. */
QR_INLINE void multiply_tiles(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                              int rows, int tiles, int32_t row, int32_t tile,
                              const struct source *sources, int32_t first, int32_t n)
{
    float *out = args->out + (size_t)row * (size_t)args->n_out + (size_t)tile * QR_LANES;
    qr_f32x16 sums[QR_TILE_ROWS][QR_TILES];

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++)
            sums[r][t] =
                first == 0
                    ? qr_f32x16_zero()
                    : qr_f32x16_load_partial(out + (size_t)r * (size_t)args->n_out + t * QR_LANES,
                                             lanes_of(args, tile + t));
    }
    for (int32_t step = 0; step < n; step++) {
        for (int half = 0; half < halves_of(dtype); half++)
            add_half(args, dtype, is_wide, rows, tiles, row, sources, step, first + step, half,
                     sums);
    }
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++)
            qr_f32x16_store_partial(out + (size_t)r * (size_t)args->n_out + t * QR_LANES,
                                    sums[r][t], lanes_of(args, tile + t));
    }
}

QR_INLINE void multiply_rows(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                             int tiles, int32_t tile, const struct source *sources, int32_t first,
                             int32_t n)
{
    int32_t row = 0;

    for (; row + QR_TILE_ROWS <= args->n_rows; row += QR_TILE_ROWS)
        multiply_tiles(args, dtype, is_wide, QR_TILE_ROWS, tiles, row, tile, sources, first, n);
    for (; row + 4 <= args->n_rows && QR_TILE_ROWS > 4; row += 4)
        multiply_tiles(args, dtype, is_wide, 4, tiles, row, tile, sources, first, n);
    for (; row + 2 <= args->n_rows && QR_TILE_ROWS > 2; row += 2)
        multiply_tiles(args, dtype, is_wide, 2, tiles, row, tile, sources, first, n);
    for (; row < args->n_rows; row++)
        multiply_tiles(args, dtype, is_wide, 1, tiles, row, tile, sources, first, n);
}

/* Steps [first, first + n) of a tile in the form for many rows. */
QR_INLINE struct source widen_piece(enum qr_dtype dtype, const struct source *tile, int32_t first,
                                    int32_t n, struct wide_piece *piece)
{
    const struct source from = {.quants = tile->quants};

    for (int32_t step = 0; step < n; step++) {
        for (int half = 0; half < halves_of(dtype); half++)
            qr_f32x16_store(piece->scales[step][half],
                            packed_scale(dtype, tile->scales, first + step, half));
        if (dtype == QR_DTYPE_Q4_K)
            qr_f32x16_store(piece->minimums[step], packed_minimum(tile->scales, first + step));
        for (int g = 0; g < GROUPS && dtype != QR_DTYPE_Q8_0; g++)
            qr_u8x64_store(piece->quants + (step * GROUPS + g) * GROUP_BYTES,
                           group_of(dtype, false, &from, first + step, g));
    }
    return (struct source){.quants = dtype == QR_DTYPE_Q8_0
                                         ? tile->quants + (size_t)first * GROUPS * GROUP_BYTES
                                         : piece->quants,
                           .wide = piece};
}

QR_INLINE void multiply(const struct qr_packed_args *args, enum qr_dtype dtype, int tiles,
                        int32_t tile)
{
    const struct qr_packed_layout layout = qr_packed_layout_of(dtype, args->n_in);
    const int32_t n_steps = args->n_in / STEP;
    alignas(64) struct wide_piece pieces[QR_TILES];
    struct source packed[QR_TILES];
    struct source wide[QR_TILES];

    for (int t = 0; t < tiles; t++) {
        const uint8_t *data =
            args->tiles + (size_t)(tile + t - args->first_tile) * layout.tile_bytes;
        packed[t] = (struct source){.quants = data, .scales = data + layout.scales_at};
    }
    if (args->n_rows <= FEW_ROWS) {
        multiply_rows(args, dtype, false, tiles, tile, packed, 0, n_steps);
        return;
    }
    for (int32_t first = 0; first < n_steps; first += PIECE_STEPS) {
        int32_t n = n_steps - first < PIECE_STEPS ? n_steps - first : PIECE_STEPS;
        for (int t = 0; t < tiles; t++)
            wide[t] = widen_piece(dtype, &packed[t], first, n, &pieces[t]);
        multiply_rows(args, dtype, true, tiles, tile, wide, first, n);
    }
}

QR_INLINE void multiply_dtype(const struct qr_packed_args *args, enum qr_dtype dtype, int32_t first,
                              int32_t last)
{
    int32_t tile = first;

    for (; tile + QR_TILES <= last; tile += QR_TILES)
        multiply(args, dtype, QR_TILES, tile);
    for (; tile < last; tile++)
        multiply(args, dtype, 1, tile);
}

static void matmul_q8_0(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_dtype(args, QR_DTYPE_Q8_0, first, last);
}

static void matmul_q4_0(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_dtype(args, QR_DTYPE_Q4_0, first, last);
}

static void matmul_q4_k(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_dtype(args, QR_DTYPE_Q4_K, first, last);
}

static void matmul_q6_k(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_dtype(args, QR_DTYPE_Q6_K, first, last);
}

#include "runtime/ops/cpu/packed_floats.inc.h"

static void matmul(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    static void (*const formats[QR_DTYPE_END])(const struct qr_packed_args *, int32_t, int32_t) = {
        [QR_DTYPE_F32] = matmul_f32,   [QR_DTYPE_F16] = matmul_f16,   [QR_DTYPE_BF16] = matmul_bf16,
        [QR_DTYPE_Q8_0] = matmul_q8_0, [QR_DTYPE_Q4_0] = matmul_q4_0, [QR_DTYPE_Q4_K] = matmul_q4_k,
        [QR_DTYPE_Q6_K] = matmul_q6_k,
    };

    formats[args->dtype](args, first, last);
}

QR_INLINE float largest_size(qr_f32x16 low, qr_f32x16 high)
{
    qr_f32x16 zero = qr_f32x16_zero();
    qr_f32x16 sizes = qr_f32x16_max(qr_f32x16_max(low, qr_f32x16_sub(zero, low)),
                                    qr_f32x16_max(high, qr_f32x16_sub(zero, high)));
    return qr_f32x16_reduce_max(sizes);
}

static void quantize(const float *x, int32_t n_in, const struct qr_packed_rows *rows, int32_t row)
{
    const float least = 1e-30f; /* what is smaller counts as 0, and 127 / least is finite */
    int8_t *values = rows->values + (size_t)row * (size_t)n_in;
    float *scales = rows->scales + (size_t)row * (size_t)(n_in / STEP);
    int32_t *sums = rows->sums + (size_t)row * (size_t)(n_in / STEP) * 2;

    for (int32_t k = 0; k < n_in; k += STEP, values += STEP, sums += 2) {
        qr_f32x16 low = qr_f32x16_load(x + k);
        qr_f32x16 high = qr_f32x16_load(x + k + QR_LANES);
        float max = largest_size(low, high);
        qr_f32x16 inverse = qr_f32x16_set1(max >= least ? 127.0f / max : 0.0f);
        low = qr_f32x16_round(qr_f32x16_mul(low, inverse));
        high = qr_f32x16_round(qr_f32x16_mul(high, inverse));
        /* Whole numbers, exactly; NaN of infinities, which are multiplied by 0 then, and NaN. */
        float low_sum = qr_f32x16_reduce_add(low);
        float sum = low_sum + qr_f32x16_reduce_add(high);
        if (isnan(sum)) {
            *scales++ = sum;
            memset(values, 0, STEP);
            sums[0] = sums[1] = 0;
            continue;
        }
        *scales++ = max / 127.0f;
        qr_f32x16_store_s8(values, low);
        qr_f32x16_store_s8(values + QR_LANES, high);
        sums[0] = -(int32_t)sum;
        sums[1] = -(int32_t)low_sum;
    }
}

const struct qr_packed_kernels QR_KERNELS = {.matmul = matmul, .quantize = quantize};
