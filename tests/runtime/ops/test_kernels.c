/*
 * test_kernels.c - the CPU kernels against their definitions in double, and with ==
 * against one another, whatever the rows, ranges and instruction set.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/kernel_sets.h"

enum { MAX_IN = 700, MAX_OUT = 40, MAX_ROWS = 37 };

/* Weights in all three dtypes and activations, the same for every test. */
struct data {
    union {
        float f32[MAX_OUT * MAX_IN];
        uint16_t half[MAX_OUT * MAX_IN];
    } weight;
    float exact[MAX_OUT * MAX_IN]; /* the weights as F32 */
    float x[MAX_ROWS * MAX_IN];
    float out[MAX_ROWS * MAX_OUT];
    float wanted[MAX_ROWS * MAX_OUT];
};

static struct data data;

static float next_value(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static void fill(enum qr_dtype dtype)
{
    uint32_t seed = 11;

    for (size_t i = 0; i < MAX_OUT * MAX_IN; i++) {
        float value = next_value(&seed);
        if (dtype == QR_DTYPE_F32) {
            data.weight.f32[i] = data.exact[i] = value;
            continue;
        }
        uint16_t bits = (uint16_t)(seed >> 8);
        bits = dtype == QR_DTYPE_F16 ? (bits & 0x83FFu) | 0x3800u : (bits & 0x807Fu) | 0x3F00u;
        data.weight.half[i] = bits;
        data.exact[i] = dtype == QR_DTYPE_F16 ? qr_f16_to_f32(bits) : qr_bf16_to_f32(bits);
    }
    for (size_t i = 0; i < MAX_ROWS * MAX_IN; i++)
        data.x[i] = next_value(&seed);
}

static void check_matmul_against_double(const struct qr_matmul_args *args)
{
    for (int32_t r = 0; r < args->n_rows; r++) {
        for (int32_t n = 0; n < args->n_out; n++) {
            double sum = 0.0;
            double magnitude = 0.0;
            for (int32_t k = 0; k < args->n_in; k++) {
                double term =
                    (double)data.exact[n * args->n_in + k] * (double)data.x[r * args->n_in + k];
                sum += term;
                magnitude += fabs(term);
            }
            /* n_in / 16 + 4 roundings of partial sums that are below `magnitude` */
            double allowed = (args->n_in / 16 + 5) * magnitude * 0x1p-24;
            double found = (double)args->out[r * args->n_out + n];
            if (!(fabs(found - sum) <= allowed))
                fail_msg("%d x %d x %d: %g instead of %g", args->n_rows, args->n_out, args->n_in,
                         found, sum);
        }
    }
}

static void matmul_is_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    static const int32_t shapes[][3] = {
        /* rows, out, in */
        {1, 1, 1},   {1, 3, 15},  {1, 4, 16},   {2, 5, 17},  {3, 2, 64},
        {4, 4, 172}, {5, 7, 33},  {7, 40, 100}, {8, 13, 31}, {31, 9, 48},
        {33, 6, 65}, {37, 40, 7}, {6, 11, 700}, {32, 1, 16}, {1, 40, 688},
    };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);

    for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
        fill((enum qr_dtype)dtype);
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            struct qr_matmul_args args = {.dtype = (enum qr_dtype)dtype,
                                          .weight = &data.weight,
                                          .x = data.x,
                                          .out = data.wanted,
                                          .n_rows = shapes[s][0],
                                          .n_out = shapes[s][1],
                                          .n_in = shapes[s][2]};
            size_t n_bytes = (size_t)args.n_rows * (size_t)args.n_out * sizeof(float);
            sets[0]->matmul(&args, 0, args.n_out);
            check_matmul_against_double(&args);
            args.out = data.out;
            for (int i = 1; i < n_sets; i++) {
                memset(data.out, 0xFF, n_bytes);
                sets[i]->matmul(&args, 0, args.n_out);
                assert_memory_equal(data.out, data.wanted, n_bytes);
            }
        }
    }
}

static void matmul_does_not_depend_on_rows_or_ranges(void **state)
{
    (void)state;
    enum { N_IN = 183, N_OUT = 23, N_ROWS = 35 };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);

    for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
        fill((enum qr_dtype)dtype);
        struct qr_matmul_args all = {.dtype = (enum qr_dtype)dtype,
                                     .weight = &data.weight,
                                     .x = data.x,
                                     .out = data.wanted,
                                     .n_rows = N_ROWS,
                                     .n_out = N_OUT,
                                     .n_in = N_IN};
        for (int s = 0; s < n_sets; s++) {
            sets[s]->matmul(&all, 0, N_OUT);
            for (int32_t rows = 1; rows <= 9; rows++) {
                for (int32_t row = 0; row + rows <= N_ROWS; row += rows) {
                    struct qr_matmul_args part = all;
                    part.x = data.x + row * N_IN;
                    part.out = data.out + row * N_OUT;
                    part.n_rows = rows;
                    for (int32_t n = 0; n < N_OUT; n += rows)
                        sets[s]->matmul(&part, n, n + rows < N_OUT ? n + rows : N_OUT);
                    assert_memory_equal(part.out, data.wanted + row * N_OUT,
                                        (size_t)(rows * N_OUT) * sizeof(float));
                }
            }
        }
    }
}

static void rms_norm_is_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    static const int32_t dims[] = {1, 8, 15, 16, 17, 64, 100, 699};
    enum { N_ROWS = 3 };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    static float wanted[N_ROWS * MAX_IN];
    static float found[N_ROWS * MAX_IN];

    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
        for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
            fill((enum qr_dtype)dtype);
            struct qr_rms_norm_args args = {.dtype = (enum qr_dtype)dtype,
                                            .weight = &data.weight,
                                            .x = data.x,
                                            .out = wanted,
                                            .dim = dims[d],
                                            .eps = 1e-5f};
            size_t n_bytes = (size_t)(N_ROWS * dims[d]) * sizeof(float);
            sets[0]->rms_norm(&args, 0, N_ROWS);
            for (int32_t i = 0; i < N_ROWS * dims[d]; i++) {
                const float *row = data.x + i / dims[d] * dims[d];
                double squares = 0.0;
                for (int32_t k = 0; k < dims[d]; k++)
                    squares += (double)row[k] * (double)row[k];
                double value = (double)data.x[i] / sqrt(squares / dims[d] + (double)args.eps) *
                               (double)data.exact[i % dims[d]];
                assert_true(fabs((double)wanted[i] - value) <= fabs(value) * 0x1p-19);
            }
            args.out = found;
            for (int s = 1; s < n_sets; s++) {
                memset(found, 0xFF, sizeof(found));
                for (int32_t row = 0; row < N_ROWS; row++) /* a row at a time: the same */
                    sets[s]->rms_norm(&args, row, row + 1);
                assert_memory_equal(found, wanted, n_bytes);
            }
        }
    }
}

static void swiglu_is_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    enum { N = 16 * 12 + 5 };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    float gate[N], up[N], wanted[N], found[N];
    uint32_t seed = 3;

    for (int i = 0; i < N; i++) {
        gate[i] = 100.0f * next_value(&seed); /* e^-gate overflows at the low end */
        up[i] = next_value(&seed);
    }
    memcpy(wanted, gate, sizeof(wanted));
    sets[0]->swiglu(wanted, up, N);
    for (int i = 0; i < N; i++) {
        double value = (double)gate[i] / (1.0 + exp(-(double)gate[i])) * (double)up[i];
        assert_true(fabs((double)wanted[i] - value) <= fabs(value) * 0x1p-20 + 0x1p-120);
    }
    for (int s = 1; s < n_sets; s++) {
        memcpy(found, gate, sizeof(found));
        sets[s]->swiglu(found, up, N);
        assert_memory_equal(found, wanted, sizeof(wanted));
    }
}

static void widen_is_exact(void **state)
{
    (void)state;
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    float found[69];

    for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
        fill((enum qr_dtype)dtype);
        for (int s = 0; s < n_sets; s++) {
            memset(found, 0xFF, sizeof(found));
            sets[s]->widen((enum qr_dtype)dtype, &data.weight, 69, found);
            assert_memory_equal(found, data.exact, sizeof(found));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_is_right_and_the_same_on_every_set),
        cmocka_unit_test(matmul_does_not_depend_on_rows_or_ranges),
        cmocka_unit_test(rms_norm_is_right_and_the_same_on_every_set),
        cmocka_unit_test(swiglu_is_right_and_the_same_on_every_set),
        cmocka_unit_test(widen_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
