/* cuda_experts_case.c - see cuda_experts_case.h. */
#include "tests/support/cuda_experts_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void *allocate(size_t n_bytes)
{
    void *memory = calloc(1, n_bytes + 1);

    assert_non_null(memory);
    return memory;
}

int32_t experts_n_out(const struct experts_problem *problem, int matrix)
{
    return matrix == EXPERTS_DOWN ? problem->shape.hidden : problem->shape.inner;
}

int32_t experts_n_in(const struct experts_problem *problem, int matrix)
{
    return matrix == EXPERTS_DOWN ? problem->shape.inner : problem->shape.hidden;
}

const char *experts_matrix(const struct experts_problem *problem, int32_t e, int matrix)
{
    return problem->weight + (size_t)(e * EXPERTS_MATRICES + matrix) * problem->weight_stride;
}

static void fill_matrix(struct experts_problem *problem, int32_t e, int matrix)
{
    size_t n_in = (size_t)experts_n_in(problem, matrix);
    size_t index = (size_t)(e * EXPERTS_MATRICES + matrix);
    char *to = problem->weight + index * problem->weight_stride;

    for (size_t n = 0; n < (size_t)experts_n_out(problem, matrix); n++) {
        float scale = 1.0f;
        if (problem->scales != NULL) {
            scale = problem->type == QR_CUDA_INT8 ? 127.0f : 8.0f;
            problem->scales[index * problem->scale_stride + n] =
                (1.0f + 0.1f * (float)(n % 7)) / (scale * sqrtf((float)n_in));
        } else {
            scale = 1.0f / sqrtf((float)n_in);
        }
        for (size_t k = 0; k < n_in; k++)
            cuda_ops_put(problem->type, to + n * qr_cuda_row_bytes(problem->type, (int32_t)n_in), k,
                         cuda_ops_random(31 + index, n * n_in + k) * scale * 2.0f);
    }
}

static void *random_rows(enum qr_cuda_type type, size_t n, uint64_t seed)
{
    void *data = allocate(n * qr_cuda_type_size(type));

    for (size_t i = 0; i < n; i++)
        cuda_ops_put(type, data, i, cuda_ops_random(seed, i));
    return data;
}

struct experts_problem *experts_problem_make(enum qr_cuda_type type, enum qr_cuda_type activation,
                                             const struct experts_shape *shape, bool renormalizes)
{
    struct experts_problem *problem = allocate(sizeof(*problem));
    size_t largest = (size_t)(shape->hidden > shape->inner ? shape->hidden : shape->inner);
    size_t n_matrices = (size_t)(shape->n_experts * EXPERTS_MATRICES);
    size_t n_x = (size_t)shape->n_rows * (size_t)shape->hidden;

    *problem = (struct experts_problem){.shape = *shape,
                                        .type = type,
                                        .activation = activation,
                                        .renormalizes = renormalizes,
                                        .scale_stride = (largest + 3) / 4 * 4};
    problem->weight_stride = (largest * qr_cuda_row_bytes(type, (int32_t)largest) + 15) / 16 * 16;
    problem->weight = allocate(n_matrices * problem->weight_stride);
    if (qr_cuda_type_size(type) == 1)
        problem->scales = allocate(n_matrices * problem->scale_stride * sizeof(float));
    for (int32_t i = 0; i < shape->n_experts * EXPERTS_MATRICES; i++)
        fill_matrix(problem, i / EXPERTS_MATRICES, i % EXPERTS_MATRICES);
    problem->router = random_rows(activation, (size_t)shape->n_experts * (size_t)shape->hidden, 7);
    problem->x = random_rows(activation, n_x, 5);
    problem->residual = random_rows(QR_CUDA_F32, n_x, 6);
    return problem;
}

void experts_problem_free(struct experts_problem *problem)
{
    free(problem->router);
    free(problem->weight);
    free(problem->scales);
    free(problem->x);
    free(problem->residual);
    free(problem);
}

/* ---- on the device ---- */

static const struct qr_expert_weights *upload_table(struct experts_bench *bench,
                                                    const struct experts_problem *problem)
{
    size_t n = (size_t)problem->shape.n_experts;
    struct qr_expert_weights *table = allocate(n * sizeof(*table));
    const char *weight = cuda_ops_rig_upload(&bench->rig, problem->weight,
                                             n * EXPERTS_MATRICES * problem->weight_stride);
    const float *scales = NULL;

    if (problem->scales != NULL)
        scales = cuda_ops_rig_upload(&bench->rig, problem->scales,
                                     n * EXPERTS_MATRICES * problem->scale_stride * sizeof(float));
    for (size_t e = 0; e < n; e++) {
        const void *matrix[EXPERTS_MATRICES];
        const float *scale[EXPERTS_MATRICES];
        for (size_t i = 0; i < EXPERTS_MATRICES; i++) {
            matrix[i] = weight + (e * EXPERTS_MATRICES + i) * problem->weight_stride;
            scale[i] =
                scales == NULL ? NULL : scales + (e * EXPERTS_MATRICES + i) * problem->scale_stride;
        }
        table[e] = (struct qr_expert_weights){matrix[EXPERTS_GATE], matrix[EXPERTS_UP],
                                              matrix[EXPERTS_DOWN], scale[EXPERTS_GATE],
                                              scale[EXPERTS_UP],    scale[EXPERTS_DOWN]};
    }
    const void *device = cuda_ops_rig_upload(&bench->rig, table, n * sizeof(*table));
    free(table);
    return device;
}

void experts_bench_open(struct experts_bench *bench, const struct experts_problem *problem,
                        enum qr_cuda_experts_kernel kernel)
{
    const struct experts_shape *shape = &problem->shape;
    const struct qr_cuda_matmul_config matmul = {.activation = problem->activation,
                                                 .max_rows = shape->n_rows};
    const struct qr_cuda_experts_config config = {.activation = problem->activation,
                                                  .hidden_size = shape->hidden,
                                                  .expert_size = shape->inner,
                                                  .n_experts = shape->n_experts,
                                                  .n_used = shape->n_used,
                                                  .max_rows = shape->n_rows,
                                                  .kernel = kernel};
    struct qr_error err = {""};
    size_t element = qr_cuda_type_size(problem->activation);
    size_t hidden = (size_t)shape->hidden;

    cuda_ops_rig_open(&bench->rig);
    size_t n_bytes = qr_cuda_matmul_workspace_bytes(&bench->rig.cuda.properties, &matmul);
    if (qr_cuda_matmul_open(&bench->rig.cuda, &matmul, cuda_ops_rig_alloc(&bench->rig, n_bytes),
                            &bench->matmul, &err) != QR_OK)
        fail_msg("%s", err.message);
    n_bytes = qr_cuda_experts_workspace_bytes(&config);
    if (qr_cuda_experts_open(&bench->rig.cuda, &config, cuda_ops_rig_alloc(&bench->rig, n_bytes),
                             &bench->experts, &err) != QR_OK)
        fail_msg("%s", err.message);
    bench->layer = (struct qr_cuda_expert_layer){
        .router = {.type = problem->activation,
                   .n_out = shape->n_experts,
                   .n_in = shape->hidden,
                   .data = cuda_ops_rig_upload(&bench->rig, problem->router,
                                               (size_t)shape->n_experts * hidden * element)},
        .table = upload_table(bench, problem),
        .type = problem->type,
        .renormalizes = problem->renormalizes,
        .activation = QR_ACTIVATION_SILU};
    bench->x =
        cuda_ops_rig_upload(&bench->rig, problem->x, (size_t)shape->n_rows * hidden * element);
}

float *experts_bench_run(struct experts_bench *bench, const struct experts_problem *problem,
                         int32_t first, int32_t n_rows, int32_t n_live)
{
    size_t hidden = (size_t)problem->shape.hidden;
    size_t n_bytes = (size_t)problem->shape.n_rows * hidden * sizeof(float);
    int32_t n_pieces = bench->rig.n_pieces;
    float *device = cuda_ops_rig_upload(&bench->rig, problem->residual, n_bytes);
    float *host = allocate(n_bytes);
    const int32_t *live = n_live < 0 ? NULL : cuda_ops_rig_upload(&bench->rig, &n_live, 4);

    qr_cuda_experts_add(&bench->experts, &bench->matmul, &bench->layer,
                        bench->x + (size_t)first * hidden * qr_cuda_type_size(problem->activation),
                        n_rows, live, device + (size_t)first * hidden);
    cuda_ops_rig_download(&bench->rig, device, host, n_bytes);
    while (bench->rig.n_pieces > n_pieces)
        qr_cuda_free(&bench->rig.cuda,
                     (qr_cu_address)(uintptr_t)bench->rig.pieces[--bench->rig.n_pieces]);
    return host;
}
