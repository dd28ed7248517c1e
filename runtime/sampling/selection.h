/*
 * selection.h - what a device found in a row of logits, in place of the row: enough to draw a
 * token and to tell log-probabilities where a few of the largest logits decide.
 *
 * A row of 128k logits is half a megabyte, a selection of 50 tokens 400 bytes. Where nothing but a
 * temperature changes the row, the device may draw the token. What needs more (penalties, a
 * bias, banned tokens, top-p or min-p over all of the vocabulary) is drawn from the row itself.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_SELECTION_H
#define QUIRE_RUNTIME_SAMPLING_SELECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/sampling/sampling_params.h"

enum { QR_SELECTION_MAX = 256 }; /* tokens of one selection */

struct qr_token_logit {
    float logit;
    int32_t token_id;
};

struct qr_selection {
    bool invalid;      /* a logit is NaN or +inf; nothing else means anything then */
    float largest;     /* logit; -inf: all are */
    float sum_exp;     /* of e^(logit - largest) over the row */
    float token_logit; /* of the token that was asked for */
    int32_t n;
    const struct qr_token_logit
        *tokens;   /* [n] the largest, descending, ties by lower id; borrowed */
    bool is_drawn; /* a draw was asked for, and this came: */
    struct qr_token_logit drawn;
};

QR_BEGIN_DECLS

/* How many tokens of a selection these parameters need, n_banned tokens being banned; 0: the row.
 */
int32_t qr_selection_wanted(const struct qr_sampling_params *params, int32_t n_banned);
/* The same for the log-probability of a given token. */
int32_t qr_selection_wanted_to_score(const struct qr_sampling_params *params);
/* Whether a token can be drawn from the row by their temperature alone. */
bool qr_selection_is_plain_draw(const struct qr_sampling_params *params, int32_t n_banned);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_SELECTION_H */
