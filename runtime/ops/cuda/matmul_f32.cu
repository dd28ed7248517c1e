/*
 * matmul_f32.cu - matrix products in F32, for models whose weights are F32. A block computes 8
 * outputs of up to 8 rows.
 */
#include "runtime/ops/cuda/matmul_f32.cuh"
#include "runtime/ops/cuda/matmul_fragments.cuh"

QR_KERNEL(qr_matmul_f32, struct qr_matmul_params, QR_MATMUL_F32_THREADS, 4)
{
    const qr_matmul_part *part = qr_find_part(p, qr_block_index());
    int lane = qr_thread_index() % 16;
    int n = (qr_block_index() - part->first_tile) * QR_MATMUL_F32_OUTS + qr_thread_index() / 16;
    int first_row = qr_block_index_y() * QR_MATMUL_F32_ROWS;
    /* Past the end the last row of weights is read again, and its results are dropped. */
    int row = n < part->n_out ? n : part->n_out - 1;
    const float *weight = (const float *)part->weight + (size_t)row * (size_t)p.n_in;
    const float *x = (const float *)p.x + (size_t)first_row * (size_t)p.n_in;
    float sum[QR_MATMUL_F32_ROWS];

    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    auto x_row = [&](int r) {
        return first_row + r < p.n_rows ? x + (int64_t)r * p.n_in : nullptr;
    };
    qr_f32_sums(weight, x_row, p.n_in, sum);
    QR_UNROLL
    for (int r = 0; r < QR_MATMUL_F32_ROWS; r++) {
        if (lane == r && n < part->n_out && first_row + r < p.n_rows)
            qr_store_result<float>(part, p.epilogue, n, first_row + r, sum[r]);
    }
}
