/*
 * cuda_matmul.c - see cuda_matmul.h for the contract: which kernel, which tiles, and the launch.
 *
 * The rule (AUTO):
 *   1. F32 weights: the F32 kernel. n_in no multiple of 8: "odd".
 *   2. Up to 16 rows: "skinny"; the weights are read once, and x is small beside them.
 *   3. From CUBLASLT_ROWS rows on: cuBLASLt, where there is one and the weights are of 16 bits.
 *   4. Else "tiled", with the smallest tile of 32, 64 or 128 rows that holds all rows, or 128. The
 *      slices of a tile are shared by 2, 4 or 8 blocks while there are fewer blocks than
 *      multiprocessors.
 */
#include "runtime/ops/cuda/cuda_matmul.h"

#include <stdio.h>

#include "base/assert.h"

enum {
    CUBLASLT_ROWS = 128,
    ODD_ROWS = 32,
    ODD_OUTS = 16,
    MAX_TILED_ROWS = 128,
};

/* Rows and outputs of a block. */
static const int32_t skinny_rows[QR_CUDA_N_SKINNY] = {8, 16};
static const int32_t skinny_outs[QR_CUDA_N_SKINNY] = {16, 32};
static const int32_t tiled_rows[QR_CUDA_N_TILED] = {32, 64, MAX_TILED_ROWS};

int32_t qr_cuda_slice_length(int32_t n_in)
{
    return qr_divide_up(qr_divide_up(n_in, QR_MATMUL_SLICES), QR_MATMUL_STEP) * QR_MATMUL_STEP;
}

/* ---- workspace: a counter for each tile that blocks may share, then their sums ---- */

static size_t counter_bytes(int32_t n_tiles)
{
    return ((size_t)n_tiles * sizeof(int32_t) + 255) / 256 * 256;
}

/* Tiles are shared only where they are no more than multiprocessors. */
static int32_t max_shared_tiles(const struct qr_cuda_properties *properties)
{
    return properties->n_sms;
}

static int32_t tiled_kernel(int32_t n_rows)
{
    int32_t i = 0;
    while (i < QR_CUDA_N_TILED - 1 && tiled_rows[i] < n_rows)
        i++;
    return i;
}

size_t qr_cuda_matmul_workspace_bytes(const struct qr_cuda_properties *properties,
                                      const struct qr_cuda_matmul_config *config)
{
    int32_t n_tiles = max_shared_tiles(properties);
    size_t tile_bytes = (size_t)QR_TILED_OUTS * (size_t)tiled_rows[tiled_kernel(config->max_rows)] *
                        sizeof(float) * QR_MATMUL_SLICES;

    if (config->activation == QR_CUDA_F32)
        return 0;
    return counter_bytes(n_tiles) + (size_t)n_tiles * tile_bytes;
}

/* ---- opening ---- */

bool qr_cuda_types_match(enum qr_cuda_type weight, enum qr_cuda_type activation)
{
    return weight == activation || qr_cuda_type_size(weight) == 1;
}

const char *qr_cuda_product_suffix(enum qr_cuda_type weight, enum qr_cuda_type activation)
{
    static const char *const names[QR_CUDA_N_TYPES][2] = {
        [QR_CUDA_F16] = {"f16", NULL},
        [QR_CUDA_BF16] = {NULL, "bf16"},
        [QR_CUDA_E4M3] = {"e4m3_f16", "e4m3_bf16"},
        [QR_CUDA_INT8] = {"int8_f16", "int8_bf16"},
    };
    return names[weight][activation == QR_CUDA_BF16];
}

static enum qr_status find(struct qr_cuda_matmul *matmul, const char *kind, int32_t rows,
                           const char *types, int32_t block_size, int32_t shared_bytes,
                           struct qr_cuda_kernel *out, struct qr_error *err)
{
    char name[64];

    if (rows > 0)
        snprintf(name, sizeof(name), "%s%d_%s", kind, rows, types);
    else
        snprintf(name, sizeof(name), "%s_%s", kind, types);
    return qr_cuda_find_kernel(matmul->cuda, name, block_size, shared_bytes, out, err);
}

int32_t qr_cuda_skinny_bytes(int32_t outs, int32_t rows)
{
    return QR_MATMUL_SLICES * outs * rows * (int32_t)sizeof(float);
}

int32_t qr_cuda_tiled_bytes(enum qr_cuda_type weight, int32_t rows)
{
    int32_t size = (int32_t)qr_cuda_type_size(weight);
    int32_t stage = QR_MATMUL_STEP * (QR_TILED_OUTS * size + rows * 2);

    return (size == 2 ? 4 : 6) * stage;
}

static enum qr_status find_kernels(struct qr_cuda_matmul *matmul, enum qr_cuda_type weight,
                                   struct qr_error *err)
{
    const char *types = qr_cuda_product_suffix(weight, matmul->config.activation);

    for (int i = 0; i < QR_CUDA_N_SKINNY; i++)
        QR_TRY(find(matmul, "qr_matmul_skinny", skinny_rows[i], types, QR_SKINNY_THREADS,
                    qr_cuda_skinny_bytes(skinny_outs[i], skinny_rows[i]),
                    &matmul->skinny[weight][i], err));
    for (int i = 0; i < QR_CUDA_N_TILED; i++)
        QR_TRY(find(matmul, "qr_matmul_tiled", tiled_rows[i], types,
                    tiled_rows[i] == 128 ? 256 : 128, qr_cuda_tiled_bytes(weight, tiled_rows[i]),
                    &matmul->tiled[weight][i], err));
    return find(matmul, "qr_matmul_odd", 0, types, QR_SKINNY_THREADS,
                qr_cuda_skinny_bytes(ODD_OUTS, ODD_ROWS), &matmul->odd[weight], err);
}

enum qr_status qr_cuda_matmul_open(struct qr_cuda *cuda, const struct qr_cuda_matmul_config *config,
                                   void *workspace, struct qr_cuda_matmul *out,
                                   struct qr_error *err)
{
    *out = (struct qr_cuda_matmul){.cuda = cuda, .config = *config, .workspace = workspace};
    if (config->activation == QR_CUDA_F32)
        return qr_cuda_find_kernel(cuda, "qr_matmul_f32", QR_MATMUL_F32_THREADS, 0, &out->f32, err);
    for (int type = QR_CUDA_F16; type < QR_CUDA_N_TYPES; type++) {
        if (qr_cuda_types_match((enum qr_cuda_type)type, config->activation))
            QR_TRY(find_kernels(out, (enum qr_cuda_type)type, err));
    }
    qr_cuda_zero(cuda, "the workspace of matrix products", (qr_cu_address)(uintptr_t)workspace,
                 counter_bytes(max_shared_tiles(&cuda->properties)));
    return QR_OK;
}

/* ---- launching ---- */

/* What all kernels are given, with the matrices cut in tiles of `outs` outputs; *n_tiles: of all.
 */
static struct qr_matmul_params make_params(int32_t n, const struct qr_cuda_matrix *const *weights,
                                           const void *x, int32_t n_rows,
                                           enum qr_cuda_epilogue epilogue, void *const *outs,
                                           int32_t tile_outs, int32_t *n_tiles)
{
    int32_t n_in = weights[0]->n_in;
    struct qr_matmul_params params = {
        .x = x,
        .row_bytes = (int64_t)qr_cuda_row_bytes(weights[0]->type, n_in),
        .n_parts = n,
        .n_rows = n_rows,
        .n_in = n_in,
        .slice_length = qr_cuda_slice_length(n_in),
        .n_slices = qr_divide_up(n_in, qr_cuda_slice_length(n_in)),
        .epilogue = (int32_t)epilogue,
        .n_row_tiles = 1,
        .split = 1,
    };

    *n_tiles = 0;
    for (int32_t i = 0; i < n; i++) {
        params.parts[i] = (struct qr_matmul_part){.weight = weights[i]->data,
                                                  .scales = weights[i]->scales,
                                                  .out = outs[i],
                                                  .n_out = weights[i]->n_out,
                                                  .first_tile = *n_tiles};
        *n_tiles += qr_divide_up(weights[i]->n_out, tile_outs);
    }
    return params;
}

static int32_t choose_split(const struct qr_cuda_matmul *matmul, int32_t n_tiles, int32_t n_slices)
{
    int32_t split = 1;

    if (n_tiles > max_shared_tiles(&matmul->cuda->properties))
        return 1;
    if (matmul->config.split > 0)
        return matmul->config.split < n_slices ? matmul->config.split : n_slices;
    while (n_tiles * split < matmul->cuda->properties.n_sms && split * 2 <= n_slices)
        split *= 2;
    return split;
}

/* One product as its caller has it. */
struct product {
    int32_t n;
    const struct qr_cuda_matrix *const *weights;
    const void *x;
    int32_t n_rows;
    enum qr_cuda_epilogue epilogue;
    void *const *outs;
};

/* A block of `outs` outputs and `rows` rows. */
static void launch_simple(struct qr_cuda_matmul *matmul, const struct qr_cuda_kernel *kernel,
                          const struct product *product, int32_t outs, int32_t rows)
{
    int32_t n_tiles;
    const struct qr_matmul_params params =
        make_params(product->n, product->weights, product->x, product->n_rows, product->epilogue,
                    product->outs, outs, &n_tiles);

    qr_cuda_launch(matmul->cuda, kernel, n_tiles, qr_divide_up(product->n_rows, rows), &params);
}

static void launch_tiled(struct qr_cuda_matmul *matmul, const struct product *product)
{
    int32_t which = tiled_kernel(product->n_rows);
    int32_t n_tiles;
    struct qr_matmul_params params =
        make_params(product->n, product->weights, product->x, product->n_rows, product->epilogue,
                    product->outs, QR_TILED_OUTS, &n_tiles);

    params.n_row_tiles = qr_divide_up(product->n_rows, tiled_rows[which]);
    n_tiles *= params.n_row_tiles;
    params.split = choose_split(matmul, n_tiles, params.n_slices);
    params.counters = matmul->workspace;
    params.partials = (float *)(void *)((char *)matmul->workspace +
                                        counter_bytes(max_shared_tiles(&matmul->cuda->properties)));
    qr_cuda_launch(matmul->cuda, &matmul->tiled[product->weights[0]->type][which],
                   n_tiles * params.split, 1, &params);
}

/* True when cuBLASLt has taken matrix i. */
static bool try_cublaslt(struct qr_cuda_matmul *matmul, const struct product *product, int32_t i)
{
    const struct qr_cuda_matrix *weight = product->weights[i];
    enum qr_cuda_type out_type =
        product->epilogue == QR_CUDA_STORE ? matmul->config.activation : QR_CUDA_F32;

    return weight->n_out % 8 == 0 &&
           qr_cuda_cublaslt_matmul(matmul->config.cublaslt, weight, product->x, product->n_rows,
                                   out_type, product->epilogue == QR_CUDA_ADD_F32,
                                   product->outs[i]);
}

static void run(struct qr_cuda_matmul *matmul, const struct product *product)
{
    enum qr_cuda_type type = product->weights[0]->type;
    enum qr_cuda_matmul_kernel kernel = matmul->config.kernel;
    int32_t n_rows = product->n_rows;

    if (type == QR_CUDA_F32) {
        launch_simple(matmul, &matmul->f32, product, QR_MATMUL_F32_OUTS, QR_MATMUL_F32_ROWS);
    } else if (product->weights[0]->n_in % 8 != 0) {
        launch_simple(matmul, &matmul->odd[type], product, ODD_OUTS, ODD_ROWS);
    } else if (kernel == QR_CUDA_MATMUL_SKINNY ||
               (kernel == QR_CUDA_MATMUL_AUTO && n_rows <= skinny_rows[QR_CUDA_N_SKINNY - 1])) {
        int which = n_rows <= skinny_rows[0] ? 0 : 1;
        launch_simple(matmul, &matmul->skinny[type][which], product, skinny_outs[which],
                      skinny_rows[which]);
    } else {
        launch_tiled(matmul, product);
    }
}

void qr_cuda_matmul(struct qr_cuda_matmul *matmul, int32_t n,
                    const struct qr_cuda_matrix *const *weights, const void *x, int32_t n_rows,
                    enum qr_cuda_epilogue epilogue, void *const *outs)
{
    struct product product = {n, weights, x, n_rows, epilogue, outs};

    QR_ASSERT(n >= 1 && n <= QR_MATMUL_PARTS);
    QR_ASSERT(qr_cuda_types_match(weights[0]->type, matmul->config.activation));
    if (matmul->config.cublaslt == NULL || n_rows < CUBLASLT_ROWS ||
        qr_cuda_type_size(weights[0]->type) != 2 || weights[0]->n_in % 8 != 0) {
        run(matmul, &product);
        return;
    }
    product.n = 1;
    for (int32_t i = 0; i < n && matmul->cuda->status == QR_OK; i++) {
        product.weights = &weights[i];
        product.outs = &outs[i];
        if (!try_cublaslt(matmul, &product, 0))
            run(matmul, &product);
    }
}
