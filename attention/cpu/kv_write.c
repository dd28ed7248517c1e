/* kv_write.c - rows of K and V, as the model computes them, into their pages. */
#include "attention/cpu/paged_attention.h"
#include "attention/paged_kv.h"

/* Row `row` of the batch to slot `slot` of a page. */
static void write_row(const struct qr_attention_kernel *kernel, const struct qr_kv_rows *rows,
                      int32_t row, int32_t page, int32_t slot)
{
    const struct qr_kv_geometry *kv = &rows->kv;
    size_t size = qr_dtype_size(rows->kv_dtype);
    size_t head_dim = (size_t)kv->head_dim;
    size_t from = (size_t)row * (size_t)kv->n_kv_heads * head_dim;

    for (int32_t head = 0; head < kv->n_kv_heads; head++, from += head_dim) {
        size_t at = qr_kv_page_offset(kv, rows->layer, head, page) + (size_t)slot * head_dim;
        char *key = (char *)rows->kv_pool + at * size;
        kernel->narrow(rows->kv_dtype, rows->k + from, kv->head_dim, key);
        kernel->narrow(rows->kv_dtype, rows->v + from, kv->head_dim,
                       key + qr_kv_value_offset(kv) * size);
    }
}

/* Found by halving: a step may be of hundreds of sequences, of which each call writes a few. */
static int32_t seq_of_row(const struct qr_attention_batch *batch, int32_t row)
{
    int32_t first = 0, end = batch->n_seqs;

    while (end - first > 1) {
        int32_t middle = first + (end - first) / 2;
        if (batch->query_start[middle] <= row)
            first = middle;
        else
            end = middle;
    }
    return first;
}

void qr_kv_write_cpu(enum qr_isa isa, const struct qr_kv_rows *rows, int32_t first, int32_t last)
{
    const struct qr_attention_kernel *kernel = qr_attention_kernel_of(isa);
    const struct qr_attention_batch *batch = rows->batch;
    int32_t page_size = rows->kv.page_size;
    int32_t seq = first < last ? seq_of_row(batch, first) : 0;

    for (int32_t row = first; row < last; row++) {
        while (row >= batch->query_start[seq + 1])
            seq++;
        const int32_t *block_table =
            batch->block_table + (size_t)seq * (size_t)batch->block_table_stride;
        int32_t position = batch->context_length[seq] - (batch->query_start[seq + 1] - row);
        write_row(kernel, rows, row, block_table[position / page_size], position % page_size);
    }
}
