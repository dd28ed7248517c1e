/*
 * test_packed.c - packed matrices: their numbers are those of the blocks, exactly; products are
 * what their definition gives, with == whatever the rows, ranges and instruction set; and
 * activations are rounded as told.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/dequantize.h"
#include "base/dtype.h"
#include "tests/support/kernel_sets.h"

enum { MAX_IN = 1280, MAX_OUT = 133, MAX_ROWS = 270, MAX_BLOCK_ROWS = 272 };

static const enum qr_dtype formats[] = {QR_DTYPE_Q8_0, QR_DTYPE_Q4_0, QR_DTYPE_Q4_K, QR_DTYPE_Q6_K,
                                        QR_DTYPE_F32,  QR_DTYPE_F16,  QR_DTYPE_BF16};
enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

/* A matrix as blocks, as tiles and as F32, and activations as F32 and rounded. */
struct data {
    uint8_t blocks[MAX_OUT * MAX_IN * 4]; /* or numbers of another dtype */
    uint8_t *tiles;
    float exact[MAX_OUT * MAX_IN];
    float x[MAX_ROWS * MAX_IN];
    int8_t values[MAX_BLOCK_ROWS * MAX_IN];
    float scales[MAX_BLOCK_ROWS * MAX_IN / 32];
    int32_t sums[MAX_BLOCK_ROWS * MAX_IN / 32 * 2];
    uint16_t halves[MAX_BLOCK_ROWS * MAX_IN];
    float out[MAX_ROWS * MAX_OUT];
    float wanted[MAX_ROWS * MAX_OUT];
};

static struct data data;

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static struct qr_packed_rows rounded_rows(void)
{
    return (struct qr_packed_rows){data.values, data.scales, data.sums, data.halves};
}

static void make_matrix(enum qr_dtype dtype, int32_t n_out, int32_t n_in)
{
    size_t row_bytes = qr_dtype_row_bytes(dtype, n_in);
    const struct qr_packed_layout layout = qr_packed_layout_of(dtype, n_in);
    uint32_t seed = 7;

    assert_true(layout.tile_bytes % QR_PACK_ALIGN == 0);
    for (size_t i = 0; i < row_bytes * (size_t)n_out; i++)
        data.blocks[i] = (uint8_t)(next(&seed) & 0xBF); /* finite, of every format */
    free(data.tiles);
    data.tiles = aligned_alloc(QR_PACK_ALIGN, layout.tile_bytes * (size_t)(n_out / 16 + 1));
    assert_non_null(data.tiles);
    for (int32_t row = 0; row < n_out; row += QR_PACK_ROWS)
        qr_pack_tile(dtype, data.blocks + (size_t)row * row_bytes,
                     n_out - row < QR_PACK_ROWS ? n_out - row : QR_PACK_ROWS, n_in,
                     data.tiles + (size_t)(row / QR_PACK_ROWS) * layout.tile_bytes);
    qr_dequantize(dtype, data.blocks, (int64_t)n_out * n_in, data.exact);
}

/* Rounds rows of x as a set does. What was there before must not matter. */
static void round_rows(const struct qr_packed_kernels *set, const float *x, int32_t n_rows,
                       int32_t n_in)
{
    const struct qr_packed_rows rows = rounded_rows();

    memset(data.values, 0xFF, sizeof(data.values));
    memset(data.scales, 0xFF, sizeof(data.scales));
    memset(data.sums, 0xFF, sizeof(data.sums));
    memset(data.halves, 0xFF, sizeof(data.halves));
    for (int32_t row = 0; row < n_rows; row++) {
        if (n_in % 32 == 0)
            set->quantize(x + row * n_in, n_in, &rows, row);
        if (set->round_to_bf16 != NULL)
            set->round_to_bf16(x + row * n_in, n_in, &rows, row);
    }
}

static void make_rows(int32_t n_rows, int32_t n_in)
{
    uint32_t seed = 5;

    for (int32_t i = 0; i < n_rows * n_in; i++)
        data.x[i] = (float)((int32_t)(next(&seed) % 4001) - 2000) * (1.0f / 512);
    round_rows(&qr_packed_kernels_scalar, data.x, n_rows, n_in);
}

/* The product of the matrix with the first row. */
static struct qr_packed_args one_row(enum qr_dtype dtype, int32_t n_out, int32_t n_in)
{
    return (struct qr_packed_args){.dtype = dtype,
                                   .tiles = data.tiles,
                                   .rounded = rounded_rows(),
                                   .out = data.out,
                                   .n_in = n_in,
                                   .n_out = n_out,
                                   .n_rows = 1};
}

static void packing_keeps_every_number(void **state)
{
    static const int32_t shapes[][2] = {{1, 256}, {16, 512}, {17, 1280}, {70, 768}, {19, 77}};
    float row[MAX_IN];

    (void)state;
    for (int f = 0; f < N_FORMATS; f++) {
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            int32_t n_in = shapes[s][1];
            if (n_in % 256 != 0 && qr_packed_rounds(formats[f]))
                continue;
            make_matrix(formats[f], shapes[s][0], n_in);
            for (int32_t i = 0; i < shapes[s][0]; i++) {
                qr_packed_widen_row(formats[f], data.tiles, n_in, i, row);
                assert_memory_equal(row, data.exact + i * n_in, (size_t)n_in * sizeof(float));
            }
        }
    }
}

/* What a product multiplies with, in double. */
static double activation(const struct qr_packed_kernels *set, const struct qr_packed_args *args,
                         int32_t row, int32_t k)
{
    size_t step = qr_packed_step(args->n_in, row, k / 32);

    if (args->dtype == QR_DTYPE_BF16 && set->round_to_bf16 != NULL)
        return (double)qr_bf16_to_f32(data.halves[step * 32 + (size_t)k % 32]);
    if (!qr_packed_rounds(args->dtype))
        return (double)data.x[row * args->n_in + k];
    return (double)data.values[step * 32 + (size_t)k % 32] * (double)data.scales[step];
}

static void check_against_double(const struct qr_packed_kernels *set,
                                 const struct qr_packed_args *args)
{
    for (int32_t r = 0; r < args->n_rows; r++) {
        for (int32_t n = 0; n < args->n_out; n++) {
            double sum = 0.0;
            double magnitude = 0.0;
            for (int32_t k = 0; k < args->n_in; k++) {
                double x = activation(set, args, r, k);
                double term = (double)data.exact[n * args->n_in + k] * x;
                sum += term;
                /* where an offset is taken off, both parts are rounded */
                magnitude += fabs(term) + fabs(x) * 64 * fabs((double)data.exact[n * args->n_in]);
            }
            double found = (double)args->out[r * args->n_out + n];
            /* at most 128 roundings of a chunk's sum, one for each chunk, and those of steps */
            if (!(fabs(found - sum) <= (args->n_in / 16 + 133) * magnitude * 0x1p-24))
                fail_msg("%s %d x %d x %d: %g instead of %g", qr_dtype_name(args->dtype),
                         args->n_rows, args->n_out, args->n_in, found, sum);
        }
    }
}

static void products_are_right_and_the_same_on_every_set(void **state)
{
    static const int32_t shapes[][3] = {
        /* rows, out, in; block formats have whole blocks */
        {1, 1, 256},
        {1, 33, 512},
        {2, 16, 1280},
        {3, 17, 256},
        {4, 32, 768},
        {5, 48, 256},
        {7, 70, 1024},
        {8, 31, 512},
        {9, 64, 768},
        {16, 5, 256},
        {37, 70, 1280},
        {1, 1, 1},
        {1, 17, 33},
        {2, 5, 127},
        {5, 16, 129},
        {9, 70, 300},
        {33, 33, 31},
        {36, 41, 1279},
        /* more rows and tiles than the matrix unit takes together, two pieces */
        {270, 133, 768},
        /* Q8_0 as it is packed, in long rows, for more tiles than are taken together; in short ones
         */
        {29, 133, 1280},
        {32, 40, 768},
    };

    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);

    (void)state;
    for (int f = 0; f < N_FORMATS; f++) {
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            if ((shapes[s][2] % 256 != 0 && qr_packed_rounds(formats[f])) ||
                (shapes[s][0] > 64 && !qr_packed_rounds(formats[f])))
                continue;
            struct qr_packed_args args = {.dtype = formats[f],
                                          .x = data.x,
                                          .rounded = rounded_rows(),
                                          .out = data.wanted,
                                          .n_rows = shapes[s][0],
                                          .n_out = shapes[s][1],
                                          .n_in = shapes[s][2]};
            int32_t n_tiles = (args.n_out + 15) / 16;
            size_t n_bytes = (size_t)args.n_rows * (size_t)args.n_out * sizeof(float);
            make_matrix(formats[f], args.n_out, args.n_in);
            make_rows(args.n_rows, args.n_in);
            args.tiles = data.tiles;
            for (int i = 0; i < n_sets; i++) {
                const struct qr_packed_kernels *reference = formats[f] == QR_DTYPE_BF16
                                                                ? packed_bf16_reference(sets[i])
                                                                : &qr_packed_kernels_scalar;
                if (reference == NULL)
                    continue; /* it said so */
                round_rows(reference, data.x, args.n_rows, args.n_in);
                args.out = data.wanted;
                reference->matmul(&args, 0, n_tiles);
                check_against_double(reference, &args);
                round_rows(sets[i], data.x, args.n_rows, args.n_in);
                args.out = data.out;
                memset(data.out, 0xFF, n_bytes);
                sets[i]->matmul(&args, 0, n_tiles);
                assert_memory_equal(data.out, data.wanted, n_bytes);
            }
        }
    }
}

static void check_rows_and_ranges(const struct qr_packed_kernels *kernels)
{
    enum { N_IN = 768, N_OUT = 70, N_ROWS = 36, N_TILES = 5 };

    make_rows(N_ROWS, N_IN);
    for (int f = 0; f < N_FORMATS; f++) {
        make_matrix(formats[f], N_OUT, N_IN);
        round_rows(kernels, data.x, N_ROWS, N_IN);
        struct qr_packed_args all = {.dtype = formats[f],
                                     .tiles = data.tiles,
                                     .x = data.x,
                                     .rounded = rounded_rows(),
                                     .out = data.wanted,
                                     .n_in = N_IN,
                                     .n_out = N_OUT,
                                     .n_rows = N_ROWS};
        kernels->matmul(&all, 0, N_TILES);
        for (int32_t n = 1; n <= 12; n++) {
            for (int32_t row = 0; row + n <= N_ROWS; row += n) {
                struct qr_packed_args part = all;
                part.x = data.x + row * N_IN;
                round_rows(kernels, part.x, n, N_IN);
                part.out = data.out + row * N_OUT;
                part.n_rows = n;
                for (int32_t tile = 0; tile < N_TILES; tile += 1 + n % 3)
                    kernels->matmul(&part, tile,
                                    tile + 1 + n % 3 < N_TILES ? tile + 1 + n % 3 : N_TILES);
                assert_memory_equal(part.out, data.wanted + row * N_OUT,
                                    (size_t)(n * N_OUT) * sizeof(float));
            }
        }
    }
}

static void products_do_not_depend_on_rows_or_ranges(void **state)
{
    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);

    (void)state;
    for (int i = 0; i < n_sets; i++)
        check_rows_and_ranges(sets[i]);
}

enum { EXTREME_IN = 256, EXTREME_OUT = 16 };

/* Every set's products of the matrix with a row whose activations are all x, rounded to 127. */
static void check_extreme(enum qr_dtype dtype, float x, float wanted)
{
    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);
    const struct qr_packed_rows rows = rounded_rows();

    qr_pack_tile(dtype, data.blocks, EXTREME_OUT, EXTREME_IN, data.tiles);
    for (int32_t i = 0; i < EXTREME_IN; i++)
        data.x[i] = x;
    for (int i = 0; i < n_sets; i++) {
        const struct qr_packed_args args = one_row(dtype, EXTREME_OUT, EXTREME_IN);
        sets[i]->quantize(data.x, EXTREME_IN, &rows, 0);
        sets[i]->matmul(&args, 0, 1);
        for (int n = 0; n < EXTREME_OUT; n++)
            assert_true(data.out[n] == wanted);
    }
}

/* The largest integers there are: sums of 16 bits would not hold those of Q8_0, and just hold those
 * of Q4_0. */
static void extremes_do_not_overflow(void **state)
{
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        make_matrix(QR_DTYPE_Q8_0, EXTREME_OUT, EXTREME_IN);
        for (size_t block = 0; block < sizeof(data.blocks) / 34; block++) {
            memset(data.blocks + block * 34 + 2, sign < 0 ? 0x80 : 0x7F, 32);
            data.blocks[block * 34] = 0;
            data.blocks[block * 34 + 1] = 0x3C; /* F16 1.0 */
        }
        check_extreme(QR_DTYPE_Q8_0, 127.0f, (sign < 0 ? -128.0f : 127.0f) * 127.0f * EXTREME_IN);
        make_matrix(QR_DTYPE_Q4_0, EXTREME_OUT, EXTREME_IN);
        for (size_t block = 0; block < sizeof(data.blocks) / 18; block++) {
            memset(data.blocks + block * 18 + 2, 0xFF, 16); /* 15, which stands for 7 */
            data.blocks[block * 18] = 0;
            data.blocks[block * 18 + 1] = 0x3C;
        }
        check_extreme(QR_DTYPE_Q4_0, (float)sign * 127.0f,
                      (float)sign * 7.0f * 127.0f * EXTREME_IN);
    }
}

static void check_rounding(const float *x, int32_t n_in, const struct qr_packed_rows *rows,
                           int32_t row)
{
    for (int32_t step = 0; step < n_in / 32; step++) {
        float max = 0.0f;
        int sums[2] = {0, 0};
        size_t at = qr_packed_step(n_in, row, step);
        for (int32_t i = 0; i < 32; i++)
            max = fmaxf(max, fabsf(x[step * 32 + i]));
        assert_true(rows->scales[at] == max / 127.0f);
        for (int32_t i = 0; i < 32; i++) {
            int value = rows->values[at * 32 + (size_t)i];
            double found = (double)value * (double)rows->scales[at];
            assert_true(value >= -127 && value <= 127);
            assert_true(fabs(found - (double)x[step * 32 + i]) <=
                        (double)rows->scales[at] * 0.5001 + 1e-30);
            sums[i / 16] += value;
        }
        const int32_t *found = rows->sums + qr_packed_sum(n_in, row, step);
        assert_int_equal(found[0], -(sums[0] + sums[1]));
        assert_int_equal(found[QR_PACK_ROW_BLOCK], -sums[0]);
    }
}

static void activations_are_rounded_as_told(void **state)
{
    enum { N_IN = 256 };
    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);
    const struct qr_packed_rows rows = rounded_rows();
    static float x[N_IN];
    static int8_t first[QR_PACK_ROW_BLOCK * N_IN];
    uint32_t seed = 3;

    (void)state;
    for (int32_t i = 0; i < N_IN; i++)
        x[i] =
            (float)((int32_t)(next(&seed) % 4001) - 2000) * powf(10.0f, (float)(i / 32 * 9 - 36));
    memset(x + 64, 0, 32 * sizeof(float));
    for (int i = 0; i < n_sets; i++) {
        for (int32_t row = 0; row <= QR_PACK_ROW_BLOCK; row += 5) {
            memset(data.values, 1, sizeof(data.values));
            sets[i]->quantize(x, N_IN, &rows, row);
            check_rounding(x, N_IN, &rows, row);
        }
        sets[i]->quantize(x, N_IN, &rows, 0);
        if (i == 0)
            memcpy(first, rows.values, sizeof(first));
        assert_memory_equal(first, rows.values, sizeof(first));
    }
}

/* Also rows of zeros, of next to nothing, with NaN and with an infinity, in a block of usual ones.
 */
static void blocks_of_rows_are_rounded_as_each_row(void **state)
{
    enum { N_IN = 224, ROWS = QR_PACK_ROW_BLOCK, N_STEPS = ROWS * N_IN / 32 };
    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);
    const struct qr_packed_rows rows = rounded_rows();
    static float x[ROWS * N_IN];
    static int8_t values[ROWS * N_IN];
    static int32_t sums[2 * N_STEPS];
    static float scales[N_STEPS];
    uint32_t seed = 5;

    (void)state;
    for (int32_t i = 0; i < ROWS * N_IN; i++)
        x[i] =
            (float)((int32_t)(next(&seed) % 4001) - 2000) * powf(2.0f, (float)(i / 32 % 40 - 20));
    memset(x + 3 * N_IN + 32, 0, 32 * sizeof(float));
    for (int32_t i = 0; i < 32; i++)
        x[5 * N_IN + 64 + i] = (float)i * 1e-33f;
    x[7 * N_IN + 100] = NAN;
    x[9 * N_IN + 140] = -INFINITY;
    for (int i = 0; i < n_sets; i++) {
        for (int32_t row = 0; row < ROWS; row++)
            sets[0]->quantize(x + row * N_IN, N_IN, &rows, row);
        memcpy(values, rows.values, sizeof(values));
        memcpy(sums, rows.sums, sizeof(sums));
        memcpy(scales, rows.scales, sizeof(scales));
        memset(rows.values, 1, sizeof(values));
        memset(rows.sums, 1, sizeof(sums));
        memset(rows.scales, 1, sizeof(scales));
        sets[i]->quantize_block(x, N_IN, &rows, 0);
        assert_memory_equal(values, rows.values, sizeof(values));
        assert_memory_equal(sums, rows.sums, sizeof(sums));
        for (int32_t step = 0; step < N_STEPS; step++)
            assert_true(scales[step] == rows.scales[step] ||
                        (isnan(scales[step]) && isnan(rows.scales[step])));
    }
}

/* To nearest even, denormal numbers to zero, and zeros behind the last column. */
static void activations_are_rounded_to_bf16_as_told(void **state)
{
    enum { N_IN = 83, ROW = 18 };
    static const float special[] = {0.0f,           -0.0f, 1e-40f,    -1e-40f,   INFINITY,
                                    -INFINITY,      NAN,   0x1.01p0f, 0x1.03p0f, -0x1.01p9f,
                                    0x1.fffffep127f};
    static float x[N_IN];
    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);
    const struct qr_packed_rows rows = rounded_rows();
    uint32_t seed = 9;

    (void)state;
    for (int32_t i = 0; i < N_IN; i++)
        x[i] = ldexpf((float)next(&seed), (int)(next(&seed) % 200) - 120);
    memcpy(x + 30, special, sizeof(special));
    for (int i = 0; i < n_sets; i++) {
        if (sets[i]->round_to_bf16 == NULL)
            continue;
        memset(data.halves, 0xFF, sizeof(data.halves));
        sets[i]->round_to_bf16(x, N_IN, &rows, ROW);
        for (int32_t k = 0; k < 96; k++) {
            uint16_t found = rows.halves[qr_packed_step(N_IN, ROW, k / 32) * 32 + (size_t)k % 32];
            float value = k < N_IN ? x[k] : 0.0f;
            if (fpclassify(value) == FP_SUBNORMAL)
                value = copysignf(0.0f, value);
            if (isnan(value))
                assert_true(isnan(qr_bf16_to_f32(found)));
            else
                assert_int_equal(found, qr_f32_to_bf16(value));
        }
    }
}

/* They must not turn into numbers. */
static void infinities_and_nan_stay_visible(void **state)
{
    enum { N_IN = 256, N_OUT = 16 };
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    const struct qr_packed_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = packed_kernel_sets(sets);
    const struct qr_packed_rows rows = rounded_rows();

    (void)state;
    make_matrix(QR_DTYPE_Q4_K, N_OUT, N_IN);
    for (int b = 0; b < 3; b++) {
        for (int i = 0; i < n_sets; i++) {
            const struct qr_packed_kernels *kernels = sets[i];
            const struct qr_packed_args args = one_row(QR_DTYPE_Q4_K, N_OUT, N_IN);
            for (int32_t k = 0; k < N_IN; k++)
                data.x[k] = 1.0f;
            data.x[77] = bad[b];
            kernels->quantize(data.x, N_IN, &rows, 0);
            kernels->matmul(&args, 0, 1);
            for (int n = 0; n < N_OUT; n++)
                assert_true(isnan(data.out[n]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_keeps_every_number),
        cmocka_unit_test(products_are_right_and_the_same_on_every_set),
        cmocka_unit_test(products_do_not_depend_on_rows_or_ranges),
        cmocka_unit_test(extremes_do_not_overflow),
        cmocka_unit_test(activations_are_rounded_as_told),
        cmocka_unit_test(blocks_of_rows_are_rounded_as_each_row),
        cmocka_unit_test(activations_are_rounded_to_bf16_as_told),
        cmocka_unit_test(infinities_and_nan_stay_visible),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    free(data.tiles);
    return failed;
}
