/* sampler.c - see sampler.h for the contract: logits to a token. */
#include "runtime/sampling/sampler.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/sampling/candidates.h"
#include "runtime/sampling/philox.h"

struct qr_sampler {
    int32_t vocab_size;
    qr_select_row select_row;
    float *logits;                      /* [vocab_size] adjusted copy */
    int32_t *counts;                    /* [vocab_size] all zero between calls */
    struct qr_token_logit *tokens;      /* [vocab_size] of the last selection of a row */
    int32_t selected[QR_SELECTION_MAX]; /* ids of a selection, ascending */
    struct qr_candidates *candidates;   /* what is left to draw from */
};

enum qr_status qr_sampler_create(int32_t vocab_size, qr_select_row select_row,
                                 struct qr_sampler **out)
{
    *out = NULL;
    struct qr_sampler *sampler = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*sampler));
    if (sampler == NULL)
        return QR_ERR_NOMEM;
    size_t n = (size_t)vocab_size;
    sampler->vocab_size = vocab_size;
    sampler->select_row = select_row;
    sampler->logits = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*sampler->logits));
    sampler->counts = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*sampler->counts));
    sampler->tokens = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*sampler->tokens));
    if (sampler->logits == NULL || sampler->counts == NULL || sampler->tokens == NULL ||
        qr_candidates_create(vocab_size, &sampler->candidates) != QR_OK) {
        qr_sampler_destroy(sampler);
        return QR_ERR_NOMEM;
    }
    *out = sampler;
    return QR_OK;
}

void qr_sampler_destroy(struct qr_sampler *sampler)
{
    if (sampler == NULL)
        return;
    qr_candidates_destroy(sampler->candidates);
    qr_free(sampler->tokens);
    qr_free(sampler->counts);
    qr_free(sampler->logits);
    qr_free(sampler);
}

static float repeat_penalized(float logit, float penalty)
{
    return logit > 0 ? logit / penalty : logit * penalty;
}

/* Once for each distinct token of prompt and output; counts is zero again afterwards. */
static void apply_repetition(struct qr_sampler *sampler, const struct qr_sampler_input *input,
                             float penalty)
{
    const int32_t *parts[] = {input->prompt, input->output};
    const int32_t lengths[] = {input->n_prompt, input->n_output};

    for (int part = 0; part < 2; part++) {
        for (int32_t i = 0; i < lengths[part]; i++) {
            int32_t id = parts[part][i];
            if (sampler->counts[id]++ == 0)
                sampler->logits[id] = repeat_penalized(sampler->logits[id], penalty);
        }
    }
    for (int part = 0; part < 2; part++) {
        for (int32_t i = 0; i < lengths[part]; i++)
            sampler->counts[parts[part][i]] = 0;
    }
}

static void apply_frequency(struct qr_sampler *sampler, const struct qr_sampler_input *input,
                            const struct qr_sampling_params *params)
{
    for (int32_t i = 0; i < input->n_output; i++)
        sampler->counts[input->output[i]]++;
    for (int32_t i = 0; i < input->n_output; i++) {
        int32_t id = input->output[i];
        if (sampler->counts[id] == 0)
            continue; /* done at its first place */
        sampler->logits[id] -=
            params->presence_penalty + params->frequency_penalty * (float)sampler->counts[id];
        sampler->counts[id] = 0;
    }
}

/* The logits that are drawn from: the input's own when nothing changes them. */
static const float *adjusted_logits(struct qr_sampler *sampler,
                                    const struct qr_sampling_params *params,
                                    const struct qr_sampler_input *input)
{
    if (!qr_sampling_changes_row(params, input->n_banned))
        return input->logits;
    memcpy(sampler->logits, input->logits, (size_t)sampler->vocab_size * sizeof(float));
    for (int32_t i = 0; i < params->n_logit_bias; i++)
        sampler->logits[params->logit_bias[i].token_id] += params->logit_bias[i].bias;
    for (int32_t i = 0; i < input->n_banned; i++)
        sampler->logits[input->banned[i]] = -INFINITY;
    if (params->repetition_penalty != 1.0f)
        apply_repetition(sampler, input, params->repetition_penalty);
    if (params->presence_penalty != 0 || params->frequency_penalty != 0)
        apply_frequency(sampler, input, params);
    return sampler->logits;
}

static struct qr_selection select_from(struct qr_sampler *sampler, const float *logits,
                                       struct qr_logit_wish wish)
{
    struct qr_selection selection;

    sampler->select_row(logits, sampler->vocab_size, wish, sampler->tokens, &selection);
    return selection;
}

static bool is_sound(const struct qr_selection *selection)
{
    return !selection->invalid && selection->largest > -INFINITY;
}

static double log_sum_of(const struct qr_selection *selection)
{
    return (double)selection->largest + log((double)selection->sum_exp);
}

/* What is reported of the row as it came: its sums, and the largest n_logprobs. */
static struct qr_selection select_raw(struct qr_sampler *sampler,
                                      const struct qr_sampler_input *input, int32_t n_logprobs)
{
    if (input->sum_exp == 0 || n_logprobs > 0)
        return select_from(sampler, input->logits,
                           (struct qr_logit_wish){.n_tokens = n_logprobs, .token_id = -1});
    return (struct qr_selection){
        .invalid = isnan(input->sum_exp), .largest = input->largest, .sum_exp = input->sum_exp};
}

/* A token and the likeliest n_logprobs, from the raw row's selection. */
static void report(const struct qr_selection *raw, int32_t token_id, float logit,
                   int32_t n_logprobs, struct qr_sampled *out)
{
    double log_sum = log_sum_of(raw);

    out->token_id = token_id;
    out->logprob = (float)((double)logit - log_sum);
    out->n_top = n_logprobs < raw->n ? n_logprobs : raw->n;
    for (int32_t i = 0; i < out->n_top; i++) {
        const struct qr_token_logit *token = &raw->tokens[i];
        out->top[i] =
            (struct qr_top_logprob){token->token_id, (float)((double)token->logit - log_sum)};
    }
}

static struct qr_candidate_filter filter_of(const struct qr_sampling_params *params)
{
    return (struct qr_candidate_filter){.temperature = params->temperature,
                                        .top_k = params->top_k,
                                        .top_p = params->top_p,
                                        .min_p = params->min_p};
}

/* From the whole row. */
static int32_t draw(struct qr_sampler *sampler, const float *logits,
                    const struct qr_sampling_params *params, uint64_t position)
{
    struct qr_candidate_filter filter = filter_of(params);

    qr_candidates_filter(sampler->candidates, logits, &filter);
    return qr_candidates_draw(sampler->candidates, qr_philox_uniform(params->seed, position));
}

/* The first n, by ascending id, with the logits where those of a row would be. */
static void spread_selection(struct qr_sampler *sampler, const struct qr_selection *selection,
                             int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t id = selection->tokens[i].token_id;
        int32_t at = i;
        for (; at > 0 && sampler->selected[at - 1] > id; at--)
            sampler->selected[at] = sampler->selected[at - 1];
        sampler->selected[at] = id;
        sampler->logits[id] = selection->tokens[i].logit;
    }
}

/* From the n leading tokens of a selection, which are enough. */
static struct qr_token_logit draw_selected(struct qr_sampler *sampler,
                                           const struct qr_selection *selection, int32_t n,
                                           const struct qr_sampling_params *params,
                                           uint64_t position)
{
    struct qr_candidate_filter filter = filter_of(params);

    if (params->top_k == 0) { /* the n are what top-p and min-p leave */
        filter.top_p = 1;
        filter.min_p = 0;
    }
    spread_selection(sampler, selection, n);
    qr_candidates_filter_some(sampler->candidates, sampler->selected, n, sampler->logits, &filter);
    int32_t id = qr_candidates_draw(sampler->candidates, qr_philox_uniform(params->seed, position));
    return (struct qr_token_logit){.logit = sampler->logits[id], .token_id = id};
}

/* By a sound selection with `kept` tokens to draw from. */
static struct qr_token_logit choose(struct qr_sampler *sampler,
                                    const struct qr_sampling_params *params,
                                    const struct qr_selection *selection, int32_t kept,
                                    int32_t position)
{
    QR_ASSERT(kept > 0 && kept <= QR_SELECTION_MAX);
    if (selection->is_drawn)
        return selection->drawn;
    if (params->temperature == 0)
        return selection->tokens[0];
    return draw_selected(sampler, selection, kept, params, (uint64_t)position);
}

enum qr_status qr_sampler_sample(struct qr_sampler *sampler,
                                 const struct qr_sampling_params *params,
                                 const struct qr_sampler_input *input, struct qr_sampled *out)
{
    int32_t position = input->n_prompt + input->n_output;
    const float *logits = adjusted_logits(sampler, params, input);
    struct qr_selection selection =
        select_from(sampler, logits, qr_selection_wish(params, position));
    int32_t id;

    if (!is_sound(&selection))
        return QR_ERR_DEVICE; /* or every token is banned */
    int32_t kept = qr_selection_kept(&selection, params, sampler->vocab_size);
    if (kept > 0)
        id = choose(sampler, params, &selection, kept, position).token_id;
    else
        id = draw(sampler, logits, params, (uint64_t)position);
    struct qr_selection raw = select_raw(sampler, input, params->n_logprobs);
    if (!is_sound(&raw))
        return QR_ERR_DEVICE;
    report(&raw, id, input->logits[id], params->n_logprobs, out);
    return QR_OK;
}

enum qr_status qr_sampler_sample_selected(struct qr_sampler *sampler,
                                          const struct qr_sampling_params *params,
                                          const struct qr_selection *selection, int32_t position,
                                          struct qr_sampled *out)
{
    if (!is_sound(selection))
        return QR_ERR_DEVICE;
    int32_t kept = qr_selection_kept(selection, params, sampler->vocab_size);
    struct qr_token_logit chosen = choose(sampler, params, selection, kept, position);
    report(selection, chosen.token_id, chosen.logit, params->n_logprobs, out);
    return QR_OK;
}

enum qr_status qr_sampler_score_selected(const struct qr_selection *selection, int32_t token_id,
                                         int32_t n_logprobs, struct qr_sampled *out)
{
    if (!is_sound(selection))
        return QR_ERR_DEVICE;
    report(selection, token_id, selection->token_logit, n_logprobs, out);
    return QR_OK;
}

enum qr_status qr_sampler_rank(struct qr_sampler *sampler, const struct qr_sampling_params *params,
                               const struct qr_sampler_input *input, int32_t n_wanted,
                               struct qr_ranked *ranked, int32_t *n_ranked,
                               struct qr_sampled *out_row)
{
    *n_ranked = 0;
    struct qr_selection raw = select_raw(sampler, input, params->n_logprobs);
    if (!is_sound(&raw))
        return QR_ERR_DEVICE;
    report(&raw, -1, 0, params->n_logprobs, out_row);

    const float *logits = adjusted_logits(sampler, params, input);
    struct qr_logit_wish wish = {.n_tokens = n_wanted, .token_id = -1};
    struct qr_selection best = select_from(sampler, logits, wish);
    if (!is_sound(&best))
        return QR_ERR_DEVICE; /* every token is banned */
    double log_sum = log_sum_of(&raw);
    double adjusted_sum = logits == input->logits ? log_sum : log_sum_of(&best);
    for (int32_t i = 0; i < best.n && best.tokens[i].logit > -INFINITY; i++) {
        int32_t id = best.tokens[i].token_id;
        ranked[(*n_ranked)++] =
            (struct qr_ranked){.token_id = id,
                               .logprob = (float)((double)input->logits[id] - log_sum),
                               .score = (double)best.tokens[i].logit - adjusted_sum};
    }
    return QR_OK;
}
