/*
 * paged_attention.c - cuts a ragged batch into blocks of queries and hands them to the
 * threads; the arithmetic is in paged_attention.inc.h.
 */
#include "attention/cpu/paged_attention.h"

#include "base/assert.h"

struct attention_work {
    const struct qr_attention_params *params;
    qr_attention_block_fn run_block;
    int64_t n_items;
};

static qr_attention_block_fn block_fn_of(enum qr_isa isa)
{
    switch (isa) {
#if defined(__aarch64__)
    case QR_ISA_NEON:
        return qr_attention_block_neon;
#endif
#if defined(__x86_64__)
    case QR_ISA_AVX2:
        return qr_attention_block_avx2;
    case QR_ISA_AVX512:
    case QR_ISA_AVX512VNNI:
    case QR_ISA_AVX512BF16:
    case QR_ISA_AMX:
        return qr_attention_block_avx512;
#endif
    default:
        QR_ASSERT(isa == QR_ISA_SCALAR);
        return qr_attention_block_scalar;
    }
}

static int64_t queries_of_seq(const struct qr_attention_params *params, int32_t seq)
{
    const int32_t *query_start = params->batch->query_start;
    int64_t n_rows = query_start[seq + 1] - query_start[seq];

    return n_rows * (params->n_heads / params->kv.n_kv_heads);
}

static int64_t blocks_of_seq(const struct qr_attention_params *params, int32_t seq)
{
    return (queries_of_seq(params, seq) + QR_ATTENTION_BLOCK_QUERIES - 1) /
           QR_ATTENTION_BLOCK_QUERIES;
}

/* Items are counted by sequence, then kv head, then block. */
static struct qr_attention_block find_block(const struct qr_attention_params *params, int64_t item)
{
    int32_t seq = 0;
    int64_t n_blocks = blocks_of_seq(params, seq);

    while (item >= n_blocks * params->kv.n_kv_heads) {
        item -= n_blocks * params->kv.n_kv_heads;
        n_blocks = blocks_of_seq(params, ++seq);
    }
    int64_t first_query = item % n_blocks * QR_ATTENTION_BLOCK_QUERIES;
    int64_t n_left = queries_of_seq(params, seq) - first_query;
    return (struct qr_attention_block){
        .params = params,
        .seq = seq,
        .kv_head = (int32_t)(item / n_blocks),
        .first_query = first_query,
        .n_queries =
            n_left < QR_ATTENTION_BLOCK_QUERIES ? (int32_t)n_left : QR_ATTENTION_BLOCK_QUERIES,
    };
}

/* From the last item to the first: the later rows of a prompt see more keys, and the
 * long items should not be the ones that the other threads wait for at the end. */
static void run_items(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct attention_work *work = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        struct qr_attention_block block = find_block(work->params, work->n_items - 1 - i);
        work->run_block(&block);
    }
}

static void check_params(const struct qr_attention_params *params)
{
    const struct qr_kv_geometry *kv = &params->kv;

    QR_ASSERT(kv->head_dim >= 1 && kv->head_dim <= QR_ATTENTION_MAX_HEAD_DIM);
    QR_ASSERT(kv->page_size >= 8 && kv->page_size <= 256 &&
              (kv->page_size & (kv->page_size - 1)) == 0);
    QR_ASSERT(params->kv_dtype < QR_DTYPE_COUNT);
    QR_ASSERT(params->window >= 0 && params->soft_cap >= 0.0f);
    QR_ASSERT(params->layer >= 0 && params->layer < kv->n_layers);
    QR_ASSERT(kv->n_kv_heads >= 1 && params->n_heads >= 1 && params->n_heads % kv->n_kv_heads == 0);
}

void qr_attention_run_blocks(qr_attention_block_fn run_block,
                             const struct qr_attention_params *params, struct qr_thread_pool *pool)
{
    const struct qr_attention_batch *batch = params->batch;
    struct attention_work work = {.params = params, .run_block = run_block};

    check_params(params);
    for (int32_t s = 0; s < batch->n_seqs; s++) {
        QR_ASSERT(batch->context_length[s] >= batch->query_start[s + 1] - batch->query_start[s]);
        work.n_items += blocks_of_seq(params, s) * params->kv.n_kv_heads;
    }
    qr_thread_pool_run(pool, work.n_items, 1, run_items, &work);
}

void qr_attention_cpu(enum qr_isa isa, const struct qr_attention_params *params,
                      struct qr_thread_pool *pool)
{
    qr_attention_run_blocks(block_fn_of(isa), params, pool);
}
