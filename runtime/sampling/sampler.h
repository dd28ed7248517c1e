/*
 * sampler.h - the next token of one row of logits.
 *
 * Order: logit bias, banned ids, repetition / presence / frequency penalties (logit_edits.h),
 * temperature, top-k, top-p, min-p, draw. Reported log-probabilities are the model's
 * own: the log-softmax of the logits as they came. Ties go to the lower id. The draw
 * is a counter-based generator (Philox4x32-10, Salmon et al., SC 2011) keyed by
 * (seed, position), so a token depends on nothing but its own inputs.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_SAMPLER_H
#define QUIRE_RUNTIME_SAMPLING_SAMPLER_H

#include <stdint.h>

#include "base/status.h"
#include "runtime/sampling/sampling_params.h"
#include "runtime/sampling/selection.h"

struct qr_sampler; /* scratch for one vocabulary; one thread at a time */

struct qr_sampler_input {
    const float *logits; /* [vocab_size], not changed */
    float largest;       /* of them, and */
    float sum_exp;       /* of e^(logit - largest); 0: not known, NaN: a logit is NaN or +inf */
    struct qr_token_history history;
};

/* What a device selected of a row. */
struct qr_sampler_selections {
    const struct qr_selection *raw;    /* of the row as it came */
    const struct qr_selection *edited; /* the tokens that are drawn from, where the row was edited;
                                          NULL: they are those of raw */
};

struct qr_top_logprob {
    int32_t token_id;
    float logprob;
};

struct qr_sampled {
    int32_t token_id;
    float logprob;                              /* natural logarithm */
    int32_t n_top;                              /* params->n_logprobs, at most vocab_size */
    struct qr_top_logprob top[QR_MAX_LOGPROBS]; /* descending */
};

/* A token that may come next, for a search rather than a draw. */
struct qr_ranked {
    int32_t token_id;
    float logprob; /* the model's own, as it is reported */
    double score;  /* log-probability after bias, bans and penalties */
};

QR_BEGIN_DECLS

/* select_row: what finds the largest of a row on the host, and draws by a temperature. */
QR_MUST_CHECK enum qr_status qr_sampler_create(int32_t vocab_size, qr_select_row select_row,
                                               struct qr_sampler **out);
void qr_sampler_destroy(struct qr_sampler *sampler); /* accepts NULL */

/* What changes the row of the next token, for a device: qr_logit_edits_make with the sampler's own
 * memory, which holds until its next call. */
int32_t qr_sampler_edits(struct qr_sampler *sampler, const struct qr_sampling_params *params,
                         const struct qr_token_history *history,
                         const struct qr_logit_edit **edits);
/* Allocates nothing. QR_ERR_DEVICE when a logit is NaN or all are -inf: never a made-up token. */
QR_MUST_CHECK enum qr_status qr_sampler_sample(struct qr_sampler *sampler,
                                               const struct qr_sampling_params *params,
                                               const struct qr_sampler_input *input,
                                               struct qr_sampled *out);
/*
 * The tokens with the highest scores, best first, ties by lower id: at most n_wanted, fewer
 * when others are banned. *out_row gets the n_logprobs top ones of the raw logits, and no
 * token. Temperature and filters do not count. Errors as in qr_sampler_sample.
 */
QR_MUST_CHECK enum qr_status qr_sampler_rank(struct qr_sampler *sampler,
                                             const struct qr_sampling_params *params,
                                             const struct qr_sampler_input *input, int32_t n_wanted,
                                             struct qr_ranked *ranked, int32_t *n_ranked,
                                             struct qr_sampled *out_row);

/*
 * qr_sampler_sample from what qr_selection_wish asked for, which qr_selection_is_enough for.
 * `position`: tokens before this one, prompt and output. `which`: of the draws that were wished
 * for. A device's sums may differ in the last bits from those on the host.
 */
QR_MUST_CHECK enum qr_status qr_sampler_sample_selected(
    struct qr_sampler *sampler, const struct qr_sampling_params *params,
    const struct qr_sampler_selections *selections, int32_t position, int32_t which,
    struct qr_sampled *out);
/* qr_sampler_rank from selections, what is drawn from having n_wanted tokens or more. */
QR_MUST_CHECK enum qr_status qr_sampler_rank_selected(
    const struct qr_sampling_params *params, const struct qr_sampler_selections *selections,
    int32_t n_wanted, struct qr_ranked *ranked, int32_t *n_ranked, struct qr_sampled *out_row);
/* Log-probability of the token that a selection was asked for, with the top n_logprobs. */
QR_MUST_CHECK enum qr_status qr_sampler_score_selected(const struct qr_selection *selection,
                                                       int32_t token_id, int32_t n_logprobs,
                                                       struct qr_sampled *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_SAMPLER_H */
