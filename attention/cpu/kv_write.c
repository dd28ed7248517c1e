/* kv_write.c - rows of K and V, as the model computes them, into their pages. */
#include <string.h>

#include "attention/attention.h"
#include "attention/paged_kv.h"

/* from [n] to `to`, of dtype */
static void write_elements(enum qr_dtype dtype, const float *from, size_t n, void *to)
{
    uint16_t *halves = to;

    if (dtype == QR_DTYPE_F32)
        memcpy(to, from, n * sizeof(*from));
    for (size_t i = 0; i < n && dtype == QR_DTYPE_BF16; i++)
        halves[i] = qr_f32_to_bf16(from[i]);
    for (size_t i = 0; i < n && dtype == QR_DTYPE_F16; i++)
        halves[i] = qr_f32_to_f16(from[i]);
}

/* One row: k, v [n_kv_heads][head_dim] to slot `slot` of a page. */
static void write_row(const struct qr_kv_geometry *kv, enum qr_dtype dtype, int32_t layer,
                      int32_t page, int32_t slot, const float *k, const float *v, void *kv_pool)
{
    size_t size = qr_dtype_size(dtype);
    size_t head_dim = (size_t)kv->head_dim;

    for (int32_t head = 0; head < kv->n_kv_heads; head++) {
        size_t at = qr_kv_page_offset(kv, layer, head, page) + (size_t)slot * head_dim;
        char *key = (char *)kv_pool + at * size;
        write_elements(dtype, k + (size_t)head * head_dim, head_dim, key);
        write_elements(dtype, v + (size_t)head * head_dim, head_dim,
                       key + qr_kv_value_offset(kv) * size);
    }
}

void qr_kv_write_cpu(const struct qr_kv_geometry *kv, enum qr_dtype kv_dtype, int32_t layer,
                     const struct qr_attention_batch *batch, const float *k, const float *v,
                     void *kv_pool)
{
    size_t row_floats = (size_t)kv->n_kv_heads * (size_t)kv->head_dim;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        const int32_t *block_table =
            batch->block_table + (size_t)s * (size_t)batch->block_table_stride;
        for (int32_t row = batch->query_start[s]; row < batch->query_start[s + 1]; row++) {
            int32_t position = batch->context_length[s] - (batch->query_start[s + 1] - row);
            write_row(kv, kv_dtype, layer, block_table[position / kv->page_size],
                      position % kv->page_size, k + (size_t)row * row_floats,
                      v + (size_t)row * row_floats, kv_pool);
        }
    }
}
