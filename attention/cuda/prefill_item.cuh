/*
 * prefill_item.cuh - the queries of an item of the plan: pairs of a row and a head of the group,
 * row by row. What lies past the end stands for the last one.
 */
#ifndef QUIRE_ATTENTION_CUDA_PREFILL_ITEM_CUH
#define QUIRE_ATTENTION_CUDA_PREFILL_ITEM_CUH

#include "attention/cuda/plan.h"
#include "base/cuda/primitives.cuh"

/* The row of query `i`. shared: of ranges; NULL: rows are counted from first_row. */
QR_DEVICE int qr_item_row(const qr_attend_kernel_params &p, const qr_prefill_item *item,
                          const qr_range_row *shared, int i)
{
    int n = item->first_query + (i < item->n_queries ? i : item->n_queries - 1);
    return shared != nullptr ? shared[item->first_row + n / p.group].row
                             : item->first_row + n / p.group;
}

/* The first element of query `i` in q and out, for heads of that many elements; i is not past the
 * end. */
QR_DEVICE int64_t qr_item_offset(const qr_attend_kernel_params &p, const qr_prefill_item *item,
                                 const qr_range_row *shared, int kv_head, int i, int head_dim)
{
    int head = kv_head * p.group + (item->first_query + i) % p.group;
    return ((int64_t)qr_item_row(p, item, shared, i) * p.n_heads + head) * head_dim;
}

#endif /* QUIRE_ATTENTION_CUDA_PREFILL_ITEM_CUH */
