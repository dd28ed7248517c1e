/* selection.c - see selection.h: when a selection is enough. */
#include "runtime/sampling/selection.h"

static int32_t at_least(int32_t n, int32_t bound)
{
    return n > bound ? n : bound;
}

/* Whether what is drawn from is not the row of logits itself. */
static bool changes_row(const struct qr_sampling_params *params, int32_t n_banned)
{
    return params->n_logit_bias > 0 || n_banned > 0 || params->repetition_penalty != 1.0f ||
           params->presence_penalty != 0 || params->frequency_penalty != 0;
}

int32_t qr_selection_wanted(const struct qr_sampling_params *params, int32_t n_banned)
{
    bool greedy = params->temperature == 0;

    if (changes_row(params, n_banned) || (!greedy && params->top_k == 0) ||
        params->top_k > QR_SELECTION_MAX)
        return 0;
    return at_least(greedy ? 1 : params->top_k, params->n_logprobs);
}

int32_t qr_selection_wanted_to_score(const struct qr_sampling_params *params)
{
    return at_least(params->n_logprobs, 1);
}

bool qr_selection_is_plain_draw(const struct qr_sampling_params *params, int32_t n_banned)
{
    return !changes_row(params, n_banned) && params->temperature > 0 && params->top_k == 0 &&
           params->top_p >= 1 && params->min_p == 0;
}
