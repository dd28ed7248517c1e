/* kv_write.c - rows of K and V, as the model computes them, into their pages. */
#include <string.h>

#include "attention/attention.h"
#include "attention/paged_kv.h"

/* One row: k, v [n_kv_heads][head_dim] to slot `slot` of a page. */
static void write_row(const struct qr_kv_geometry *kv, int32_t layer, int32_t page, int32_t slot,
                      const float *k, const float *v, float *kv_pool)
{
    size_t head_dim = (size_t)kv->head_dim;

    for (int32_t head = 0; head < kv->n_kv_heads; head++) {
        float *key = kv_pool + qr_kv_page_offset(kv, layer, head, page) + (size_t)slot * head_dim;
        memcpy(key, k + (size_t)head * head_dim, head_dim * sizeof(*key));
        memcpy(key + qr_kv_value_offset(kv), v + (size_t)head * head_dim, head_dim * sizeof(*key));
    }
}

void qr_kv_write_cpu(const struct qr_kv_geometry *kv, int32_t layer,
                     const struct qr_attention_batch *batch, const float *k, const float *v,
                     float *kv_pool)
{
    size_t row_floats = (size_t)kv->n_kv_heads * (size_t)kv->head_dim;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        const int32_t *block_table =
            batch->block_table + (size_t)s * (size_t)batch->block_table_stride;
        for (int32_t row = batch->query_start[s]; row < batch->query_start[s + 1]; row++) {
            int32_t position = batch->context_length[s] - (batch->query_start[s + 1] - row);
            write_row(kv, layer, block_table[position / kv->page_size], position % kv->page_size,
                      k + (size_t)row * row_floats, v + (size_t)row * row_floats, kv_pool);
        }
    }
}
