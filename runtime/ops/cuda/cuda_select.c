/* cuda_select.c - see cuda_select.h for the contract. */
#include "runtime/ops/cuda/cuda_select.h"

#include "base/assert.h"
#include "runtime/ops/cuda/select_params.h"

_Static_assert((int)QR_CUDA_SELECT_PART == (int)QR_SELECT_PART &&
                   (int)QR_CUDA_SELECT_MAX_PARTS == (int)QR_SELECT_MAX_PARTS &&
                   (int)QR_CUDA_SELECT_MAX_K == (int)QR_SELECT_MAX_K,
               "the kernels' figures and those of the interface");

/* As struct select_shared of sampling.cu: numbers of 16 warps, and the candidates found. */
enum { SHARED_BYTES = 5 * QR_SELECT_THREADS / 32 * 4 + 16 + QR_SELECT_MAX_K * 8 };

_Static_assert(sizeof(struct qr_cuda_selected) == sizeof(struct qr_selected_head) &&
                   sizeof(struct qr_cuda_draw) == sizeof(struct qr_select_draw),
               "the kernels' structs and those of the interface");

/* As struct draw_shared of sampling_draw.cu. */
enum {
    DRAW_SHARED_BYTES = (QR_DRAW_MAX_PARTS * (QR_SELECT_THREADS / 32 + 1) + QR_SELECT_THREADS) * 8 +
                        QR_SELECT_THREADS / 32 * 4
};

static int32_t count_parts(int32_t vocab_size)
{
    return (vocab_size + QR_SELECT_PART - 1) / QR_SELECT_PART;
}

size_t qr_cuda_selected_bytes(int32_t k)
{
    return sizeof(struct qr_cuda_selected) + (size_t)k * sizeof(struct qr_cuda_candidate);
}

/* The parts' keys stand first, then their sums. */
static size_t key_bytes(int32_t vocab_size, int32_t n_rows, int32_t k)
{
    return (size_t)n_rows * (size_t)count_parts(vocab_size) * (size_t)k * sizeof(qr_select_key);
}

size_t qr_cuda_select_workspace_bytes(int32_t vocab_size, int32_t max_rows, int32_t max_k)
{
    size_t n_parts = (size_t)max_rows * (size_t)count_parts(vocab_size);

    return key_bytes(vocab_size, max_rows, max_k) + n_parts * sizeof(struct qr_select_sums);
}

enum qr_status qr_cuda_select_open(struct qr_cuda *cuda, int32_t vocab_size, int32_t max_rows,
                                   int32_t max_k, void *workspace, struct qr_cuda_select *out,
                                   struct qr_error *err)
{
    QR_ASSERT(max_k >= 1 && max_k <= QR_CUDA_SELECT_MAX_K);
    *out = (struct qr_cuda_select){.cuda = cuda,
                                   .vocab_size = vocab_size,
                                   .max_rows = max_rows,
                                   .max_k = max_k,
                                   .workspace = workspace};
    if (vocab_size > QR_CUDA_SELECT_MAX_VOCAB)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "a vocabulary of %d tokens: the device selects among at most %d", vocab_size,
                       QR_CUDA_SELECT_MAX_VOCAB);
    QR_TRY(qr_cuda_find_kernel(cuda, "qr_select_part", QR_SELECT_THREADS, SHARED_BYTES, &out->part,
                               err));
    QR_TRY(qr_cuda_find_kernel(cuda, "qr_select_merge", QR_SELECT_THREADS, SHARED_BYTES,
                               &out->merge, err));
    return qr_cuda_find_kernel(cuda, "qr_draw", QR_SELECT_THREADS, DRAW_SHARED_BYTES, &out->draw,
                               err);
}

void qr_cuda_select(struct qr_cuda_select *select, const float *logits, int32_t n_rows, int32_t k,
                    const int32_t *token_ids, void *out)
{
    char *workspace = select->workspace;
    const struct qr_select_params params = {
        .logits = logits,
        .token_ids = token_ids,
        .keys = (qr_select_key *)(void *)workspace,
        .sums =
            (struct qr_select_sums *)(void *)(workspace + key_bytes(select->vocab_size, n_rows, k)),
        .out = out,
        .out_bytes = (int64_t)qr_cuda_selected_bytes(k),
        .vocab_size = select->vocab_size,
        .n_parts = count_parts(select->vocab_size),
        .k = k,
    };

    QR_ASSERT(n_rows <= select->max_rows && k >= 1 && k <= select->max_k);
    if (n_rows == 0)
        return;
    qr_cuda_launch(select->cuda, &select->part, n_rows, params.n_parts, &params);
    qr_cuda_launch(select->cuda, &select->merge, n_rows, 1, &params);
}

void qr_cuda_draw(struct qr_cuda_select *select, const float *logits, int32_t n_rows, int32_t k,
                  const struct qr_cuda_draw *draws, void *out)
{
    const struct qr_draw_params params = {
        .logits = logits,
        .draws = (const struct qr_select_draw *)(const void *)draws,
        .out = out,
        .out_bytes = (int64_t)qr_cuda_selected_bytes(k),
        .vocab_size = select->vocab_size,
    };

    QR_ASSERT(n_rows <= select->max_rows);
    qr_cuda_launch(select->cuda, &select->draw, n_rows, 1, &params);
}
