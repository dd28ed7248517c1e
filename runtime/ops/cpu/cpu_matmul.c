/*
 * cpu_matmul.c - products with weights, alone, added to the residual stream, and as logits; each of
 * packed matrices (cpu_packed.c).
 */
#include "base/assert.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

struct bias_work {
    const struct qr_cpu_kernels *kernels;
    const struct qr_tensor *bias; /* [dim] */
    float *x;                     /* [n_rows][dim] */
};

/* The bias is widened a piece at a time: it may be of any width. */
static void add_bias_to_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    enum { PIECE = 256 };
    const struct bias_work *work = arg;
    int32_t dim = (int32_t)work->bias->dims[0];
    size_t size = qr_dtype_size(work->bias->dtype);
    float bias[PIECE];

    (void)worker;
    for (int32_t at = 0; at < dim; at += PIECE) {
        int32_t n = dim - at < PIECE ? dim - at : PIECE;
        work->kernels->widen(work->bias->dtype, (const char *)work->bias->data + (size_t)at * size,
                             n, bias);
        for (int64_t row = first; row < last; row++) {
            float *x = work->x + (size_t)row * (size_t)dim + at;
            for (int32_t i = 0; i < n; i++)
                x[i] += bias[i];
        }
    }
}

static void apply(struct qr_device *dev, const struct qr_linear *map, struct qr_cpu_input *input,
                  float *out)
{
    qr_cpu_multiply(qr_cpu_device_of(dev), &map->weight, input, out);
    if (!qr_tensor_is_there(&map->bias))
        return;
    struct bias_work work = {
        .kernels = qr_cpu_device_of(dev)->kernels, .bias = &map->bias, .x = out};
    qr_cpu_run(dev, input->n_rows, qr_cpu_rows_per_item((int32_t)map->bias.dims[0]),
               add_bias_to_rows, &work);
}

void qr_cpu_matmul(struct qr_device *dev, int32_t n, const struct qr_linear *const *maps,
                   const void *x, int32_t n_rows, void *const *outs)
{
    struct qr_cpu_input input = {.x = x, .n_rows = n_rows};

    QR_ASSERT(n <= QR_MATMUL_MAX);
    for (int32_t i = 0; i < n; i++)
        apply(dev, maps[i], &input, outs[i]);
}

struct add_work {
    const struct qr_cpu_kernels *kernels;
    float *to;         /* [n] */
    const float *from; /* [n] */
    int64_t n;
};

static void add_pieces(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct add_work *work = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t at = i * QR_CPU_FLOATS_PER_ITEM;
        int64_t left = work->n - at;
        work->kernels->add(work->to + at, work->from + at,
                           left < QR_CPU_FLOATS_PER_ITEM ? (int32_t)left : QR_CPU_FLOATS_PER_ITEM);
    }
}

void qr_cpu_matmul_add(struct qr_device *dev, const struct qr_linear *map, const void *x,
                       int32_t n_rows, void *residual)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    struct qr_cpu_input input = {.x = x, .n_rows = n_rows};
    struct add_work work = {.kernels = cpu->kernels,
                            .to = residual,
                            .from = cpu->sums,
                            .n = n_rows * map->weight.dims[0]};

    QR_ASSERT((size_t)work.n <= cpu->n_sums);
    apply(dev, map, &input, cpu->sums);
    qr_cpu_run(dev, (work.n + QR_CPU_FLOATS_PER_ITEM - 1) / QR_CPU_FLOATS_PER_ITEM, 1, add_pieces,
               &work);
}

struct cap_work {
    const struct qr_cpu_kernels *kernels;
    float *x; /* [n_rows][dim] */
    int32_t dim;
    float cap;
};

static void cap_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct cap_work *work = arg;
    (void)worker;
    for (int64_t row = first; row < last; row++)
        work->kernels->soft_cap(work->x + (size_t)row * (size_t)work->dim, work->dim, work->cap);
}

void qr_cpu_logits(struct qr_device *dev, const struct qr_tensor *weight, float soft_cap,
                   const void *x, int32_t n_rows, float *out)
{
    struct qr_cpu_input input = {.x = x, .n_rows = n_rows};

    qr_cpu_multiply(qr_cpu_device_of(dev), weight, &input, out);
    if (soft_cap == 0.0f)
        return;
    struct cap_work work = {.kernels = qr_cpu_device_of(dev)->kernels,
                            .x = out,
                            .dim = (int32_t)weight->dims[0],
                            .cap = soft_cap};
    qr_cpu_run(dev, n_rows, 1, cap_rows, &work);
}
