/* sampler.c - see sampler.h for the contract: logits to a token. */
#include "runtime/sampling/sampler.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/sampling/philox.h"

struct qr_sampler {
    int32_t vocab_size;
    qr_select_row select_row;
    float *logits;                 /* [vocab_size] edited copy */
    float *unedited;               /* [vocab_size] of the tokens of its selection */
    struct qr_token_logit *tokens; /* [vocab_size] of the last selection to draw from */
    struct qr_drawn_token drawn;   /* by the last selection, if by one */
    struct qr_token_logit reported[QR_MAX_LOGPROBS]; /* of the last one of a raw row */
    int32_t selected[QR_SELECTION_MAX];              /* ids of a selection, ascending */
    struct qr_candidates *candidates;                /* what is left to draw from */
    struct qr_logit_editor *editor;
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
    sampler->unedited = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*sampler->unedited));
    sampler->tokens = qr_malloc(QR_ARENA_ENGINE, n * sizeof(*sampler->tokens));
    if (sampler->logits == NULL || sampler->unedited == NULL || sampler->tokens == NULL ||
        qr_candidates_create(vocab_size, &sampler->candidates) != QR_OK ||
        qr_logit_editor_create(vocab_size, &sampler->editor) != QR_OK) {
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
    qr_logit_editor_destroy(sampler->editor);
    qr_candidates_destroy(sampler->candidates);
    qr_free(sampler->tokens);
    qr_free(sampler->unedited);
    qr_free(sampler->logits);
    qr_free(sampler);
}

int32_t qr_sampler_edits(struct qr_sampler *sampler, const struct qr_sampling_params *params,
                         const struct qr_token_history *history, const struct qr_logit_edit **edits)
{
    return qr_logit_edits_make(sampler->editor, params, history, edits);
}

/* The logits that are drawn from: the input's own when nothing changes them. */
static const float *edited_logits(struct qr_sampler *sampler,
                                  const struct qr_sampling_params *params,
                                  const struct qr_sampler_input *input)
{
    const struct qr_logit_edit *edits;

    if (!qr_sampling_changes_row(params, input->history.n_banned))
        return input->logits;
    memcpy(sampler->logits, input->logits, (size_t)sampler->vocab_size * sizeof(float));
    int32_t n = qr_sampler_edits(sampler, params, &input->history, &edits);
    for (int32_t i = 0; i < n; i++) {
        float *logit = &sampler->logits[edits[i].token_id];
        *logit = qr_edit_logit(*logit, &edits[i]);
    }
    return sampler->logits;
}

/* To draw from. */
static struct qr_selection select_from(struct qr_sampler *sampler, const float *logits,
                                       struct qr_logit_wish wish)
{
    struct qr_selection selection;

    sampler->select_row(logits, sampler->vocab_size, wish, sampler->tokens, &sampler->drawn,
                        &selection);
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
    struct qr_selection raw = {
        .invalid = isnan(input->sum_exp), .largest = input->largest, .sum_exp = input->sum_exp};

    if (input->sum_exp == 0 || n_logprobs > 0)
        sampler->select_row(input->logits, sampler->vocab_size,
                            (struct qr_logit_wish){.n_tokens = n_logprobs, .token_id = -1},
                            sampler->reported, NULL, &raw);
    return raw;
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

/* From the whole row. */
static int32_t draw(struct qr_sampler *sampler, const float *logits,
                    const struct qr_sampling_params *params, uint64_t position)
{
    struct qr_candidate_filter filter = qr_selection_filter(params);

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
static int32_t draw_selected(struct qr_sampler *sampler, const struct qr_selection *selection,
                             int32_t n, const struct qr_sampling_params *params, uint64_t position)
{
    struct qr_candidate_filter filter = qr_selection_filter(params);

    if (params->top_k == 0) { /* the n are what top-p and min-p leave */
        filter.top_p = 1;
        filter.min_p = 0;
    }
    spread_selection(sampler, selection, n);
    qr_candidates_filter_some(sampler->candidates, sampler->selected, n, sampler->logits, &filter);
    return qr_candidates_draw(sampler->candidates, qr_philox_uniform(params->seed, position));
}

/* By a sound selection: an id. Who draws itself is the which-th of those who draw from the row. */
static int32_t choose(struct qr_sampler *sampler, const struct qr_sampling_params *params,
                      const struct qr_selection *selection, int32_t position, int32_t which)
{
    if (selection->n_drawn > 0)
        return selection->drawn[which].token_id;
    if (params->temperature == 0)
        return selection->tokens[0].token_id;
    int32_t kept = qr_selection_kept(selection, params, sampler->vocab_size);
    QR_ASSERT(kept > 0 && kept <= QR_SELECTION_MAX);
    return draw_selected(sampler, selection, kept, params, (uint64_t)position);
}

/* The logit that the model gave a token that was chosen from a selection. */
static float raw_logit_of(const struct qr_selection *selection, int32_t token_id, int32_t which)
{
    if (selection->n_drawn > 0)
        return selection->drawn[which].unedited;
    int32_t i = 0;
    while (i + 1 < selection->n && selection->tokens[i].token_id != token_id)
        i++;
    return selection->unedited != NULL ? selection->unedited[i] : selection->tokens[i].logit;
}

enum qr_status qr_sampler_sample(struct qr_sampler *sampler,
                                 const struct qr_sampling_params *params,
                                 const struct qr_sampler_input *input, struct qr_sampled *out)
{
    int32_t position = input->history.n_prompt + input->history.n_output;
    const float *logits = edited_logits(sampler, params, input);
    double uniform;
    struct qr_selection selection =
        select_from(sampler, logits, qr_selection_wish(params, position, &uniform));
    int32_t id;

    if (!is_sound(&selection))
        return QR_ERR_DEVICE; /* or every token is banned */
    if (qr_selection_is_enough(&selection, params, sampler->vocab_size))
        id = choose(sampler, params, &selection, position, 0);
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
                                          const struct qr_sampler_selections *selections,
                                          int32_t position, int32_t which, struct qr_sampled *out)
{
    const struct qr_selection *raw = selections->raw;
    const struct qr_selection *from = selections->edited != NULL ? selections->edited : raw;

    if (!is_sound(raw) || !is_sound(from))
        return QR_ERR_DEVICE; /* or every token is banned */
    int32_t id = choose(sampler, params, from, position, which);
    report(raw, id, raw_logit_of(from, id, which), params->n_logprobs, out);
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

enum qr_status qr_sampler_rank_selected(const struct qr_sampling_params *params,
                                        const struct qr_sampler_selections *selections,
                                        int32_t n_wanted, struct qr_ranked *ranked,
                                        int32_t *n_ranked, struct qr_sampled *out_row)
{
    const struct qr_selection *raw = selections->raw;
    const struct qr_selection *from = selections->edited != NULL ? selections->edited : raw;

    *n_ranked = 0;
    if (!is_sound(raw) || !is_sound(from))
        return QR_ERR_DEVICE; /* or every token is banned */
    report(raw, -1, 0, params->n_logprobs, out_row);
    double log_sum = log_sum_of(raw);
    double edited_sum = log_sum_of(from);
    int32_t n = from->n < n_wanted ? from->n : n_wanted;
    for (int32_t i = 0; i < n && from->tokens[i].logit > -INFINITY; i++) {
        struct qr_token_logit token = from->tokens[i];
        float logit = from->unedited != NULL ? from->unedited[i] : token.logit;
        ranked[(*n_ranked)++] = (struct qr_ranked){.token_id = token.token_id,
                                                   .logprob = (float)((double)logit - log_sum),
                                                   .score = (double)token.logit - edited_sum};
    }
    return QR_OK;
}

enum qr_status qr_sampler_rank(struct qr_sampler *sampler, const struct qr_sampling_params *params,
                               const struct qr_sampler_input *input, int32_t n_wanted,
                               struct qr_ranked *ranked, int32_t *n_ranked,
                               struct qr_sampled *out_row)
{
    const float *logits = edited_logits(sampler, params, input);
    struct qr_logit_wish wish = {.n_tokens = n_wanted, .token_id = -1};
    struct qr_selection best = select_from(sampler, logits, wish);
    struct qr_selection raw = select_raw(sampler, input, params->n_logprobs);

    for (int32_t i = 0; i < best.n; i++)
        sampler->unedited[i] = input->logits[best.tokens[i].token_id];
    best.unedited = sampler->unedited;
    if (logits == input->logits) { /* of one row there is one sum */
        best.largest = raw.largest;
        best.sum_exp = raw.sum_exp;
    }
    return qr_sampler_rank_selected(params,
                                    &(struct qr_sampler_selections){.raw = &raw, .edited = &best},
                                    n_wanted, ranked, n_ranked, out_row);
}
