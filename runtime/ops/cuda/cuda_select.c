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
                   sizeof(struct qr_drawn_token) == sizeof(struct qr_select_drawn) &&
                   sizeof(struct qr_token_logit) == sizeof(struct qr_select_candidate) &&
                   sizeof(struct qr_cuda_edited_row) == sizeof(struct qr_select_edited_row) &&
                   sizeof(struct qr_logit_edit) == sizeof(struct qr_select_edit),
               "the kernels' structs and those of the interface");

/* As struct draw_shared of sampling_filter.cuh. */
enum {
    DRAW_WARPS = QR_SELECT_THREADS / 32,
    DRAW_DOUBLES =
        QR_DRAW_MAX_PARTS * (DRAW_WARPS + 1) + QR_SELECT_THREADS + 2 * DRAW_WARPS + QR_SELECT_MAX_K,
    DRAW_INTS = 3 * DRAW_WARPS + QR_SELECT_MAX_K,
    DRAW_SHARED_BYTES = DRAW_DOUBLES * 8 + DRAW_INTS * 4,
};

static int32_t count_parts(int32_t vocab_size)
{
    return (vocab_size + QR_SELECT_PART - 1) / QR_SELECT_PART;
}

size_t qr_cuda_selected_bytes(int32_t n_told)
{
    return sizeof(struct qr_cuda_selected) + (size_t)n_told * sizeof(struct qr_token_logit);
}

size_t qr_cuda_edited_bytes(int32_t n_told)
{
    return qr_cuda_selected_bytes(n_told) + (size_t)n_told * sizeof(float);
}

/* The parts' keys stand first, then the candidates, then the parts' sums. */
static size_t key_bytes(int32_t vocab_size, int32_t n_rows, int32_t k)
{
    return (size_t)n_rows * (size_t)count_parts(vocab_size) * (size_t)k * sizeof(qr_select_key);
}

static size_t candidate_bytes(int32_t n_rows, int32_t k)
{
    return (size_t)n_rows * (size_t)k * sizeof(struct qr_select_candidate);
}

size_t qr_cuda_select_workspace_bytes(int32_t vocab_size, int32_t max_rows, int32_t max_k)
{
    size_t n_parts = (size_t)max_rows * (size_t)count_parts(vocab_size);

    return key_bytes(vocab_size, max_rows, max_k) + candidate_bytes(max_rows, max_k) +
           n_parts * sizeof(struct qr_select_sums);
}

struct qr_cuda_draw qr_cuda_draw_of(const struct qr_candidate_filter *filter, double uniform,
                                    int32_t row)
{
    return (struct qr_cuda_draw){.uniform = uniform,
                                 .temperature = filter->temperature,
                                 .top_p = filter->top_p,
                                 .min_p = filter->min_p,
                                 .top_k = filter->top_k,
                                 .row = row};
}

int32_t qr_cuda_draw_candidates(const struct qr_candidate_filter *filter)
{
    if (filter->top_k > 0)
        return filter->top_k <= QR_SELECT_MAX_K ? filter->top_k : 0;
    return qr_filter_is_by_mass(filter) ? QR_SELECT_MAX_K : 0;
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
    struct qr_cuda_selection_sizes sizes;
    void *out;
    size_t out_bytes;
};

static struct qr_select_candidate *candidates_of(const struct qr_cuda_select *select,
                                                 const struct qr_cuda_selection_sizes *sizes)
{
    size_t n_bytes = key_bytes(select->vocab_size, sizes->n_rows, sizes->k);
    return (struct qr_select_candidate *)(void *)((char *)select->workspace + n_bytes);
}

static void launch_select(struct qr_cuda_select *select, const struct target *target,
                          const int32_t *token_ids)
{
    const struct qr_cuda_selection_sizes *sizes = &target->sizes;
    struct qr_select_candidate *candidates = candidates_of(select, sizes);
    char *sums = (char *)candidates + candidate_bytes(sizes->n_rows, sizes->k);
    const struct qr_select_params params = {
        .logits = target->logits,
        .rows = (const struct qr_select_edited_row *)(const void *)target->rows,
        .token_ids = token_ids,
        .keys = select->workspace,
        .sums = (struct qr_select_sums *)(void *)sums,
        .candidates = candidates,
        .out = target->out,
        .out_bytes = (int64_t)target->out_bytes,
        .vocab_size = select->vocab_size,
        .n_parts = count_parts(select->vocab_size),
        .k = sizes->k,
        .n_told = sizes->n_told,
    };

    QR_ASSERT(sizes->n_rows <= select->max_rows && sizes->k >= 1 && sizes->k <= select->max_k &&
              sizes->n_told <= sizes->k);
    qr_cuda_launch(select->cuda, &select->part, sizes->n_rows, params.n_parts, &params);
    qr_cuda_launch(select->cuda, &select->merge, sizes->n_rows, 1, &params);
}

static void launch_draw(struct qr_cuda_select *select, const struct target *target,
                        const struct qr_cuda_draws *draws)
{
    const struct qr_draw_params params = {
        .logits = target->logits,
        .rows = (const struct qr_select_edited_row *)(const void *)target->rows,
        .candidates = candidates_of(select, &target->sizes),
        .selected = target->out,
        .selected_bytes = (int64_t)target->out_bytes,
        .draws = (const struct qr_select_draw *)(const void *)draws->draws,
        .drawn = (struct qr_select_drawn *)(void *)draws->drawn,
        .vocab_size = select->vocab_size,
        .k = target->sizes.k,
    };

    if (draws->n_draws > 0)
        qr_cuda_launch(select->cuda, &select->draw, draws->n_draws, 1, &params);
}

void qr_cuda_select(struct qr_cuda_select *select, const float *logits,
                    struct qr_cuda_selection_sizes sizes, const int32_t *token_ids,
                    const struct qr_cuda_draws *draws, void *out)
{
    const struct target target = {.logits = logits,
                                  .sizes = sizes,
                                  .out = out,
                                  .out_bytes = qr_cuda_selected_bytes(sizes.n_told)};

    launch_select(select, &target, token_ids);
    launch_draw(select, &target, draws);
}

void qr_cuda_select_edited(struct qr_cuda_select *select, float *logits,
                           struct qr_cuda_selection_sizes sizes, const struct qr_cuda_edits *edits,
                           const struct qr_cuda_draws *draws, void *out)
{
    const struct target target = {.logits = logits,
                                  .rows = edits->rows,
                                  .sizes = sizes,
                                  .out = out,
                                  .out_bytes = qr_cuda_edited_bytes(sizes.n_told)};
    const struct qr_edit_params params = {
        .logits = logits,
        .rows = (const struct qr_select_edited_row *)(const void *)edits->rows,
        .edits = (const struct qr_select_edit *)(const void *)edits->edits,
        .saved = edits->saved,
        .out = out,
        .out_bytes = (int64_t)target.out_bytes,
        .draws = (const struct qr_select_draw *)(const void *)draws->draws,
        .drawn = (struct qr_select_drawn *)(void *)draws->drawn,
        .vocab_size = select->vocab_size,
        .n_told = sizes.n_told,
        .n_draws = draws->n_draws,
    };

    qr_cuda_launch(select->cuda, &select->edit, sizes.n_rows, 1, &params);
    launch_select(select, &target, NULL);
    launch_draw(select, &target, draws);
    qr_cuda_launch(select->cuda, &select->restore, sizes.n_rows, 1, &params);
}
