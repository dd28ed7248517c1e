/* selection.c - see selection.h: what is wished for, and when it is enough. */
#include "runtime/sampling/selection.h"

#include <math.h>

#include "runtime/sampling/philox.h"

static int32_t at_least(int32_t n, int32_t bound)
{
    return n > bound ? n : bound;
}

/* Whether top-p or min-p are of the whole vocabulary. */
static bool filters_by_mass(const struct qr_sampling_params *params)
{
    return params->temperature > 0 && params->top_k == 0 &&
           (params->top_p < 1 || params->min_p > 0);
}

/* As many as the host must have to draw from. */
static int32_t tokens_to_draw_from(const struct qr_sampling_params *params)
{
    if (params->top_k > QR_SELECTION_MAX)
        return 0;
    if (params->top_k > 0)
        return at_least(params->top_k, params->n_logprobs);
    return filters_by_mass(params) ? QR_SELECTION_MAX : at_least(params->n_logprobs, 1);
}

struct qr_logit_wish qr_selection_wish(const struct qr_sampling_params *params, int32_t position,
                                       double *uniform)
{
    int32_t n_reported = at_least(params->n_logprobs, 1);
    struct qr_logit_wish wish = {.token_id = -1, .n_tokens = n_reported, .n_reported = n_reported};

    if (params->temperature == 0)
        return wish;
    *uniform = qr_philox_uniform(params->seed, (uint64_t)position);
    wish.n_tokens = tokens_to_draw_from(params);
    wish.n_draws = 1;
    wish.uniforms = uniform;
    wish.temperature = params->temperature;
    wish.top_k = params->top_k;
    wish.top_p = params->top_p;
    wish.min_p = params->min_p;
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
    double needed = (double)params->top_p * selection->sum_weights;
    double mass = 0;

    if (!filters_by_mass(params))
        return selection->n;
    for (int32_t i = 0; i < selection->n; i++) {
        double below = (double)selection->tokens[i].logit - (double)selection->largest;
        double weight = exp(below / (double)params->temperature);
        if (weight == 0 || weight < (double)params->min_p)
            return i;
        mass += weight;
        if (params->top_p < 1 && mass >= needed)
            return i + 1;
    }
    return selection->n == vocab_size ? vocab_size : 0;
}

bool qr_selection_is_enough(const struct qr_selection *selection,
                            const struct qr_sampling_params *params, int32_t vocab_size)
{
    return selection->n_drawn > 0 || qr_selection_kept(selection, params, vocab_size) > 0;
}
