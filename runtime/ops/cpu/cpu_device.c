/*
 * cpu_device.c - struct qr_ops on the CPU: each op computes at once, its work spread
 * over the device's threads.
 */
#include "runtime/ops/cpu/cpu_device.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "runtime/ops/cpu/kernels.h"

enum {
    OUTS_PER_ITEM = 32,     /* results of a matmul that a thread takes at a time */
    FLOATS_PER_ITEM = 8192, /* of an elementwise op: less is not worth a second thread */
};

/* cos and sin of position * theta^(-2i / head_dim) */
struct rope_turn {
    float cos;
    float sin;
};

struct cpu_device {
    struct qr_device base; /* first: ops are handed this */
    struct qr_ops ops;     /* with this device's own name */
    char name[32];
    enum qr_isa isa;
    const struct qr_cpu_kernels *kernels;
    struct qr_thread_pool *pool;
    struct rope_turn *rope_table; /* [max_position][head_dim / 2] */
};

static struct cpu_device *self(struct qr_device *dev)
{
    return (struct cpu_device *)dev;
}

static void *cpu_alloc(struct qr_device *dev, size_t n_bytes)
{
    (void)dev;
    /* Zeroed lazily by the system: pages of a large pool cost nothing until they are used. */
    return qr_calloc(QR_ARENA_ENGINE, 1, n_bytes);
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

static void cpu_read_page(struct qr_device *dev, const void *kv_pool, size_t page_bytes,
                          int32_t page, void *to)
{
    (void)dev;
    memcpy(to, (const char *)kv_pool + (size_t)page * page_bytes, page_bytes);
}

static void cpu_write_page(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t page,
                           const void *from)
{
    (void)dev;
    memcpy((char *)kv_pool + (size_t)page * page_bytes, from, page_bytes);
}

static void cpu_begin_step(struct qr_device *dev, const struct qr_batch *batch)
{
    dev->batch = batch;
}

static enum qr_status cpu_end_step(struct qr_device *dev, struct qr_error *err)
{
    (void)err; /* CPU ops cannot fail: they were given checked shapes and their own memory */
    dev->batch = NULL;
    return QR_OK;
}

static void run(struct qr_device *dev, int64_t n_items, int64_t grain, qr_work_fn fn, void *arg)
{
    qr_thread_pool_run(self(dev)->pool, n_items, grain > 0 ? grain : 1, fn, arg);
}

/* Rows of `dim` elements that make an item worth handing out. */
static int64_t rows_per_item(int32_t dim)
{
    return FLOATS_PER_ITEM / (dim > 0 ? dim : 1) + 1;
}

static void cpu_embed(struct qr_device *dev, const struct qr_tensor *table, void *out)
{
    const struct qr_batch *batch = dev->batch;
    size_t dim = (size_t)table->dims[1];
    size_t row_bytes = dim * qr_dtype_size(table->dtype);

    for (int32_t row = 0; row < batch->n_rows; row++) {
        size_t id = (size_t)batch->token_ids[row];
        self(dev)->kernels->widen(table->dtype, (const char *)table->data + id * row_bytes,
                                  (int32_t)dim, (float *)out + (size_t)row * dim);
    }
}

struct norm_work {
    const struct qr_cpu_kernels *kernels;
    struct qr_rms_norm_args args;
};

static void norm_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct norm_work *work = arg;
    (void)worker;
    work->kernels->rms_norm(&work->args, (int32_t)first, (int32_t)last);
}

static void cpu_rms_norm(struct qr_device *dev, const void *x, const struct qr_tensor *weight,
                         float eps, int32_t n_rows, void *out)
{
    struct norm_work work = {.kernels = self(dev)->kernels,
                             .args = {.dtype = weight->dtype,
                                      .weight = weight->data,
                                      .x = x,
                                      .out = out,
                                      .dim = (int32_t)weight->dims[0],
                                      .eps = eps}};
    run(dev, n_rows, rows_per_item(work.args.dim), norm_rows, &work);
}

struct matmul_work {
    const struct qr_cpu_kernels *kernels;
    struct qr_matmul_args args;
};

static void matmul_outs(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct matmul_work *work = arg;
    (void)worker;
    work->kernels->matmul(&work->args, (int32_t)first, (int32_t)last);
}

static void cpu_matmul(struct qr_device *dev, const struct qr_tensor *weight, const void *x,
                       int32_t n_rows, void *out)
{
    struct matmul_work work = {.kernels = self(dev)->kernels,
                               .args = {.dtype = weight->dtype,
                                        .weight = weight->data,
                                        .x = x,
                                        .out = out,
                                        .n_in = (int32_t)weight->dims[1],
                                        .n_out = (int32_t)weight->dims[0],
                                        .n_rows = n_rows}};
    run(dev, work.args.n_out, OUTS_PER_ITEM, matmul_outs, &work);
}

static void cpu_add(struct qr_device *dev, void *x, const void *y, int32_t n_rows, int32_t dim)
{
    float *sum = x;
    const float *term = y;
    (void)dev;
    for (size_t i = 0; i < (size_t)n_rows * (size_t)dim; i++)
        sum[i] += term[i];
}

static enum qr_status cpu_prepare_rope(struct qr_device *dev, int32_t head_dim, float theta,
                                       int32_t max_position)
{
    size_t half = (size_t)head_dim / 2;
    struct rope_turn *table =
        qr_malloc(QR_ARENA_ENGINE, (size_t)max_position * half * sizeof(*table));

    if (table == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < half; i++) {
        double frequency = pow((double)theta, -2.0 * (double)i / (double)head_dim);
        for (size_t position = 0; position < (size_t)max_position; position++) {
            /* In double, so that far positions keep their angle. */
            double angle = (double)position * frequency;
            table[position * half + i] = (struct rope_turn){(float)cos(angle), (float)sin(angle)};
        }
    }
    qr_free(self(dev)->rope_table);
    self(dev)->rope_table = table;
    return QR_OK;
}

struct rope_work {
    const struct rope_turn *table; /* [max_position][head_dim / 2] */
    const int32_t *positions;      /* [n_rows] */
    float *x;                      /* [n_rows][n_heads][head_dim] */
    int32_t n_heads;
    int32_t head_dim;
};

static void rotate_head(float *head, const struct rope_turn *turns, int32_t half)
{
    for (int32_t i = 0; i < half; i++) {
        float a = head[i];
        float b = head[i + half];
        head[i] = a * turns[i].cos - b * turns[i].sin;
        head[i + half] = b * turns[i].cos + a * turns[i].sin;
    }
}

static void rope_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct rope_work *work = arg;
    int32_t half = work->head_dim / 2;

    (void)worker;
    for (int64_t row = first; row < last; row++) {
        const struct rope_turn *turns = work->table + (size_t)work->positions[row] * (size_t)half;
        float *heads = work->x + (size_t)row * (size_t)work->n_heads * (size_t)work->head_dim;
        for (int32_t h = 0; h < work->n_heads; h++)
            rotate_head(heads + (size_t)h * (size_t)work->head_dim, turns, half);
    }
}

static void cpu_rope(struct qr_device *dev, void *x, int32_t n_heads, int32_t head_dim)
{
    struct rope_work work = {.table = self(dev)->rope_table,
                             .positions = dev->batch->positions,
                             .x = x,
                             .n_heads = n_heads,
                             .head_dim = head_dim};
    run(dev, dev->batch->n_rows, rows_per_item(n_heads * head_dim), rope_rows, &work);
}

static void cpu_kv_write(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                         const void *k, const void *v, void *kv_pool)
{
    qr_kv_write_cpu(kv, layer, &dev->batch->attention, k, v, kv_pool);
}

static void cpu_attend(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                       int32_t n_heads, float scale, const void *q, const void *kv_pool, void *out)
{
    struct qr_attention_params params = {.kv = *kv,
                                         .layer = layer,
                                         .n_heads = n_heads,
                                         .scale = scale,
                                         .q = q,
                                         .kv_pool = kv_pool,
                                         .out = out,
                                         .batch = &dev->batch->attention};
    qr_attention_cpu(self(dev)->isa, &params, self(dev)->pool);
}

struct swiglu_work {
    const struct qr_cpu_kernels *kernels;
    float *gate;     /* [n_rows][dim] */
    const float *up; /* [n_rows][dim] */
    int32_t dim;
};

static void swiglu_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct swiglu_work *work = arg;
    (void)worker;
    for (int64_t row = first; row < last; row++) {
        size_t offset = (size_t)row * (size_t)work->dim;
        work->kernels->swiglu(work->gate + offset, work->up + offset, work->dim);
    }
}

static void cpu_swiglu(struct qr_device *dev, void *gate, const void *up, int32_t n_rows,
                       int32_t dim)
{
    struct swiglu_work work = {.kernels = self(dev)->kernels, .gate = gate, .up = up, .dim = dim};
    run(dev, n_rows, rows_per_item(dim), swiglu_rows, &work);
}

static void cpu_gather_logit_rows(struct qr_device *dev, const void *x, int32_t dim, void *out)
{
    const struct qr_batch *batch = dev->batch;
    size_t row_bytes = (size_t)dim * sizeof(float);

    for (int32_t i = 0; i < batch->n_logit_rows; i++)
        memcpy((char *)out + (size_t)i * row_bytes,
               (const char *)x + (size_t)batch->logit_rows[i] * row_bytes, row_bytes);
}

static void cpu_read_logits(struct qr_device *dev, const void *logits, int32_t vocab_size,
                            float *host)
{
    memcpy(host, logits, (size_t)dev->batch->n_logit_rows * (size_t)vocab_size * sizeof(float));
}

static void cpu_destroy(struct qr_device *dev)
{
    if (dev == NULL)
        return;
    qr_thread_pool_destroy(self(dev)->pool);
    qr_free(self(dev)->rope_table);
    qr_free(dev);
}

static const struct qr_ops cpu_ops = {
    .alloc = cpu_alloc,
    .free = cpu_free,
    .activation_size = sizeof(float),
    .kv_size = sizeof(float),
    .prepare_rope = cpu_prepare_rope,
    .copy_page = cpu_copy_page,
    .read_page = cpu_read_page,
    .write_page = cpu_write_page,
    .begin_step = cpu_begin_step,
    .end_step = cpu_end_step,
    .embed = cpu_embed,
    .rms_norm = cpu_rms_norm,
    .matmul = cpu_matmul,
    .add = cpu_add,
    .rope = cpu_rope,
    .kv_write = cpu_kv_write,
    .attend = cpu_attend,
    .swiglu = cpu_swiglu,
    .gather_logit_rows = cpu_gather_logit_rows,
    .read_logits = cpu_read_logits,
    .destroy = cpu_destroy,
};

static int32_t usable_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (int32_t)CPU_COUNT(&set) : 1;
}

static enum qr_status choose_isa(const char *name, enum qr_isa *isa, struct qr_error *err)
{
    *isa = qr_isa_best();
    if (name == NULL || strcmp(name, "auto") == 0)
        return QR_OK;
    if (!qr_isa_parse(name, isa))
        return qr_fail(err, QR_ERR_INVALID,
                       "instruction set \"%s\" is none of auto, scalar, avx2, avx512", name);
    if (!qr_isa_supported(*isa))
        return qr_fail(err, QR_ERR_UNSUPPORTED, "this processor has no %s; use auto", name);
    return QR_OK;
}

enum qr_status qr_cpu_device_open(const struct qr_device_config *config, struct qr_device **out,
                                  struct qr_error *err)
{
    enum qr_isa isa;
    int32_t n_threads = config->n_threads > 0 ? config->n_threads : usable_cores();

    *out = NULL;
    QR_TRY(choose_isa(config->isa, &isa, err));
    struct cpu_device *dev = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*dev));
    if (dev == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    dev->ops = cpu_ops;
    snprintf(dev->name, sizeof(dev->name), "cpu/%s", qr_isa_name(isa));
    dev->ops.name = dev->name;
    dev->base.ops = &dev->ops;
    dev->isa = isa;
    dev->kernels = qr_cpu_kernels_of(isa);
    enum qr_status status = qr_thread_pool_create(n_threads, &dev->pool);
    if (status != QR_OK) {
        cpu_destroy(&dev->base);
        return qr_fail(err, status, "cannot start %d threads: %s", n_threads,
                       qr_status_name(status));
    }
    *out = &dev->base;
    return QR_OK;
}
