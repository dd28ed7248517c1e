/* paged_kv.h - where a token's K and V lie in the pool of pages; layout in attention.h. */
#ifndef QUIRE_ATTENTION_PAGED_KV_H
#define QUIRE_ATTENTION_PAGED_KV_H

#include "attention/attention.h"

/* Elements from a token's K to its V, in one layer and kv head. */
static inline size_t qr_kv_value_offset(const struct qr_kv_geometry *kv)
{
    return (size_t)kv->page_size * (size_t)kv->head_dim;
}

/* Elements from the start of the pool to the K of one kv head's first token in a page. */
static inline size_t qr_kv_page_offset(const struct qr_kv_geometry *kv, int32_t layer,
                                       int32_t kv_head, int32_t page)
{
    return (size_t)page * qr_kv_page_elements(kv) +
           ((size_t)layer * (size_t)kv->n_kv_heads + (size_t)kv_head) * 2 * qr_kv_value_offset(kv);
}

/* K of the token at `position`: [head_dim] of kv_dtype. block_table: the sequence's own pages. */
static inline const void *qr_paged_key(const struct qr_attention_params *params,
                                       const int32_t *block_table, int32_t kv_head,
                                       int32_t position)
{
    const struct qr_kv_geometry *kv = &params->kv;
    int32_t page = block_table[position / kv->page_size];
    size_t at = qr_kv_page_offset(kv, params->layer, kv_head, page) +
                (size_t)(position % kv->page_size) * (size_t)kv->head_dim;

    return (const char *)params->kv_pool + at * qr_dtype_size(params->kv_dtype);
}

#endif /* QUIRE_ATTENTION_PAGED_KV_H */
