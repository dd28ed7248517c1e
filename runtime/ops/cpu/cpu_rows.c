/* cpu_rows.c - ops that handle each row by itself: embedding, norms, activation, gathering. */
#include <string.h>

#include "runtime/ops/cpu/cpu_device_internal.h"

/* Row `index` of a table [][dim], widened to out [dim]. */
static void widen_row(struct qr_device *dev, const struct qr_tensor *table, int32_t index,
                      float *out)
{
    size_t dim = (size_t)table->dims[1];

    if (table->is_packed) {
        qr_packed_widen_row(table->dtype, table->data, table->dims[1], index, out);
        return;
    }
    if (!qr_cpu_kernels_read(table->dtype)) {
        qr_tensor_widen_rows(table, index, 1, out);
        return;
    }
    size_t row_bytes = dim * qr_dtype_size(table->dtype);
    qr_cpu_device_of(dev)->kernels->widen(
        table->dtype, (const char *)table->data + (size_t)index * row_bytes, (int32_t)dim, out);
}

void qr_cpu_embed(struct qr_device *dev, const struct qr_tensor *table, float factor, void *out)
{
    const struct qr_batch *batch = dev->batch;
    size_t dim = (size_t)table->dims[1];

    for (int32_t row = 0; row < batch->n_rows; row++) {
        float *x = (float *)out + (size_t)row * dim;
        widen_row(dev, table, batch->token_ids[row], x);
        for (size_t i = 0; i < dim && factor != 1.0f; i++)
            x[i] *= factor;
    }
}

void qr_cpu_add_positions(struct qr_device *dev, const struct qr_tensor *table, void *x)
{
    const struct qr_batch *batch = dev->batch;
    size_t dim = (size_t)table->dims[1];
    float *position = qr_cpu_device_of(dev)->sums; /* scratch of an op, as here */

    for (int32_t row = 0; row < batch->n_rows; row++) {
        float *to = (float *)x + (size_t)row * dim;
        widen_row(dev, table, batch->positions[row], position);
        for (size_t i = 0; i < dim; i++)
            to[i] += position[i];
    }
}

struct norm_work {
    const struct qr_cpu_kernels *kernels;
    struct qr_norm_args args;
};

static void norm_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct norm_work *work = arg;
    (void)worker;
    work->kernels->norm(&work->args, (int32_t)first, (int32_t)last);
}

static void run_norm(struct qr_device *dev, const struct qr_norm *norm, const float *x,
                     int32_t n_rows, bool adds, float *out)
{
    struct norm_work work = {.kernels = qr_cpu_device_of(dev)->kernels,
                             .args = {.kind = norm->kind,
                                      .eps = norm->eps,
                                      .weight_offset = norm->weight_offset,
                                      .weight_dtype = norm->weight.dtype,
                                      .bias_dtype = norm->bias.dtype,
                                      .weight = norm->weight.data,
                                      .bias = norm->bias.data,
                                      .x = x,
                                      .out = out,
                                      .dim = (int32_t)norm->weight.dims[0],
                                      .adds = adds}};
    qr_cpu_run(dev, n_rows, qr_cpu_rows_per_item(work.args.dim), norm_rows, &work);
}

void qr_cpu_norm(struct qr_device *dev, const struct qr_norm *norm, const void *x, int32_t n_rows,
                 void *out)
{
    run_norm(dev, norm, x, n_rows, false, out);
}

void qr_cpu_norm_add(struct qr_device *dev, const struct qr_norm *norm, const void *x,
                     int32_t n_rows, void *residual)
{
    run_norm(dev, norm, x, n_rows, true, residual);
}

void qr_cpu_norm_heads(struct qr_device *dev, const struct qr_norm *norm, int32_t n_rows,
                       int32_t n_heads, void *x)
{
    run_norm(dev, norm, x, n_rows * n_heads, false, x);
}

struct activate_work {
    const struct qr_cpu_kernels *kernels;
    enum qr_activation activation;
    float *gate;     /* [n_rows][dim] */
    const float *up; /* [n_rows][dim], or NULL */
    int32_t dim;
};

static void activate_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct activate_work *work = arg;
    (void)worker;
    for (int64_t row = first; row < last; row++) {
        size_t offset = (size_t)row * (size_t)work->dim;
        work->kernels->activate(work->activation, work->gate + offset,
                                work->up != NULL ? work->up + offset : NULL, work->dim);
    }
}

void qr_cpu_activate(struct qr_device *dev, enum qr_activation activation, void *gate,
                     const void *up, int32_t n_rows, int32_t dim)
{
    struct activate_work work = {.kernels = qr_cpu_device_of(dev)->kernels,
                                 .activation = activation,
                                 .gate = gate,
                                 .up = up,
                                 .dim = dim};
    qr_cpu_run(dev, n_rows, qr_cpu_rows_per_item(dim), activate_rows, &work);
}

void qr_cpu_gather_logit_rows(struct qr_device *dev, const void *x, int32_t dim, void *out)
{
    const struct qr_batch *batch = dev->batch;
    size_t row_bytes = (size_t)dim * sizeof(float);

    for (int32_t i = 0; i < batch->n_logit_rows; i++)
        memcpy((char *)out + (size_t)i * row_bytes,
               (const char *)x + (size_t)batch->logit_rows[i] * row_bytes, row_bytes);
}
