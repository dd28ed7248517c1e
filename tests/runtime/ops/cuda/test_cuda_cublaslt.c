/*
 * test_cuda_cublaslt.c - products by cuBLASLt, with a library of our own in its place that computes
 * what the arguments say, by columns: so a wrong layout, transpose or leading dimension is a wrong
 * result. Where cuBLASLt's header is installed, the declarations are checked against it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/cuda/cuda_cublaslt.h"
#include "runtime/ops/cuda/cuda_cublaslt_api.h"
#include "runtime/ops/cuda/cuda_matmul.h"
#include "tests/support/cuda_ops_rig.h"
#include "tests/support/cuda_platform.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define SAME(ours, theirs) _Static_assert((long)(ours) == (long)(theirs), #theirs)
SAME(QR_CUBLAS_OP_T, CUBLAS_OP_T);
SAME(QR_CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(QR_CUDA_R_32F, CUDA_R_32F);
SAME(QR_CUDA_R_16F, CUDA_R_16F);
SAME(QR_CUDA_R_16BF, CUDA_R_16BF);
SAME(QR_CUBLASLT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(QR_CUBLASLT_LAYOUT_COLS, CUBLASLT_MATRIX_LAYOUT_COLS);
SAME(QR_CUBLASLT_PREF_MAX_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(CUBLAS_STATUS_SUCCESS, 0);
SAME(sizeof(struct qr_cublaslt_algo), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(struct qr_cublaslt_heuristic), sizeof(cublasLtMatmulHeuristicResult_t));
SAME(offsetof(struct qr_cublaslt_heuristic, workspace_size),
     offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
SAME(offsetof(struct qr_cublaslt_heuristic, state),
     offsetof(cublasLtMatmulHeuristicResult_t, state));
SAME(sizeof(qr_cublas_status), sizeof(cublasStatus_t));
SAME(sizeof(int), sizeof(cudaDataType_t));
SAME(sizeof(int), sizeof(cublasComputeType_t));
SAME(sizeof(int), sizeof(cublasLtMatmulDescAttributes_t));
#endif

/* ---- the library ---- */

struct qr_cublaslt_handle_opaque {
    int unused;
};
struct qr_cublaslt_desc_opaque {
    int32_t transposed;
};
struct qr_cublaslt_layout_opaque {
    int type;
    uint64_t rows;
    uint64_t cols;
    int64_t leading_dimension;
};
struct qr_cublaslt_preference_opaque {
    uint64_t workspace_bytes;
};

static int n_live;       /* objects that are not destroyed */
static int n_heuristics; /* asked for */
static int n_products;
static bool has_algorithms;
static qr_cublas_status product_status;

static void *make(size_t size)
{
    void *object = calloc(1, size);

    assert_non_null(object);
    n_live++;
    return object;
}

static qr_cublas_status destroy(void *object)
{
    free(object);
    n_live--;
    return 0;
}

static qr_cublas_status create(qr_cublaslt_handle *handle)
{
    *handle = make(sizeof(**handle));
    return 0;
}

static qr_cublas_status destroy_handle(qr_cublaslt_handle handle)
{
    return destroy(handle);
}

static qr_cublas_status desc_create(qr_cublaslt_desc *desc, int compute_type, int scale_type)
{
    assert_int_equal(compute_type, QR_CUBLAS_COMPUTE_32F);
    assert_int_equal(scale_type, QR_CUDA_R_32F);
    *desc = make(sizeof(**desc));
    return 0;
}

static qr_cublas_status desc_set(qr_cublaslt_desc desc, int attribute, const void *value,
                                 size_t n_bytes)
{
    assert_int_equal(attribute, QR_CUBLASLT_DESC_TRANSA);
    assert_int_equal(n_bytes, sizeof(int32_t));
    memcpy(&desc->transposed, value, n_bytes);
    return 0;
}

static qr_cublas_status destroy_desc(qr_cublaslt_desc desc)
{
    return destroy(desc);
}

static qr_cublas_status layout_create(qr_cublaslt_layout *layout, int type, uint64_t rows,
                                      uint64_t cols, int64_t leading_dimension)
{
    *layout = make(sizeof(**layout));
    **layout = (struct qr_cublaslt_layout_opaque){type, rows, cols, leading_dimension};
    return 0;
}

static qr_cublas_status layout_set(qr_cublaslt_layout layout, int attribute, const void *value,
                                   size_t n_bytes)
{
    assert_int_equal(attribute, QR_CUBLASLT_LAYOUT_COLS);
    assert_int_equal(n_bytes, sizeof(uint64_t));
    memcpy(&layout->cols, value, n_bytes);
    return 0;
}

static qr_cublas_status destroy_layout(qr_cublaslt_layout layout)
{
    return destroy(layout);
}

static qr_cublas_status preference_create(qr_cublaslt_preference *preference)
{
    *preference = make(sizeof(**preference));
    return 0;
}

static qr_cublas_status preference_set(qr_cublaslt_preference preference, int attribute,
                                       const void *value, size_t n_bytes)
{
    assert_int_equal(attribute, QR_CUBLASLT_PREF_MAX_WORKSPACE);
    assert_int_equal(n_bytes, sizeof(uint64_t));
    memcpy(&preference->workspace_bytes, value, n_bytes);
    return 0;
}

static qr_cublas_status destroy_preference(qr_cublaslt_preference preference)
{
    return destroy(preference);
}

static qr_cublas_status get_heuristic(qr_cublaslt_handle handle, qr_cublaslt_desc desc,
                                      qr_cublaslt_layout a, qr_cublaslt_layout b,
                                      qr_cublaslt_layout c, qr_cublaslt_layout d,
                                      qr_cublaslt_preference preference, int n_wanted,
                                      struct qr_cublaslt_heuristic *results, int *n_found)
{
    assert_non_null(handle);
    assert_int_equal(desc->transposed, QR_CUBLAS_OP_T);
    assert_true(a->rows == b->rows && a->cols == c->rows && b->cols == c->cols && c == d);
    assert_int_equal(preference->workspace_bytes, qr_cuda_cublaslt_workspace_bytes());
    assert_int_equal(n_wanted, 1);
    n_heuristics++;
    *n_found = has_algorithms ? 1 : 0;
    results[0] = (struct qr_cublaslt_heuristic){.algo = {{c->cols}}};
    return has_algorithms ? 0 : 15;
}

static enum qr_cuda_type type_of(int data_type)
{
    if (data_type == QR_CUDA_R_32F)
        return QR_CUDA_F32;
    return data_type == QR_CUDA_R_16F ? QR_CUDA_F16 : QR_CUDA_BF16;
}

/* d = alpha a^T b + beta c, stored by columns */
static qr_cublas_status matmul(qr_cublaslt_handle handle, qr_cublaslt_desc desc, const void *alpha,
                               const void *a, qr_cublaslt_layout a_layout, const void *b,
                               qr_cublaslt_layout b_layout, const void *beta, const void *c,
                               qr_cublaslt_layout c_layout, void *d, qr_cublaslt_layout d_layout,
                               const struct qr_cublaslt_algo *algo, void *workspace,
                               size_t workspace_bytes, qr_cu_stream stream)
{
    assert_non_null(handle);
    assert_non_null(desc);
    assert_non_null(workspace);
    assert_non_null(stream);
    assert_int_equal(workspace_bytes, qr_cuda_cublaslt_workspace_bytes());
    assert_true(c == d && c_layout == d_layout);
    assert_true(algo->data[0] % 64 == 0 && algo->data[0] >= d_layout->cols);
    if (product_status != 0)
        return product_status;
    n_products++;
    for (uint64_t column = 0; column < d_layout->cols; column++) {
        for (uint64_t row = 0; row < d_layout->rows; row++) {
            double sum = 0;
            for (uint64_t k = 0; k < a_layout->rows; k++)
                sum += (double)cuda_ops_get(type_of(a_layout->type), a,
                                            row * (uint64_t)a_layout->leading_dimension + k) *
                       (double)cuda_ops_get(type_of(b_layout->type), b,
                                            column * (uint64_t)b_layout->leading_dimension + k);
            uint64_t at = column * (uint64_t)d_layout->leading_dimension + row;
            double before = *(const float *)beta == 0
                                ? 0
                                : (double)cuda_ops_get(type_of(d_layout->type), c, at);
            cuda_ops_put(type_of(d_layout->type), d, at,
                         (float)(*(const float *)alpha * sum + *(const float *)beta * before));
        }
    }
    return 0;
}

static const struct qr_cublaslt_api api = {
    .create = create,
    .destroy = destroy_handle,
    .desc_create = desc_create,
    .desc_set = desc_set,
    .desc_destroy = destroy_desc,
    .layout_create = layout_create,
    .layout_set = layout_set,
    .layout_destroy = destroy_layout,
    .preference_create = preference_create,
    .preference_set = preference_set,
    .preference_destroy = destroy_preference,
    .get_heuristic = get_heuristic,
    .matmul = matmul,
};

/* ---- the tests ---- */

enum { N_IN = 72, N_OUT = 40, MAX_ROWS = 200 };

struct world {
    struct cuda_ops_rig rig;
    struct qr_cuda_cublaslt *lt;
    struct qr_cuda_matmul with;    /* cuBLASLt */
    struct qr_cuda_matmul without; /* own kernels only */
    enum qr_cuda_type type;
    struct qr_cuda_matrix matrix;
    const struct qr_cuda_matrix *matrices[3];
    void *x;
};

static void open_world(struct world *world, enum qr_cuda_type type)
{
    static uint16_t values[MAX_ROWS * N_IN];
    struct qr_error err = {""};

    n_heuristics = n_products = 0;
    has_algorithms = true;
    product_status = 0;
    cuda_ops_rig_open(&world->rig);
    void *workspace = cuda_ops_rig_alloc(&world->rig, qr_cuda_cublaslt_workspace_bytes());
    assert_int_equal(qr_cuda_cublaslt_open_api(&world->rig.cuda, &api, workspace, &world->lt, &err),
                     QR_OK);
    struct qr_cuda_matmul_config config = {.activation = type, .max_rows = MAX_ROWS};
    void *own = cuda_ops_rig_alloc(
        &world->rig, qr_cuda_matmul_workspace_bytes(&world->rig.cuda.properties, &config));
    assert_int_equal(qr_cuda_matmul_open(&world->rig.cuda, &config, own, &world->without, &err),
                     QR_OK);
    config.cublaslt = world->lt;
    assert_int_equal(qr_cuda_matmul_open(&world->rig.cuda, &config, own, &world->with, &err),
                     QR_OK);
    world->type = type;
    for (size_t i = 0; i < (size_t)N_OUT * N_IN; i++)
        cuda_ops_put(type, values, i, cuda_ops_random(1, i));
    world->matrix = (struct qr_cuda_matrix){
        .type = type,
        .n_out = N_OUT,
        .n_in = N_IN,
        .data = cuda_ops_rig_upload(&world->rig, values, sizeof(uint16_t) * N_OUT * N_IN)};
    for (int i = 0; i < 3; i++)
        world->matrices[i] = &world->matrix;
    for (size_t i = 0; i < (size_t)MAX_ROWS * N_IN; i++)
        cuda_ops_put(type, values, i, cuda_ops_random(2, i));
    world->x = cuda_ops_rig_upload(&world->rig, values, sizeof(values));
}

static void close_world(struct world *world)
{
    qr_cuda_cublaslt_close(world->lt);
    qr_cuda_cublaslt_close(NULL);
    assert_int_equal(n_live, 0);
    cuda_ops_rig_close(&world->rig);
}

/* Two outs of the epilogue's type, as F32; the residual that is added to is 1 everywhere. */
static void multiply(struct world *world, struct qr_cuda_matmul *with, int32_t n_rows,
                     enum qr_cuda_epilogue epilogue, float *result)
{
    enum qr_cuda_type type = epilogue == QR_CUDA_STORE ? world->type : QR_CUDA_F32;
    size_t n = (size_t)n_rows * N_OUT;
    size_t n_bytes = n * qr_cuda_type_size(type);
    char *host = malloc(n_bytes);
    void *outs[2];

    assert_non_null(host);
    for (size_t i = 0; i < n; i++)
        cuda_ops_put(type, host, i, 1.0f);
    for (int i = 0; i < 2; i++)
        outs[i] = cuda_ops_rig_upload(&world->rig, host, n_bytes);
    qr_cuda_matmul(with, 2, world->matrices, world->x, n_rows, epilogue, outs);
    for (size_t out = 0; out < 2; out++) {
        cuda_ops_rig_download(&world->rig, outs[out], host, n_bytes);
        for (size_t i = 0; i < n; i++)
            result[out * n + i] = cuda_ops_get(type, host, i);
    }
    free(host);
}

static void check_same(struct world *world, int32_t n_rows, enum qr_cuda_epilogue epilogue)
{
    size_t n = (size_t)n_rows * N_OUT * 2;
    float *ours = calloc(n, sizeof(float));
    float *theirs = calloc(n, sizeof(float));

    assert_non_null(ours);
    assert_non_null(theirs);
    multiply(world, &world->without, n_rows, epilogue, ours);
    multiply(world, &world->with, n_rows, epilogue, theirs);
    for (size_t i = 0; i < n; i++) {
        float bound = 1e-4f + (epilogue == QR_CUDA_STORE ? 0x1p-7f * fabsf(ours[i]) : 0);
        assert_true(fabsf(ours[i] - theirs[i]) <= bound);
    }
    free(ours);
    free(theirs);
}

static void products_mean_the_same(void **state)
{
    (void)state;
    static const enum qr_cuda_type types[] = {QR_CUDA_F16, QR_CUDA_BF16};

    for (int t = 0; t < 2; t++) {
        struct world world;
        open_world(&world, types[t]);
        check_same(&world, 127, QR_CUDA_STORE); /* few rows: not asked */
        assert_int_equal(n_products, 0);
        check_same(&world, 128, QR_CUDA_STORE);
        check_same(&world, 200, QR_CUDA_STORE_F32);
        check_same(&world, 129, QR_CUDA_ADD_F32);
        assert_int_equal(n_products, 6);
        close_world(&world);
    }
}

static void an_algorithm_is_chosen_once_for_a_shape(void **state)
{
    (void)state;
    struct world world;

    open_world(&world, QR_CUDA_BF16);
    check_same(&world, 128, QR_CUDA_STORE);
    assert_int_equal(n_heuristics, 1);
    check_same(&world, 128, QR_CUDA_STORE);
    assert_int_equal(n_heuristics, 1);
    check_same(&world, 130, QR_CUDA_STORE);
    check_same(&world, 192, QR_CUDA_STORE); /* of one bucket */
    assert_int_equal(n_heuristics, 2);
    for (int32_t i = 0; i < 300; i++) { /* more shapes than are kept */
        const struct qr_cuda_matrix matrix = {
            .type = QR_CUDA_BF16, .n_out = 8, .n_in = 8, .data = world.matrix.data};
        static float out[8];
        assert_true(
            qr_cuda_cublaslt_matmul(world.lt, &matrix, world.x, 1, QR_CUDA_F32, false, out));
        const struct qr_cuda_matrix other = {
            .type = QR_CUDA_BF16, .n_out = 8, .n_in = 8 + i, .data = world.matrix.data};
        assert_true(qr_cuda_cublaslt_matmul(world.lt, &other, world.x, 1, QR_CUDA_F32, false, out));
    }
    check_same(&world, 128, QR_CUDA_STORE);
    close_world(&world);
}

static void what_is_refused_is_done_by_our_kernels(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct world world;
        open_world(&world, QR_CUDA_BF16);
        has_algorithms = kind == 1;
        product_status = kind == 1 ? 15 : 0;
        check_same(&world, 200, QR_CUDA_STORE);
        check_same(&world, 200, QR_CUDA_ADD_F32);
        assert_int_equal(n_products, 0);
        close_world(&world);
    }
}

/* The library keeps some memory of its own for the process. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libcublasLt";
}

/* Where it is installed it opens without a GPU, or says why not. */
static void the_real_library_opens_or_is_named(void **state)
{
    (void)state;
    struct cuda_ops_rig rig;
    struct qr_cuda_cublaslt *lt;
    struct qr_error err = {""};

    cuda_ops_rig_open(&rig);
    enum qr_status status = qr_cuda_cublaslt_open(&rig.cuda, NULL, &lt, &err);
    if (status == QR_OK) {
        assert_non_null(lt);
    } else {
        assert_null(lt);
        assert_true(status == QR_ERR_NOT_FOUND || status == QR_ERR_UNSUPPORTED);
        assert_non_null(
            strstr(err.message, status == QR_ERR_NOT_FOUND ? "libcublasLt.so" : "cuBLASLt"));
    }
    qr_cuda_cublaslt_close(lt);
    cuda_ops_rig_close(&rig);
}

int main(void)
{
    if (qr_test_cuda_is_real()) {
        printf("skipped: the library's stand-in computes in the emulator's memory\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_mean_the_same),
        cmocka_unit_test(an_algorithm_is_chosen_once_for_a_shape),
        cmocka_unit_test(what_is_refused_is_done_by_our_kernels),
        cmocka_unit_test(the_real_library_opens_or_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
