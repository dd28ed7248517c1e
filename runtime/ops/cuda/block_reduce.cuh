/*
 * block_reduce.cuh - one number of all threads of a block, in one order: the lanes of a warp in a
 * tree (lane l with l ^ 16, then ^ 8, 4, 2, 1), then the warps from the first to the last.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_BLOCK_REDUCE_CUH
#define QUIRE_RUNTIME_OPS_CUDA_BLOCK_REDUCE_CUH

#include "base/cuda/primitives.cuh"

struct qr_sum {
    template <class T> QR_DEVICE static T of(T a, T b)
    {
        return a + b;
    }
};
struct qr_largest {
    template <class T> QR_DEVICE static T of(T a, T b)
    {
        return a > b ? a : b;
    }
};

template <class Op, class T> QR_DEVICE T qr_warp_reduce(T value)
{
    QR_UNROLL
    for (int other = 16; other > 0; other /= 2)
        value = Op::of(value, qr_shuffle_xor(value, other));
    return value;
}

/* The same result in all threads. shared: [WARPS], which no call within the next barrier may have
 * too: callers alternate between two. */
template <class Op, int WARPS, class T> QR_DEVICE T qr_block_reduce(T value, T *shared)
{
    value = qr_warp_reduce<Op>(value);
    if (qr_thread_index() % 32 == 0)
        shared[qr_thread_index() / 32] = value;
    qr_sync_block();
    value = shared[0];
    QR_UNROLL
    for (int warp = 1; warp < WARPS; warp++)
        value = Op::of(value, shared[warp]);
    return value;
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_BLOCK_REDUCE_CUH */
