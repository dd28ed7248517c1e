/*
 * cuda_experts.c - see cuda_experts.h for the contract: the workspace and the launches.
 *
 * The rule (AUTO): tiles of 32 rows where an expert gets MANY_PAIRS on average, else of 8. Steps of
 * more than PASS_ROWS rows go in passes, which bounds the workspace: an expert's weights are then
 * read again for each, by enough rows to be worth it.
 */
#include "runtime/ops/cuda/cuda_experts.h"

#include <stdio.h>

#include "base/assert.h"

enum {
    PASS_ROWS = 2048,
    MANY_PAIRS = 16,
    FEW_OUTS = 16, /* of a block and a matrix */
    MANY_THREADS = 128,
    ALIGNMENT = 256,
};

_Static_assert((int)QR_EXPERT_FEW == (int)QR_MATMUL_F32_ROWS, "F32 has tiles of as many rows");

/* ---- workspace ---- */

static int32_t pass_rows(const struct qr_cuda_experts_config *config)
{
    return config->max_rows < PASS_ROWS ? config->max_rows : PASS_ROWS;
}

/* The most tiles that n_pairs pairs may make: all but the last of an expert are full. */
static int32_t max_tiles(const struct qr_cuda_experts_config *config, int32_t n_pairs,
                         int32_t tile_pairs)
{
    int32_t bound = (n_pairs + config->n_experts * (tile_pairs - 1)) / tile_pairs;
    return bound < n_pairs ? bound : n_pairs;
}

/* A piece of the workspace; *used grows. */
static void *take(void *workspace, size_t *used, size_t n_bytes)
{
    char *piece = (char *)workspace + *used;

    *used += (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return piece;
}

/* Sets the pointers of *out into `workspace`; returns how many bytes that takes. */
static size_t lay_out(const struct qr_cuda_experts_config *config, void *workspace,
                      struct qr_cuda_experts *out)
{
    size_t rows = (size_t)pass_rows(config);
    size_t pairs = rows * (size_t)config->n_used;
    size_t tiles = (size_t)max_tiles(config, (int32_t)pairs, QR_EXPERT_FEW);
    size_t used = 0;

    out->pass_rows = (int32_t)rows;
    out->logits = take(workspace, &used, rows * (size_t)config->n_experts * sizeof(float));
    out->routing.chosen = take(workspace, &used, pairs * sizeof(int32_t));
    out->routing.weights = take(workspace, &used, pairs * sizeof(float));
    out->routing.order = take(workspace, &used, pairs * sizeof(int32_t));
    out->routing.tiles = take(workspace, &used, tiles * sizeof(struct qr_expert_tile));
    out->routing.n_tiles = take(workspace, &used, sizeof(int32_t));
    out->n_done = take(workspace, &used, sizeof(int32_t));
    out->inner = take(workspace, &used,
                      pairs * (size_t)config->expert_size * qr_cuda_type_size(config->activation));
    out->partials = take(workspace, &used, pairs * (size_t)config->hidden_size * sizeof(float));
    return used;
}

size_t qr_cuda_experts_workspace_bytes(const struct qr_cuda_experts_config *config)
{
    struct qr_cuda_experts experts;
    return lay_out(config, NULL, &experts);
}

/* ---- opening ---- */

/* The two products of tiles of `rows` pairs; 0: in F32. */
static enum qr_status find_products(struct qr_cuda *cuda, int32_t rows, const char *types,
                                    int32_t block_size, const int32_t shared_bytes[2],
                                    struct qr_cuda_expert_kernels *out, struct qr_error *err)
{
    char digits[16] = "";
    char name[64];

    if (rows > 0)
        snprintf(digits, sizeof(digits), "%d", rows);
    snprintf(name, sizeof(name), "qr_experts_gate_up%s_%s", digits, types);
    QR_TRY(qr_cuda_find_kernel(cuda, name, block_size, shared_bytes[0], &out->gate_up, err));
    snprintf(name, sizeof(name), "qr_experts_down%s_%s", digits, types);
    return qr_cuda_find_kernel(cuda, name, block_size, shared_bytes[1], &out->down, err);
}

/* Behind the stages of experts_tiled.cu: its matrices, its pairs and where their rows start. */
static int32_t many_bytes(enum qr_cuda_type weight, int32_t n_matrices)
{
    return qr_cuda_tiled_bytes(weight, QR_EXPERT_MANY) + n_matrices * (int32_t)sizeof(void *) +
           2 * QR_EXPERT_MANY * (int32_t)sizeof(int32_t);
}

static enum qr_status find_kernels(struct qr_cuda_experts *experts, enum qr_cuda_type weight,
                                   struct qr_error *err)
{
    const char *types = qr_cuda_product_suffix(weight, experts->config.activation);
    const int32_t few[2] = {qr_cuda_skinny_bytes(2 * FEW_OUTS, QR_EXPERT_FEW),
                            qr_cuda_skinny_bytes(FEW_OUTS, QR_EXPERT_FEW)};
    const int32_t many[2] = {many_bytes(weight, 2), many_bytes(weight, 1)};

    QR_TRY(find_products(experts->cuda, QR_EXPERT_FEW, types, QR_SKINNY_THREADS, few,
                         &experts->few[weight], err));
    return find_products(experts->cuda, QR_EXPERT_MANY, types, MANY_THREADS, many,
                         &experts->many[weight], err);
}

static enum qr_status check_config(const struct qr_cuda_experts_config *config,
                                   struct qr_error *err)
{
    QR_ASSERT(config->n_experts > 0 && config->n_experts <= QR_EXPERTS_MAX);
    QR_ASSERT(config->n_used > 0 && config->n_used <= QR_EXPERTS_MAX_USED);
    QR_ASSERT(config->n_used <= config->n_experts);
    if (config->activation != QR_CUDA_F32 &&
        (config->hidden_size % 8 != 0 || config->expert_size % 8 != 0))
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "experts of %d x %d in %s do not run on CUDA, which wants multiples of 8; "
                       "use --backend cpu",
                       config->expert_size, config->hidden_size,
                       qr_cuda_type_name(config->activation));
    /* Kernels count the bytes of a matrix in 32 bits. */
    if ((int64_t)config->hidden_size * config->expert_size > UINT32_MAX / (int64_t)sizeof(float))
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "experts of %d x %d do not run on CUDA, whose matrices have less than 2^30 "
                       "elements; use --backend cpu",
                       config->expert_size, config->hidden_size);
    return QR_OK;
}

enum qr_status qr_cuda_experts_open(struct qr_cuda *cuda,
                                    const struct qr_cuda_experts_config *config, void *workspace,
                                    struct qr_cuda_experts *out, struct qr_error *err)
{
    static const int32_t no_bytes[2] = {0, 0};
    int32_t route_bytes = QR_ROUTE_ROWS * config->n_experts * (int32_t)sizeof(uint32_t);

    *out = (struct qr_cuda_experts){.cuda = cuda, .config = *config};
    QR_TRY(check_config(config, err));
    (void)lay_out(config, workspace, out);
    QR_TRY(qr_cuda_find_kernel(cuda, "qr_experts_route", QR_ROUTE_THREADS, route_bytes, &out->route,
                               err));
    QR_TRY(
        qr_cuda_find_kernel(cuda, "qr_experts_combine", QR_COMBINE_THREADS, 0, &out->combine, err));
    qr_cuda_zero(cuda, "the counter of routed rows", (qr_cu_address)(uintptr_t)out->n_done,
                 sizeof(int32_t));
    if (config->activation == QR_CUDA_F32)
        return find_products(cuda, 0, "f32", QR_MATMUL_F32_THREADS, no_bytes,
                             &out->few[QR_CUDA_F32], err);
    for (int type = QR_CUDA_F16; type < QR_CUDA_N_TYPES; type++) {
        if (qr_cuda_types_match((enum qr_cuda_type)type, config->activation))
            QR_TRY(find_kernels(out, (enum qr_cuda_type)type, err));
    }
    return QR_OK;
}

/* ---- launching ---- */

/* Some of a step's rows, from first_row on. */
struct pass {
    const struct qr_cuda_expert_layer *layer;
    const void *x;
    const int32_t *n_live;
    float *residual;
    int32_t first_row;
    int32_t n_rows;
    bool many; /* the tiles' kind */
    int32_t tile_pairs;
    int32_t max_tiles;
};

static void route(struct qr_cuda_experts *experts, struct qr_cuda_matmul *matmul,
                  const struct pass *pass)
{
    const struct qr_cuda_matrix *router = &pass->layer->router;
    void *logits = experts->logits;
    const struct qr_route_params params = {.routing = experts->routing,
                                           .logits = experts->logits,
                                           .n_live = pass->n_live,
                                           .n_done = experts->n_done,
                                           .first_row = pass->first_row,
                                           .n_rows = pass->n_rows,
                                           .n_experts = experts->config.n_experts,
                                           .n_used = experts->config.n_used,
                                           .tile_pairs = pass->tile_pairs,
                                           .renormalizes = pass->layer->renormalizes};

    qr_cuda_matmul(matmul, 1, &router, pass->x, pass->n_rows, QR_CUDA_STORE_F32, &logits);
    qr_cuda_launch(experts->cuda, &experts->route, qr_divide_up(pass->n_rows, QR_ROUTE_ROWS), 1,
                   &params);
}

/* params: with x, x_pairs, out, n_in and n_out. */
static void multiply(struct qr_cuda_experts *experts, const struct pass *pass,
                     const struct qr_cuda_kernel *kernel, int32_t block_outs,
                     struct qr_experts_params params)
{
    params.routing = experts->routing;
    params.experts = pass->layer->table;
    params.row_bytes = (int64_t)qr_cuda_row_bytes(pass->layer->type, params.n_in);
    params.n_rows = pass->n_rows * experts->config.n_used / params.x_pairs;
    params.slice_length = qr_cuda_slice_length(params.n_in);
    params.n_slices = qr_divide_up(params.n_in, params.slice_length);
    params.activation = (int32_t)pass->layer->activation;
    qr_cuda_launch(experts->cuda, kernel, pass->max_tiles, qr_divide_up(params.n_out, block_outs),
                   &params);
}

static void multiply_both(struct qr_cuda_experts *experts, const struct pass *pass)
{
    const struct qr_cuda_experts_config *config = &experts->config;
    enum qr_cuda_type type = pass->layer->type;
    const struct qr_cuda_expert_kernels *kernels =
        pass->many ? &experts->many[type] : &experts->few[type];
    int32_t gate_up_outs = pass->many ? QR_TILED_OUTS / 2 : FEW_OUTS;
    int32_t down_outs = pass->many ? QR_TILED_OUTS : FEW_OUTS;
    const struct qr_experts_params gate_up = {.x = pass->x,
                                              .x_pairs = config->n_used,
                                              .out = experts->inner,
                                              .n_in = config->hidden_size,
                                              .n_out = config->expert_size};
    const struct qr_experts_params down = {.x = experts->inner,
                                           .x_pairs = 1,
                                           .out = experts->partials,
                                           .n_in = config->expert_size,
                                           .n_out = config->hidden_size};

    if (type == QR_CUDA_F32)
        gate_up_outs = down_outs = QR_MATMUL_F32_OUTS;
    multiply(experts, pass, &kernels->gate_up, gate_up_outs, gate_up);
    multiply(experts, pass, &kernels->down, down_outs, down);
}

static void combine(struct qr_cuda_experts *experts, const struct pass *pass)
{
    int32_t dim = experts->config.hidden_size;
    const struct qr_combine_params params = {.weights = experts->routing.weights,
                                             .partials = experts->partials,
                                             .n_live = pass->n_live,
                                             .residual = pass->residual,
                                             .first_row = pass->first_row,
                                             .n_used = experts->config.n_used,
                                             .dim = dim};

    qr_cuda_launch(experts->cuda, &experts->combine, pass->n_rows,
                   qr_divide_up(dim, QR_COMBINE_PER_BLOCK), &params);
}

static void choose_tiles(const struct qr_cuda_experts *experts, struct pass *pass)
{
    const struct qr_cuda_experts_config *config = &experts->config;
    int32_t n_pairs = pass->n_rows * config->n_used;

    pass->many = config->kernel == QR_CUDA_EXPERTS_MANY ||
                 (config->kernel == QR_CUDA_EXPERTS_AUTO && pass->layer->type != QR_CUDA_F32 &&
                  n_pairs >= MANY_PAIRS * config->n_experts);
    pass->tile_pairs = pass->many ? QR_EXPERT_MANY : QR_EXPERT_FEW;
    pass->max_tiles = max_tiles(config, n_pairs, pass->tile_pairs);
}

void qr_cuda_experts_add(struct qr_cuda_experts *experts, struct qr_cuda_matmul *matmul,
                         const struct qr_cuda_expert_layer *layer, const void *x, int32_t n_rows,
                         const int32_t *n_live, float *residual)
{
    size_t hidden = (size_t)experts->config.hidden_size;
    size_t x_row = hidden * qr_cuda_type_size(experts->config.activation);

    QR_ASSERT(n_rows <= experts->config.max_rows);
    for (int32_t first = 0; first < n_rows; first += experts->pass_rows) {
        int32_t left = n_rows - first;
        struct pass pass = {.layer = layer,
                            .x = (const char *)x + (size_t)first * x_row,
                            .n_live = n_live,
                            .residual = residual + (size_t)first * hidden,
                            .first_row = first,
                            .n_rows = left < experts->pass_rows ? left : experts->pass_rows};
        choose_tiles(experts, &pass);
        route(experts, matmul, &pass);
        multiply_both(experts, &pass);
        combine(experts, &pass);
    }
}
