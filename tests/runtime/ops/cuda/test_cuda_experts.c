/*
 * test_cuda_experts.c - mixtures of experts on the device: against double precision, the router's
 * choice exactly, and the same bits for any number of rows, tiles, device and schedule.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "tests/support/cuda_experts_case.h"

static void *allocate(size_t n_bytes)
{
    void *memory = calloc(1, n_bytes + 1);

    assert_non_null(memory);
    return memory;
}

/* ---- against double precision ---- */

/* A sum, and that of its terms' magnitudes. */
struct sum {
    double value;
    double magnitude;
};

static struct sum product(const struct experts_problem *problem, int32_t e, int matrix, int32_t n,
                          const double *x)
{
    int32_t n_in = experts_n_in(problem, matrix);
    const char *row =
        experts_matrix(problem, e, matrix) + (size_t)n * qr_cuda_row_bytes(problem->type, n_in);
    double scale = 1;
    struct sum sum = {0, 0};

    if (problem->scales != NULL)
        scale =
            (double)
                problem->scales[(size_t)(e * EXPERTS_MATRICES + matrix) * problem->scale_stride +
                                (size_t)n];
    for (int32_t k = 0; k < n_in; k++) {
        double term = (double)cuda_ops_get(problem->type, row, (size_t)k) * x[k] * scale;
        sum.value += term;
        sum.magnitude += fabs(term);
    }
    return sum;
}

/* out[n] += weight * expert e of x */
static void add_expert(const struct experts_problem *problem, int32_t e, double weight,
                       const double *x, struct sum *out)
{
    double *inner = allocate((size_t)problem->shape.inner * sizeof(double));

    for (int32_t n = 0; n < problem->shape.inner; n++) {
        double gate = product(problem, e, EXPERTS_GATE, n, x).value;
        inner[n] = gate / (1 + exp(-gate)) * product(problem, e, EXPERTS_UP, n, x).value;
    }
    for (int32_t n = 0; n < problem->shape.hidden; n++) {
        struct sum sum = product(problem, e, EXPERTS_DOWN, n, inner);
        out[n].value += weight * sum.value;
        out[n].magnitude += weight * sum.magnitude;
    }
    free(inner);
}

static bool is_ahead(const float *logits, int32_t a, int32_t b)
{
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static int32_t rank_of(const float *logits, int32_t n, int32_t e)
{
    int32_t rank = 0;
    for (int32_t other = 0; other < n; other++)
        rank += is_ahead(logits, other, e);
    return rank;
}

/* The choice and its weights, from the router's own logits. */
static void check_routing(const struct experts_problem *problem, const float *logits,
                          const int32_t *chosen, const float *weights)
{
    int32_t n = problem->shape.n_experts;
    double largest = -INFINITY;
    double sum = 0;
    int32_t place = 0;

    for (int32_t e = 0; e < n; e++)
        largest = fmax(largest, (double)logits[e]);
    for (int32_t e = 0; e < n; e++) {
        if (!problem->renormalizes || rank_of(logits, n, e) < problem->shape.n_used)
            sum += exp((double)logits[e] - largest);
    }
    for (int32_t e = 0; e < n; e++) {
        if (rank_of(logits, n, e) >= problem->shape.n_used)
            continue;
        double weight = exp((double)logits[e] - largest) / sum;
        assert_int_equal(chosen[place], e);
        assert_true(fabs((double)weights[place] - weight) <= 1e-5 * weight);
        place++;
    }
    assert_int_equal(place, problem->shape.n_used);
}

/* Each term is rounded to the activation type, by half of its epsilon; the rest is F32's. */
static double epsilon_of(enum qr_cuda_type activation)
{
    if (activation == QR_CUDA_F32)
        return 0x1p-18;
    return activation == QR_CUDA_BF16 ? 0x1p-8 : 0x1p-11;
}

static void check_row(const struct experts_problem *problem, int32_t row, const int32_t *chosen,
                      const float *weights, const float *result)
{
    size_t hidden = (size_t)problem->shape.hidden;
    double *x = allocate(hidden * sizeof(double));
    struct sum *wanted = allocate(hidden * sizeof(*wanted));

    for (size_t k = 0; k < hidden; k++) {
        x[k] = (double)cuda_ops_get(problem->activation, problem->x, (size_t)row * hidden + k);
        wanted[k].value = (double)problem->residual[(size_t)row * hidden + k];
    }
    for (int32_t i = 0; i < problem->shape.n_used; i++)
        add_expert(problem, chosen[i], (double)weights[i], x, wanted);
    for (size_t k = 0; k < hidden; k++) {
        double bound = epsilon_of(problem->activation) * wanted[k].magnitude + 0x1p-20;
        if (!(fabs((double)result[k] - wanted[k].value) <= bound))
            fail_msg("row %d element %zu: %g, not %g (type %s)", row, k, (double)result[k],
                     wanted[k].value, qr_cuda_type_name(problem->type));
    }
    free(x);
    free(wanted);
}

static void check_against_double(struct experts_bench *bench, const struct experts_problem *problem)
{
    size_t rows = (size_t)problem->shape.n_rows;
    size_t n_experts = (size_t)problem->shape.n_experts;
    size_t n_used = (size_t)problem->shape.n_used;
    float *logits = allocate(rows * n_experts * sizeof(float));
    int32_t *chosen = allocate(rows * n_used * sizeof(int32_t));
    float *weights = allocate(rows * n_used * sizeof(float));
    float *result = experts_bench_run(bench, problem, 0, problem->shape.n_rows, -1);

    cuda_ops_rig_download(&bench->rig, bench->experts.logits, logits,
                          rows * n_experts * sizeof(float));
    cuda_ops_rig_download(&bench->rig, bench->experts.routing.chosen, chosen,
                          rows * n_used * sizeof(int32_t));
    cuda_ops_rig_download(&bench->rig, bench->experts.routing.weights, weights,
                          rows * n_used * sizeof(float));
    for (size_t r = 0; r < rows; r++) {
        check_routing(problem, logits + r * n_experts, chosen + r * n_used, weights + r * n_used);
        check_row(problem, (int32_t)r, chosen + r * n_used, weights + r * n_used,
                  result + r * (size_t)problem->shape.hidden);
    }
    free(logits);
    free(chosen);
    free(weights);
    free(result);
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

static void sums_are_right_for_all_types_and_shapes(void **state)
{
    (void)state;
    static const struct experts_shape shapes[] = {
        {64, 32, 5, 2, 3},   {136, 40, 6, 3, 11}, {8, 8, 1, 1, 2},
        {24, 200, 3, 2, 30}, {520, 72, 4, 4, 1},  {42, 17, 70, 64, 2}, /* F32 alone */
    };

    for (int t = 0; t < N_TYPES; t++) {
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            if (types[t].type != QR_CUDA_F32 && shapes[s].hidden % 8 != 0)
                continue;
            struct experts_problem *problem =
                experts_problem_make(types[t].type, types[t].activation, &shapes[s], s % 2 == 0);
            struct experts_bench bench;
            experts_bench_open(&bench, problem, QR_CUDA_EXPERTS_AUTO);
            check_against_double(&bench, problem);
            cuda_ops_rig_close(&bench.rig);
            experts_problem_free(problem);
        }
    }
}

/* ---- the same bits ---- */

static void check_rows(const struct experts_problem *problem, const float *result, int32_t first,
                       int32_t n_rows, const float *wanted)
{
    size_t hidden = (size_t)problem->shape.hidden;
    size_t start = (size_t)first * hidden;

    if (memcmp(result + start, wanted + start, (size_t)n_rows * hidden * sizeof(float)) != 0)
        fail_msg("%d rows from %d on, type %s: other bits", n_rows, first,
                 qr_cuda_type_name(problem->type));
}

static void a_row_does_not_depend_on_the_others(void **state)
{
    (void)state;
    static const struct experts_shape shape = {136, 72, 5, 2, 45};
    static const int32_t rows[] = {1, 2, 7, 18, 40, 45};

    for (int t = 0; t < N_TYPES; t++) {
        struct experts_problem *problem =
            experts_problem_make(types[t].type, types[t].activation, &shape, true);
        struct experts_bench bench;
        experts_bench_open(&bench, problem, QR_CUDA_EXPERTS_FEW);
        float *wanted = experts_bench_run(&bench, problem, 0, shape.n_rows, -1);
        assert_true(memcmp(wanted, problem->residual, sizeof(float)) != 0);
        cuda_ops_rig_close(&bench.rig);
        experts_bench_open(&bench, problem, QR_CUDA_EXPERTS_AUTO);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            int32_t first = (shape.n_rows - rows[i]) / 2;
            float *result = experts_bench_run(&bench, problem, first, rows[i], -1);
            check_rows(problem, result, first, rows[i], wanted);
            check_rows(problem, result, 0, first, problem->residual);
            free(result);
        }
        free(wanted);
        cuda_ops_rig_close(&bench.rig);
        experts_problem_free(problem);
    }
}

/* Eight slices with a tail; tiles that are full and not; blocks and threads in any order. */
static void a_row_depends_on_no_kernel_or_schedule(void **state)
{
    (void)state;
    static const struct experts_shape shape = {520, 72, 3, 2, 56};
    static const struct {
        int32_t capability;
        uint64_t seed;
        enum qr_emulator_async async;
        int32_t n_workers;
        enum qr_cuda_experts_kernel kernel;
    } runs[] = {
        {90, 0, QR_EMULATOR_LATE, 1, QR_CUDA_EXPERTS_FEW},
        {80, 1, QR_EMULATOR_EARLY, 1, QR_CUDA_EXPERTS_MANY},
        {90, 2, QR_EMULATOR_RANDOM, 2, QR_CUDA_EXPERTS_FEW},
        {90, 3, QR_EMULATOR_LATE, 2, QR_CUDA_EXPERTS_MANY},
    };

    for (int t = 1; t < N_TYPES; t += 4) { /* BF16, INT8 */
        struct experts_problem *problem =
            experts_problem_make(types[t].type, types[t].activation, &shape, false);
        float *wanted = NULL;
        for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
            struct qr_emulator_settings settings = qr_emulator_default_settings();
            struct experts_bench bench;
            settings.capability = runs[i].capability;
            settings.seed = runs[i].seed;
            settings.async = runs[i].async;
            settings.n_workers = runs[i].n_workers;
            qr_emulator_set(&settings);
            experts_bench_open(&bench, problem, runs[i].kernel);
            float *result = experts_bench_run(&bench, problem, 0, shape.n_rows, -1);
            cuda_ops_rig_close(&bench.rig);
            if (wanted == NULL)
                wanted = result;
            check_rows(problem, result, 0, shape.n_rows, wanted);
            if (result != wanted)
                free(result);
        }
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        qr_emulator_set(&settings);
        free(wanted);
        experts_problem_free(problem);
    }
}

/* ---- the router ---- */

/* With rows of the unit matrix as x, a row's logits are a column of the router. */
static void choose_among(const float *logits, int32_t n_experts, int32_t n_used, int32_t *chosen)
{
    const struct experts_shape shape = {1, 1, n_experts, n_used, 1};
    struct experts_problem *problem = experts_problem_make(QR_CUDA_F32, QR_CUDA_F32, &shape, true);
    struct experts_bench bench;

    memcpy(problem->router, logits, (size_t)n_experts * sizeof(float));
    cuda_ops_put(QR_CUDA_F32, problem->x, 0, 1.0f);
    experts_bench_open(&bench, problem, QR_CUDA_EXPERTS_AUTO);
    free(experts_bench_run(&bench, problem, 0, 1, -1));
    cuda_ops_rig_download(&bench.rig, bench.experts.routing.chosen, chosen,
                          (size_t)n_used * sizeof(int32_t));
    cuda_ops_rig_close(&bench.rig);
    experts_problem_free(problem);
}

static void of_equal_experts_the_first_are_chosen(void **state)
{
    (void)state;
    float logits[40];
    int32_t chosen[3];

    for (int i = 0; i < 40; i++)
        logits[i] = i % 2 == 0 ? 0.0f : -0.0f;
    choose_among(logits, 40, 3, chosen);
    assert_memory_equal(chosen, ((int32_t[]){0, 1, 2}), sizeof(chosen));
    logits[37] = 1e-30f;
    logits[0] = -1.0f;
    choose_among(logits, 40, 3, chosen);
    assert_memory_equal(chosen, ((int32_t[]){1, 2, 37}), sizeof(chosen));
    for (int i = 0; i < 40; i++)
        logits[i] = i < 39 ? -INFINITY : -3.0f;
    choose_among(logits, 40, 3, chosen);
    assert_memory_equal(chosen, ((int32_t[]){0, 1, 39}), sizeof(chosen));
}

static void rows_of_nan_choose_experts_too(void **state)
{
    (void)state;
    static const float nans[] = {NAN, -NAN};

    for (int sign = 0; sign < 2; sign++) {
        float logits[40];
        int32_t chosen[5];
        for (int i = 0; i < 40; i++)
            logits[i] = nans[sign];
        choose_among(logits, 40, 5, chosen);
        assert_memory_equal(chosen, ((int32_t[]){0, 1, 2, 3, 4}), sizeof(chosen));
    }
}

/* ---- fewer rows than were captured, and more than a pass takes ---- */

static void rows_that_are_not_live_are_left_alone(void **state)
{
    (void)state;
    static const struct experts_shape shape = {64, 32, 4, 2, 21};
    struct experts_problem *problem =
        experts_problem_make(QR_CUDA_BF16, QR_CUDA_BF16, &shape, true);
    struct experts_bench bench;

    experts_bench_open(&bench, problem, QR_CUDA_EXPERTS_AUTO);
    float *wanted = experts_bench_run(&bench, problem, 0, shape.n_rows, -1);
    for (int32_t n_live = 0; n_live <= shape.n_rows; n_live++) {
        int32_t n_tiles;
        float *result = experts_bench_run(&bench, problem, 0, shape.n_rows, n_live);
        check_rows(problem, result, 0, n_live, wanted);
        check_rows(problem, result, n_live, shape.n_rows - n_live, problem->residual);
        cuda_ops_rig_download(&bench.rig, bench.experts.routing.n_tiles, &n_tiles, sizeof(n_tiles));
        assert_in_range(n_tiles, (n_live * 2 + 7) / 8, n_live * 2);
        free(result);
    }
    free(wanted);
    cuda_ops_rig_close(&bench.rig);
    experts_problem_free(problem);
}

static void long_steps_go_in_passes(void **state)
{
    (void)state;
    static const struct experts_shape shape = {3, 2, 4, 2, 2050};
    struct experts_problem *problem = experts_problem_make(QR_CUDA_F32, QR_CUDA_F32, &shape, false);
    struct experts_bench bench;

    experts_bench_open(&bench, problem, QR_CUDA_EXPERTS_AUTO);
    float *all = experts_bench_run(&bench, problem, 0, shape.n_rows, 2049);
    float *end = experts_bench_run(&bench, problem, 2040, 9, -1);
    check_rows(problem, all, 2040, 9, end);
    check_rows(problem, all, 2049, 1, problem->residual);
    assert_true(memcmp(all + 3 * 2048, problem->residual + 3 * 2048, sizeof(float)) != 0);
    free(all);
    free(end);
    cuda_ops_rig_close(&bench.rig);
    experts_problem_free(problem);
}

static void sizes_without_a_kernel_are_refused(void **state)
{
    (void)state;
    static const struct {
        int32_t hidden;
        int32_t inner;
        const char *named;
    } sizes[] = {{64, 20, "20 x 64"}, {20, 64, "64 x 20"}, {1 << 16, 1 << 14, "16384 x 65536"}};
    struct cuda_ops_rig rig;

    cuda_ops_rig_open(&rig);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct qr_cuda_experts_config config = {.activation = QR_CUDA_BF16,
                                                      .hidden_size = sizes[i].hidden,
                                                      .expert_size = sizes[i].inner,
                                                      .n_experts = 4,
                                                      .n_used = 2,
                                                      .max_rows = 1};
        struct qr_cuda_experts experts;
        struct qr_error err = {""};
        assert_int_equal(qr_cuda_experts_open(&rig.cuda, &config, NULL, &experts, &err),
                         QR_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, sizes[i].named));
    }
    cuda_ops_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_right_for_all_types_and_shapes),
        cmocka_unit_test(a_row_does_not_depend_on_the_others),
        cmocka_unit_test(a_row_depends_on_no_kernel_or_schedule),
        cmocka_unit_test(of_equal_experts_the_first_are_chosen),
        cmocka_unit_test(rows_of_nan_choose_experts_too),
        cmocka_unit_test(rows_that_are_not_live_are_left_alone),
        cmocka_unit_test(long_steps_go_in_passes),
        cmocka_unit_test(sizes_without_a_kernel_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
