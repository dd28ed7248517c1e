/*
 * logit_edits.h - what bias, banned ids and penalties make of a row of logits, as a list of the
 * tokens that they touch. A list of some hundred edits goes to where the row is; the row itself is
 * a thousand times as long.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_LOGIT_EDITS_H
#define QUIRE_RUNTIME_SAMPLING_LOGIT_EDITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/sampling/sampling_params.h"
#include "runtime/sampling/token_counts.h"

/* Of one logit, in this order. */
struct qr_logit_edit {
    int32_t token_id;
    float add;        /* bias; -inf: the token is banned */
    float repetition; /* divides a logit above 0, multiplies others */
    float subtract;   /* presence and frequency */
};

/* What the edits of a row depend on besides the parameters. */
struct qr_token_history {
    const int32_t *prompt; /* [n_prompt] */
    int32_t n_prompt;
    const int32_t *output; /* [n_output] tokens generated so far */
    int32_t n_output;
    const int32_t *banned; /* [n_banned] ids that may not come (min_tokens) */
    int32_t n_banned;
    struct qr_token_counts *counts; /* of this sequence, brought up to date by who looks at it; not
                                       NULL where the parameters penalize */
};

struct qr_logit_editor; /* scratch for one vocabulary; one thread at a time */

static inline float qr_edit_logit(float logit, const struct qr_logit_edit *edit)
{
    float sum = logit + edit->add;
    float penalized = sum > 0 ? sum / edit->repetition : sum * edit->repetition;
    return penalized - edit->subtract;
}

QR_BEGIN_DECLS

QR_MUST_CHECK enum qr_status qr_logit_editor_create(int32_t vocab_size,
                                                    struct qr_logit_editor **out);
void qr_logit_editor_destroy(struct qr_logit_editor *editor); /* accepts NULL */

/* Whether they look at the tokens that have come. */
bool qr_sampling_penalizes(const struct qr_sampling_params *params);
/* Whether these parameters, n_banned tokens being banned, change the row before they draw. */
bool qr_sampling_changes_row(const struct qr_sampling_params *params, int32_t n_banned);
/* The edits of the next token's row, each of another token: *edits is the editor's, until the next
 * call. Returns how many. */
int32_t qr_logit_edits_make(struct qr_logit_editor *editor, const struct qr_sampling_params *params,
                            const struct qr_token_history *history,
                            const struct qr_logit_edit **edits);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_LOGIT_EDITS_H */
