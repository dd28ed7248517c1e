/*
 * attention.h - causal attention over paged KV, prefill chunks and decodes mixed in
 * one ragged batch.
 *
 * KV of all layers lives in one pool of pages, each one contiguous extent:
 *
 *     kv_pool [page_count][n_layers][n_kv_heads][2 (K, V)][page_size][head_dim]
 *
 * of F32, or of F16 or BF16, to which K and V are rounded as they are written, to nearest, ties to
 * even. Kernels widen them, exactly, and compute in F32; but avx512bf16 rounds queries and weights
 * to BF16 as well where pages are (docs/adr/0011). K is stored after RoPE. Kernels receive
 * `const int32_t *block_table` and never know the block manager.
 *
 * Reduction order (design, decision 4): the keys of a row are cut into tiles of
 * QR_ATTENTION_TILE at positions counted from token 0, whatever the page size; the
 * tiles are merged in ascending order with the online softmax of Milakov and
 * Gimelshein (2018), as in FlashAttention. On the CPU they are so up to the end of a split, of
 * QR_ATTENTION_SPLIT keys counted from token 0 too, where a new state begins; the states of the
 * splits, whichever thread has computed them, are merged in ascending order into the first one that
 * has a key which the row sees. So a row's bits depend on its own q and
 * on the keys and values that it sees, of positions [0, position], alone: not on the batch, the
 * chunking, the page size, the placement of pages or the number of threads.
 */
#ifndef QUIRE_ATTENTION_ATTENTION_H
#define QUIRE_ATTENTION_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "base/cpu_features.h"
#include "base/dtype.h"
#include "base/status.h"
#include "base/thread_pool.h"

enum {
    QR_ATTENTION_TILE = 64,          /* keys a tile */
    QR_ATTENTION_SPLIT = 512,        /* keys a split of the CPU's, a multiple of the tile */
    QR_ATTENTION_MAX_HEAD_DIM = 512, /* elements */
};

struct qr_kv_geometry {
    int32_t n_layers;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t page_size; /* tokens a page, a power of two in [8, 256] */
};

/* Elements of one page: n_layers * 2 * n_kv_heads * page_size * head_dim. */
static inline size_t qr_kv_page_elements(const struct qr_kv_geometry *kv)
{
    return (size_t)kv->n_layers * 2 * (size_t)kv->n_kv_heads * (size_t)kv->page_size *
           (size_t)kv->head_dim;
}

/* Which rows of q belong to which sequence. Row r of sequence s stands at position
 * context_length[s] - (query_start[s + 1] - r). */
struct qr_attention_batch {
    int32_t n_seqs;
    const int32_t *query_start;    /* [n_seqs + 1], ascending, from 0 to n_rows */
    const int32_t *context_length; /* [n_seqs] keys visible to the sequence's last row */
    const int32_t *block_table;    /* [n_seqs][block_table_stride] physical pages; -1: gone, as its
                                      keys lie before the window of the sequence's first row */
    int32_t block_table_stride;
};

struct qr_attention_params {
    struct qr_kv_geometry kv;
    int32_t layer;
    int32_t n_heads; /* query heads, a multiple of n_kv_heads */
    float scale;     /* of q . k, usually 1 / sqrt(head_dim) */
    int32_t window;  /* keys a row sees, itself included; 0: all. Pages before it are not read */
    float soft_cap;  /* scores s become cap * tanh(s / cap); 0: they stay */
    const float *q;  /* [n_rows][n_heads][head_dim] */
    enum qr_dtype kv_dtype; /* F32, F16 or BF16 */
    const void *kv_pool;    /* of kv_dtype */
    float *out;             /* [n_rows][n_heads][head_dim] */
    const struct qr_attention_batch *batch;
};

QR_BEGIN_DECLS

/* The plain definition in double precision, one row at a time: the oracle of the tests. */
void qr_attention_reference(const struct qr_attention_params *params);

/* The most that calls will ask for. */
struct qr_attention_limits {
    int32_t max_seqs;
    int32_t max_context; /* tokens; of longer ones fewer may be split over threads */
    int32_t n_heads;
    int32_t head_dim;
    int32_t n_threads;
};

/* What the CPU's kernel needs beside its results: a plan, and the states of splits. */
struct qr_attention_workspace;
QR_MUST_CHECK enum qr_status qr_attention_workspace_create(const struct qr_attention_limits *limits,
                                                           struct qr_attention_workspace **out);
void qr_attention_workspace_destroy(struct qr_attention_workspace *workspace); /* accepts NULL */

/* The kernel of one instruction set, which must be supported here. Allocates nothing; one call at a
 * time for each workspace. */
void qr_attention_cpu(enum qr_isa isa, const struct qr_attention_params *params,
                      struct qr_thread_pool *pool, struct qr_attention_workspace *workspace);

/* What qr_kv_write_cpu writes: K and V of one layer. */
struct qr_kv_rows {
    struct qr_kv_geometry kv;
    int32_t layer;
    enum qr_dtype kv_dtype;                 /* F32, F16 or BF16 */
    const struct qr_attention_batch *batch; /* whose rows they are */
    const float *k;                         /* [n_rows][n_kv_heads][head_dim] */
    const float *v;                         /* [n_rows][n_kv_heads][head_dim] */
    void *kv_pool;                          /* of kv_dtype */
};

/* Writes rows [first, last) into their pages; by any instruction set, the same bits. Threads may
 * write different rows at a time. */
void qr_kv_write_cpu(enum qr_isa isa, const struct qr_kv_rows *rows, int32_t first, int32_t last);

QR_END_DECLS

#endif /* QUIRE_ATTENTION_ATTENTION_H */
