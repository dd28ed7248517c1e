/*
 * elementwise.cu - ops that move or change elements one by one: embedding, gathering rows,
 * activation, biases, soft caps, conversion, synthetic weights. A thread handles eight neighbours.
 */
#include "runtime/ops/cuda/activation.cuh"
#include "runtime/ops/cuda/elementwise_params.h"
#include "runtime/ops/cuda/wide_access.cuh"
#include "runtime/sampling/philox.h"

QR_DEVICE int64_t first_element(int block)
{
    return (int64_t)block * QR_ELEMENTWISE_PER_BLOCK +
           (int64_t)qr_thread_index() * QR_ELEMENTWISE_GROUP;
}

/* to[r] = from[rows[r]] * scales[rows[r]] * factor, or added to it: embedding, positions, and
 * gathering rows of the residual stream. */
QR_KERNEL(qr_copy_rows, struct qr_rows_params, QR_ELEMENTWISE_THREADS, 4)
{
    int row = qr_block_index();
    int64_t i = first_element(qr_block_index_y());
    float value[8];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.dim)
        return;
    int id = p.rows[row];
    float scale = (p.scales != nullptr ? p.scales[id] : 1.0f) * p.factor;
    float *to = p.to + (int64_t)row * p.dim;
    float before[8] = {};
    qr_load_eight(p.type, (const char *)p.from + (int64_t)id * p.row_bytes, i, p.dim, value);
    if (p.adds)
        qr_load_eight(QR_TYPE_F32, to, i, p.dim, before);
    QR_UNROLL
    for (int j = 0; j < 8; j++)
        value[j] = qr_mul(value[j], scale) + before[j];
    qr_store_eight(QR_TYPE_F32, to, i, p.dim, value);
}

/* gate = act(gate) * up */
QR_KERNEL(qr_activate, struct qr_activate_params, QR_ELEMENTWISE_THREADS, 4)
{
    int64_t i = first_element(qr_block_index());
    float gate[8];
    float up[8] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.n)
        return;
    qr_load_eight(p.type, p.gate, i, p.n, gate);
    if (p.up != nullptr)
        qr_load_eight(p.type, p.up, i, p.n, up);
    QR_UNROLL
    for (int j = 0; j < 8; j++)
        gate[j] = qr_activated(p.activation, gate[j]) * up[j];
    qr_store_eight(p.type, p.gate, i, p.n, gate);
}

/* x[r] += bias */
QR_KERNEL(qr_add_bias, struct qr_add_bias_params, QR_ELEMENTWISE_THREADS, 4)
{
    int width = p.type == QR_TYPE_F32 ? 4 : 2;
    char *x = (char *)p.x + (int64_t)qr_block_index() * p.dim * width;
    int64_t i = first_element(qr_block_index_y());
    float value[8];
    float bias[8];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.dim)
        return;
    qr_load_eight(p.type, x, i, p.dim, value);
    qr_load_eight(p.bias_type, p.bias, i, p.dim, bias);
    QR_UNROLL
    for (int j = 0; j < 8; j++)
        value[j] += bias[j];
    qr_store_eight(p.type, x, i, p.dim, value);
}

/* x = cap * tanh(x / cap) by tanh z = 1 - 2 / (1 + e^2z) */
QR_KERNEL(qr_soft_cap, struct qr_soft_cap_params, QR_ELEMENTWISE_THREADS, 4)
{
    const float log2_e = 1.44269504f;
    int64_t i = first_element(qr_block_index());
    float value[8];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.n)
        return;
    qr_load_eight(QR_TYPE_F32, p.x, i, p.n, value);
    QR_UNROLL
    for (int j = 0; j < 8; j++)
        value[j] = p.cap - 2.0f * p.cap / (1.0f + qr_exp2(value[j] * (2.0f * log2_e / p.cap)));
    qr_store_eight(QR_TYPE_F32, p.x, i, p.n, value);
}

QR_KERNEL(qr_convert, struct qr_convert_params, QR_ELEMENTWISE_THREADS, 4)
{
    int64_t i = first_element(qr_block_index());
    float value[8];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.n)
        return;
    qr_load_eight(p.from_type, p.from, i, p.n, value);
    qr_store_eight(p.to_type, p.to, i, p.n, value);
}

/* As runtime/weights/synthetic.c fills on the host: four elements from one draw, of BF16 the upper
 * half of the F32. */
QR_KERNEL(qr_fill_synthetic, struct qr_fill_params, QR_ELEMENTWISE_THREADS, 4)
{
    int64_t i = first_element(qr_block_index());
    float value[8];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    if (i >= p.n)
        return;
    QR_UNROLL
    for (int j = 0; j < 8; j += 4) {
        uint64_t at = (uint64_t)i + (uint64_t)j;
        struct qr_philox_block counter = {{(uint32_t)at, (uint32_t)(at >> 32), 0, 0}};
        struct qr_philox_block draw = qr_philox(counter, p.key);
        QR_UNROLL
        for (int k = 0; k < 4; k++) {
            float unit = (float)(draw.word[k] >> 8) * 1.1920928955078125e-7f - 1.0f; /* 2^-23 */
            value[j + k] = p.bound == 0.0f ? 1.0f : unit * p.bound;
            if (p.type == QR_TYPE_BF16)
                value[j + k] = qr_bits_float(qr_float_bits(value[j + k]) & 0xffff0000u);
        }
    }
    qr_store_eight(p.type, p.data, i, p.n, value);
}
