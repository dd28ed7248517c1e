/*
 * norm.cu - RMSNorm and LayerNorm of rows, a block for each row. The row is
 * read again from the first-level cache after its sums are known.
 */
#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/elementwise_params.h"
#include "runtime/ops/cuda/wide_access.cuh"

enum { NORM_WARPS = QR_NORM_THREADS / 32, NORM_STRIDE = QR_NORM_THREADS * 8 };

/* The sum of (x - mean)^2, or of x where `squares` is false. */
QR_DEVICE float sum_row(int32_t type, const void *x, int dim, bool squares, float mean,
                        float *shared)
{
    float sum = 0.0f;

    for (int i = qr_thread_index() * 8; i < dim; i += NORM_STRIDE) {
        float value[8];
        qr_load_eight(type, x, i, dim, value);
        QR_UNROLL
        for (int j = 0; j < 8; j++) {
            float centred = i + j < dim ? value[j] - mean : 0.0f;
            sum = squares ? qr_fma(centred, centred, sum) : sum + value[j];
        }
    }
    return qr_block_reduce<qr_sum, NORM_WARPS>(sum, shared);
}

QR_KERNEL(qr_norm, struct qr_norm_params, QR_NORM_THREADS, 4)
{
    QR_SHARED(memory);
    float *shared = (float *)memory; /* [2][NORM_WARPS] */
    int64_t start = (int64_t)qr_block_index() * p.dim;
    const char *x = (const char *)p.x + start * (p.x_type == QR_TYPE_F32 ? 4 : 2);
    char *out = (char *)p.out + start * (p.out_type == QR_TYPE_F32 ? 4 : 2);
    float mean = 0.0f;

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (p.subtract_mean)
        mean = sum_row(p.x_type, x, p.dim, false, 0.0f, shared + NORM_WARPS) / (float)p.dim;
    float squares = sum_row(p.x_type, x, p.dim, true, mean, shared) / (float)p.dim;
    float scale = 1.0f / qr_sqrt(squares + p.eps);
    for (int i = qr_thread_index() * 8; i < p.dim; i += NORM_STRIDE) {
        float value[8];
        float weight[8];
        float bias[8] = {};
        float before[8] = {};
        qr_load_eight(p.x_type, x, i, p.dim, value);
        qr_load_eight(p.weight_type, p.weight, i, p.dim, weight);
        if (p.bias != nullptr)
            qr_load_eight(p.bias_type, p.bias, i, p.dim, bias);
        if (p.adds)
            qr_load_eight(QR_TYPE_F32, out, i, p.dim, before);
        QR_UNROLL
        for (int j = 0; j < 8; j++) {
            value[j] = qr_mul((value[j] - mean) * scale, weight[j] + p.weight_offset);
            if (p.bias != nullptr)
                value[j] += bias[j];
            if (p.adds)
                value[j] += before[j];
        }
        qr_store_eight(p.out_type, out, i, p.dim, value);
    }
}
