/*
 * candidates.h - the tokens that top-k, top-p and min-p leave, and a draw among them.
 *
 * What a filter keeps is found by radix selection: sums of the counts or weights by the
 * leading bits of the logit show where it ends, in three passes and without sorting. Of
 * equal logits the lower ids are kept. Candidates stand in ascending order of their id.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_CANDIDATES_H
#define QUIRE_RUNTIME_SAMPLING_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct qr_candidates;

/* Applied in this order; each to what the one before left, its mass taken as 1. */
struct qr_candidate_filter {
    float temperature; /* > 0; 0: nothing is drawn */
    int32_t top_k;     /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
};

QR_BEGIN_DECLS

/* Whether top-p or min-p are of all tokens. */
static inline bool qr_filter_is_by_mass(const struct qr_candidate_filter *filter)
{
    return filter->temperature > 0 && filter->top_k == 0 &&
           (filter->top_p < 1 || filter->min_p > 0);
}
/* Whether nothing but the temperature decides. */
static inline bool qr_filter_leaves_all(const struct qr_candidate_filter *filter)
{
    return filter->temperature > 0 && filter->top_k == 0 && !qr_filter_is_by_mass(filter);
}

QR_MUST_CHECK enum qr_status qr_candidates_create(int32_t vocab_size, struct qr_candidates **out);
void qr_candidates_destroy(struct qr_candidates *candidates); /* accepts NULL */

/* logits[vocab_size]: no NaN, no +inf, at least one above -inf. */
void qr_candidates_filter(struct qr_candidates *candidates, const float *logits,
                          const struct qr_candidate_filter *filter);
/* The same among [n] tokens alone, given by ascending id; only their logits are read. */
void qr_candidates_filter_some(struct qr_candidates *candidates, const int32_t *token_ids,
                               int32_t n, const float *logits,
                               const struct qr_candidate_filter *filter);
/* The candidate at `uniform` (in [0, 1)) of the cumulative distribution. */
int32_t qr_candidates_draw(const struct qr_candidates *candidates, double uniform);
/* How many are left, and the id of the i-th. */
int32_t qr_candidates_count(const struct qr_candidates *candidates);
int32_t qr_candidates_id(const struct qr_candidates *candidates, int32_t index);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_CANDIDATES_H */
