/* cpu_attention.c - rotations, the write of K and V, and attention. */
#include "runtime/ops/cpu/cpu_device_internal.h"

struct rope_work {
    const struct qr_cpu_device *cpu;
    const int32_t *positions; /* [n_rows] */
    float *q;                 /* [n_rows][n_heads][head_dim] */
    float *k;                 /* [n_rows][n_kv_heads][head_dim] */
    int32_t n_heads;
    struct qr_kv_rows kv;
};

static void rotate(const struct rope_work *work, int64_t row, float *heads, int32_t n_heads)
{
    const struct qr_cpu_device *cpu = work->cpu;
    int32_t head_dim = work->kv.kv.head_dim;

    cpu->kernels->rotate(heads + (size_t)row * (size_t)n_heads * (size_t)head_dim, n_heads,
                         head_dim,
                         cpu->rope_table + (size_t)work->positions[row] * (size_t)cpu->rotary_dim,
                         cpu->rotary_dim / 2);
}

static void rope_and_write_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct rope_work *work = arg;

    (void)worker;
    for (int64_t row = first; row < last && work->cpu->rope_table != NULL; row++) {
        rotate(work, row, work->q, work->n_heads);
        rotate(work, row, work->k, work->kv.kv.n_kv_heads);
    }
    qr_kv_write_cpu(work->cpu->isa, &work->kv, (int32_t)first, (int32_t)last);
}

void qr_cpu_rope_and_write_kv(struct qr_device *dev, const struct qr_kv_geometry *kv, int32_t layer,
                              int32_t n_heads, void *q, void *k, const void *v, void *kv_pool)
{
    const struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    struct rope_work work = {.cpu = cpu,
                             .positions = dev->batch->positions,
                             .q = q,
                             .k = k,
                             .n_heads = n_heads,
                             .kv = {.kv = *kv,
                                    .layer = layer,
                                    .kv_dtype = cpu->kv_dtype,
                                    .batch = &dev->batch->attention,
                                    .k = k,
                                    .v = v,
                                    .kv_pool = kv_pool}};

    qr_cpu_run(dev, dev->batch->n_rows,
               qr_cpu_rows_per_item((n_heads + 2 * kv->n_kv_heads) * kv->head_dim),
               rope_and_write_rows, &work);
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
