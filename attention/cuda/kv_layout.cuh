/* kv_layout.cuh - where a token's K and V lie in a page, chunk by chunk of 16 bytes. */
#ifndef QUIRE_ATTENTION_CUDA_KV_LAYOUT_CUH
#define QUIRE_ATTENTION_CUDA_KV_LAYOUT_CUH

#include "attention/cuda/plan.h"
#include "base/cuda/primitives.cuh"

/*
 * Chunk c of a row of n chunks stands at c ^ qr_kv_swizzle(n, slot). ldmatrix reads the same chunk
 * of 8 consecutive tokens; with this they lie in 8 different groups of banks: rows are n * 4 banks
 * apart, so the fewer groups n alone reaches the more the swizzle must add.
 */
QR_DEVICE int qr_kv_swizzle(int n_chunks, int slot)
{
    if (n_chunks % 8 == 0)
        return slot & 7;
    if (n_chunks % 4 == 0)
        return slot >> 1 & 3;
    if (n_chunks % 2 == 0)
        return slot >> 2 & 1;
    return 0;
}

/* K of the token at `position`: the first byte of its row. table: its sequence's pages. */
QR_DEVICE const unsigned char *qr_kv_row(const qr_kv_place &kv, const int32_t *table, int kv_head,
                                         int position, int row_bytes)
{
    int page = table[position >> kv.page_shift];
    int slot = position & ((1 << kv.page_shift) - 1);
    return kv.pool + (int64_t)page * kv.page_bytes + (int64_t)kv_head * kv.head_bytes +
           slot * row_bytes;
}

#endif /* QUIRE_ATTENTION_CUDA_KV_LAYOUT_CUH */
