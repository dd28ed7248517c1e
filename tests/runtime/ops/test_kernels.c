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

enum { MAX_IN = 700, MAX_ROWS = 3 };

/* Weights in all three dtypes and activations, the same for every test. */
struct data {
    union {
        float f32[MAX_IN];
        uint16_t half[MAX_IN];
    } weight;
    float exact[MAX_IN]; /* the weights as F32 */
    float x[MAX_ROWS * MAX_IN];
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

    for (size_t i = 0; i < MAX_IN; i++) {
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

/* Of element i, in double. */
static double exact_norm(const struct qr_norm_args *args, int32_t i, float before)
{
    int32_t dim = args->dim;
    const float *row = args->x + i / dim * dim;
    double mean = 0.0;
    double squares = 0.0;

    for (int32_t k = 0; k < dim && args->kind == QR_NORM_LAYER; k++)
        mean += (double)row[k] / dim;
    for (int32_t k = 0; k < dim; k++)
        squares += ((double)row[k] - mean) * ((double)row[k] - mean);
    double value = ((double)args->x[i] - mean) / sqrt(squares / dim + (double)args->eps) *
                   ((double)data.exact[i % dim] + (double)args->weight_offset);
    if (args->bias != NULL)
        value += (double)data.exact[i % dim];
    return args->adds ? value + (double)before : value;
}

enum { N_NORM_ROWS = 3 };

static void check_norm(const struct qr_cpu_kernels *const *sets, int n_sets,
                       struct qr_norm_args args)
{
    static float before[N_NORM_ROWS * MAX_IN], wanted[N_NORM_ROWS * MAX_IN],
        found[N_NORM_ROWS * MAX_IN];
    int32_t n = N_NORM_ROWS * args.dim;

    for (int32_t i = 0; i < n; i++)
        before[i] = wanted[i] = (float)(i % 7) - 3.0f;
    args.out = wanted;
    sets[0]->norm(&args, 0, N_NORM_ROWS);
    for (int32_t i = 0; i < n; i++) {
        double value = exact_norm(&args, i, before[i]);
        /* The mean is rounded once, and weighs more the smaller the row's spread is. */
        double bound = args.kind == QR_NORM_RMS && !args.adds ? fabs(value) * 0x1p-19
                                                              : (fabs(value) + 4.0) * 0x1p-18;
        if (args.dim > 1 || args.kind == QR_NORM_RMS)
            assert_true(fabs((double)wanted[i] - value) <= bound);
    }
    args.out = found;
    for (int s = 1; s < n_sets; s++) {
        memcpy(found, before, sizeof(found));
        for (int32_t row = 0; row < N_NORM_ROWS; row++) /* a row at a time: the same */
            sets[s]->norm(&args, row, row + 1);
        assert_memory_equal(found, wanted, (size_t)n * sizeof(float));
    }
}

static void norms_are_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    static const int32_t dims[] = {1, 8, 15, 16, 17, 64, 100, 699};
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);

    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
        for (int dtype = 0; dtype < QR_DTYPE_COUNT; dtype++) {
            fill((enum qr_dtype)dtype);
            struct qr_norm_args args = {.weight_dtype = (enum qr_dtype)dtype,
                                        .bias_dtype = (enum qr_dtype)dtype,
                                        .weight = &data.weight,
                                        .x = data.x,
                                        .dim = dims[d],
                                        .eps = 1e-5f};
            check_norm(sets, n_sets, args);
            args.weight_offset = 1.0f;
            args.adds = true;
            check_norm(sets, n_sets, args);
            args.kind = QR_NORM_LAYER;
            args.adds = false;
            args.weight_offset = 0.0f;
            args.bias = &data.weight;
            check_norm(sets, n_sets, args);
        }
    }
}

static double exact_activation(enum qr_activation activation, double x)
{
    switch (activation) {
    case QR_ACTIVATION_SILU:
        return x / (1.0 + exp(-x));
    case QR_ACTIVATION_GELU:
        return x / 2 * erfc(-x / sqrt(2.0));
    case QR_ACTIVATION_GELU_TANH:
        break;
    }
    return x / (1.0 + exp(-2.0 * sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
}

static void activations_are_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    enum { N = 16 * 12 + 5 };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    float gate[N], up[N], wanted[N], found[N];
    uint32_t seed = 3;

    for (int activation = 0; activation <= QR_ACTIVATION_GELU_TANH; activation++) {
        for (int i = 0; i < N; i++) { /* e^-gate overflows at the low end */
            gate[i] = (i % 2 == 0 ? 100.0f : 3.0f) * next_value(&seed);
            up[i] = next_value(&seed);
        }
        memcpy(wanted, gate, sizeof(wanted));
        sets[0]->activate((enum qr_activation)activation, wanted, up, N);
        for (int i = 0; i < N; i++) {
            double value =
                exact_activation((enum qr_activation)activation, (double)gate[i]) * (double)up[i];
            double bound = activation == QR_ACTIVATION_SILU ? fabs(value) * 0x1p-20 + 0x1p-120
                                                            : fabs(value) * 0x1p-20 + 3e-7;
            assert_true(fabs((double)wanted[i] - value) <= bound);
        }
        for (int s = 1; s < n_sets; s++) {
            memcpy(found, gate, sizeof(found));
            sets[s]->activate((enum qr_activation)activation, found, up, N);
            assert_memory_equal(found, wanted, sizeof(wanted));
        }
        for (int i = 0; i < N; i++)
            found[i] = gate[i];
        sets[0]->activate((enum qr_activation)activation, found, NULL, N);
        for (int i = 0; i < N; i++)
            assert_true(found[i] * up[i] == wanted[i]);
    }
}

static void soft_caps_are_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    enum { N = 16 * 3 + 11 };
    const float cap = 30.0f;
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    float x[N], wanted[N], found[N];
    uint32_t seed = 5;

    for (int i = 0; i < N; i++)
        x[i] = (i % 2 == 0 ? 4000.0f : 10.0f) * next_value(&seed);
    memcpy(wanted, x, sizeof(wanted));
    sets[0]->soft_cap(wanted, N, cap);
    for (int i = 0; i < N; i++)
        assert_true(fabs((double)wanted[i] - (double)cap * tanh((double)x[i] / (double)cap)) <=
                    (double)cap * 0x1p-21);
    for (int s = 1; s < n_sets; s++) {
        memcpy(found, x, sizeof(found));
        sets[s]->soft_cap(found, N, cap);
        assert_memory_equal(found, wanted, sizeof(wanted));
    }
}

static void sums_are_exact_on_every_set(void **state)
{
    (void)state;
    enum { N = 16 * 2 + 5 };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    uint32_t seed = 6;
    float x[N + 1], y[N + 1], found[N + 1];

    for (int i = 0; i <= N; i++) {
        x[i] = next_value(&seed);
        y[i] = next_value(&seed);
    }
    for (int s = 0; s < n_sets; s++) {
        memcpy(found, x, sizeof(found));
        sets[s]->add(found, y, N);
        for (int i = 0; i < N; i++)
            assert_true(found[i] == x[i] + y[i]);
        assert_true(found[N] == x[N]);
    }
}

/* Of heads whose rotated part is not a multiple of the lanes, and not the whole head. */
static void rotations_are_right_on_every_set(void **state)
{
    (void)state;
    enum { HEADS = 3, HALF = 19, DIM = 2 * HALF + 4 };
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    uint32_t seed = 7;
    float x[HEADS][DIM], found[HEADS][DIM], turns[HALF][2];

    for (int i = 0; i < HEADS * DIM; i++)
        x[i / DIM][i % DIM] = next_value(&seed);
    for (int i = 0; i < 2 * HALF; i++)
        turns[i / 2][i % 2] = next_value(&seed);
    for (int s = 0; s < n_sets; s++) {
        memcpy(found, x, sizeof(found));
        sets[s]->rotate(&found[0][0], HEADS, DIM, &turns[0][0], HALF);
        for (int h = 0; h < HEADS; h++) {
            for (int i = 0; i < HALF; i++) {
                float a = x[h][i], b = x[h][i + HALF], cos = turns[i][0], sin = turns[i][1];
                assert_true(found[h][i] == a * cos - b * sin);
                assert_true(found[h][i + HALF] == b * cos + a * sin);
            }
            for (int i = 2 * HALF; i < DIM; i++)
                assert_true(found[h][i] == x[h][i]);
        }
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
        cmocka_unit_test(norms_are_right_and_the_same_on_every_set),
        cmocka_unit_test(activations_are_right_and_the_same_on_every_set),
        cmocka_unit_test(soft_caps_are_right_and_the_same_on_every_set),
        cmocka_unit_test(sums_are_exact_on_every_set),
        cmocka_unit_test(rotations_are_right_on_every_set),
        cmocka_unit_test(widen_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
