/*
 * packed_kernels.inc.h - the kernels of packed_kernels.h, written once.
 *
 * The including file has included one of the simd_int8_*.h headers and defines QR_KERNELS (the
 * name of the table), QR_TILE_ROWS and QR_TILES (rows and tiles whose sums are kept in registers),
 * and QR_FLOAT_ROWS and QR_FLOAT_TILES, the same of the floats. Where it defines QR_MATRIX_UNIT,
 * and has included simd_amx.h, many rows are multiplied by the matrix unit. QR_SHIFTS_ARE_DEAR,
 * where it is true, says that shifts and masks take the units of the products.
 *
 * One group of rows, as many as registers hold sums of, goes through a tile at once. Where there
 * are more, all go through a piece of it, which stays in the first cache, before the next; the sums
 * wait in `out` between two pieces. The quants are taken from the tile as they are used, but with
 * many rows a piece of some formats is widened before, to bytes, and its scales to F32. All add the
 * same terms in the same order.
 */
#include <math.h>
#include <stdalign.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/ops/cpu/packed_kernels.h"

#ifdef __has_feature
#define QR_CLANG_SANITIZES (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define QR_CLANG_SANITIZES 0
#endif

#if defined(QUIRE_EMULATE_AVX512) || defined(__SANITIZE_ADDRESS__) || \
    defined(__SANITIZE_THREAD__) || QR_CLANG_SANITIZES
/* Formats and counts are variables there: compilers take minutes for thousands of long copies. */
#define QR_INLINE static inline
#else
#define QR_INLINE static inline __attribute__((always_inline))
#endif

#ifndef QR_SHIFTS_ARE_DEAR
#define QR_SHIFTS_ARE_DEAR false
#endif

enum {
    STEP = QR_PACK_STEP,
    GROUPS = STEP / 4,
    GROUP_BYTES = 4 * QR_LANES,
    F16_RUN = 2 * QR_LANES,
    K_STEPS = 256 / STEP,
    CACHE_LINE = 64,
    PIECE_STEPS = 16, /* a multiple of K_STEPS; their bytes for QR_TILES tiles fit the cache */
    STEPS_AHEAD = 16, /* that weights are fetched before they are used */
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
    const struct wide_piece *wide; /* with its scales, where it is widened */
    const uint8_t *packed;         /* the quants from the tile's first step on, as packed, */
    const uint8_t *scales;         /* and the scales */
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

/* Bytes of the quants of a step of a tile. */
QR_INLINE size_t packed_step_bytes(enum qr_dtype dtype)
{
    if (dtype == QR_DTYPE_Q8_0)
        return GROUPS * GROUP_BYTES;
    return (dtype == QR_DTYPE_Q6_K ? GROUPS / 2 + 2 : GROUPS / 2) * GROUP_BYTES;
}

QR_INLINE qr_u8x64 group_of(enum qr_dtype dtype, bool is_wide, const struct source *source,
                            int32_t step, int g)
{
    if (is_wide)
        return qr_u8x64_load(source->quants + ((size_t)step * GROUPS + (size_t)g) * GROUP_BYTES);
    return packed_group(dtype, source->quants + (size_t)step * packed_step_bytes(dtype), g);
}

/* The tile that a thread will most likely go on with after [tile, tile + tiles) of a call for
 * [first, last). */
QR_INLINE int32_t next_tile(const struct qr_packed_args *args, int32_t first, int32_t last,
                            int32_t tile, int tiles)
{
    bool is_last = tile + tiles >= last && args->call_stride > 0;
    return is_last ? first + args->call_stride : tile + tiles;
}

/* What is fetched while rows go through tiles. Where there are two groups of rows or more, the
 * first two take turns, so that neither waits for all of it. */
struct ahead {
    const struct qr_packed_layout *layout;
    size_t to_next;   /* bytes from these tiles to those that come next */
    int32_t n_steps;  /* of a tile */
    int32_t n_groups; /* that fetch, 1 or 2 */
};

/* Whether a group of rows fetches something in this step. */
QR_INLINE bool fetches(const struct ahead *ahead, int32_t group, int32_t step)
{
    return ahead != NULL && group < ahead->n_groups && (ahead->n_groups == 1 || step % 2 == group);
}

/* Fetches what tiles hold STEPS_AHEAD steps after `step`, or the next ones do. */
QR_INLINE void fetch_step(const struct ahead *ahead, enum qr_dtype dtype, int tiles,
                          const struct source *sources, int32_t step)
{
    const struct qr_packed_layout *layout = ahead->layout;
    const size_t scale_step = layout->scale_bytes / (size_t)(layout->scale_columns / STEP);
    const bool is_next = step + STEPS_AHEAD >= ahead->n_steps;
    const size_t later = (size_t)(step + STEPS_AHEAD - (is_next ? ahead->n_steps : 0));
    const size_t from = is_next ? ahead->to_next : 0;

    for (int t = 0; t < tiles; t++) {
        const uint8_t *quants = sources[t].packed + from + later * packed_step_bytes(dtype);
        for (size_t line = 0; line < packed_step_bytes(dtype); line += CACHE_LINE)
            __builtin_prefetch(quants + line, 0, 2);
        __builtin_prefetch(sources[t].scales + from + later * scale_step, 0, 2);
    }
}

/* What the dot products of a half begin with; x_sums: of the row and step. The integers of a tile
 * are not below 0, but stand for q - 8 in Q4_0 and q - 32 in Q6_K. */
QR_INLINE qr_i32x16 begin_dot(enum qr_dtype dtype, const int32_t *x_sums, int half)
{
    if (dtype == QR_DTYPE_Q8_0)
        return qr_dot_raised_begin(x_sums[0]);
    if (dtype == QR_DTYPE_Q4_0)
        return qr_i32x16_shift_up(qr_i32x16_set1(x_sums[0]), 3);
    if (dtype == QR_DTYPE_Q6_K)
        return qr_i32x16_shift_up(qr_i32x16_set1(half == 0 ? x_sums[QR_PACK_ROW_BLOCK]
                                                           : x_sums[0] - x_sums[QR_PACK_ROW_BLOCK]),
                                  5);
    return qr_i32x16_set1(0);
}

/* Whether its integers, as they are packed, are below 16. */
QR_INLINE bool is_u4(enum qr_dtype dtype)
{
    return dtype == QR_DTYPE_Q4_0 || dtype == QR_DTYPE_Q4_K;
}

/* Adds half `half` of step `step` to sums[rows][tiles]. x_step: the step from the matrix's first.
 */
QR_INLINE void add_half(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                        int rows, int tiles, int32_t row, const struct source *sources,
                        int32_t step, int32_t x_step, int half,
                        qr_f32x16 sums[QR_TILE_ROWS][QR_TILES])
{
    const int n_groups = GROUPS / halves_of(dtype);
    const size_t at = qr_packed_step(args->n_in, row, x_step);
    const int8_t *x = args->rounded.values + at * STEP;
    const float *x_scales = args->rounded.scales + at;
    const int32_t *x_sums = args->rounded.sums + qr_packed_sum(args->n_in, row, x_step);
    qr_i32x16 dots[QR_TILE_ROWS][QR_TILES];
    qr_u4_sums small[QR_TILE_ROWS][QR_TILES];

    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++) {
            dots[r][t] = begin_dot(dtype, x_sums + r, half);
            small[r][t] = qr_u4_begin(dots[r][t]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_groups; i++) {
        int g = half * n_groups + i;
        qr_u8x64 w[QR_TILES];
        for (int t = 0; t < tiles; t++)
            w[t] = group_of(dtype, is_wide, &sources[t], step, g);
        for (int r = 0; r < rows; r++) {
            const int8_t *four = x + r * STEP + g * 4;
            for (int t = 0; t < tiles; t++) {
                if (dtype == QR_DTYPE_Q8_0)
                    dots[r][t] = qr_dot_raised(dots[r][t], w[t], four);
                else if (is_u4(dtype))
                    small[r][t] = qr_dot_u4(small[r][t], w[t], four);
                else
                    dots[r][t] = qr_dot_u7(dots[r][t], w[t], four);
            }
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
            float x_scale = x_scales[r];
            if (is_u4(dtype))
                dots[r][t] = qr_u4_end(small[r][t], dots[r][t]);
            sums[r][t] = qr_f32x16_fma(qr_f32x16_from_i32(dots[r][t]),
                                       qr_f32x16_mul(scale, qr_f32x16_set1(x_scale)), sums[r][t]);
            if (dtype == QR_DTYPE_Q4_K)
                sums[r][t] =
                    qr_f32x16_fma(minimum, qr_f32x16_set1(x_scale * (float)x_sums[r]), sums[r][t]);
        }
    }
}

/* Results of a tile that the matrix has. */
QR_INLINE int lanes_of(const struct qr_packed_args *args, int32_t tile)
{
    int32_t left = args->n_out - tile * QR_LANES;
    return left < QR_LANES ? left : QR_LANES;
}

/* Steps [first, first + n) for rows x tiles results; `sources` begin at step `first`. ahead: NULL,
 * or what to fetch meanwhile; which group of rows these are. */
QR_INLINE void multiply_tiles(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                              int rows, int tiles, int32_t row, int32_t tile,
                              const struct source *sources, int32_t first, int32_t n,
                              const struct ahead *ahead, int32_t group)
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
        if (fetches(ahead, group, step))
            fetch_step(ahead, dtype, tiles, sources, first + step);
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

/* Rows [first_row, end_row). Those of a block are taken in groups that leave no small rest: 16 are
 * 6, 5, 5 or 4, 4, 4, 4. */
QR_INLINE void multiply_rows(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                             int tiles, int32_t first_row, int32_t end_row, int32_t tile,
                             const struct source *sources, int32_t first, int32_t n,
                             const struct ahead *ahead)
{
    int32_t group = 0;

    for (int32_t row = first_row; row < end_row; group++) {
        int32_t in_block = QR_PACK_ROW_BLOCK - row % QR_PACK_ROW_BLOCK;
        int32_t left = end_row - row < in_block ? end_row - row : in_block;
        int32_t taken = 1;
        if (QR_TILE_ROWS == 6 && (left >= 11 || left == 6))
            multiply_tiles(args, dtype, is_wide, taken = 6, tiles, row, tile, sources, first, n,
                           ahead, group);
        else if (QR_TILE_ROWS == 6 && left >= 5 && left != 8)
            multiply_tiles(args, dtype, is_wide, taken = 5, tiles, row, tile, sources, first, n,
                           ahead, group);
        else if (QR_TILE_ROWS >= 4 && left >= 4)
            multiply_tiles(args, dtype, is_wide, taken = 4, tiles, row, tile, sources, first, n,
                           ahead, group);
        else if (QR_TILE_ROWS >= 2 && left >= 2)
            multiply_tiles(args, dtype, is_wide, taken = 2, tiles, row, tile, sources, first, n,
                           ahead, group);
        else
            multiply_tiles(args, dtype, is_wide, 1, tiles, row, tile, sources, first, n, ahead,
                           group);
        row += taken;
    }
}

/* The tile from step `first` on, as it is. */
QR_INLINE struct source packed_piece(enum qr_dtype dtype, const struct source *tile, int32_t first)
{
    struct source piece = *tile;

    piece.quants += (size_t)first * packed_step_bytes(dtype);
    return piece;
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
    struct source wide = packed_piece(dtype, tile, first);
    if (dtype != QR_DTYPE_Q8_0)
        wide.quants = piece->quants;
    wide.wide = piece;
    return wide;
}

/* Where a tile's numbers are. */
QR_INLINE struct source packed_source(const struct qr_packed_args *args,
                                      const struct qr_packed_layout *layout, int32_t tile)
{
    const uint8_t *data = args->tiles + (size_t)(tile - args->first_tile) * layout->tile_bytes;

    return (struct source){.quants = data, .packed = data, .scales = data + layout->scales_at};
}

/* Rows from first_row on of `tiles` tiles, a constant, in pieces where several groups of rows share
 * them. The groups of the first 16 rows fetch. */
QR_INLINE void multiply_pieces(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                               int tiles, int32_t first_row, int32_t tile,
                               const struct source *packed, const struct ahead *ahead)
{
    const int32_t n_rows = args->n_rows;
    const int32_t length = ahead->n_groups > 1 ? PIECE_STEPS : ahead->n_steps;
    const int32_t end_fetching = n_rows < QR_PACK_ROW_BLOCK ? n_rows : QR_PACK_ROW_BLOCK;
    alignas(64) struct wide_piece pieces[QR_TILES];
    struct source from[QR_TILES];

    for (int32_t first = 0; first < ahead->n_steps; first += length) {
        int32_t left = ahead->n_steps - first;
        int32_t n = left < length ? left : length;
        for (int t = 0; t < tiles; t++)
            from[t] = is_wide ? widen_piece(dtype, &packed[t], first, n, &pieces[t])
                              : packed_piece(dtype, &packed[t], first);
        multiply_rows(args, dtype, is_wide, tiles, first_row, end_fetching, tile, from, first, n,
                      ahead);
        multiply_rows(args, dtype, is_wide, tiles,
                      first_row > end_fetching ? first_row : end_fetching, n_rows, tile, from,
                      first, n, NULL);
    }
}

/* The same of the tiles [first, last). */
QR_INLINE void multiply_joined(const struct qr_packed_args *args, enum qr_dtype dtype, bool is_wide,
                               int32_t first_row, int32_t first, int32_t last)
{
    const struct qr_packed_layout layout = qr_packed_layout_of(dtype, args->n_in);
    int tiles;

    for (int32_t tile = first; tile < last; tile += tiles) {
        tiles = tile + QR_TILES <= last ? QR_TILES : 1;
        int32_t next = next_tile(args, first, last, tile, tiles);
        const struct ahead ahead = {&layout, (size_t)(next - tile) * layout.tile_bytes,
                                    args->n_in / STEP,
                                    args->n_rows - first_row > QR_TILE_ROWS ? 2 : 1};
        struct source packed[QR_TILES];
        for (int t = 0; t < tiles; t++)
            packed[t] = packed_source(args, &layout, tile + t);
        if (tiles == QR_TILES)
            multiply_pieces(args, dtype, is_wide, QR_TILES, first_row, tile, packed, &ahead);
        else
            multiply_pieces(args, dtype, is_wide, 1, first_row, tile, packed, &ahead);
    }
}

#ifdef QR_MATRIX_UNIT

#include "runtime/ops/cpu/packed_amx.inc.h"

QR_INLINE void multiply_dtype(const struct qr_packed_args *args, enum qr_dtype dtype, int32_t first,
                              int32_t last)
{
    const int32_t n_many = many_rows_of(args->n_rows);

    if (n_many > 0)
        multiply_many(args, dtype, n_many, first, last);
    if (n_many < args->n_rows)
        multiply_joined(args, dtype, false, n_many, first, last);
}

#else

/* Widening pays where rows are many, and more than shifting bits is to be done for a step's bytes,
 * or shifting takes the units of the products. */
QR_INLINE bool pays_to_widen(enum qr_dtype dtype, int32_t n_rows)
{
    if (dtype == QR_DTYPE_Q8_0)
        return false;
    if (dtype == QR_DTYPE_Q4_0)
        return QR_SHIFTS_ARE_DEAR && n_rows > QR_PACK_ROW_BLOCK;
    return n_rows > 2 * QR_TILE_ROWS;
}

QR_INLINE void multiply_dtype(const struct qr_packed_args *args, enum qr_dtype dtype, int32_t first,
                              int32_t last)
{
    if (pays_to_widen(dtype, args->n_rows))
        multiply_joined(args, dtype, true, 0, first, last);
    else
        multiply_joined(args, dtype, false, 0, first, last);
}

#endif

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
#ifdef QR_BF16_ROWS
#include "runtime/ops/cpu/packed_bf16.inc.h"
#else
static void matmul_bf16(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    multiply_floats(args, QR_DTYPE_BF16, first, last);
}
#endif

static void matmul(const struct qr_packed_args *args, int32_t first, int32_t last)
{
    static void (*const formats[QR_DTYPE_END])(const struct qr_packed_args *, int32_t, int32_t) = {
        [QR_DTYPE_F32] = matmul_f32,   [QR_DTYPE_F16] = matmul_f16,   [QR_DTYPE_BF16] = matmul_bf16,
        [QR_DTYPE_Q8_0] = matmul_q8_0, [QR_DTYPE_Q4_0] = matmul_q4_0, [QR_DTYPE_Q4_K] = matmul_q4_k,
        [QR_DTYPE_Q6_K] = matmul_q6_k,
    };

    formats[args->dtype](args, first, last);
}

/* The larger of two sizes in each lane. */
QR_INLINE qr_f32x16 sizes_of(qr_f32x16 low, qr_f32x16 high)
{
    qr_f32x16 zero = qr_f32x16_zero();
    return qr_f32x16_max(qr_f32x16_max(low, qr_f32x16_sub(zero, low)),
                         qr_f32x16_max(high, qr_f32x16_sub(zero, high)));
}

#define LEAST_SCALED 1e-30f /* what is smaller counts as 0, and 127 / this is finite */

/* A step of a row; x is that of the row. */
static void quantize_step(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                          int32_t row, int32_t step)
{
    size_t at = qr_packed_step(n_in, row, step);
    int8_t *values = rows->values + at * STEP;
    int32_t *sums = rows->sums + qr_packed_sum(n_in, row, step);
    qr_f32x16 low = qr_f32x16_load(x + step * STEP);
    qr_f32x16 high = qr_f32x16_load(x + step * STEP + QR_LANES);
    float max = qr_f32x16_reduce_max(sizes_of(low, high));
    qr_f32x16 inverse = qr_f32x16_set1(max >= LEAST_SCALED ? 127.0f / max : 0.0f);

    low = qr_f32x16_round(qr_f32x16_mul(low, inverse));
    high = qr_f32x16_round(qr_f32x16_mul(high, inverse));
    /* Whole numbers, exactly; NaN of infinities, which are multiplied by 0 then, and NaN. */
    float low_sum = qr_f32x16_reduce_add(low);
    float sum = low_sum + qr_f32x16_reduce_add(high);
    if (isnan(sum)) {
        rows->scales[at] = sum;
        memset(values, 0, STEP);
        sums[0] = sums[QR_PACK_ROW_BLOCK] = 0;
        return;
    }
    rows->scales[at] = max / 127.0f;
    qr_f32x16_store_s8(values, low);
    qr_f32x16_store_s8(values + QR_LANES, high);
    sums[0] = -(int32_t)sum;
    sums[QR_PACK_ROW_BLOCK] = -(int32_t)low_sum;
}

static void quantize(const float *x, int32_t n_in, const struct qr_packed_rows *rows, int32_t row)
{
    for (int32_t step = 0; step < n_in / STEP; step++)
        quantize_step(x, n_in, rows, row, step);
}

static void store_negative(int32_t *to, qr_f32x16 sums)
{
    float whole[QR_LANES];

    qr_f32x16_store(whole, sums);
    for (int r = 0; r < QR_LANES; r++)
        to[r] = -(int32_t)whole[r];
}

/* A step of all 16 rows, whose numbers are found side by side. False: one of them is not as most
 * are, so that each has to be done by itself. */
static bool quantize_rows_step(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                               int32_t row, int32_t step)
{
    size_t at = qr_packed_step(n_in, row, step);
    int8_t *values = rows->values + at * STEP;
    int32_t *sums = rows->sums + qr_packed_sum(n_in, row, step);
    float inverses[QR_LANES];
    qr_f32x16 lows[QR_LANES], all[QR_LANES];

    x += step * STEP;
    for (int r = 0; r < QR_PACK_ROW_BLOCK; r++) {
        const float *from = x + (size_t)r * (size_t)n_in;
        all[r] = sizes_of(qr_f32x16_load(from), qr_f32x16_load(from + QR_LANES));
    }
    qr_f32x16 max = qr_f32x16_reduce_max_each(all);
    if (!(qr_f32x16_reduce_max(qr_f32x16_sub(qr_f32x16_zero(), max)) <= -LEAST_SCALED))
        return false;
    qr_f32x16_store(inverses, qr_f32x16_div(qr_f32x16_set1(127.0f), max));
    for (int r = 0; r < QR_PACK_ROW_BLOCK; r++) {
        const float *from = x + (size_t)r * (size_t)n_in;
        qr_f32x16 inverse = qr_f32x16_set1(inverses[r]);
        lows[r] = qr_f32x16_round(qr_f32x16_mul(qr_f32x16_load(from), inverse));
        qr_f32x16 high = qr_f32x16_round(qr_f32x16_mul(qr_f32x16_load(from + QR_LANES), inverse));
        qr_f32x16_store_s8(values + r * STEP, lows[r]);
        qr_f32x16_store_s8(values + r * STEP + QR_LANES, high);
        all[r] = qr_f32x16_add(lows[r], high);
    }
    qr_f32x16 sum = qr_f32x16_reduce_add_each(all);
    if (isnan(qr_f32x16_reduce_add(sum)))
        return false;
    store_negative(sums, sum);
    store_negative(sums + QR_PACK_ROW_BLOCK, qr_f32x16_reduce_add_each(lows));
    qr_f32x16_store(rows->scales + at, qr_f32x16_div(max, qr_f32x16_set1(127.0f)));
    return true;
}

static void quantize_block(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                           int32_t row)
{
    for (int32_t step = 0; step < n_in / STEP; step++) {
        if (quantize_rows_step(x, n_in, rows, row, step))
            continue;
        for (int32_t r = 0; r < QR_PACK_ROW_BLOCK; r++)
            quantize_step(x + (size_t)r * (size_t)n_in, n_in, rows, row + r, step);
    }
}

const struct qr_packed_kernels QR_KERNELS = {
    .matmul = matmul,
    .quantize = quantize,
    .quantize_block = quantize_block,
#ifdef QR_BF16_ROWS
    .round_to_bf16 = round_to_bf16,
#endif
};
