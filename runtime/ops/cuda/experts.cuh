/*
 * experts.cuh - what the products of experts have in common: a block's pairs and its matrices.
 *
 * Of gate and up a block computes the same outputs, and stores act(gate) * up; of down it stores
 * the sums. The products are those of matmul_fragments.cuh (F32: matmul_f32.cuh), so the sums have
 * the bits of a dense layer's, whichever kernel computes them.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_EXPERTS_CUH
#define QUIRE_RUNTIME_OPS_CUDA_EXPERTS_CUH

#include "runtime/ops/cuda/activation.cuh"
#include "runtime/ops/cuda/experts_params.h"

enum qr_experts_product { QR_EXPERTS_DOWN = 1, QR_EXPERTS_GATE_UP = 2 }; /* matrices of each */

/* Waits for the routing; false where this block's tile is past its end. */
QR_DEVICE bool qr_experts_begin(const qr_experts_params &p)
{
    qr_allow_next_kernel();
    qr_wait_for_previous_kernel();
    return qr_block_index() < *p.routing.n_tiles;
}

/* A block's pairs and matrices. What it needs for its results alone it reads again for them: the
 * registers are scarce in between. */
template <qr_experts_product PRODUCT> struct qr_experts_block {
    const qr_experts_params &p;
    qr_expert_tile tile;
    const qr_expert_weights &expert;

    QR_DEVICE qr_experts_block(const qr_experts_params &params)
        : p(params), tile(p.routing.tiles[qr_block_index()]), expert(p.experts[tile.expert])
    {
    }

    /* Pair i of the tile, in [0, tile.n). */
    QR_DEVICE int pair(int i) const
    {
        return p.routing.order[tile.first + i];
    }

    /* Gate and up, or down. */
    QR_DEVICE const unsigned char *weight(int matrix) const
    {
        if (PRODUCT == QR_EXPERTS_DOWN)
            return (const unsigned char *)expert.down;
        return (const unsigned char *)(matrix == 0 ? expert.gate : expert.up);
    }

    QR_DEVICE float scaled(const float *scales, int n, float sum) const
    {
        return scales != nullptr ? qr_mul(sum, scales[n]) : sum;
    }

    /* The sums of output n: of gate and up, or of down. */
    template <class A> QR_DEVICE void store(int pair, int n, float first, float second) const
    {
        int64_t at = (int64_t)pair * p.n_out + n;

        if (PRODUCT == QR_EXPERTS_DOWN) {
            ((float *)p.out)[at] = scaled(expert.down_scales, n, first);
        } else {
            float gate = qr_activated(p.activation, scaled(expert.gate_scales, n, first));
            qr_from_float(gate * scaled(expert.up_scales, n, second), (A *)p.out + at);
        }
    }
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_EXPERTS_CUH */
