/*
 * cpu_device.c - struct qr_ops on the CPU: its life and its memory. Each op computes at once,
 * its work spread over the device's threads.
 */
#include "runtime/ops/cpu/cpu_device.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/numa.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

static enum qr_status make_rope_table(struct qr_cpu_device *cpu,
                                      const struct qr_device_needs *needs, struct qr_error *err)
{
    size_t n = (size_t)needs->max_position * (size_t)needs->rope.rotary_dim;

    cpu->rotary_dim = needs->rope.rotary_dim;
    if (n == 0)
        return QR_OK;
    cpu->rope_table = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*cpu->rope_table));
    if (cpu->rope_table == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for the rotations of %d positions",
                       needs->max_position);
    qr_rope_fill(&needs->rope, 0, needs->max_position, cpu->rope_table);
    return QR_OK;
}

static enum qr_status make_attention_workspace(struct qr_cpu_device *cpu,
                                               const struct qr_device_needs *needs,
                                               struct qr_error *err)
{
    const struct qr_attention_limits limits = {
        .max_seqs = needs->max_seqs,
        .max_context = needs->max_position,
        .n_heads = needs->n_heads,
        .head_dim = needs->head_dim,
        .n_threads = qr_thread_pool_size(cpu->pool),
    };

    if (qr_attention_workspace_create(&limits, &cpu->attention) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM,
                       "no memory to split contexts of %d tokens over %d threads",
                       needs->max_position, limits.n_threads);
    return QR_OK;
}

static enum qr_status cpu_prepare(struct qr_device *dev, const struct qr_device_needs *needs,
                                  struct qr_error *err)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);

    QR_ASSERT(cpu->sums == NULL); /* once */
    if (needs->kv_dtype == QR_KV_DTYPE_FP8)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "KV pages on the CPU are f32, f16 or bf16; give one of them as --kv-dtype");
    cpu->kv_dtype = needs->kv_dtype == QR_KV_DTYPE_F16    ? QR_DTYPE_F16
                    : needs->kv_dtype == QR_KV_DTYPE_BF16 ? QR_DTYPE_BF16
                                                          : QR_DTYPE_F32;
    dev->kv_size = qr_dtype_size(cpu->kv_dtype);

    cpu->max_rows = needs->max_rows;
    cpu->n_weight_bytes = (size_t)needs->n_weight_bytes;
    QR_TRY(make_rope_table(cpu, needs, err));
    QR_TRY(make_attention_workspace(cpu, needs, err));
    cpu->n_sums = (size_t)needs->max_rows * (size_t)needs->hidden_size;
    cpu->sums = qr_malloc(QR_ARENA_ENGINE, cpu->n_sums * sizeof(*cpu->sums));
    if (cpu->sums == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for %d rows of %d sums", needs->max_rows,
                       needs->hidden_size);
    QR_TRY(qr_cpu_logits_open(cpu, needs, err));
    return qr_cpu_experts_open(cpu, needs, err);
}

static enum qr_status cpu_load_weight(struct qr_device *dev, struct qr_tensor *tensor,
                                      struct qr_error *err)
{
    QR_ASSERT(!tensor->synthetic); /* the checkpoint has filled it */
    if (tensor->n_dims == 1)
        return qr_cpu_load_vector(qr_cpu_device_of(dev), tensor, err);
    if (tensor->n_dims != 2 || tensor->use == QR_USE_TABLE)
        return QR_OK;
    return qr_cpu_load_matrix(qr_cpu_device_of(dev), tensor, err);
}

static enum qr_status cpu_load_experts(struct qr_device *dev, struct qr_experts *experts,
                                       struct qr_error *err)
{
    (void)dev;
    (void)experts;
    (void)err;
    return QR_OK;
}

static int64_t cpu_kv_memory_available(struct qr_device *dev)
{
    (void)dev;
    return 0;
}

void qr_cpu_spread(const struct qr_cpu_device *cpu, void *ptr, size_t n_bytes)
{
    if (cpu->nodes != 0)
        (void)qr_numa_spread(ptr, n_bytes, cpu->nodes);
}

static void *cpu_alloc(struct qr_device *dev, size_t n_bytes, enum qr_memory_kind kind)
{
    (void)kind;
    /* Zeroed lazily by the system: pages of a large pool cost nothing until they are used. */
    void *ptr = qr_calloc(QR_ARENA_ENGINE, 1, n_bytes);
    if (ptr != NULL) {
        qr_wish_huge_pages(ptr, n_bytes);
        qr_cpu_spread(qr_cpu_device_of(dev), ptr, n_bytes);
    }
    return ptr;
}

static void cpu_free(struct qr_device *dev, void *ptr)
{
    (void)dev;
    qr_free(ptr);
}

static void cpu_copy_page(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t from,
                          int32_t to)
{
    (void)dev;
    memcpy((char *)kv_pool + (size_t)to * page_bytes,
           (const char *)kv_pool + (size_t)from * page_bytes, page_bytes);
}

static bool cpu_read_pages(struct qr_device *dev, const void *kv_pool, size_t page_bytes, int32_t n,
                           const int32_t *pages, void *const *to)
{
    (void)dev;
    for (int32_t i = 0; i < n; i++)
        memcpy(to[i], (const char *)kv_pool + (size_t)pages[i] * page_bytes, page_bytes);
    return true;
}

static bool cpu_write_pages(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t n,
                            const int32_t *pages, const void *const *from)
{
    (void)dev;
    for (int32_t i = 0; i < n; i++)
        memcpy((char *)kv_pool + (size_t)pages[i] * page_bytes, from[i], page_bytes);
    return true;
}

static const struct qr_batch *cpu_begin_capture(struct qr_device *dev)
{
    (void)dev;
    return NULL;
}

static enum qr_status cpu_end_capture(struct qr_device *dev, struct qr_error *err)
{
    (void)dev;
    (void)err;
    return QR_OK;
}

static bool cpu_begin_step(struct qr_device *dev, const struct qr_batch *batch)
{
    dev->batch = batch;
    return true;
}

static enum qr_status cpu_end_step(struct qr_device *dev, struct qr_error *err)
{
    (void)err; /* CPU ops cannot fail: they were given checked shapes and their own memory */
    dev->batch = NULL;
    return QR_OK;
}

void qr_cpu_run(struct qr_device *dev, int64_t n_items, int64_t grain, qr_work_fn fn, void *arg)
{
    qr_thread_pool_run(qr_cpu_device_of(dev)->pool, n_items, grain > 0 ? grain : 1, fn, arg);
}

static void cpu_destroy(struct qr_device *dev)
{
    if (dev == NULL)
        return;
    qr_thread_pool_destroy(qr_cpu_device_of(dev)->pool);
    qr_attention_workspace_destroy(qr_cpu_device_of(dev)->attention);
    qr_free(qr_cpu_device_of(dev)->rope_table);
    qr_free(qr_cpu_device_of(dev)->sums);
    qr_cpu_packed_close(qr_cpu_device_of(dev));
    qr_cpu_weights_cache_close(&qr_cpu_device_of(dev)->weights_cache);
    qr_cpu_experts_close(qr_cpu_device_of(dev));
    qr_cpu_logits_close(qr_cpu_device_of(dev));
    qr_free(dev);
}

static const struct qr_ops cpu_ops = {
    .prepare = cpu_prepare,
    .load_weight = cpu_load_weight,
    .begin_weights = qr_cpu_begin_weights,
    .find_weight = qr_cpu_find_weight,
    .end_weights = qr_cpu_end_weights,
    .load_experts = cpu_load_experts,
    .kv_memory_available = cpu_kv_memory_available,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy_page = cpu_copy_page,
    .read_pages = cpu_read_pages,
    .write_pages = cpu_write_pages,
    .begin_capture = cpu_begin_capture,
    .end_capture = cpu_end_capture,
    .begin_step = cpu_begin_step,
    .end_step = cpu_end_step,
    .embed = qr_cpu_embed,
    .add_positions = qr_cpu_add_positions,
    .norm = qr_cpu_norm,
    .norm_add = qr_cpu_norm_add,
    .norm_heads = qr_cpu_norm_heads,
    .matmul = qr_cpu_matmul,
    .matmul_add = qr_cpu_matmul_add,
    .experts_add = qr_cpu_experts_add,
    .rope_and_write_kv = qr_cpu_rope_and_write_kv,
    .attend = qr_cpu_attend,
    .activate = qr_cpu_activate,
    .gather_logit_rows = qr_cpu_gather_logit_rows,
    .logits = qr_cpu_logits,
    .read_logits = qr_cpu_read_logits,
    .logit_row = qr_cpu_logit_row,
    .whole_logit_row = qr_cpu_whole_logit_row,
    .destroy = cpu_destroy,
};

static enum qr_status choose_isa(const char *name, enum qr_isa *isa, struct qr_error *err)
{
    *isa = qr_isa_best();
    if (name == NULL || strcmp(name, "auto") == 0)
        return QR_OK;
    if (!qr_isa_parse(name, isa))
        return qr_fail(err, QR_ERR_INVALID,
                       "instruction set \"%s\" is none of auto, scalar, neon, avx2, avx512, "
                       "avx512vnni, avx512bf16, amx",
                       name);
    if (!qr_isa_supported(*isa))
        return qr_fail(err, QR_ERR_UNSUPPORTED, "this processor has no %s; use auto", name);
    return QR_OK;
}

enum qr_status qr_cpu_device_open(const struct qr_device_config *config, struct qr_device **out,
                                  struct qr_error *err)
{
    enum qr_isa isa;
    int32_t n_threads = config->n_threads > 0 ? config->n_threads : qr_usable_cores();

    *out = NULL;
    if (config->weights != QR_WEIGHTS_AUTO)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "--weights is for a GPU; on the CPU --quantize q8_0, q4_0 or q4_K makes "
                       "matrices smaller");
    QR_TRY(choose_isa(config->isa, &isa, err));
    struct qr_cpu_device *dev = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*dev));
    if (dev == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    dev->ops = cpu_ops;
    snprintf(dev->name, sizeof(dev->name), "cpu/%s", qr_isa_name(isa));
    dev->ops.name = dev->name;
    dev->base = (struct qr_device){.ops = &dev->ops,
                                   .residual_size = sizeof(float),
                                   .activation_size = sizeof(float),
                                   .kv_size = sizeof(float)};
    dev->isa = isa;
    dev->nodes = qr_numa_nodes();
    dev->quantize = config->quantize;
    dev->kernels = qr_cpu_kernels_of(isa);
    dev->packed.kernels = qr_packed_kernels_of(isa);
    if (config->weights_cache != NULL &&
        (dev->weights_cache.dir = qr_strdup(QR_ARENA_ENGINE, config->weights_cache)) == NULL) {
        cpu_destroy(&dev->base);
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    }
    enum qr_status status = qr_thread_pool_create(n_threads, &dev->pool);
    if (status != QR_OK) {
        cpu_destroy(&dev->base);
        return qr_fail(err, status, "cannot start %d threads: %s", n_threads,
                       qr_status_name(status));
    }
    *out = &dev->base;
    return QR_OK;
}
