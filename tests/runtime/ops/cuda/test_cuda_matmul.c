/*
 * test_cuda_matmul.c - matrix products on the device: against double precision, and the same bits
 * for any number of rows, kernel, split, device and schedule.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "runtime/ops/cuda/cuda_matmul.h"
#include "tests/support/cuda_ops_rig.h"
#include "tests/support/cuda_platform.h"

enum { MAX_ROWS = 150, N_PARTS = 3 };

/* Up to three matrices and the rows they are multiplied by, on the host and on the device. */
struct problem {
    enum qr_cuda_type type;
    enum qr_cuda_type activation;
    int32_t n_in;
    int32_t n_rows;
    int32_t n_parts;
    int32_t n_out[N_PARTS];
    void *weight[N_PARTS]; /* host, [n_out] rows of qr_cuda_row_bytes */
    float *scales[N_PARTS];
    void *x; /* host, [n_rows][n_in] */
    struct qr_cuda_matrix matrix[N_PARTS];
    const struct qr_cuda_matrix *matrices[N_PARTS];
    void *device_x;
};

static void *allocate(size_t n_bytes)
{
    void *memory = calloc(1, n_bytes + 1);

    assert_non_null(memory);
    return memory;
}

static void fill_part(struct problem *problem, int32_t part)
{
    size_t row_bytes = qr_cuda_row_bytes(problem->type, problem->n_in);
    bool is_8_bit = qr_cuda_type_size(problem->type) == 1;
    size_t n_out = (size_t)problem->n_out[part];

    problem->weight[part] = allocate(n_out * row_bytes);
    problem->scales[part] = is_8_bit ? allocate(n_out * sizeof(float)) : NULL;
    for (size_t n = 0; n < n_out; n++) {
        char *row = (char *)problem->weight[part] + n * row_bytes;
        if (is_8_bit)
            problem->scales[part][n] = 0.01f + 0.001f * (float)(n % 7);
        for (size_t k = 0; k < (size_t)problem->n_in; k++) {
            float value = cuda_ops_random(11 + (uint64_t)part, n * (size_t)problem->n_in + k);
            /* Of the 8-bit types all numbers, also the smallest. */
            float spread = problem->type == QR_CUDA_INT8 ? value * 127.4f
                                                         : value * exp2f((float)(k % 20) - 9.0f);
            cuda_ops_put(problem->type, row, k, is_8_bit ? spread : value);
        }
    }
}

static struct problem *make_problem(enum qr_cuda_type type, enum qr_cuda_type activation,
                                    int32_t n_in, int32_t n_rows, int32_t n_parts,
                                    const int32_t *n_out)
{
    struct problem *problem = allocate(sizeof(*problem));

    *problem = (struct problem){
        .type = type, .activation = activation, .n_in = n_in, .n_rows = n_rows, .n_parts = n_parts};
    for (int32_t i = 0; i < n_parts; i++) {
        problem->n_out[i] = n_out[i];
        fill_part(problem, i);
    }
    size_t n = (size_t)n_rows * (size_t)n_in;
    problem->x = allocate(n * qr_cuda_type_size(activation));
    for (size_t i = 0; i < n; i++)
        cuda_ops_put(activation, problem->x, i, cuda_ops_random(5, i));
    return problem;
}

static void free_problem(struct problem *problem)
{
    for (int32_t i = 0; i < problem->n_parts; i++) {
        free(problem->weight[i]);
        free(problem->scales[i]);
    }
    free(problem->x);
    free(problem);
}

static void upload(struct cuda_ops_rig *rig, struct problem *problem)
{
    for (int32_t i = 0; i < problem->n_parts; i++) {
        size_t n_out = (size_t)problem->n_out[i];
        problem->matrix[i] = (struct qr_cuda_matrix){
            .type = problem->type,
            .n_out = problem->n_out[i],
            .n_in = problem->n_in,
            .data = cuda_ops_rig_upload(rig, problem->weight[i],
                                        n_out * qr_cuda_row_bytes(problem->type, problem->n_in)),
            .scales = problem->scales[i] == NULL
                          ? NULL
                          : cuda_ops_rig_upload(rig, problem->scales[i], n_out * sizeof(float))};
        problem->matrices[i] = &problem->matrix[i];
    }
    problem->device_x = cuda_ops_rig_upload(rig, problem->x,
                                            (size_t)problem->n_rows * (size_t)problem->n_in *
                                                qr_cuda_type_size(problem->activation));
}

static void open_matmul(struct cuda_ops_rig *rig, const struct problem *problem,
                        enum qr_cuda_matmul_kernel kernel, int32_t split,
                        struct qr_cuda_matmul *matmul)
{
    const struct qr_cuda_matmul_config config = {
        .activation = problem->activation, .max_rows = MAX_ROWS, .kernel = kernel, .split = split};
    struct qr_error err = {""};
    size_t n_bytes = qr_cuda_matmul_workspace_bytes(&rig->cuda.properties, &config);

    if (qr_cuda_matmul_open(&rig->cuda, &config, cuda_ops_rig_alloc(rig, n_bytes), matmul, &err) !=
        QR_OK)
        fail_msg("%s", err.message);
}

/* The first n_rows rows; [n_rows][n_out] of the first part, then of the second, ... F32. */
static float *product(struct cuda_ops_rig *rig, struct qr_cuda_matmul *matmul,
                      struct problem *problem, int32_t n_rows)
{
    size_t n = 0;
    void *outs[N_PARTS];
    size_t start[N_PARTS];
    int32_t n_pieces = rig->n_pieces;

    for (int32_t i = 0; i < problem->n_parts; i++) {
        start[i] = n;
        n += (size_t)n_rows * (size_t)problem->n_out[i];
    }
    float *all = cuda_ops_rig_alloc(rig, n * sizeof(float));
    float *host = allocate(n * sizeof(float));
    for (int32_t i = 0; i < problem->n_parts; i++)
        outs[i] = all + start[i];
    qr_cuda_matmul(matmul, problem->n_parts, problem->matrices, problem->device_x, n_rows,
                   QR_CUDA_STORE_F32, outs);
    cuda_ops_rig_download(rig, all, host, n * sizeof(float));
    qr_cuda_free(&rig->cuda, (qr_cu_address)(uintptr_t)all);
    rig->n_pieces = n_pieces;
    return host;
}

static void check_against_double(const struct problem *problem, const float *result)
{
    size_t n_in = (size_t)problem->n_in;

    for (int32_t part = 0; part < problem->n_parts; part++) {
        size_t n_out = (size_t)problem->n_out[part];
        for (size_t r = 0; r < (size_t)problem->n_rows; r++) {
            for (size_t n = 0; n < n_out; n++) {
                const char *row = (const char *)problem->weight[part] +
                                  n * qr_cuda_row_bytes(problem->type, problem->n_in);
                double exact = 0;
                double magnitude = 0;
                for (size_t k = 0; k < n_in; k++) {
                    double term =
                        (double)cuda_ops_get(problem->type, row, k) *
                        (double)cuda_ops_get(problem->activation, problem->x, r * n_in + k);
                    exact += term;
                    magnitude += fabs(term);
                }
                double scale =
                    problem->scales[part] == NULL ? 1.0 : (double)problem->scales[part][n];
                /* Each addition rounds by 2^-24 of at most the sum of the magnitudes; tensor
                 * cores may cut instead of rounding, which is twice that. */
                double bound = ((double)n_in + 16) * 0x1p-23 * magnitude * scale;
                double error = fabs((double)result[r * n_out + n] - exact * scale);
                if (!(error <= bound))
                    fail_msg("part %d row %zu out %zu: %g, not %g (type %s)", part, r, n,
                             (double)result[r * n_out + n], exact * scale,
                             qr_cuda_type_name(problem->type));
            }
        }
        result += (size_t)problem->n_rows * n_out;
    }
}

static const struct {
    enum qr_cuda_type type;
    enum qr_cuda_type activation;
} types[] = {
    {QR_CUDA_F32, QR_CUDA_F32},   {QR_CUDA_BF16, QR_CUDA_BF16}, {QR_CUDA_F16, QR_CUDA_F16},
    {QR_CUDA_E4M3, QR_CUDA_BF16}, {QR_CUDA_E4M3, QR_CUDA_F16},  {QR_CUDA_INT8, QR_CUDA_BF16},
    {QR_CUDA_INT8, QR_CUDA_F16},
};
enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

static void products_are_right_for_all_types_and_shapes(void **state)
{
    (void)state;
    static const struct {
        int32_t n_in;
        int32_t n_rows;
        int32_t n_parts;
        int32_t n_out[N_PARTS];
    } shapes[] = {
        {64, 1, 3, {64, 32, 32}}, {172, 3, 1, {64}},   {64, 9, 2, {172, 172}}, {8, 2, 1, {1}},
        {1000, 5, 1, {33}},       {520, 20, 1, {150}}, {264, 70, 2, {130, 3}}, {4, 40, 1, {17}},
    };
    struct cuda_ops_rig rig;

    cuda_ops_rig_open(&rig);
    for (int t = 0; t < N_TYPES; t++) {
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            struct problem *problem =
                make_problem(types[t].type, types[t].activation, shapes[s].n_in, shapes[s].n_rows,
                             shapes[s].n_parts, shapes[s].n_out);
            struct qr_cuda_matmul matmul;
            upload(&rig, problem);
            open_matmul(&rig, problem, QR_CUDA_MATMUL_AUTO, 0, &matmul);
            float *result = product(&rig, &matmul, problem, problem->n_rows);
            check_against_double(problem, result);
            free(result);
            free_problem(problem);
            cuda_ops_rig_close(&rig);
            cuda_ops_rig_open(&rig);
        }
    }
    cuda_ops_rig_close(&rig);
}

/* Rows of a product of n_rows rows are, bit for bit, the first rows of `wanted`. */
static void check_rows(const struct problem *problem, const float *result, int32_t n_rows,
                       const float *wanted)
{
    for (int32_t part = 0; part < problem->n_parts; part++) {
        size_t n = (size_t)problem->n_out[part];
        if (memcmp(result, wanted, (size_t)n_rows * n * sizeof(float)) != 0)
            fail_msg("%d rows of part %d, type %s: other bits", n_rows, part,
                     qr_cuda_type_name(problem->type));
        result += (size_t)n_rows * n;
        wanted += (size_t)problem->n_rows * n;
    }
}

static void a_row_does_not_depend_on_the_others(void **state)
{
    (void)state;
    enum { ROWS = 70 };
    static const int32_t n_out[2] = {40, 20};

    for (int t = 0; t < N_TYPES; t++) {
        struct problem *problem =
            make_problem(types[t].type, types[t].activation, 136, ROWS, 2, n_out);
        struct cuda_ops_rig rig;
        struct qr_cuda_matmul skinny;
        struct qr_cuda_matmul usual;
        cuda_ops_rig_open(&rig);
        upload(&rig, problem);
        open_matmul(&rig, problem, QR_CUDA_MATMUL_SKINNY, 0, &skinny);
        open_matmul(&rig, problem, QR_CUDA_MATMUL_AUTO, 0, &usual);
        float *wanted = product(&rig, &skinny, problem, ROWS);
        for (int32_t n_rows = 1; n_rows <= ROWS; n_rows++) {
            float *result = product(&rig, &usual, problem, n_rows);
            check_rows(problem, result, n_rows, wanted);
            free(result);
        }
        free(wanted);
        free_problem(problem);
        cuda_ops_rig_close(&rig);
    }
}

/* Eight slices with a tail, all tiles, shared by 1 to 8 blocks. */
static void a_row_depends_on_no_kernel_split_or_schedule(void **state)
{
    (void)state;
    static const int32_t n_out[2] = {130, 40};
    static const int32_t rows[] = {17, 33, 140};
    static const struct {
        int32_t n_sms;
        int32_t capability;
        uint64_t seed;
        enum qr_emulator_async async;
        int32_t split;
        int32_t n_workers;
    } runs[] = {
        {4, 90, 0, QR_EMULATOR_LATE, 0, 1},    {4, 80, 1, QR_EMULATOR_EARLY, 1, 1},
        {64, 90, 2, QR_EMULATOR_RANDOM, 0, 1}, {16, 90, 3, QR_EMULATOR_LATE, 3, 2},
        {16, 80, 4, QR_EMULATOR_EARLY, 8, 2},
    };

    for (int t = 1; t < N_TYPES; t += 2) { /* BF16, E4M3, INT8 */
        struct problem *problem =
            make_problem(types[t].type, types[t].activation, 504, 140, 2, n_out);
        float *wanted = NULL;
        for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
            struct qr_emulator_settings settings = qr_emulator_default_settings();
            struct cuda_ops_rig rig;
            struct qr_cuda_matmul skinny;
            struct qr_cuda_matmul tiled;
            settings.n_sms = runs[i].n_sms;
            settings.capability = runs[i].capability;
            settings.seed = runs[i].seed;
            settings.async = runs[i].async;
            settings.n_workers = runs[i].n_workers;
            qr_emulator_set(&settings);
            cuda_ops_rig_open(&rig);
            upload(&rig, problem);
            open_matmul(&rig, problem, QR_CUDA_MATMUL_SKINNY, 0, &skinny);
            open_matmul(&rig, problem, QR_CUDA_MATMUL_TILED, runs[i].split, &tiled);
            if (wanted == NULL)
                wanted = product(&rig, &skinny, problem, problem->n_rows);
            for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
                float *result = product(&rig, &tiled, problem, rows[j]);
                check_rows(problem, result, rows[j], wanted);
                free(result);
            }
            cuda_ops_rig_close(&rig);
        }
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        qr_emulator_set(&settings);
        free(wanted);
        free_problem(problem);
    }
}

static void results_are_stored_rounded_or_added(void **state)
{
    (void)state;
    static const int32_t n_out[1] = {50};
    static const int32_t rows[] = {3, 40};

    for (int t = 0; t < N_TYPES; t++) {
        struct problem *problem =
            make_problem(types[t].type, types[t].activation, 200, 40, 1, n_out);
        enum qr_cuda_type activation = problem->activation;
        struct cuda_ops_rig rig;
        struct qr_cuda_matmul matmul;
        cuda_ops_rig_open(&rig);
        upload(&rig, problem);
        open_matmul(&rig, problem, QR_CUDA_MATMUL_AUTO, 0, &matmul);
        for (int i = 0; i < 2; i++) {
            size_t n = (size_t)rows[i] * (size_t)n_out[0];
            size_t size = qr_cuda_type_size(activation);
            float *sums = product(&rig, &matmul, problem, rows[i]);
            float *residual = allocate(n * sizeof(float));
            char *wanted = allocate(n * size);
            char *stored = allocate(n * size);
            float *added = allocate(n * sizeof(float));
            for (size_t j = 0; j < n; j++) {
                cuda_ops_put(activation, wanted, j, sums[j]);
                residual[j] = cuda_ops_random(77, j);
            }
            void *out = cuda_ops_rig_alloc(&rig, n * size);
            void *sum = cuda_ops_rig_upload(&rig, residual, n * sizeof(float));
            qr_cuda_matmul(&matmul, 1, problem->matrices, problem->device_x, rows[i], QR_CUDA_STORE,
                           &out);
            qr_cuda_matmul(&matmul, 1, problem->matrices, problem->device_x, rows[i],
                           QR_CUDA_ADD_F32, &sum);
            cuda_ops_rig_download(&rig, out, stored, n * size);
            cuda_ops_rig_download(&rig, sum, added, n * sizeof(float));
            assert_memory_equal(stored, wanted, n * size);
            for (size_t j = 0; j < n; j++)
                assert_true(added[j] == residual[j] + sums[j]);
            free(sums);
            free(residual);
            free(wanted);
            free(stored);
            free(added);
        }
        free_problem(problem);
        cuda_ops_rig_close(&rig);
    }
}

/* The order that matmul_f32.cuh states. */
static float f32_sum(const float *weight, const float *x, int32_t n_in)
{
    float lanes[16] = {0};

    for (int32_t start = 0; start < n_in; start += 16) {
        for (int32_t lane = 0; lane < 16; lane++) {
            int32_t k = start + lane;
            lanes[lane] = fmaf(k < n_in ? x[k] : 0.0f, k < n_in ? weight[k] : 0.0f, lanes[lane]);
        }
    }
    for (int32_t other = 8; other > 0; other /= 2) {
        for (int32_t lane = 0; lane < other; lane++)
            lanes[lane] += lanes[lane + other];
    }
    return lanes[0];
}

static void f32_has_the_stated_order(void **state)
{
    (void)state;
    enum { N_IN = 172, N_ROWS = 11, N_OUT = 37 };
    static const int32_t n_out[1] = {N_OUT};
    struct problem *problem = make_problem(QR_CUDA_F32, QR_CUDA_F32, N_IN, N_ROWS, 1, n_out);
    const float *weight = problem->weight[0];
    const float *x = problem->x;
    struct cuda_ops_rig rig;
    struct qr_cuda_matmul matmul;

    cuda_ops_rig_open(&rig);
    upload(&rig, problem);
    open_matmul(&rig, problem, QR_CUDA_MATMUL_AUTO, 0, &matmul);
    float *result = product(&rig, &matmul, problem, N_ROWS);
    for (int i = 0; i < N_ROWS * N_OUT; i++)
        assert_true(result[i] == f32_sum(weight + i % N_OUT * N_IN, x + i / N_OUT * N_IN, N_IN));
    free(result);
    free_problem(problem);
    cuda_ops_rig_close(&rig);
}

static void a_failed_launch_is_named(void **state)
{
    (void)state;
    static const int32_t n_out[1] = {16};
    if (qr_test_cuda_is_real())
        skip(); /* only the emulator fails to order */
    struct problem *problem = make_problem(QR_CUDA_BF16, QR_CUDA_BF16, 64, 1, 1, n_out);
    struct cuda_ops_rig rig;
    struct qr_cuda_matmul matmul;
    struct qr_error err = {""};

    cuda_ops_rig_open(&rig);
    upload(&rig, problem);
    open_matmul(&rig, problem, QR_CUDA_MATMUL_AUTO, 0, &matmul);
    void *out = cuda_ops_rig_alloc(&rig, 16 * sizeof(float));
    qr_emulator_fail_launch("qr_matmul_skinny8_bf16", 1, 1); /* invalid value */
    qr_cuda_matmul(&matmul, 1, problem->matrices, problem->device_x, 1, QR_CUDA_STORE_F32, &out);
    assert_int_equal(qr_cuda_take_failure(&rig.cuda, &err), QR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "qr_matmul_skinny"));
    qr_emulator_heal();
    free_problem(problem);
    cuda_ops_rig_close(&rig);
}

static void slices_are_at_most_eight_and_whole_steps(void **state)
{
    (void)state;
    for (int32_t n_in = 1; n_in < 20000; n_in += 7) {
        int32_t length = qr_cuda_slice_length(n_in);
        assert_int_equal(length % 64, 0);
        assert_true(length * 8 >= n_in);
        assert_true(length == 64 || (length - 64) * 8 < n_in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_at_most_eight_and_whole_steps),
        cmocka_unit_test(products_are_right_for_all_types_and_shapes),
        cmocka_unit_test(a_row_does_not_depend_on_the_others),
        cmocka_unit_test(a_row_depends_on_no_kernel_split_or_schedule),
        cmocka_unit_test(results_are_stored_rounded_or_added),
        cmocka_unit_test(f32_has_the_stated_order),
        cmocka_unit_test(a_failed_launch_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
