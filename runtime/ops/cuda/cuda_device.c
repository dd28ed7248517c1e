/*
 * cuda_device.c - struct qr_ops on a CUDA device: each op enqueues kernels on the step's stream.
 */
#include "runtime/ops/cuda/cuda_device.h"

#include <stdio.h>

#include "base/alloc.h"
#include "runtime/ops/cuda/cuda_device_internal.h"

static void *cuda_alloc(struct qr_device *dev, size_t n_bytes, enum qr_memory_kind kind)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    if (kind != QR_MEMORY_KV)
        return qr_cuda_arena_take(kind == QR_MEMORY_WEIGHTS ? &cuda->weights : &cuda->workspace,
                                  n_bytes);
    qr_cu_address pool = qr_cuda_alloc(&cuda->cuda, n_bytes);
    if (pool != 0) {
        qr_cuda_zero(&cuda->cuda, "the KV pool", pool, n_bytes);
        qr_cuda_synchronize(&cuda->cuda);
    }
    return (void *)(uintptr_t)pool;
}

static bool in_arena(const struct qr_cuda_arena *arena, qr_cu_address address)
{
    for (int32_t i = 0; i < arena->n_blocks; i++) {
        size_t n_bytes = i == 0 ? arena->capacity : 1;
        if (address >= arena->blocks[i] && address < arena->blocks[i] + n_bytes)
            return true;
    }
    return false;
}

/* Pieces of an arena go with it. */
static void cuda_free(struct qr_device *dev, void *ptr)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    qr_cu_address address = qr_cuda_address(ptr);

    if (!in_arena(&cuda->weights, address) && !in_arena(&cuda->workspace, address))
        qr_cuda_free(&cuda->cuda, address);
}

static void cuda_embed(struct qr_device *dev, const struct qr_tensor *table, float factor,
                       void *out)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    struct qr_cuda_matrix matrix = qr_cuda_matrix_of(table);

    qr_cuda_embed(&cuda->elementwise, &matrix, factor, false, cuda->device.token_ids,
                  dev->batch->n_rows, out);
}

static void cuda_add_positions(struct qr_device *dev, const struct qr_tensor *table, void *x)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    struct qr_cuda_matrix matrix = qr_cuda_matrix_of(table);

    qr_cuda_embed(&cuda->elementwise, &matrix, 1.0f, true, cuda->device.positions,
                  dev->batch->n_rows, x);
}

static void cuda_norm(struct qr_device *dev, const struct qr_norm *norm, const void *x,
                      int32_t n_rows, void *out)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_norm_rows rows = {
        .x = x, .out = out, .x_type = QR_CUDA_F32, .out_type = cuda->activation, .n_rows = n_rows};
    qr_cuda_norm(&cuda->elementwise, norm, &rows);
}

static void cuda_norm_add(struct qr_device *dev, const struct qr_norm *norm, const void *x,
                          int32_t n_rows, void *residual)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_norm_rows rows = {.x = x,
                                           .out = residual,
                                           .x_type = cuda->activation,
                                           .out_type = QR_CUDA_F32,
                                           .n_rows = n_rows,
                                           .adds = true};
    qr_cuda_norm(&cuda->elementwise, norm, &rows);
}

static void cuda_norm_heads(struct qr_device *dev, const struct qr_norm *norm, int32_t n_rows,
                            int32_t n_heads, void *x)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_norm_rows rows = {.x = x,
                                           .out = x,
                                           .x_type = cuda->activation,
                                           .out_type = cuda->activation,
                                           .n_rows = n_rows * n_heads};
    qr_cuda_norm(&cuda->elementwise, norm, &rows);
}

_Static_assert((int)QR_MATMUL_MAX <= (int)QR_MATMUL_PARTS, "one launch takes what an op may have");

static void multiply(struct qr_device *dev, int32_t n, const struct qr_linear *const *maps,
                     const void *x, int32_t n_rows, enum qr_cuda_epilogue epilogue,
                     enum qr_cuda_type out_type, void *const *outs)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    struct qr_cuda_matrix matrices[QR_MATMUL_MAX];
    const struct qr_cuda_matrix *pointers[QR_MATMUL_MAX] = {NULL};

    for (int32_t i = 0; i < n; i++) {
        matrices[i] = qr_cuda_matrix_of(&maps[i]->weight);
        pointers[i] = &matrices[i];
    }
    qr_cuda_matmul(&cuda->matmul, n, pointers, x, n_rows, epilogue, outs);
    for (int32_t i = 0; i < n; i++) {
        if (!qr_tensor_is_there(&maps[i]->bias))
            continue;
        struct qr_cuda_vector bias = qr_cuda_vector_of(&maps[i]->bias);
        qr_cuda_add_bias(&cuda->elementwise, &bias, out_type, outs[i], n_rows, matrices[i].n_out);
    }
}

static void cuda_matmul(struct qr_device *dev, int32_t n, const struct qr_linear *const *maps,
                        const void *x, int32_t n_rows, void *const *outs)
{
    multiply(dev, n, maps, x, n_rows, QR_CUDA_STORE, qr_cuda_device_of(dev)->activation, outs);
}

static void cuda_matmul_add(struct qr_device *dev, const struct qr_linear *map, const void *x,
                            int32_t n_rows, void *residual)
{
    multiply(dev, 1, &map, x, n_rows, QR_CUDA_ADD_F32, QR_CUDA_F32, &residual);
}

static void cuda_logits(struct qr_device *dev, const struct qr_tensor *weight, float soft_cap,
                        const void *x, int32_t n_rows, float *out)
{
    const struct qr_linear map = {.weight = *weight};
    const struct qr_linear *maps[1] = {&map};
    void *outs[1] = {out};

    multiply(dev, 1, maps, x, n_rows, QR_CUDA_STORE_F32, QR_CUDA_F32, outs);
    if (soft_cap != 0.0f)
        qr_cuda_soft_cap(&qr_cuda_device_of(dev)->elementwise, soft_cap, out,
                         n_rows * weight->dims[0]);
}

static void cuda_experts_add(struct qr_device *dev, const struct qr_experts *experts, const void *x,
                             int32_t n_rows, void *residual)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_expert_layer layer = qr_cuda_expert_layer_of(experts);

    qr_cuda_experts_add(&cuda->experts, &cuda->matmul, &layer, x, n_rows, cuda->device.n_rows,
                        residual);
}

static void cuda_rope_and_write_kv(struct qr_device *dev, const struct qr_kv_geometry *kv,
                                   int32_t layer, int32_t n_heads, void *q, void *k, const void *v,
                                   void *kv_pool)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    (void)kv; /* as prepared, like n_heads */
    (void)n_heads;
    qr_cuda_rope_and_write_kv(&cuda->attention, layer, qr_cuda_address(q), qr_cuda_address(k),
                              qr_cuda_address(v), qr_cuda_address(cuda->rope_table),
                              qr_cuda_address(kv_pool));
}

static void cuda_attend(struct qr_device *dev, const struct qr_kv_geometry *kv,
                        const struct qr_attend_spec *spec, const void *q, const void *kv_pool,
                        void *out)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_attend_params params = {
        .layer = spec->layer,
        .scale = spec->scale,
        .sliding = spec->window != 0,
        .soft_cap = spec->soft_cap,
        .q = qr_cuda_address(q),
        .kv_pool = qr_cuda_address(kv_pool),
        .out = qr_cuda_address(out),
    };

    (void)kv; /* as prepared, like n_heads and the window */
    qr_cuda_attend(&cuda->attention, &params);
}

static void cuda_activate(struct qr_device *dev, enum qr_activation activation, void *gate,
                          const void *up, int32_t n_rows, int32_t dim)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    qr_cuda_activate(&cuda->elementwise, activation, cuda->activation, gate, up,
                     (int64_t)n_rows * dim);
}

static void cuda_gather_logit_rows(struct qr_device *dev, const void *x, int32_t dim, void *out)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    qr_cuda_gather_rows(&cuda->elementwise, x, cuda->device.logit_rows, dev->batch->n_logit_rows,
                        dim, out);
}

static void cuda_destroy(struct qr_device *dev)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    if (dev == NULL)
        return;
    if (cuda->cuda.context != NULL) {
        qr_cuda_synchronize(&cuda->cuda);
        qr_cuda_destroy_steps(cuda);
        qr_cuda_pages_close(cuda);
        qr_cuda_cublaslt_close(cuda->cublaslt);
        qr_cuda_host_free(&cuda->cuda, cuda->stage);
        qr_cuda_host_free(&cuda->cuda, cuda->attention_host);
        qr_cuda_host_free(&cuda->cuda, cuda->host.draws);
        qr_cuda_host_free(&cuda->cuda, cuda->results.rows);
        qr_cuda_host_free(&cuda->cuda, cuda->results.answers.host);
        qr_cuda_edits_close(cuda);
        qr_cuda_arena_close(&cuda->weights);
        qr_cuda_arena_close(&cuda->workspace);
    }
    qr_free(cuda->results.row_answer);
    qr_free(cuda->edited.rows);
    qr_free(cuda->edited.row_of);
    qr_free(cuda->captured_arrays);
    pthread_mutex_destroy(&cuda->pages.mutex);
    qr_cuda_close(&cuda->cuda);
    qr_free(cuda);
}

static void cuda_begin_weights(struct qr_device *dev, const struct qr_checkpoint *checkpoint)
{
    (void)dev;
    (void)checkpoint;
}

static bool cuda_find_weight(struct qr_device *dev, struct qr_tensor *tensor)
{
    (void)dev;
    (void)tensor;
    return false;
}

static void cuda_end_weights(struct qr_device *dev, const struct qr_checkpoint *checkpoint)
{
    (void)dev;
    (void)checkpoint;
}

static const struct qr_ops cuda_ops = {
    .prepare = qr_cuda_prepare,
    .load_weight = qr_cuda_load_weight,
    .begin_weights = cuda_begin_weights,
    .find_weight = cuda_find_weight,
    .end_weights = cuda_end_weights,
    .load_experts = qr_cuda_load_experts,
    .kv_memory_available = qr_cuda_kv_memory_available,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .copy_page = qr_cuda_copy_page,
    .read_pages = qr_cuda_read_pages,
    .write_pages = qr_cuda_write_pages,
    .pin_memory = qr_cuda_pin_memory,
    .unpin_memory = qr_cuda_unpin_memory,
    .begin_capture = qr_cuda_begin_capture,
    .end_capture = qr_cuda_end_capture,
    .begin_step = qr_cuda_begin_step,
    .end_step = qr_cuda_end_step,
    .embed = cuda_embed,
    .add_positions = cuda_add_positions,
    .norm = cuda_norm,
    .norm_add = cuda_norm_add,
    .norm_heads = cuda_norm_heads,
    .matmul = cuda_matmul,
    .matmul_add = cuda_matmul_add,
    .experts_add = cuda_experts_add,
    .rope_and_write_kv = cuda_rope_and_write_kv,
    .attend = cuda_attend,
    .activate = cuda_activate,
    .gather_logit_rows = cuda_gather_logit_rows,
    .logits = cuda_logits,
    .read_logits = qr_cuda_read_logits,
    .logit_row = qr_cuda_logit_row,
    .destroy = cuda_destroy,
};

enum qr_status qr_cuda_device_open(const struct qr_cu_platform *platform,
                                   const struct qr_device_config *config, struct qr_device **out,
                                   struct qr_error *err)
{
    *out = NULL;
    struct qr_cuda_device *cuda = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*cuda));
    if (cuda == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    cuda->config = *config;
    pthread_mutex_init(&cuda->pages.mutex, NULL);
    enum qr_status status =
        qr_cuda_open(platform, config->device < 0 ? 0 : config->device, &cuda->cuda, err);
    if (status != QR_OK) {
        cuda_destroy(&cuda->base);
        return status;
    }
    snprintf(cuda->name, sizeof(cuda->name), "%s/%.40s", platform->name,
             cuda->cuda.properties.name);
    cuda->ops = cuda_ops;
    cuda->ops.name = cuda->name;
    cuda->base =
        (struct qr_device){.ops = &cuda->ops, .fills_synthetic = true, .computes_beside = true};
    *out = &cuda->base;
    return QR_OK;
}
