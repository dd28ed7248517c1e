/* experts_f32.cu - products of an expert with up to 8 rows in F32: a block takes 8 outputs. */
#include "runtime/ops/cuda/experts.cuh"
#include "runtime/ops/cuda/matmul_f32.cuh"

template <qr_experts_product PRODUCT> QR_DEVICE void multiply_f32(const qr_experts_params &p)
{
    int n = qr_block_index_y() * QR_MATMUL_F32_OUTS + qr_thread_index() / 16;
    /* Past the end the last row of weights is read again, and its results are dropped. */
    int64_t row = n < p.n_out ? n : p.n_out - 1;
    const float *x[QR_MATMUL_F32_ROWS];
    float sum[PRODUCT][QR_MATMUL_F32_ROWS];

    if (!qr_experts_begin(p))
        return;
    const qr_experts_block<PRODUCT> block(p);
    QR_UNROLL
    for (int i = 0; i < QR_MATMUL_F32_ROWS; i++)
        x[i] = i < block.tile.n ? (const float *)p.x + (int64_t)(block.pair(i) / p.x_pairs) * p.n_in
                                : nullptr;
    auto x_row = [&](int i) { return x[i]; };
    QR_UNROLL
    for (int i = 0; i < PRODUCT; i++)
        qr_f32_sums((const float *)block.weight(i) + row * p.n_in, x_row, p.n_in, sum[i]);
    QR_UNROLL
    for (int i = 0; i < QR_MATMUL_F32_ROWS; i++) {
        if (qr_thread_index() % 16 == i && n < p.n_out && i < block.tile.n)
            block.template store<float>(block.pair(i), n, sum[0][i], sum[PRODUCT - 1][i]);
    }
}

QR_KERNEL(qr_experts_gate_up_f32, struct qr_experts_params, QR_MATMUL_F32_THREADS, 4)
{
    multiply_f32<QR_EXPERTS_GATE_UP>(p);
}

QR_KERNEL(qr_experts_down_f32, struct qr_experts_params, QR_MATMUL_F32_THREADS, 4)
{
    multiply_f32<QR_EXPERTS_DOWN>(p);
}
