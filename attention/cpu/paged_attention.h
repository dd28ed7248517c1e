/*
 * paged_attention.h - what the instruction sets' kernels have in common: the unit of
 * work, and a table of functions for each of them.
 */
#ifndef QUIRE_ATTENTION_CPU_PAGED_ATTENTION_H
#define QUIRE_ATTENTION_CPU_PAGED_ATTENTION_H

#include "attention/attention.h"

/* Queries a block: they share the loads of K and V. Bounds the scratch on the stack. */
enum { QR_ATTENTION_BLOCK_QUERIES = 32 };

/*
 * A run of queries of one sequence and kv head. A query is a (row, head of the group)
 * pair; they are counted row by row, so later queries see at least as many keys.
 *
 * Some blocks have part of the keys only. Such a one leaves the state of each split, which another
 * function merges. A state is [head_dim rounded up to QR_ATTENTION_STATE_ALIGN] the sum of p * V,
 * then the maximum of the scores and the denominator; states are [n_queries][n_splits], and those
 * of splits in which a query sees no key are not set.
 */
struct qr_attention_block {
    const struct qr_attention_params *params;
    int32_t seq;
    int32_t kv_head;
    int64_t first_query; /* in [0, rows of the sequence * heads of the group) */
    int32_t n_queries;   /* at most QR_ATTENTION_BLOCK_QUERIES */
    int32_t first_key;   /* of the block's splits: other keys are not seen; multiples of */
    int32_t end_key;     /* QR_ATTENTION_SPLIT */
    float *states;    /* of the first query and the split of first_key; NULL: results go to out */
    int32_t n_splits; /* from a query's state to the next one's, in states */
    /* What the thread most likely runs after it, whose first keys are fetched meanwhile; NULL: not
     * known. */
    const struct qr_attention_block *next;
};

enum { QR_ATTENTION_STATE_ALIGN = 16 }; /* floats */

static inline size_t qr_attention_state_floats(int32_t head_dim)
{
    size_t n_vectors = ((size_t)head_dim + QR_ATTENTION_STATE_ALIGN - 1) / QR_ATTENTION_STATE_ALIGN;

    return (n_vectors + 1) * QR_ATTENTION_STATE_ALIGN;
}

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

/* The functions of one instruction set. */
struct qr_attention_kernel {
    qr_attention_block_fn run;
    qr_attention_block_fn merge; /* the block's states, to out */
    /* from [n] to `to`, of dtype, rounded to nearest, ties to even */
    void (*narrow)(enum qr_dtype dtype, const float *from, int32_t n, void *to);
};

/* Those of a supported set. */
const struct qr_attention_kernel *qr_attention_kernel_of(enum qr_isa isa);

/* Cuts the batch into blocks and lets the threads run them. */
void qr_attention_run_blocks(const struct qr_attention_kernel *kernel,
                             const struct qr_attention_params *params, struct qr_thread_pool *pool,
                             struct qr_attention_workspace *workspace);

extern const struct qr_attention_kernel qr_attention_kernel_scalar;
extern const struct qr_attention_kernel qr_attention_kernel_neon;
extern const struct qr_attention_kernel qr_attention_kernel_avx2;
extern const struct qr_attention_kernel qr_attention_kernel_avx512;
extern const struct qr_attention_kernel qr_attention_kernel_avx512bf16;

#endif /* QUIRE_ATTENTION_CPU_PAGED_ATTENTION_H */
