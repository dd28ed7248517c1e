/* selection.c - see selection.h: what is wished for, and when it is enough. */
#include "runtime/sampling/selection.h"

#include <math.h>

#include "runtime/sampling/philox.h"

static int32_t at_least(int32_t n, int32_t bound)
{
    return n > bound ? n : bound;
}

struct qr_candidate_filter qr_selection_filter(const struct qr_sampling_params *params)
{
    return (struct qr_candidate_filter){.temperature = params->temperature,
                                        .top_k = params->top_k,
                                        .top_p = params->top_p,
                                        .min_p = params->min_p};
}

/* As many as the host must have to draw from, and to report. */
static int32_t tokens_to_draw_from(const struct qr_candidate_filter *filter, int32_t n_reported)
{
    if (filter->top_k > QR_SELECTION_MAX)
        return 0;
    if (filter->top_k > 0)
        return at_least(filter->top_k, n_reported);
    return qr_filter_is_by_mass(filter) ? QR_SELECTION_MAX : n_reported;
}

struct qr_logit_wish qr_selection_wish(const struct qr_sampling_params *params, int32_t position,
                                       double *uniform)
{
    int32_t n_reported = at_least(params->n_logprobs, 1);
    struct qr_logit_wish wish = {.token_id = -1, .n_tokens = n_reported, .n_reported = n_reported};

    if (params->temperature == 0)
        return wish;
    *uniform = qr_philox_uniform(params->seed, (uint64_t)position);
    wish.filter = qr_selection_filter(params);
    wish.n_tokens = tokens_to_draw_from(&wish.filter, n_reported);
    wish.n_draws = 1;
    wish.uniforms = uniform;
    return wish;
}

struct qr_logit_wish qr_selection_wish_to_score(const struct qr_sampling_params *params,
                                                int32_t token_id)
{
    int32_t n_reported = at_least(params->n_logprobs, 1);
    return (struct qr_logit_wish){
        .token_id = token_id, .n_tokens = n_reported, .n_reported = n_reported};
}

int32_t qr_selection_kept(const struct qr_selection *selection,
                          const struct qr_sampling_params *params, int32_t vocab_size)
{
    const struct qr_candidate_filter filter = qr_selection_filter(params);
    double needed = (double)filter.top_p * selection->sum_weights;
    double mass = 0;

    if (!qr_filter_is_by_mass(&filter))
        return selection->n;
    for (int32_t i = 0; i < selection->n; i++) {
        double below = (double)selection->tokens[i].logit - (double)selection->largest;
        double weight = exp(below / (double)filter.temperature);
        if (weight == 0 || weight < (double)filter.min_p)
            return i;
        mass += weight;
        if (filter.top_p < 1 && mass >= needed)
            return i + 1;
    }
    return selection->n == vocab_size ? vocab_size : 0;
}

bool qr_selection_is_enough(const struct qr_selection *selection,
                            const struct qr_sampling_params *params, int32_t vocab_size)
{
    return selection->n_drawn > 0 || qr_selection_kept(selection, params, vocab_size) > 0;
}
