/*
 * cuda_logits.c - what the host gets of a step's logits: drawn tokens and selections, and whole
 * rows where they are wished for.
 */
#include <string.h>

#include "base/assert.h"
#include "runtime/ops/cuda/cuda_device_internal.h"

_Static_assert((int)QR_SELECTION_MAX <= (int)QR_CUDA_SELECT_MAX_K, "every wish can be met");

/* ---- answers ---- */

/* The drawn tokens stand first; what follows is aligned. */
static size_t drawn_bytes(int32_t n_draws)
{
    return ((size_t)n_draws * sizeof(struct qr_drawn_token) + 15) / 16 * 16;
}

size_t qr_cuda_answer_bytes(const struct qr_device_needs *needs, int32_t max_rows,
                            size_t selected_bytes)
{
    return drawn_bytes(needs->max_draws) + (size_t)max_rows * selected_bytes;
}

void qr_cuda_answers_begin(struct qr_cuda_answers *answers)
{
    answers->sizes = (struct qr_cuda_selection_sizes){0, 0, 0};
    answers->n_draws = 0;
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

struct qr_cuda_row_answer qr_cuda_answers_add(struct qr_cuda_answers *answers,
                                              const struct qr_cuda_device *cuda,
                                              const struct qr_logit_wish *wish, int32_t n_told,
                                              struct qr_cuda_draw *draws)
{
    struct qr_cuda_selection_sizes *sizes = &answers->sizes;
    const struct qr_cuda_row_answer answer = {
        .n_told = n_told, .first_draw = answers->n_draws, .n_draws = wish->n_draws};
    struct qr_candidate_filter filter = wish->filter;
    int32_t n_candidates = n_told;

    if (filter.top_k >= cuda->needs.vocab_size)
        filter.top_k = 0;
    QR_ASSERT(answers->n_draws + wish->n_draws <= cuda->needs.max_draws);
    for (int32_t i = 0; i < wish->n_draws; i++)
        draws[answers->n_draws++] = qr_cuda_draw_of(&filter, wish->uniforms[i], sizes->n_rows);
    if (wish->n_draws > 0)
        n_candidates = larger(n_told, qr_cuda_draw_candidates(&filter));
    sizes->n_rows++;
    sizes->n_told = larger(sizes->n_told, n_told);
    sizes->k = larger(sizes->k, n_candidates);
    return answer;
}

struct qr_cuda_draws qr_cuda_answers_draws(const struct qr_cuda_answers *answers,
                                           const struct qr_cuda_draw *device_draws)
{
    return (struct qr_cuda_draws){.draws = device_draws,
                                  .drawn = (struct qr_drawn_token *)(void *)answers->device,
                                  .n_draws = answers->n_draws};
}

void *qr_cuda_answers_selected(const struct qr_cuda_answers *answers)
{
    return answers->device + drawn_bytes(answers->n_draws);
}

void qr_cuda_answers_fetch(const struct qr_cuda_answers *answers, struct qr_cuda_device *cuda,
                           size_t selected_bytes, const char *what)
{
    qr_cuda_copy_to_host(&cuda->cuda, what, answers->host, qr_cuda_address(answers->device),
                         drawn_bytes(answers->n_draws) +
                             (size_t)answers->sizes.n_rows * selected_bytes);
}

struct qr_selection qr_cuda_answer(const struct qr_cuda_answers *answers, int32_t row,
                                   const struct qr_cuda_row_answer *of_row, size_t selected_bytes,
                                   int32_t vocab_size, const struct qr_cuda_selected **selected)
{
    const unsigned char *at =
        answers->host + drawn_bytes(answers->n_draws) + (size_t)row * selected_bytes;
    const struct qr_cuda_selected *found = (const void *)at;

    *selected = found;
    return (struct qr_selection){
        .invalid = found->invalid != 0,
        .largest = found->largest,
        .sum_exp = found->sum_exp,
        .token_logit = found->token_logit,
        .n = of_row->n_told < vocab_size ? of_row->n_told : vocab_size,
        .tokens = found->candidates,
        .n_drawn = of_row->n_draws,
        .drawn = (const struct qr_drawn_token *)(const void *)answers->host + of_row->first_draw,
    };
}

/* ---- a step's rows ---- */

static void note_wish(struct qr_cuda_device *cuda, int32_t i, struct qr_logit_wish wish)
{
    struct qr_cuda_results *results = &cuda->results;

    qr_cuda_edits_note(cuda, i, &wish);
    if (wish.n_edits > 0) /* of the row as it comes */
        wish = (struct qr_logit_wish){
            .token_id = -1, .n_tokens = wish.n_reported, .n_reported = wish.n_reported};
    cuda->host.asked_ids[i] = wish.token_id;
    results->row_answer[i] =
        qr_cuda_answers_add(&results->answers, cuda, &wish,
                            wish.n_draws > 0 ? wish.n_reported : wish.n_tokens, cuda->host.draws);
}

void qr_cuda_note_wishes(struct qr_cuda_device *cuda, const struct qr_batch *batch)
{
    qr_cuda_answers_begin(&cuda->results.answers);
    qr_cuda_edits_begin(cuda);
    for (int32_t i = 0; i < batch->n_logit_rows; i++) {
        const struct qr_logit_wish whole = {.token_id = -1};
        note_wish(cuda, i, batch->logit_wishes != NULL ? batch->logit_wishes[i] : whole);
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
    int32_t n_rows = results->answers.sizes.n_rows;

    for (int32_t i = 0; i < n_rows; i++) {
        if (results->row_answer[i].n_told > 0)
            continue;
        int32_t last = i; /* neighbours in one copy */
        while (last + 1 < n_rows && results->row_answer[last + 1].n_told == 0)
            last++;
        copy_rows(cuda, i, last);
        i = last;
    }
}

void qr_cuda_fetch_logits(struct qr_cuda_device *cuda)
{
    struct qr_cuda_results *results = &cuda->results;
    const struct qr_cuda_answers *answers = &results->answers;
    const struct qr_cuda_draws draws = qr_cuda_answers_draws(answers, cuda->device.draws);

    fetch_rows(cuda);
    if (answers->sizes.n_told == 0)
        return;
    qr_cuda_select(&cuda->select, results->logits, answers->sizes, cuda->device.asked_ids, &draws,
                   qr_cuda_answers_selected(answers));
    qr_cuda_answers_fetch(answers, cuda, qr_cuda_selected_bytes(answers->sizes.n_told),
                          "drawn tokens and selected logits");
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

struct qr_logit_row qr_cuda_logit_row(struct qr_device *dev, int32_t i)
{
    const struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cuda_results *results = &cuda->results;
    const struct qr_cuda_row_answer *of_row = &results->row_answer[i];
    const struct qr_cuda_selected *selected;
    int32_t vocab_size = cuda->needs.vocab_size;

    if (of_row->n_told == 0)
        return (struct qr_logit_row){.logits = results->rows + (size_t)i * (size_t)vocab_size};
    return (struct qr_logit_row){
        .selection = qr_cuda_answer(&results->answers, i, of_row,
                                    qr_cuda_selected_bytes(results->answers.sizes.n_told),
                                    vocab_size, &selected),
        .edited = qr_cuda_edited_selection(cuda, i),
    };
}
