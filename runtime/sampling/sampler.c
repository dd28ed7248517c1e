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
    float *logits;                      /* [vocab_size] adjusted copy */
    int32_t *counts;                    /* [vocab_size] all zero between calls */
    int32_t selected[QR_SELECTION_MAX]; /* ids of a selection, ascending */
    struct qr_candidates *candidates;   /* what is left to draw from */
};

enum qr_status qr_sampler_create(int32_t vocab_size, struct qr_sampler **out)
{
    *out = NULL;
    struct qr_sampler *sampler = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*sampler));
    if (sampler == NULL)
        return QR_ERR_NOMEM;
    size_t n = (size_t)vocab_size;
    sampler->vocab_size = vocab_size;
    sampler->logits = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*sampler->logits));
    sampler->counts = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*sampler->counts));
    if (sampler->logits == NULL || sampler->counts == NULL ||
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
    if (params->n_logit_bias == 0 && input->n_banned == 0 && params->repetition_penalty == 1.0f &&
        params->presence_penalty == 0 && params->frequency_penalty == 0)
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

/* The first of the largest; -1 when one is NaN or +inf, or all are -inf. */
static int32_t argmax(const float *logits, int32_t n)
{
    float largest = -INFINITY;
    int32_t best = -1;

    for (int32_t i = 0; i < n; i++) {
        if (!(logits[i] < INFINITY))
            return -1;
        if (logits[i] > largest) {
            largest = logits[i];
            best = i;
        }
    }
    return best;
}

/* log(sum of e^logits), summed in double in the order of the ids. */
static double log_sum_exp(const float *logits, int32_t n, float largest)
{
    double sum = 0;

    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)largest);
    return (double)largest + log(sum);
}

/* The n_top likeliest, descending, ties by lower id: by insertion, n_top is small. */
static void find_top(const float *logits, int32_t vocab_size, double log_sum,
                     struct qr_sampled *out)
{
    int32_t n_found = 0;

    for (int32_t id = 0; id < vocab_size; id++) {
        float logprob = (float)((double)logits[id] - log_sum);
        if (n_found == out->n_top && logprob <= out->top[n_found - 1].logprob)
            continue;
        int32_t at = n_found < out->n_top ? n_found++ : n_found - 1;
        for (; at > 0 && out->top[at - 1].logprob < logprob; at--)
            out->top[at] = out->top[at - 1];
        out->top[at] = (struct qr_top_logprob){id, logprob};
    }
}

/* The log-sum-exp of a row. False: one of its logits is NaN or +inf, or all are -inf. */
static bool normalize(const struct qr_sampler *sampler, const struct qr_sampler_input *input,
                      double *log_sum)
{
    int32_t n = sampler->vocab_size;

    if (input->sum_exp != 0) {
        *log_sum = (double)input->largest + log((double)input->sum_exp);
        return !isnan(input->sum_exp);
    }
    int32_t best = argmax(input->logits, n);
    if (best >= 0)
        *log_sum = log_sum_exp(input->logits, n, input->logits[best]);
    return best >= 0;
}

static void report(const struct qr_sampler *sampler, const float *logits, double log_sum,
                   int32_t token_id, int32_t n_logprobs, struct qr_sampled *out)
{
    out->token_id = token_id;
    out->logprob = (float)((double)logits[token_id] - log_sum);
    out->n_top = n_logprobs < sampler->vocab_size ? n_logprobs : sampler->vocab_size;
    if (out->n_top > 0)
        find_top(logits, sampler->vocab_size, log_sum, out);
}

enum qr_status qr_sampler_score(struct qr_sampler *sampler, const float *logits, int32_t token_id,
                                int32_t n_logprobs, struct qr_sampled *out)
{
    const struct qr_sampler_input input = {.logits = logits};
    double log_sum;

    if (!normalize(sampler, &input, &log_sum))
        return QR_ERR_DEVICE;
    report(sampler, logits, log_sum, token_id, n_logprobs, out);
    return QR_OK;
}

static struct qr_candidate_filter filter_of(const struct qr_sampling_params *params)
{
    return (struct qr_candidate_filter){.temperature = params->temperature,
                                        .top_k = params->top_k,
                                        .top_p = params->top_p,
                                        .min_p = params->min_p};
}

static int32_t draw(struct qr_sampler *sampler, const float *logits,
                    const struct qr_sampling_params *params, uint64_t position)
{
    struct qr_candidate_filter filter = filter_of(params);

    qr_candidates_filter(sampler->candidates, logits, &filter);
    return qr_candidates_draw(sampler->candidates, qr_philox_uniform(params->seed, position));
}

/* By ascending id, with the logits where those of a row would be. */
static void spread_selection(struct qr_sampler *sampler, const struct qr_selection *selection)
{
    for (int32_t i = 0; i < selection->n; i++) {
        int32_t id = selection->tokens[i].token_id;
        int32_t at = i;
        for (; at > 0 && sampler->selected[at - 1] > id; at--)
            sampler->selected[at] = sampler->selected[at - 1];
        sampler->selected[at] = id;
        sampler->logits[id] = selection->tokens[i].logit;
    }
}

static int32_t draw_selected(struct qr_sampler *sampler, const struct qr_selection *selection,
                             const struct qr_sampling_params *params, uint64_t position)
{
    struct qr_candidate_filter filter = filter_of(params);

    spread_selection(sampler, selection);
    qr_candidates_filter_some(sampler->candidates, sampler->selected, selection->n, sampler->logits,
                              &filter);
    return qr_candidates_draw(sampler->candidates, qr_philox_uniform(params->seed, position));
}

enum qr_status qr_sampler_sample(struct qr_sampler *sampler,
                                 const struct qr_sampling_params *params,
                                 const struct qr_sampler_input *input, struct qr_sampled *out)
{
    double log_sum;

    if (!normalize(sampler, input, &log_sum))
        return QR_ERR_DEVICE;
    const float *logits = adjusted_logits(sampler, params, input);
    bool draws = params->temperature > 0;
    int32_t id = 0;
    if ((!draws || logits != input->logits) && (id = argmax(logits, sampler->vocab_size)) < 0)
        return QR_ERR_DEVICE; /* every token is banned */
    if (draws)
        id = draw(sampler, logits, params, (uint64_t)input->n_prompt + (uint64_t)input->n_output);
    report(sampler, input->logits, log_sum, id, params->n_logprobs, out);
    return QR_OK;
}

/* What qr_sampler_score reports, from the logit of a token and the largest ones. */
static void report_selected(const struct qr_selection *selection, int32_t token_id, float logit,
                            int32_t n_logprobs, struct qr_sampled *out)
{
    double log_sum = (double)selection->largest + log((double)selection->sum_exp);

    out->token_id = token_id;
    out->logprob = (float)((double)logit - log_sum);
    out->n_top = n_logprobs < selection->n ? n_logprobs : selection->n;
    for (int32_t i = 0; i < out->n_top; i++) {
        const struct qr_token_logit *token = &selection->tokens[i];
        out->top[i] =
            (struct qr_top_logprob){token->token_id, (float)((double)token->logit - log_sum)};
    }
}

static bool selection_is_sound(const struct qr_selection *selection)
{
    return !selection->invalid && selection->largest > -INFINITY && selection->n > 0;
}

enum qr_status qr_sampler_sample_selected(struct qr_sampler *sampler,
                                          const struct qr_sampling_params *params,
                                          const struct qr_selection *selection, int32_t position,
                                          struct qr_sampled *out)
{
    if (!selection_is_sound(selection))
        return QR_ERR_DEVICE;
    QR_ASSERT(selection->n <= QR_SELECTION_MAX);
    struct qr_token_logit chosen = selection->is_drawn ? selection->drawn : selection->tokens[0];
    if (params->temperature > 0 && !selection->is_drawn) {
        chosen.token_id = draw_selected(sampler, selection, params, (uint64_t)position);
        chosen.logit = sampler->logits[chosen.token_id];
    }
    report_selected(selection, chosen.token_id, chosen.logit, params->n_logprobs, out);
    return QR_OK;
}

enum qr_status qr_sampler_score_selected(const struct qr_selection *selection, int32_t token_id,
                                         int32_t n_logprobs, struct qr_sampled *out)
{
    if (!selection_is_sound(selection))
        return QR_ERR_DEVICE;
    report_selected(selection, token_id, selection->token_logit, n_logprobs, out);
    return QR_OK;
}

/* By insertion: few are wanted, and most tokens are worse than the worst of them. */
static int32_t rank(const float *logits, int32_t vocab_size, double log_sum, int32_t n_wanted,
                    struct qr_ranked *ranked)
{
    int32_t n_found = 0;

    for (int32_t id = 0; id < vocab_size; id++) {
        double score = (double)logits[id] - log_sum;
        if (logits[id] == -INFINITY || (n_found == n_wanted && score <= ranked[n_found - 1].score))
            continue;
        int32_t at = n_found < n_wanted ? n_found++ : n_found - 1;
        for (; at > 0 && ranked[at - 1].score < score; at--)
            ranked[at] = ranked[at - 1];
        ranked[at] = (struct qr_ranked){.token_id = id, .score = score};
    }
    return n_found;
}

enum qr_status qr_sampler_rank(struct qr_sampler *sampler, const struct qr_sampling_params *params,
                               const struct qr_sampler_input *input, int32_t n_wanted,
                               struct qr_ranked *ranked, int32_t *n_ranked,
                               struct qr_sampled *out_row)
{
    int32_t n = sampler->vocab_size;
    double log_sum;

    *n_ranked = 0;
    if (!normalize(sampler, input, &log_sum))
        return QR_ERR_DEVICE;
    out_row->n_top = params->n_logprobs < n ? params->n_logprobs : n;
    if (out_row->n_top > 0)
        find_top(input->logits, n, log_sum, out_row);

    const float *logits = adjusted_logits(sampler, params, input);
    double adjusted_sum = log_sum;
    if (logits != input->logits) {
        int32_t best = argmax(logits, n);
        if (best < 0)
            return QR_ERR_DEVICE; /* every token is banned */
        adjusted_sum = log_sum_exp(logits, n, logits[best]);
    }
    *n_ranked = rank(logits, n, adjusted_sum, n_wanted, ranked);
    for (int32_t i = 0; i < *n_ranked; i++)
        ranked[i].logprob = (float)((double)input->logits[ranked[i].token_id] - log_sum);
    return QR_OK;
}
