/*
 * paged_attention.c - cuts a ragged batch into blocks of queries and hands them to the
 * threads; the arithmetic is in paged_attention.inc.h.
 */
#include "attention/cpu/paged_attention.h"

#include "attention/cpu/paged_plan.h"
#include "base/assert.h"

enum {
    TAKES_PER_THREAD = 16, /* at least, of items, so that all threads are busy to the end */
    MOST_AT_A_TIME = 4,
};

struct attention_work {
    const struct qr_attention_params *params;
    const struct qr_attention_kernel *kernel;
    const struct qr_attention_workspace *workspace;
    int64_t n_items;
    int64_t to_next_take; /* items from a thread's first of a take to that of its next one */
};

const struct qr_attention_kernel *qr_attention_kernel_of(enum qr_isa isa)
{
    switch (isa) {
#if defined(__aarch64__)
    case QR_ISA_NEON:
        return &qr_attention_kernel_neon;
#endif
#if defined(__x86_64__)
    case QR_ISA_AVX2:
        return &qr_attention_kernel_avx2;
    case QR_ISA_AVX512:
    case QR_ISA_AVX512VNNI:
    case QR_ISA_AMX: /* of Intel, whose products of pairs are slower than those of F32 */
        return &qr_attention_kernel_avx512;
    case QR_ISA_AVX512BF16:
        return &qr_attention_kernel_avx512bf16;
#endif
    default:
        QR_ASSERT(isa == QR_ISA_SCALAR);
        return &qr_attention_kernel_scalar;
    }
}

/* From the last item to the first: the later rows of a prompt see more keys, and the
 * long items should not be the ones that the other threads wait for at the end. */
static struct qr_attention_block item_at(const struct attention_work *work, int64_t i)
{
    return qr_paged_plan_item(work->params, work->workspace, work->n_items - 1 - i);
}

/* Threads take items in turn, as long as they are alike: so it is known what comes. */
static void run_items(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct attention_work *work = arg;
    struct qr_attention_block block = item_at(work, first);
    struct qr_attention_block next = {0};

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t after = i + 1 < last ? i + 1 : first + work->to_next_take;
        if (after < work->n_items) {
            next = item_at(work, after);
            block.next = &next;
        }
        work->kernel->run(&block);
        block = next;
    }
}

static void merge_blocks(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct attention_work *work = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        struct qr_attention_block block = qr_paged_plan_merge(work->params, work->workspace, i);
        work->kernel->merge(&block);
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

static int64_t items_at_a_time(int64_t n_items, int32_t n_threads)
{
    int64_t n = n_items / ((int64_t)TAKES_PER_THREAD * n_threads);

    return n < 1 ? 1 : n > MOST_AT_A_TIME ? MOST_AT_A_TIME : n;
}

void qr_attention_run_blocks(const struct qr_attention_kernel *kernel,
                             const struct qr_attention_params *params, struct qr_thread_pool *pool,
                             struct qr_attention_workspace *workspace)
{
    const struct qr_paged_seq_plan *end = &workspace->seqs[params->batch->n_seqs];
    int32_t n_threads = qr_thread_pool_size(pool);
    struct attention_work work = {.params = params, .kernel = kernel, .workspace = workspace};

    check_params(params);
    qr_paged_plan(params, n_threads, workspace);
    work.n_items = end->first_item;
    int64_t n_at_a_time = items_at_a_time(work.n_items, n_threads);
    work.to_next_take = n_at_a_time * n_threads;
    qr_thread_pool_run(pool, work.n_items, n_at_a_time, run_items, &work);
    qr_thread_pool_run(pool, end->first_merge, 1, merge_blocks, &work);
}

void qr_attention_cpu(enum qr_isa isa, const struct qr_attention_params *params,
                      struct qr_thread_pool *pool, struct qr_attention_workspace *workspace)
{
    qr_attention_run_blocks(qr_attention_kernel_of(isa), params, pool, workspace);
}
