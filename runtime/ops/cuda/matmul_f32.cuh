/*
 * matmul_f32.cuh - how half a warp sums one output of up to 8 rows in F32.
 *
 * Sixteen lanes add the terms k = lane, lane + 16, ... by fused multiply-adds, then lane i is added
 * to i + 8, + 4, + 2, + 1.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_MATMUL_F32_CUH
#define QUIRE_RUNTIME_OPS_CUDA_MATMUL_F32_CUH

#include "base/cuda/primitives.cuh"
#include "runtime/ops/cuda/matmul_params.h"

/* sum[r] = weight . x row r; weight [n_in]; row(r): x row r, or null for one that is not there.
 * The same sums in all sixteen lanes. */
template <class Row>
QR_DEVICE void qr_f32_sums(const float *weight, const Row &row, int n_in, float *sum)
{
    int lane = qr_thread_index() % 16;

    QR_UNROLL
    for (int r = 0; r < QR_MATMUL_F32_ROWS; r++)
        sum[r] = 0.0f;
    for (int start = 0; start < n_in; start += 16) {
        /* Of the last step all lanes add, zeros where k is past the end. */
        int k = start + lane;
        float w = k < n_in ? weight[k] : 0.0f;
        QR_UNROLL
        for (int r = 0; r < QR_MATMUL_F32_ROWS; r++) {
            const float *x = row(r);
            sum[r] = qr_fma(k < n_in && x != nullptr ? x[k] : 0.0f, w, sum[r]);
        }
    }
    QR_UNROLL
    for (int r = 0; r < QR_MATMUL_F32_ROWS; r++) {
        QR_UNROLL
        for (int other = 8; other > 0; other /= 2)
            sum[r] += qr_shuffle_xor(sum[r], other);
    }
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_MATMUL_F32_CUH */
