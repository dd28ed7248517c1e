/*
 * cuda_logits.c - what the host gets of a step's logits: selections where they are enough, whole
 * rows where they are wished for.
 */
#include <string.h>

#include "runtime/ops/cuda/cuda_device_internal.h"

_Static_assert(sizeof(struct qr_cuda_candidate) == sizeof(struct qr_token_logit) &&
                   offsetof(struct qr_cuda_candidate, logit) ==
                       offsetof(struct qr_token_logit, logit) &&
                   offsetof(struct qr_cuda_candidate, token_id) ==
                       offsetof(struct qr_token_logit, token_id),
               "candidates of the device are read as tokens of a selection");
_Static_assert((int)QR_SELECTION_MAX <= (int)QR_CUDA_SELECT_MAX_K, "every wish can be met");

void qr_cuda_note_wishes(struct qr_cuda_device *cuda, const struct qr_batch *batch)
{
    struct qr_cuda_results *results = &cuda->results;

    results->n_rows = batch->n_logit_rows;
    results->k = 0;
    results->draws = false;
    qr_cuda_edits_begin(cuda);
    for (int32_t i = 0; i < batch->n_logit_rows; i++) {
        struct qr_logit_wish wish = {.n_tokens = 0, .token_id = -1};
        if (batch->logit_wishes != NULL)
            wish = batch->logit_wishes[i];
        qr_cuda_edits_note(cuda, i, &wish);
        if (wish.n_edits > 0) /* of the row as it comes */
            wish = (struct qr_logit_wish){.n_tokens = wish.n_reported, .token_id = -1};
        results->wishes[i] = wish;
        results->draws = results->draws || wish.temperature != 0;
        cuda->host.asked_ids[i] = wish.token_id;
        cuda->host.draws[i] =
            (struct qr_cuda_draw){.uniform = wish.uniform, .temperature = wish.temperature};
        if (wish.n_tokens > results->k)
            results->k = wish.n_tokens;
    }
}

/* Rows [first, last] of the step's logits, in one copy. */
static void copy_rows(struct qr_cuda_device *cuda, int32_t first, int32_t last)
{
    const struct qr_cuda_results *results = &cuda->results;
    size_t vocab_size = (size_t)cuda->needs.vocab_size;
    size_t at = (size_t)first * vocab_size;

    qr_cuda_copy_to_host(&cuda->cuda, "rows of logits", results->rows + at,
                         qr_cuda_address(results->logits + at),
                         (size_t)(last - first + 1) * vocab_size * sizeof(float));
}

static void fetch_rows(struct qr_cuda_device *cuda)
{
    const struct qr_cuda_results *results = &cuda->results;

    for (int32_t i = 0; i < results->n_rows; i++) {
        if (results->wishes[i].n_tokens > 0)
            continue;
        int32_t last = i; /* neighbours in one copy */
        while (last + 1 < results->n_rows && results->wishes[last + 1].n_tokens == 0)
            last++;
        copy_rows(cuda, i, last);
        i = last;
    }
}

void qr_cuda_fetch_logits(struct qr_cuda_device *cuda)
{
    struct qr_cuda_results *results = &cuda->results;

    fetch_rows(cuda);
    if (results->k == 0 || results->n_rows == 0)
        return;
    qr_cuda_select(&cuda->select, results->logits, results->n_rows, results->k,
                   cuda->device.asked_ids, results->device_selected);
    if (results->draws)
        qr_cuda_draw(&cuda->select, results->logits, results->n_rows, results->k,
                     cuda->device.draws, results->device_selected);
    qr_cuda_copy_to_host(&cuda->cuda, "selected logits", results->selected,
                         qr_cuda_address(results->device_selected),
                         (size_t)results->n_rows * qr_cuda_selected_bytes(results->k));
    qr_cuda_edits_select(cuda, results->logits);
}

void qr_cuda_read_logits(struct qr_device *dev, float *logits, int32_t vocab_size)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    (void)vocab_size; /* as prepared */
    cuda->results.logits = logits;
    if (cuda->capturing == NULL)
        qr_cuda_fetch_logits(cuda);
}

struct qr_selection qr_cuda_selection_of(const struct qr_cuda_selected *selected, int32_t n_tokens,
                                         int32_t vocab_size)
{
    return (struct qr_selection){
        .invalid = selected->invalid != 0,
        .largest = selected->largest,
        .sum_exp = selected->sum_exp,
        .token_logit = selected->token_logit,
        .n = n_tokens < vocab_size ? n_tokens : vocab_size,
        .tokens = (const struct qr_token_logit *)(const void *)selected->candidates,
        .sum_weights = selected->sum_weights,
        .is_drawn = selected->drawn_id >= 0,
        .drawn = {.logit = selected->drawn_logit, .token_id = selected->drawn_id},
    };
}

struct qr_logit_row qr_cuda_logit_row(struct qr_device *dev, int32_t i)
{
    const struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_results *results = &cuda->results;
    int32_t vocab_size = cuda->needs.vocab_size;

    if (results->wishes[i].n_tokens == 0)
        return (struct qr_logit_row){.logits = results->rows + (size_t)i * (size_t)vocab_size};
    const struct qr_cuda_selected *selected =
        (const void *)(results->selected + (size_t)i * qr_cuda_selected_bytes(results->k));
    return (struct qr_logit_row){
        .selection = qr_cuda_selection_of(selected, results->wishes[i].n_tokens, vocab_size),
        .edited = qr_cuda_edited_selection(cuda, i),
    };
}

enum qr_status qr_cuda_whole_logit_row(struct qr_device *dev, int32_t i, const float **row,
                                       struct qr_error *err)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    copy_rows(cuda, i, i);
    qr_cuda_synchronize(&cuda->cuda);
    *row = cuda->results.rows + (size_t)i * (size_t)cuda->needs.vocab_size;
    return qr_cuda_take_failure(&cuda->cuda, err);
}
