/*
 * selection.h - what was found in a row of logits, in place of the row: enough to draw a token and
 * to tell log-probabilities.
 *
 * A row of 128k logits is half a megabyte, a selection of 50 tokens 400 bytes, a token that was
 * drawn where the row is 12. A device draws all tokens, or those that nothing but a temperature
 * decides; of the others it selects what the host mostly draws from: what top-p and min-p leave of
 * the whole vocabulary is mostly among QR_SELECTION_MAX tokens. Where it is not, and for more than
 * that many by top-k, the host wants the row. Penalties, a bias and banned tokens go to the row as
 * a list of edits: the row is then selected from as it came, for what is reported, and once more as
 * they make it, for the draw.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_SELECTION_H
#define QUIRE_RUNTIME_SAMPLING_SELECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/sampling/candidates.h"
#include "runtime/sampling/logit_edits.h"
#include "runtime/sampling/sampling_params.h"

enum { QR_SELECTION_MAX = 256 }; /* tokens of one selection by a device */

/* What is wanted of one row of logits. */
struct qr_logit_wish {
    int32_t token_id; /* of the selection's token_logit; -1: of none */
    /* A selection of so many: to draw from, where the device does not draw itself, and to report;
     * 0: the whole row. */
    int32_t n_tokens;
    int32_t n_reported; /* of these, the tokens that are wanted anyway; 1 or more */
    /* n_draws tokens are drawn from what the filter leaves, each where its number in [0, 1) falls
     * in the sum of e^((logit - largest) / temperature) by ascending id. */
    int32_t n_draws;        /* 0: none is */
    const double *uniforms; /* [n_draws]; borrowed */
    struct qr_candidate_filter filter;
    /* Not 0: all of the above is of the row as these make it, and n_tokens is not 0 unless the
     * device draws; of the row as it came, n_reported tokens are selected. */
    int32_t n_edits;
    const struct qr_logit_edit *edits; /* [n_edits], each of another token; borrowed */
};

struct qr_token_logit {
    float logit;
    int32_t token_id;
};

struct qr_drawn_token {
    float logit; /* as it was drawn by */
    int32_t token_id;
    float unedited; /* that logit as it came */
};

struct qr_selection {
    bool invalid;      /* a logit is NaN or +inf; nothing else means anything then */
    float largest;     /* logit; -inf: all are */
    float sum_exp;     /* of e^(logit - largest) over the row */
    float token_logit; /* of the token that was asked for */
    int32_t n;
    const struct qr_token_logit
        *tokens; /* [n] the largest, descending, ties by lower id; borrowed */
    const float
        *unedited;      /* of an edited row: the same tokens' logits as they came [n]; borrowed */
    double sum_weights; /* of e^((logit - largest) / temperature) over the row, where the host draws
                           by top-p or min-p of all of it */
    int32_t n_drawn;    /* n_draws of the wish, where the device has drawn; else 0 */
    const struct qr_drawn_token *drawn; /* [n_drawn]; borrowed */
};

/* Finds in logits [vocab_size] what is wished for, without its edits; tokens [wish.n_tokens] become
 * those of *out, fewer where there are no more, and drawn [wish.n_draws] too, where nothing but a
 * temperature decides. On any thread. */
typedef void (*qr_select_row)(const float *logits, int32_t vocab_size, struct qr_logit_wish wish,
                              struct qr_token_logit *tokens, struct qr_drawn_token *drawn,
                              struct qr_selection *out);

QR_BEGIN_DECLS

/* The parameters that filter. */
struct qr_candidate_filter qr_selection_filter(const struct qr_sampling_params *params);
/* What the parameters want of the row that they draw from, after `position` tokens: as little as
 * will mostly do. Without edits. *uniform: memory for the one draw that there may be. */
struct qr_logit_wish qr_selection_wish(const struct qr_sampling_params *params, int32_t position,
                                       double *uniform);
/* What the log-probability of a given token wants. */
struct qr_logit_wish qr_selection_wish_to_score(const struct qr_sampling_params *params,
                                                int32_t token_id);
/* Where the host draws: how many of the leading tokens of what was wished for are left to draw from
 * by top-p and min-p of the whole vocabulary, or all, where others filter; 0: some that it has not
 * got. */
int32_t qr_selection_kept(const struct qr_selection *selection,
                          const struct qr_sampling_params *params, int32_t vocab_size);
/* Whether the token is drawn, or can be from what is left; else the row is wanted. */
bool qr_selection_is_enough(const struct qr_selection *selection,
                            const struct qr_sampling_params *params, int32_t vocab_size);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_SELECTION_H */
