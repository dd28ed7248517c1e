/*
 * test_cuda_elementwise.c - the small ops on the device against scalar definitions: == where
 * elements are moved, converted, made or quantised, stated bounds where functions are evaluated.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "runtime/ops/cuda/cuda_elementwise.h"
#include "runtime/weights/synthetic.h"
#include "tests/support/cuda_ops_rig.h"

static const enum qr_cuda_type float_types[] = {QR_CUDA_F32, QR_CUDA_F16, QR_CUDA_BF16};
enum { N_FLOAT_TYPES = 3 };

struct bench {
    struct cuda_ops_rig rig;
    struct qr_cuda_elementwise ops;
};

static void open_bench(struct bench *bench)
{
    struct qr_error err = {""};

    cuda_ops_rig_open(&bench->rig);
    if (qr_cuda_elementwise_open(&bench->rig.cuda, &bench->ops, &err) != QR_OK)
        fail_msg("%s", err.message);
}

static void *allocate(size_t n_bytes)
{
    void *memory = calloc(1, n_bytes + 1);

    assert_non_null(memory);
    return memory;
}

static void *random_array(enum qr_cuda_type type, size_t n, uint64_t seed, float scale)
{
    void *data = allocate(n * qr_cuda_type_size(type));

    for (size_t i = 0; i < n; i++)
        cuda_ops_put(type, data, i, cuda_ops_random(seed, i) * scale);
    return data;
}

static void *upload(struct bench *bench, enum qr_cuda_type type, const void *data, size_t n)
{
    return cuda_ops_rig_upload(&bench->rig, data, n * qr_cuda_type_size(type));
}

static void rows_are_embedded_and_gathered(void **state)
{
    (void)state;
    enum { VOCAB = 11, ROWS = 5 };
    static const int32_t ids[ROWS] = {10, 0, 3, 3, 7};
    static const int32_t dims[] = {3, 64, 172, 2056};

    for (int type = 0; type < QR_CUDA_N_TYPES; type++) {
        for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
            enum qr_cuda_type t = (enum qr_cuda_type)type;
            size_t dim = (size_t)dims[d];
            size_t row_bytes = qr_cuda_row_bytes(t, dims[d]);
            bool scaled = qr_cuda_type_size(t) == 1;
            char *table = allocate(VOCAB * row_bytes);
            float scales[VOCAB];
            float *out = allocate(ROWS * dim * sizeof(float));
            struct bench bench;
            for (size_t n = 0; n < VOCAB; n++) {
                scales[n] = 0.25f + 0.1f * (float)n;
                for (size_t k = 0; k < dim; k++)
                    cuda_ops_put(t, table + n * row_bytes, k,
                                 cuda_ops_random(3, n * dim + k) * 100.0f);
            }
            open_bench(&bench);
            const struct qr_cuda_matrix matrix = {
                .type = t,
                .n_out = VOCAB,
                .n_in = dims[d],
                .data = cuda_ops_rig_upload(&bench.rig, table, VOCAB * row_bytes),
                .scales = scaled ? upload(&bench, QR_CUDA_F32, scales, VOCAB) : NULL};
            const int32_t *device_ids = cuda_ops_rig_upload(&bench.rig, ids, sizeof(ids));
            float *embedded = cuda_ops_rig_alloc(&bench.rig, ROWS * dim * sizeof(float));
            float *gathered = cuda_ops_rig_alloc(&bench.rig, 3 * dim * sizeof(float));
            qr_cuda_embed(&bench.ops, &matrix, 1.0f, false, device_ids, ROWS, embedded);
            cuda_ops_rig_download(&bench.rig, embedded, out, ROWS * dim * sizeof(float));
            for (size_t r = 0; r < ROWS; r++) {
                size_t n = (size_t)ids[r];
                for (size_t k = 0; k < dim; k++)
                    assert_true(out[r * dim + k] == cuda_ops_get(t, table + n * row_bytes, k) *
                                                        (scaled ? scales[n] : 1.0f));
            }
            static const int32_t rows[3] = {4, 1, 1};
            qr_cuda_gather_rows(&bench.ops, embedded,
                                cuda_ops_rig_upload(&bench.rig, rows, sizeof(rows)), 3, dims[d],
                                gathered);
            float *three = allocate(3 * dim * sizeof(float));
            cuda_ops_rig_download(&bench.rig, gathered, three, 3 * dim * sizeof(float));
            for (size_t r = 0; r < 3; r++)
                assert_memory_equal(three + r * dim, out + (size_t)rows[r] * dim,
                                    dim * sizeof(float));
            free(three);
            free(table);
            free(out);
            cuda_ops_rig_close(&bench.rig);
        }
    }
}

/* Exact in double, then what the F32 sums and the output's rounding may add. */
static void check_norm(const float *x, const float *weight, const float *bias, float eps,
                       bool subtract_mean, size_t dim, enum qr_cuda_type out_type, const void *out,
                       size_t at)
{
    double mean = 0;
    double squares = 0;
    double half_unit = out_type == QR_CUDA_F32 ? 0 : out_type == QR_CUDA_F16 ? 0x1p-11 : 0x1p-8;

    for (size_t i = 0; i < dim && subtract_mean; i++)
        mean += (double)x[i] / (double)dim;
    for (size_t i = 0; i < dim; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)dim;
    double scale = 1 / sqrt(squares + (double)eps);
    for (size_t i = 0; i < dim; i++) {
        double exact = ((double)x[i] - mean) * scale * (double)weight[i];
        if (bias != NULL)
            exact += (double)bias[i];
        double error = fabs((double)cuda_ops_get(out_type, out, at + i) - exact);
        if (!(error <= 4e-6 * (1 + fabs(exact)) + half_unit * fabs(exact)))
            fail_msg("element %zu of %zu: %g, not %g", i, dim,
                     (double)cuda_ops_get(out_type, out, at + i), exact);
    }
}

static void run_norm(int32_t dim, enum qr_cuda_type weight_type, enum qr_cuda_type out_type,
                     bool subtract_mean, bool with_bias)
{
    enum { ROWS = 3 };
    const float eps = 1e-5f;
    size_t n = (size_t)dim;
    float *x = random_array(QR_CUDA_F32, ROWS * n, 8, 3.0f);
    void *weight = random_array(weight_type, n, 9, 1.0f);
    void *bias = random_array(weight_type, n, 10, 1.0f);
    float *wide_weight = allocate(n * sizeof(float));
    float *wide_bias = allocate(n * sizeof(float));
    char *out = allocate(ROWS * n * qr_cuda_type_size(out_type));
    struct bench bench;

    for (size_t i = 0; i < n; i++) {
        wide_weight[i] = cuda_ops_get(weight_type, weight, i);
        wide_bias[i] = cuda_ops_get(weight_type, bias, i);
    }
    open_bench(&bench);
    const struct qr_norm norm = {
        .kind = subtract_mean ? QR_NORM_LAYER : QR_NORM_RMS,
        .eps = eps,
        .weight = {.dtype = (enum qr_dtype)weight_type,
                   .n_dims = 1,
                   .dims = {dim},
                   .data = upload(&bench, weight_type, weight, n)},
        .bias = {.dtype = (enum qr_dtype)weight_type,
                 .data = with_bias ? upload(&bench, weight_type, bias, n) : NULL},
    };
    void *device_out = cuda_ops_rig_alloc(&bench.rig, ROWS * n * qr_cuda_type_size(out_type));
    const struct qr_cuda_norm_rows rows = {.x = upload(&bench, QR_CUDA_F32, x, ROWS * n),
                                           .out = device_out,
                                           .x_type = QR_CUDA_F32,
                                           .out_type = out_type,
                                           .n_rows = ROWS};
    qr_cuda_norm(&bench.ops, &norm, &rows);
    cuda_ops_rig_download(&bench.rig, device_out, out, ROWS * n * qr_cuda_type_size(out_type));
    for (size_t r = 0; r < ROWS; r++)
        check_norm(x + r * n, wide_weight, with_bias ? wide_bias : NULL, eps, subtract_mean, n,
                   out_type, out, r * n);
    free(x);
    free(weight);
    free(bias);
    free(wide_weight);
    free(wide_bias);
    free(out);
    cuda_ops_rig_close(&bench.rig);
}

static void rows_are_normalised(void **state)
{
    (void)state;
    static const int32_t dims[] = {1, 64, 172, 2500};

    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
        for (int w = 0; w < N_FLOAT_TYPES; w++) {
            for (int o = 0; o < N_FLOAT_TYPES; o++)
                run_norm(dims[d], float_types[w], float_types[o], false, false);
            run_norm(dims[d], float_types[w], QR_CUDA_BF16, true, true);
            run_norm(dims[d], float_types[w], QR_CUDA_F32, true, false);
        }
    }
}

/* In place, and the bits of a row do not depend on where it stands or on the schedule. */
static void norms_do_not_depend_on_place_or_schedule(void **state)
{
    (void)state;
    enum { DIM = 700, ROWS = 4 };
    float x[ROWS][DIM];
    float first[ROWS][DIM];
    float weight[DIM];

    for (int i = 0; i < DIM; i++) {
        weight[i] = cuda_ops_random(2, (uint64_t)i);
        for (int r = 0; r < ROWS; r++)
            x[r][i] = cuda_ops_random(1, (uint64_t)i);
    }
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        struct bench bench;
        float out[ROWS][DIM];
        settings.seed = seed;
        qr_emulator_set(&settings);
        open_bench(&bench);
        const struct qr_norm norm = {.eps = 1e-6f,
                                     .weight = {.dtype = QR_DTYPE_F32,
                                                .n_dims = 1,
                                                .dims = {DIM},
                                                .data = upload(&bench, QR_CUDA_F32, weight, DIM)}};
        float *device_x = upload(&bench, QR_CUDA_F32, x, ROWS * DIM);
        const struct qr_cuda_norm_rows rows = {.x = device_x,
                                               .out = device_x,
                                               .x_type = QR_CUDA_F32,
                                               .out_type = QR_CUDA_F32,
                                               .n_rows = ROWS};
        qr_cuda_norm(&bench.ops, &norm, &rows);
        cuda_ops_rig_download(&bench.rig, device_x, out, sizeof(out));
        if (seed == 0)
            memcpy(first, out, sizeof(first));
        assert_memory_equal(out, first, sizeof(out));
        for (int r = 1; r < ROWS; r++)
            assert_memory_equal(out[r], out[0], sizeof(out[0]));
        cuda_ops_rig_close(&bench.rig);
    }
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);
}

static void the_gate_is_within_its_bound(void **state)
{
    (void)state;
    enum { N = 2061 };

    for (int t = 0; t < N_FLOAT_TYPES; t++) {
        enum qr_cuda_type type = float_types[t];
        void *gate = random_array(type, N, 4, 20.0f);
        void *up = random_array(type, N, 5, 2.0f);
        char *out = allocate(N * 4);
        double half_unit = type == QR_CUDA_F32 ? 0 : type == QR_CUDA_F16 ? 0x1p-11 : 0x1p-8;
        struct bench bench;
        cuda_ops_put(type, gate, 0, -200.0f); /* e^200 is infinite in F32 */
        cuda_ops_put(type, gate, 1, 200.0f);
        open_bench(&bench);
        void *device_gate = upload(&bench, type, gate, N);
        qr_cuda_activate(&bench.ops, QR_ACTIVATION_SILU, type, device_gate,
                         upload(&bench, type, up, N), N);
        cuda_ops_rig_download(&bench.rig, device_gate, out, N * qr_cuda_type_size(type));
        for (size_t i = 0; i < N; i++) {
            double g = (double)cuda_ops_get(type, gate, i);
            double exact = g / (1 + exp(-g)) * (double)cuda_ops_get(type, up, i);
            double error = fabs((double)cuda_ops_get(type, out, i) - exact);
            /* e^-g = 2^(-g log2 e): the rounded argument, at most 29, costs 29 * 2^-24. F16 has
             * no normal numbers below 2^-14. */
            assert_true(error <= (4e-6 + half_unit) * fabs(exact) + 0x1p-25);
        }
        free(gate);
        free(up);
        free(out);
        cuda_ops_rig_close(&bench.rig);
    }
}

static void conversions_round_to_nearest_even(void **state)
{
    (void)state;
    enum { N = 4099 };

    for (int from = 0; from < N_FLOAT_TYPES; from++) {
        for (int to = 0; to < N_FLOAT_TYPES; to++) {
            void *data = random_array(float_types[from], N, 6, 1.0f);
            for (size_t i = 0; i < N; i++) /* all magnitudes, also ones that become subnormal */
                cuda_ops_put(float_types[from], data, i,
                             cuda_ops_random(6, i) * exp2f((float)(i % 40) - 28.0f));
            size_t n_bytes = N * qr_cuda_type_size(float_types[to]);
            char *wanted = allocate(n_bytes);
            char *out = allocate(n_bytes);
            struct bench bench;
            for (size_t i = 0; i < N; i++)
                cuda_ops_put(float_types[to], wanted, i, cuda_ops_get(float_types[from], data, i));
            open_bench(&bench);
            void *device = cuda_ops_rig_alloc(&bench.rig, n_bytes);
            qr_cuda_convert(&bench.ops, float_types[from],
                            upload(&bench, float_types[from], data, N), N, float_types[to], device);
            cuda_ops_rig_download(&bench.rig, device, out, n_bytes);
            assert_memory_equal(out, wanted, n_bytes);
            free(data);
            free(wanted);
            free(out);
            cuda_ops_rig_close(&bench.rig);
        }
    }
}

static void synthetic_weights_are_those_of_the_host(void **state)
{
    (void)state;
    enum { N = 5003 };
    static const struct {
        uint64_t key;
        float bound;
    } fills[] = {{0x123456789abcdef0u, 0.0423f}, {7, 0.0f}, {8, 1.5f}};

    for (int t = 0; t < N_FLOAT_TYPES; t++) {
        for (size_t f = 0; f < sizeof(fills) / sizeof(fills[0]); f++) {
            size_t n_bytes = N * qr_cuda_type_size(float_types[t]);
            char *wanted = allocate(n_bytes);
            char *out = allocate(n_bytes);
            struct bench bench;
            qr_synthetic_fill_elements(fills[f].key, fills[f].bound, (enum qr_dtype)float_types[t],
                                       N, wanted);
            open_bench(&bench);
            void *device = cuda_ops_rig_alloc(&bench.rig, n_bytes);
            qr_cuda_fill_synthetic(&bench.ops, float_types[t], fills[f].key, fills[f].bound, N,
                                   device);
            cuda_ops_rig_download(&bench.rig, device, out, n_bytes);
            assert_memory_equal(out, wanted, n_bytes);
            free(wanted);
            free(out);
            cuda_ops_rig_close(&bench.rig);
        }
    }
}

static void run_quantize(enum qr_cuda_type from, enum qr_cuda_type to, int32_t n_in)
{
    enum { ROWS = 4 };
    const float largest_code = to == QR_CUDA_E4M3 ? 448.0f : 127.0f;
    size_t n = (size_t)n_in;
    size_t row_bytes = qr_cuda_row_bytes(to, n_in);
    void *data = random_array(from, ROWS * n, 12, 0.07f);
    char *out = allocate(ROWS * row_bytes);
    float scales[ROWS];
    struct bench bench;

    for (size_t k = 0; k < n; k++) /* a row of zeros, and one of many magnitudes */
        cuda_ops_put(from, data, 2 * n + k, 0.0f);
    for (size_t k = 0; k < n; k++)
        cuda_ops_put(from, data, 3 * n + k, cuda_ops_random(13, k) * exp2f(-(float)(k % 14)));
    open_bench(&bench);
    void *device = cuda_ops_rig_alloc(&bench.rig, ROWS * row_bytes);
    float *device_scales = cuda_ops_rig_alloc(&bench.rig, sizeof(scales));
    qr_cuda_quantize(&bench.ops, from, upload(&bench, from, data, ROWS * n), ROWS, n_in, to, device,
                     device_scales);
    cuda_ops_rig_download(&bench.rig, device, out, ROWS * row_bytes);
    cuda_ops_rig_download(&bench.rig, device_scales, scales, sizeof(scales));
    for (size_t r = 0; r < ROWS; r++) {
        float largest = 0;
        for (size_t k = 0; k < n; k++)
            largest = fmaxf(largest, fabsf(cuda_ops_get(from, data, r * n + k)));
        assert_true(scales[r] == (largest == 0 ? 1.0f : largest / largest_code));
        for (size_t k = 0; k < row_bytes; k++) {
            uint8_t wanted[1] = {0};
            if (k < n)
                cuda_ops_put(to, wanted, 0, cuda_ops_get(from, data, r * n + k) / scales[r]);
            assert_int_equal((uint8_t)out[r * row_bytes + k], wanted[0]);
        }
    }
    free(data);
    free(out);
    cuda_ops_rig_close(&bench.rig);
}

static void matrices_are_quantised_row_by_row(void **state)
{
    (void)state;
    static const int32_t widths[] = {1, 64, 172, 1000};

    for (int t = 0; t < N_FLOAT_TYPES; t++) {
        for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
            run_quantize(float_types[t], QR_CUDA_E4M3, widths[w]);
            run_quantize(float_types[t], QR_CUDA_INT8, widths[w]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_embedded_and_gathered),
        cmocka_unit_test(rows_are_normalised),
        cmocka_unit_test(norms_do_not_depend_on_place_or_schedule),
        cmocka_unit_test(the_gate_is_within_its_bound),
        cmocka_unit_test(conversions_round_to_nearest_even),
        cmocka_unit_test(synthetic_weights_are_those_of_the_host),
        cmocka_unit_test(matrices_are_quantised_row_by_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
