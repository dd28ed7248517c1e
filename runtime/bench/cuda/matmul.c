/*
 * matmul.c - the matrix products of an 8B model's layer and of its head, for 1, 8, 64 and 512 rows,
 * by the kernels that the backend would choose.
 *
 * Calls of a graph turn to another copy of the weights each, so that none is found in the cache.
 * Few rows are bound by reading the weights, which is the floor; many by arithmetic, which has no
 * floor here: their rate stands beside that of the peers.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/dtype.h"
#include "runtime/bench/cuda/cuda_bench.h"
#include "runtime/bench/cuda/kv_pages.h"
#include "runtime/ops/cuda/cuda_elementwise.h"
#include "runtime/ops/cuda/cuda_matmul.h"
#include "runtime/sampling/philox.h"

enum { N_CHECKED = 48, MAX_COPIES = 64, FEW_ROWS = 64 };

struct matmul_case {
    const char *name;
    int32_t n; /* matrices with the same input */
    int32_t n_out[QR_MATMUL_PARTS];
    int32_t n_in;
    enum qr_cuda_epilogue epilogue;
};

static const struct matmul_case cases[] = {
    {"qkv 4096 > 6144", 3, {4096, 1024, 1024}, 4096, QR_CUDA_STORE},
    {"o 4096 > 4096", 1, {4096}, 4096, QR_CUDA_ADD_F32},
    {"gate, up 4096 > 28672", 2, {14336, 14336}, 4096, QR_CUDA_STORE},
    {"down 14336 > 4096", 1, {4096}, 14336, QR_CUDA_ADD_F32},
    {"head 4096 > 128256", 1, {128256}, 4096, QR_CUDA_STORE_F32},
};
static const enum qr_cuda_type weight_types[] = {QR_CUDA_BF16, QR_CUDA_E4M3, QR_CUDA_INT8};
static const int32_t rows[] = {1, 8, 64, 512};

enum {
    N_CASES = sizeof(cases) / sizeof(cases[0]),
    N_WEIGHT_TYPES = sizeof(weight_types) / sizeof(weight_types[0]),
    N_ROWS = sizeof(rows) / sizeof(rows[0]),
};

/* What all cases have in common. */
struct common {
    struct qr_cuda_bench *bench;
    struct qr_cuda_elementwise elementwise;
    struct qr_cuda_cublaslt *cublaslt; /* NULL: not installed */
    qr_cu_address cublaslt_workspace;
    int32_t max_rows;
};

/* A case with weights of one type while it is measured. */
struct subject {
    struct common *common;
    struct matmul_case shape;
    enum qr_cuda_type type;
    struct qr_cuda_matmul matmul;
    qr_cu_address matmul_workspace;
    qr_cu_address weights; /* [n_copies][copy_bytes] */
    int64_t copy_bytes;
    int64_t scales_at; /* within a copy; matrices lie one behind the other before it */
    int32_t n_copies;
    struct qr_cuda_matrix matrices[MAX_COPIES][QR_MATMUL_PARTS];
    qr_cu_address x, out;
    int64_t out_bytes;
    uint16_t *host_x; /* [max_rows][n_in] BF16 */
    int32_t n_rows;
};

static void *pointer(qr_cu_address address)
{
    return (void *)(uintptr_t)address;
}

static int32_t n_outputs(const struct matmul_case *shape)
{
    return shape->n_out[0] + shape->n_out[1] + shape->n_out[2];
}

static int64_t matrix_bytes(const struct subject *subject, int32_t i)
{
    int64_t bytes =
        (int64_t)qr_cuda_row_bytes(subject->type, subject->shape.n_in) * subject->shape.n_out[i];

    return (bytes + 255) / 256 * 256;
}

static size_t out_size(const struct subject *subject)
{
    return subject->shape.epilogue == QR_CUDA_STORE ? sizeof(uint16_t) : sizeof(float);
}

/* One copy of the weights: made in BF16, then quantised where the type asks for it. */
static void fill_copy(struct subject *subject, int32_t copy, qr_cu_address scratch)
{
    const struct matmul_case *shape = &subject->shape;
    struct qr_cuda_elementwise *ops = &subject->common->elementwise;
    qr_cu_address at = subject->weights + (uint64_t)(copy * subject->copy_bytes);
    qr_cu_address scales = at + (uint64_t)subject->scales_at;
    float bound = sqrtf(3.0f / (float)shape->n_in);

    for (int32_t i = 0; i < shape->n; i++) {
        bool quantized = subject->type != QR_CUDA_BF16;
        uint64_t key = (uint64_t)(copy * QR_MATMUL_PARTS + i + 1);
        qr_cuda_fill_synthetic(ops, QR_CUDA_BF16, key, bound,
                               (int64_t)shape->n_out[i] * shape->n_in,
                               pointer(quantized ? scratch : at));
        if (quantized)
            qr_cuda_quantize(ops, QR_CUDA_BF16, pointer(scratch), shape->n_out[i], shape->n_in,
                             subject->type, pointer(at), pointer(scales));
        subject->matrices[copy][i] = (struct qr_cuda_matrix){
            .type = subject->type,
            .n_out = shape->n_out[i],
            .n_in = shape->n_in,
            .data = pointer(at),
            .scales = quantized ? pointer(scales) : NULL,
        };
        at += (uint64_t)matrix_bytes(subject, i);
        scales += (uint64_t)shape->n_out[i] * sizeof(float);
    }
}

static enum qr_status fill_weights(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->common->bench;
    const struct matmul_case *shape = &subject->shape;
    qr_cu_address scratch = 0;

    for (int32_t i = 0; i < shape->n; i++)
        subject->scales_at += matrix_bytes(subject, i);
    subject->copy_bytes = subject->scales_at + (n_outputs(shape) * 4 + 255) / 256 * 256;
    int64_t n_copies = qr_cuda_bench_uncached_bytes(bench) / subject->copy_bytes + 2;
    subject->n_copies = n_copies < MAX_COPIES ? (int32_t)n_copies : MAX_COPIES;
    QR_TRY(qr_cuda_bench_alloc(bench, "weights", subject->n_copies * subject->copy_bytes,
                               &subject->weights, err));
    if (subject->type != QR_CUDA_BF16)
        QR_TRY(qr_cuda_bench_alloc(bench, "weights", (int64_t)shape->n_out[0] * shape->n_in * 2,
                                   &scratch, err));
    for (int32_t copy = 0; copy < subject->n_copies; copy++)
        fill_copy(subject, copy, scratch);
    qr_cuda_synchronize(&bench->cuda);
    qr_cuda_free(&bench->cuda, scratch);
    return qr_cuda_take_failure(&bench->cuda, err);
}

static enum qr_status open_subject(struct subject *subject, struct qr_error *err)
{
    struct common *common = subject->common;
    struct qr_cuda_bench *bench = common->bench;
    const struct qr_cuda_matmul_config config = {
        .activation = QR_CUDA_BF16,
        .max_rows = common->max_rows,
        .cublaslt = common->cublaslt,
    };
    int64_t n_x = (int64_t)common->max_rows * subject->shape.n_in;

    QR_TRY(qr_cuda_bench_alloc(
        bench, "workspace",
        (int64_t)qr_cuda_matmul_workspace_bytes(&bench->cuda.properties, &config),
        &subject->matmul_workspace, err));
    QR_TRY(qr_cuda_matmul_open(&bench->cuda, &config, pointer(subject->matmul_workspace),
                               &subject->matmul, err));
    subject->host_x = qr_malloc(QR_ARENA_ENGINE, (size_t)n_x * sizeof(uint16_t));
    if (subject->host_x == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %" PRId64 " elements", n_x);
    qr_random_bf16(21, false, n_x, subject->host_x);
    QR_TRY(qr_cuda_bench_alloc(bench, "activations", n_x * 2, &subject->x, err));
    subject->out_bytes = (int64_t)common->max_rows * n_outputs(&subject->shape) * 4;
    QR_TRY(qr_cuda_bench_alloc(bench, "results", subject->out_bytes, &subject->out, err));
    qr_cuda_copy_to_device(&bench->cuda, "activations", subject->x, subject->host_x,
                           (size_t)n_x * 2);
    return fill_weights(subject, err);
}

static void close_subject(struct subject *subject)
{
    struct qr_cuda *cuda = &subject->common->bench->cuda;

    qr_cuda_free(cuda, subject->matmul_workspace);
    qr_cuda_free(cuda, subject->weights);
    qr_cuda_free(cuda, subject->x);
    qr_cuda_free(cuda, subject->out);
    qr_free(subject->host_x);
}

static void enqueue_matmul(void *arg, int32_t call)
{
    struct subject *subject = arg;
    const struct matmul_case *shape = &subject->shape;
    const struct qr_cuda_matrix *weights[QR_MATMUL_PARTS];
    void *outs[QR_MATMUL_PARTS];
    qr_cu_address out = subject->out;

    for (int32_t i = 0; i < shape->n; i++) {
        weights[i] = &subject->matrices[call % subject->n_copies][i];
        outs[i] = pointer(out);
        out += (uint64_t)subject->n_rows * (uint64_t)shape->n_out[i] * out_size(subject);
    }
    qr_cuda_matmul(&subject->matmul, shape->n, weights, pointer(subject->x), subject->n_rows,
                   shape->epilogue, outs);
}

/* Bytes of e4m3: 4 bits of exponent with bias 7, 3 of mantissa. */
static double e4m3_value(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    double magnitude = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);

    return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

static double weight_value(const struct subject *subject, const void *row, float scale, int32_t k)
{
    switch (subject->type) {
    case QR_CUDA_BF16:
        return (double)qr_bf16_to_f32(((const uint16_t *)row)[k]);
    case QR_CUDA_E4M3:
        return (double)scale * e4m3_value(((const uint8_t *)row)[k]);
    default:
        return (double)scale * ((const int8_t *)row)[k];
    }
}

/* One element of the first matrix's result, found and expected. */
static void compare_one(struct subject *subject, int32_t r, int32_t n, void *weight_row,
                        double *found, double *expected)
{
    struct qr_cuda *cuda = &subject->common->bench->cuda;
    const struct qr_cuda_matrix *matrix = &subject->matrices[0][0];
    size_t row_bytes = qr_cuda_row_bytes(matrix->type, matrix->n_in), size = out_size(subject);
    union {
        float f32;
        uint16_t bf16;
    } out = {0};
    float scale = 1;

    qr_cuda_copy_to_host(cuda, "weights", weight_row,
                         (uintptr_t)matrix->data + (uint64_t)n * row_bytes, row_bytes);
    if (matrix->scales != NULL)
        qr_cuda_copy_to_host(cuda, "scales", &scale, (uintptr_t)(matrix->scales + n),
                             sizeof(scale));
    qr_cuda_copy_to_host(
        cuda, "result", &out,
        subject->out + ((uint64_t)r * (uint64_t)matrix->n_out + (uint64_t)n) * size, size);
    qr_cuda_synchronize(cuda);
    *found = (double)(size == sizeof(float) ? out.f32 : qr_bf16_to_f32(out.bf16));
    *expected = 0;
    for (int32_t k = 0; k < matrix->n_in; k++)
        *expected += (double)qr_bf16_to_f32(subject->host_x[(int64_t)r * matrix->n_in + k]) *
                     weight_value(subject, weight_row, scale, k);
}

static enum qr_status check(struct subject *subject, struct qr_cuda_figure *figure,
                            struct qr_error *err)
{
    struct qr_cuda *cuda = &subject->common->bench->cuda;
    bool adds = subject->shape.epilogue == QR_CUDA_ADD_F32;
    double difference = 0, norm = 0;
    void *weight_row = qr_malloc(QR_ARENA_ENGINE, (size_t)subject->shape.n_in * sizeof(uint16_t));

    if (weight_row == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for a row of weights");
    qr_cuda_check(cuda,
                  cuda->driver->memset_d8_async(subject->out, adds ? 0 : 0xff,
                                                (size_t)subject->out_bytes, cuda->stream),
                  "clearing the result");
    enqueue_matmul(subject, 0);
    for (int32_t i = 0; i < N_CHECKED; i++) {
        double found, expected;
        int32_t r = (int32_t)(qr_philox_uniform(7, (uint64_t)i) * subject->n_rows);
        int32_t n = (int32_t)(qr_philox_uniform(8, (uint64_t)i) * subject->shape.n_out[0]);
        compare_one(subject, r, n, weight_row, &found, &expected);
        difference += (found - expected) * (found - expected);
        norm += expected * expected;
    }
    qr_free(weight_row);
    figure->checked = true;
    figure->error = sqrt(difference / norm);
    figure->error_bound = subject->shape.epilogue == QR_CUDA_STORE ? 1e-2 : 1e-4;
    return qr_cuda_take_failure(cuda, err);
}

static enum qr_status measure(struct subject *subject, int32_t n_rows, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->common->bench;
    const struct matmul_case *shape = &subject->shape;
    double n = (double)n_outputs(shape);
    const struct qr_timing_subject timed = {enqueue_matmul, subject,
                                            qr_cuda_bench_n_calls(bench, 0)};
    struct qr_cuda_figure figure = {.group = "matmul"};

    subject->n_rows = n_rows;
    snprintf(figure.name, sizeof(figure.name), "%s %s, %d row%s", qr_cuda_type_name(subject->type),
             shape->name, n_rows, n_rows == 1 ? "" : "s");
    figure.bytes = (double)qr_cuda_row_bytes(subject->type, shape->n_in) * n +
                   (double)n_rows * (shape->n_in * 2.0 + n * (double)out_size(subject));
    if (n_rows <= FEW_ROWS)
        figure.floor_s = figure.bytes / bench->read_rate;
    figure.flops = 2 * n * shape->n_in * n_rows;
    QR_TRY(
        qr_timing_run(&bench->cuda, &timed, 1, qr_cuda_bench_n_replays(bench), &figure.times, err));
    if (n_rows > FEW_ROWS)
        snprintf(figure.note, sizeof(figure.note), "cuBLASLt %s",
                 subject->common->cublaslt != NULL ? "allowed" : "not used");
    QR_TRY(check(subject, &figure, err));
    return qr_cuda_bench_add(bench, &figure, err);
}

static enum qr_status run_case(struct common *common, const struct matmul_case *from,
                               enum qr_cuda_type type, struct qr_error *err)
{
    bool smoke = common->bench->config->smoke;
    struct subject *subject = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*subject));

    if (subject == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory");
    subject->common = common;
    subject->shape = *from;
    subject->type = type;
    if (smoke) {
        subject->shape.n_in /= 16;
        for (int32_t i = 0; i < from->n; i++)
            subject->shape.n_out[i] = from->n_out[i] / 128;
    }
    enum qr_status status = open_subject(subject, err);
    for (int32_t i = 0; status == QR_OK && i < N_ROWS; i++) {
        if (rows[i] <= common->max_rows)
            status = measure(subject, rows[i], err);
    }
    close_subject(subject);
    qr_free(subject);
    if (status != QR_OK)
        qr_error_prefix(err, "%s %s", qr_cuda_type_name(type), from->name);
    return status;
}

/* Without the library the backend has its own kernels, and so has the benchmark. */
static enum qr_status open_cublaslt(struct common *common, struct qr_error *err)
{
    struct qr_cuda_bench *bench = common->bench;
    struct qr_error missing;

    if (bench->config->smoke)
        return QR_OK;
    QR_TRY(qr_cuda_bench_alloc(bench, "cuBLASLt", (int64_t)qr_cuda_cublaslt_workspace_bytes(),
                               &common->cublaslt_workspace, err));
    if (qr_cuda_cublaslt_open(&bench->cuda, pointer(common->cublaslt_workspace), &common->cublaslt,
                              &missing) != QR_OK)
        common->cublaslt = NULL;
    return QR_OK;
}

enum qr_status qr_bench_matmul(struct qr_cuda_bench *bench, struct qr_error *err)
{
    struct common common = {.bench = bench, .max_rows = bench->config->smoke ? 64 : 512};
    enum qr_status first = QR_OK;

    QR_TRY(qr_cuda_elementwise_open(&bench->cuda, &common.elementwise, err));
    first = open_cublaslt(&common, err);
    for (size_t i = 0; i < N_CASES; i++) {
        for (size_t j = 0; j < N_WEIGHT_TYPES; j++) {
            struct qr_error failure;
            enum qr_status status = run_case(&common, &cases[i], weight_types[j], &failure);
            if (status != QR_OK && first == QR_OK) {
                first = status;
                *err = failure;
            }
        }
    }
    qr_cuda_cublaslt_close(common.cublaslt);
    qr_cuda_free(&bench->cuda, common.cublaslt_workspace);
    return first;
}
