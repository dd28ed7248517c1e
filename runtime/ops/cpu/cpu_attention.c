/* cpu_attention.c - rotations, the write of K and V, and attention. */
#include "runtime/ops/cpu/cpu_device_internal.h"

struct rope_work {
    const float *table;       /* [max_position][rotary_dim / 2][2 (cos, sin)] */
    const int32_t *positions; /* [n_rows] */
    float *x;                 /* [n_rows][n_heads][head_dim] */
    int32_t n_heads;
    int32_t head_dim;
    int32_t rotary_dim;
};

/* turns: [half][2 (cos, sin)] */
static void rotate_head(float *head, const float *turns, int32_t half)
{
    for (int32_t i = 0; i < half; i++) {
        float a = head[i];
        float b = head[i + half];
        float cos = turns[2 * i];
        float sin = turns[2 * i + 1];
        head[i] = a * cos - b * sin;
        head[i + half] = b * cos + a * sin;
    }
}

static void rope_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct rope_work *work = arg;
    int32_t half = work->rotary_dim / 2;

    (void)worker;
    for (int64_t row = first; row < last; row++) {
        const float *turns = work->table + (size_t)work->positions[row] * (size_t)work->rotary_dim;
        float *heads = work->x + (size_t)row * (size_t)work->n_heads * (size_t)work->head_dim;
        for (int32_t h = 0; h < work->n_heads; h++)
            rotate_head(heads + (size_t)h * (size_t)work->head_dim, turns, half);
    }
}

static void rotate(struct qr_device *dev, float *x, int32_t n_heads, int32_t head_dim)
{
    const struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    struct rope_work work = {.table = cpu->rope_table,
                             .positions = dev->batch->positions,
                             .x = x,
                             .n_heads = n_heads,
                             .head_dim = head_dim,
                             .rotary_dim = cpu->rotary_dim};
    if (work.table != NULL)
        qr_cpu_run(dev, dev->batch->n_rows, qr_cpu_rows_per_item(n_heads * head_dim), rope_rows,
                   &work);
}

void qr_cpu_rope_and_write_kv(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                              int32_t n_heads, void *q, void *k, const void *v, void *kv_pool)
{
    rotate(dev, q, n_heads, kv->head_dim);
    rotate(dev, k, kv->n_kv_heads, kv->head_dim);
    qr_kv_write_cpu(kv, qr_cpu_device_of(dev)->kv_dtype, layer, &dev->batch->attention, k, v,
                    kv_pool);
}

void qr_cpu_attend(struct qr_device *dev, const struct qr_kv_geometry *kv,
                   const struct qr_attend_spec *spec, const void *q, const void *kv_pool, void *out)
{
    const struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    struct qr_attention_params params = {.kv = *kv,
                                         .layer = spec->layer,
                                         .n_heads = spec->n_heads,
                                         .scale = spec->scale,
                                         .window = spec->window,
                                         .soft_cap = spec->soft_cap,
                                         .q = q,
                                         .kv_dtype = cpu->kv_dtype,
                                         .kv_pool = kv_pool,
                                         .out = out,
                                         .batch = &dev->batch->attention};
    qr_attention_cpu(cpu->isa, &params, cpu->pool, cpu->attention);
}
