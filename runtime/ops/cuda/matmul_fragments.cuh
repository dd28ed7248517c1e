/*
 * matmul_fragments.cuh - how a step of 64 elements of k is spread over a warp, for every weight
 * type, and what becomes of a sum. Shared by all kernels of m16n8k16 products, whose bits are
 * therefore the same.
 *
 * W is the A operand (16 outputs), x the B operand (8 rows); g = lane / 4, t = lane % 4. A lane
 * reads 16 bytes of a weight row at a time, so it holds other elements of k than the layout of the
 * fragments has; since x is spread in the same way, each product still meets its partner, and no
 * exchange between lanes is needed:
 *
 *   16-bit weights: two chunks, c = 0, 1, of k = 32 c + 8 t and the seven that follow
 *   8-bit weights:  one chunk of k = 16 t and the fifteen that follow
 *
 * Product q = 0..3 of a step takes the elements 4q..4q + 3 of the sixteen that a lane holds:
 * two as the pair (2t, 2t + 1) of the fragment, two as the pair (2t + 8, 2t + 9).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_MATMUL_FRAGMENTS_CUH
#define QUIRE_RUNTIME_OPS_CUDA_MATMUL_FRAGMENTS_CUH

#include "base/cuda/primitives.cuh"
#include "runtime/ops/cuda/matmul_params.h"

struct qr_int8 {
    int8_t value;
};

/* Of a weight type: chunks of a lane's sixteen elements, where they lie, and where the two chunks
 * of x that meet them do. */
template <class W> struct qr_weight_layout {
    static constexpr int CHUNKS = sizeof(W) == 2 ? 2 : 1;
    static constexpr int CHUNK_LENGTH = sizeof(W) == 2 ? 8 : 16;

    QR_DEVICE static int weight_k(int c, int t)
    {
        return sizeof(W) == 2 ? 32 * c + 8 * t : 16 * t;
    }
    QR_DEVICE static int x_k(int c, int t)
    {
        return sizeof(W) == 2 ? 32 * c + 8 * t : 16 * t + 8 * c;
    }
};

/* ---- sixteen weights of a lane to eight pairs of the activation type; exact ---- */

template <class A> QR_DEVICE void qr_weight_pairs(A, A, const qr_chunk *chunk, uint32_t *pairs)
{
    QR_UNROLL
    for (int i = 0; i < 8; i++)
        pairs[i] = chunk[i / 4].word[i % 4];
}

QR_DEVICE void qr_weight_pairs(qr_e4m3, qr_f16, const qr_chunk *chunk, uint32_t *pairs)
{
    QR_UNROLL
    for (int i = 0; i < 8; i++) {
        uint32_t word = chunk->word[i / 2];
        pairs[i] = qr_e4m3x2_to_f16x2((uint16_t)(i % 2 == 0 ? word & 0xffffu : word >> 16));
    }
}

/* The bits of e4m3 (4 of exponent, 3 of mantissa) at the right places of a bf16 are the number
 * times 2^-120: the exponent's bias is 7 in the one and 127 in the other. The factor 2^120 is exact
 * for subnormal numbers as well. */
QR_DEVICE void qr_weight_pairs(qr_e4m3, qr_bf16, const qr_chunk *chunk, uint32_t *pairs)
{
    QR_UNROLL
    for (int i = 0; i < 8; i++) {
        /* {0, byte 2j, 0, byte 2j + 1}, lowest first: each byte in the upper half of 16 bits */
        uint32_t spread = qr_permute_bytes(chunk->word[i / 2], 0u, i % 2 == 0 ? 0x1404u : 0x3424u);
        uint32_t bits = (spread & 0x80008000u) | (spread >> 4 & 0x07f007f0u);
        pairs[i] = qr_mul_bf16x2(bits, 0x7b807b80u);
    }
}

/* In F32 the bits 0x4b000000 + u are 2^23 + u; u = value + 128 is the byte with its sign bit
 * turned over. */
template <class A>
QR_DEVICE void qr_weight_pairs(qr_int8, A, const qr_chunk *chunk, uint32_t *pairs)
{
    QR_UNROLL
    for (int i = 0; i < 4; i++) {
        uint32_t shifted = chunk->word[i] ^ 0x80808080u;
        float value[4];
        QR_UNROLL
        for (int j = 0; j < 4; j++)
            value[j] =
                qr_bits_float(qr_permute_bytes(shifted, 0x4b000000u, 0x7650u + (uint32_t)j)) -
                8388736.0f;
        pairs[2 * i] = qr_pack(A{}, value[0], value[1]);
        pairs[2 * i + 1] = qr_pack(A{}, value[2], value[3]);
    }
}

/* One product of a step: c += W x of 16 outputs, 8 rows and 16 elements of k. low, high: a lane's
 * eight pairs of the outputs g and g + 8; x: its chunk q / 2. */
template <class A>
QR_DEVICE void qr_step_product(int q, float *c, const uint32_t *low, const uint32_t *high,
                               const qr_chunk &x)
{
    const uint32_t a[4] = {low[2 * q], high[2 * q], low[2 * q + 1], high[2 * q + 1]};
    const uint32_t b[2] = {x.word[q % 2 * 2], x.word[q % 2 * 2 + 1]};
    qr_mma(A{}, c, a, b);
}

/* ---- where a result goes ---- */

QR_DEVICE const qr_matmul_part *qr_find_part(const qr_matmul_params &p, int tile)
{
    int i = p.n_parts - 1;
    while (tile < p.parts[i].first_tile)
        i--;
    return &p.parts[i];
}

/* The sum of output n and row r, both within the matrix. */
template <class A>
QR_DEVICE void qr_store_result(const qr_matmul_part *part, int epilogue, int n, int r, float sum)
{
    size_t at = (size_t)r * (size_t)part->n_out + (size_t)n;

    if (part->scales != nullptr)
        sum = qr_mul(sum, part->scales[n]);
    if (epilogue == QR_CUDA_STORE)
        qr_from_float(sum, (A *)part->out + at);
    else if (epilogue == QR_CUDA_STORE_F32)
        ((float *)part->out)[at] = sum;
    else
        ((float *)part->out)[at] += sum;
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_MATMUL_FRAGMENTS_CUH */
