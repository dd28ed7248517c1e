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
                   sizeof(struct qr_cuda_draw) == sizeof(struct qr_select_draw) &&
                   sizeof(struct qr_cuda_candidate) == sizeof(struct qr_select_candidate) &&
                   sizeof(struct qr_cuda_edited_row) == sizeof(struct qr_select_edited_row) &&
                   sizeof(struct qr_logit_edit) == sizeof(struct qr_select_edit),
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

size_t qr_cuda_edited_bytes(int32_t k)
{
    size_t n_bytes = qr_cuda_selected_bytes(k) + (size_t)k * sizeof(float);
    return (n_bytes + 7) / 8 * 8; /* a result begins with a double's alignment */
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
    QR_TRY(qr_cuda_find_kernel(cuda, "qr_edit_logits", QR_SELECT_THREADS, 0, &out->edit, err));
    QR_TRY(
        qr_cuda_find_kernel(cuda, "qr_restore_logits", QR_SELECT_THREADS, 0, &out->restore, err));
    return qr_cuda_find_kernel(cuda, "qr_draw", QR_SELECT_THREADS, DRAW_SHARED_BYTES, &out->draw,
                               err);
}

/* Which rows, and where their results go; rows NULL: all, one by one. */
struct target {
    const float *logits;
    const struct qr_cuda_edited_row *rows;
    int32_t n_rows;
    int32_t k;
    void *out;
    size_t out_bytes;
};

static void launch_select(struct qr_cuda_select *select, const struct target *target,
                          const int32_t *token_ids)
{
    char *workspace = select->workspace;
    size_t n_key_bytes = key_bytes(select->vocab_size, target->n_rows, target->k);
    const struct qr_select_params params = {
        .logits = target->logits,
        .rows = (const struct qr_select_edited_row *)(const void *)target->rows,
        .token_ids = token_ids,
        .keys = (qr_select_key *)(void *)workspace,
        .sums = (struct qr_select_sums *)(void *)(workspace + n_key_bytes),
        .out = target->out,
        .out_bytes = (int64_t)target->out_bytes,
        .vocab_size = select->vocab_size,
        .n_parts = count_parts(select->vocab_size),
        .k = target->k,
    };

    QR_ASSERT(target->n_rows <= select->max_rows && target->k >= 1 && target->k <= select->max_k);
    if (target->n_rows == 0)
        return;
    qr_cuda_launch(select->cuda, &select->part, target->n_rows, params.n_parts, &params);
    qr_cuda_launch(select->cuda, &select->merge, target->n_rows, 1, &params);
}

static void launch_draw(struct qr_cuda_select *select, const struct target *target,
                        const struct qr_cuda_draw *draws)
{
    const struct qr_draw_params params = {
        .logits = target->logits,
        .rows = (const struct qr_select_edited_row *)(const void *)target->rows,
        .draws = (const struct qr_select_draw *)(const void *)draws,
        .out = target->out,
        .out_bytes = (int64_t)target->out_bytes,
        .vocab_size = select->vocab_size,
    };

    QR_ASSERT(target->n_rows <= select->max_rows);
    qr_cuda_launch(select->cuda, &select->draw, target->n_rows, 1, &params);
}

static struct target all_rows(const float *logits, int32_t n_rows, int32_t k, void *out)
{
    return (struct target){.logits = logits,
                           .n_rows = n_rows,
                           .k = k,
                           .out = out,
                           .out_bytes = qr_cuda_selected_bytes(k)};
}

void qr_cuda_select(struct qr_cuda_select *select, const float *logits, int32_t n_rows, int32_t k,
                    const int32_t *token_ids, void *out)
{
    const struct target target = all_rows(logits, n_rows, k, out);

    launch_select(select, &target, token_ids);
}

void qr_cuda_draw(struct qr_cuda_select *select, const float *logits, int32_t n_rows, int32_t k,
                  const struct qr_cuda_draw *draws, void *out)
{
    const struct target target = all_rows(logits, n_rows, k, out);

    launch_draw(select, &target, draws);
}

void qr_cuda_select_edited(struct qr_cuda_select *select, float *logits, int32_t n_rows, int32_t k,
                           const struct qr_cuda_edits *edits, void *out)
{
    const struct target target = {.logits = logits,
                                  .rows = edits->rows,
                                  .n_rows = n_rows,
                                  .k = k,
                                  .out = out,
                                  .out_bytes = qr_cuda_edited_bytes(k)};
    const struct qr_edit_params params = {
        .logits = logits,
        .rows = (const struct qr_select_edited_row *)(const void *)edits->rows,
        .edits = (const struct qr_select_edit *)(const void *)edits->edits,
        .saved = edits->saved,
        .out = out,
        .out_bytes = (int64_t)target.out_bytes,
        .vocab_size = select->vocab_size,
        .k = k,
    };

    qr_cuda_launch(select->cuda, &select->edit, n_rows, 1, &params);
    launch_select(select, &target, NULL);
    if (edits->draws != NULL)
        launch_draw(select, &target, edits->draws);
    qr_cuda_launch(select->cuda, &select->restore, n_rows, 1, &params);
}
