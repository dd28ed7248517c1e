/*
 * paged_attention.h - what the instruction sets' kernels have in common: the unit of
 * work, and one function for each of them.
 */
#ifndef QUIRE_ATTENTION_CPU_PAGED_ATTENTION_H
#define QUIRE_ATTENTION_CPU_PAGED_ATTENTION_H

#include "attention/attention.h"

/* Queries a block: they share the loads of K and V. Bounds the scratch on the stack. */
enum { QR_ATTENTION_BLOCK_QUERIES = 32 };

/*
 * A run of queries of one sequence and kv head. A query is a (row, head of the group)
 * pair; they are counted row by row, so later queries see at least as many keys.
 */
struct qr_attention_block {
    const struct qr_attention_params *params;
    int32_t seq;
    int32_t kv_head;
    int64_t first_query; /* in [0, rows of the sequence * heads of the group) */
    int32_t n_queries;   /* at most QR_ATTENTION_BLOCK_QUERIES */
};

/* Number of K (and V) rows that query `i` of the block sees: position + 1. */
static inline int32_t qr_attention_block_keys(const struct qr_attention_block *block, int32_t i)
{
    const struct qr_attention_batch *batch = block->params->batch;
    int32_t group = block->params->n_heads / block->params->kv.n_kv_heads;
    int32_t n_rows = batch->query_start[block->seq + 1] - batch->query_start[block->seq];
    int32_t row = (int32_t)((block->first_query + i) / group);

    return batch->context_length[block->seq] - n_rows + row + 1;
}

/* Floats from the start of q and out to query `i` of the block. */
static inline size_t qr_attention_block_offset(const struct qr_attention_block *block, int32_t i)
{
    const struct qr_attention_params *params = block->params;
    int32_t group = params->n_heads / params->kv.n_kv_heads;
    int64_t query = block->first_query + i;
    int64_t row = params->batch->query_start[block->seq] + query / group;
    int64_t head = (int64_t)block->kv_head * group + query % group;

    return (size_t)(row * params->n_heads + head) * (size_t)params->kv.head_dim;
}

typedef void (*qr_attention_block_fn)(const struct qr_attention_block *block);

/* Cuts the batch into blocks and lets the threads run them. */
void qr_attention_run_blocks(qr_attention_block_fn run_block,
                             const struct qr_attention_params *params, struct qr_thread_pool *pool);

void qr_attention_block_scalar(const struct qr_attention_block *block);
void qr_attention_block_neon(const struct qr_attention_block *block);
void qr_attention_block_avx2(const struct qr_attention_block *block);
void qr_attention_block_avx512(const struct qr_attention_block *block);

#endif /* QUIRE_ATTENTION_CPU_PAGED_ATTENTION_H */
