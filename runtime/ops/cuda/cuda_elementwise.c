/* cuda_elementwise.c - see cuda_elementwise.h for the contract. */
#include "runtime/ops/cuda/cuda_elementwise.h"

#include "base/assert.h"
#include "runtime/ops/cuda/elementwise_params.h"

enum {
    NORM_SHARED = 2 * QR_NORM_THREADS / 32 * 4, /* a float for each warp, twice */
    QUANTIZE_SHARED = QR_QUANTIZE_THREADS / 32 * 4,
    MAX_BLOCKS = 1 << 30, /* of a launch */
};

enum qr_status qr_cuda_elementwise_open(struct qr_cuda *cuda, struct qr_cuda_elementwise *out,
                                        struct qr_error *err)
{
    const struct {
        const char *name;
        int32_t block_size;
        int32_t shared_bytes;
        struct qr_cuda_kernel *kernel;
    } wanted[] = {
        {"qr_copy_rows", QR_ELEMENTWISE_THREADS, 0, &out->copy_rows},
        {"qr_norm", QR_NORM_THREADS, NORM_SHARED, &out->norm},
        {"qr_activate", QR_ELEMENTWISE_THREADS, 0, &out->activate},
        {"qr_add_bias", QR_ELEMENTWISE_THREADS, 0, &out->add_bias},
        {"qr_soft_cap", QR_ELEMENTWISE_THREADS, 0, &out->soft_cap},
        {"qr_convert", QR_ELEMENTWISE_THREADS, 0, &out->convert},
        {"qr_fill_synthetic", QR_ELEMENTWISE_THREADS, 0, &out->fill_synthetic},
        {"qr_quantize", QR_QUANTIZE_THREADS, QUANTIZE_SHARED, &out->quantize},
    };

    *out = (struct qr_cuda_elementwise){.cuda = cuda};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        QR_TRY(qr_cuda_find_kernel(cuda, wanted[i].name, wanted[i].block_size,
                                   wanted[i].shared_bytes, wanted[i].kernel, err));
    return QR_OK;
}

/* Blocks for n elements. */
static int32_t n_blocks(int64_t n)
{
    int64_t blocks = (n + QR_ELEMENTWISE_PER_BLOCK - 1) / QR_ELEMENTWISE_PER_BLOCK;

    QR_ASSERT(blocks <= MAX_BLOCKS);
    return (int32_t)blocks;
}

static void copy_rows(struct qr_cuda_elementwise *ops, const struct qr_rows_params *params,
                      int32_t n_rows)
{
    qr_cuda_launch(ops->cuda, &ops->copy_rows, n_rows, n_blocks(params->dim), params);
}

void qr_cuda_embed(struct qr_cuda_elementwise *ops, const struct qr_cuda_matrix *table,
                   float factor, bool adds, const int32_t *rows, int32_t n_rows, float *out)
{
    const struct qr_rows_params params = {.from = table->data,
                                          .rows = rows,
                                          .factor = factor,
                                          .adds = adds,
                                          .scales = table->scales,
                                          .to = out,
                                          .row_bytes =
                                              (int64_t)qr_cuda_row_bytes(table->type, table->n_in),
                                          .type = (int32_t)table->type,
                                          .dim = table->n_in};
    copy_rows(ops, &params, n_rows);
}

void qr_cuda_gather_rows(struct qr_cuda_elementwise *ops, const float *x, const int32_t *rows,
                         int32_t n_rows, int32_t dim, float *out)
{
    const struct qr_rows_params params = {.from = x,
                                          .rows = rows,
                                          .factor = 1.0f,
                                          .to = out,
                                          .row_bytes = (int64_t)dim * (int64_t)sizeof(float),
                                          .type = QR_CUDA_F32,
                                          .dim = dim};
    copy_rows(ops, &params, n_rows);
}

void qr_cuda_norm(struct qr_cuda_elementwise *ops, const struct qr_norm *norm,
                  const struct qr_cuda_norm_rows *rows)
{
    QR_ASSERT(!rows->adds || rows->out_type == QR_CUDA_F32);
    const struct qr_norm_params params = {.x = rows->x,
                                          .weight = norm->weight.data,
                                          .bias = norm->bias.data,
                                          .out = rows->out,
                                          .dim = (int32_t)norm->weight.dims[0],
                                          .eps = norm->eps,
                                          .weight_offset = norm->weight_offset,
                                          .x_type = (int32_t)rows->x_type,
                                          .weight_type = (int32_t)norm->weight.dtype,
                                          .bias_type = (int32_t)norm->bias.dtype,
                                          .out_type = (int32_t)rows->out_type,
                                          .subtract_mean = norm->kind == QR_NORM_LAYER,
                                          .adds = rows->adds};
    qr_cuda_launch(ops->cuda, &ops->norm, rows->n_rows, 1, &params);
}

void qr_cuda_activate(struct qr_cuda_elementwise *ops, enum qr_activation activation,
                      enum qr_cuda_type type, void *gate, const void *up, int64_t n)
{
    const struct qr_activate_params params = {
        .gate = gate, .up = up, .n = n, .type = (int32_t)type, .activation = (int32_t)activation};
    qr_cuda_launch(ops->cuda, &ops->activate, n_blocks(n), 1, &params);
}

void qr_cuda_add_bias(struct qr_cuda_elementwise *ops, const struct qr_cuda_vector *bias,
                      enum qr_cuda_type type, void *x, int32_t n_rows, int32_t dim)
{
    const struct qr_add_bias_params params = {.x = x,
                                              .bias = bias->data,
                                              .type = (int32_t)type,
                                              .bias_type = (int32_t)bias->type,
                                              .dim = dim};
    qr_cuda_launch(ops->cuda, &ops->add_bias, n_rows, n_blocks(dim), &params);
}

void qr_cuda_soft_cap(struct qr_cuda_elementwise *ops, float cap, float *x, int64_t n)
{
    const struct qr_soft_cap_params params = {.x = x, .n = n, .cap = cap};
    qr_cuda_launch(ops->cuda, &ops->soft_cap, n_blocks(n), 1, &params);
}

void qr_cuda_convert(struct qr_cuda_elementwise *ops, enum qr_cuda_type from_type, const void *from,
                     int64_t n, enum qr_cuda_type to_type, void *to)
{
    const struct qr_convert_params params = {.from = from,
                                             .to = to,
                                             .n = n,
                                             .from_type = (int32_t)from_type,
                                             .to_type = (int32_t)to_type};
    qr_cuda_launch(ops->cuda, &ops->convert, n_blocks(n), 1, &params);
}

void qr_cuda_fill_synthetic(struct qr_cuda_elementwise *ops, enum qr_cuda_type type, uint64_t key,
                            float bound, int64_t n, void *data)
{
    const struct qr_fill_params params = {
        .data = data, .n = n, .key = key, .bound = bound, .type = (int32_t)type};
    qr_cuda_launch(ops->cuda, &ops->fill_synthetic, n_blocks(n), 1, &params);
}

void qr_cuda_quantize(struct qr_cuda_elementwise *ops, enum qr_cuda_type from_type,
                      const void *from, int32_t n_out, int32_t n_in, enum qr_cuda_type to_type,
                      void *to, float *scales)
{
    const struct qr_quantize_params params = {.from = from,
                                              .to = to,
                                              .scales = scales,
                                              .row_bytes =
                                                  (int64_t)qr_cuda_row_bytes(to_type, n_in),
                                              .n_in = n_in,
                                              .from_type = (int32_t)from_type,
                                              .to_type = (int32_t)to_type};
    qr_cuda_launch(ops->cuda, &ops->quantize, n_out, 1, &params);
}
