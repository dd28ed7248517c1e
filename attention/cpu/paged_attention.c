/*
 * paged_attention.c - cuts a ragged batch into blocks of queries and hands them to the
 * threads; the arithmetic is in paged_attention.inc.h.
 */
#include "attention/cpu/paged_attention.h"

#include "attention/cpu/paged_plan.h"
#include "base/assert.h"

struct attention_work {
    const struct qr_attention_params *params;
    const struct qr_attention_kernel *kernel;
    const struct qr_attention_workspace *workspace;
    int64_t n_items;
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
    case QR_ISA_AVX512BF16:
    case QR_ISA_AMX:
        return &qr_attention_kernel_avx512;
#endif
    default:
        QR_ASSERT(isa == QR_ISA_SCALAR);
        return &qr_attention_kernel_scalar;
    }
}

/* From the last item to the first: the later rows of a prompt see more keys, and the
 * long items should not be the ones that the other threads wait for at the end. */
static void run_items(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct attention_work *work = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        struct qr_attention_block block =
            qr_paged_plan_item(work->params, work->workspace, work->n_items - 1 - i);
        work->kernel->run(&block);
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

void qr_attention_run_blocks(const struct qr_attention_kernel *kernel,
                             const struct qr_attention_params *params, struct qr_thread_pool *pool,
                             struct qr_attention_workspace *workspace)
{
    const struct qr_paged_seq_plan *end = &workspace->seqs[params->batch->n_seqs];
    struct attention_work work = {.params = params, .kernel = kernel, .workspace = workspace};

    check_params(params);
    qr_paged_plan(params, qr_thread_pool_size(pool), workspace);
    work.n_items = end->first_item;
    qr_thread_pool_run(pool, work.n_items, 1, run_items, &work);
    qr_thread_pool_run(pool, end->first_merge, 1, merge_blocks, &work);
}

void qr_attention_cpu(enum qr_isa isa, const struct qr_attention_params *params,
                      struct qr_thread_pool *pool, struct qr_attention_workspace *workspace)
{
    qr_attention_run_blocks(qr_attention_kernel_of(isa), params, pool, workspace);
}
