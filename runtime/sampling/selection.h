/*
 * selection.h - what was found in a row of logits, in place of the row: enough to draw a token and
 * to tell log-probabilities.
 *
 * A row of 128k logits is half a megabyte, a selection of 50 tokens 400 bytes. Where nothing but a
 * temperature changes the row, the token itself can be drawn where the row is. What top-p and min-p
 * leave of the whole vocabulary is mostly among QR_SELECTION_MAX tokens; where it is not, and for
 * more than that many by top-k, the row is wanted. Penalties, a bias and banned tokens go to the
 * row as a list of edits: the row is then selected from as it came, for what is reported, and once
 * more as they make it, for the draw.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_SELECTION_H
#define QUIRE_RUNTIME_SAMPLING_SELECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/sampling/logit_edits.h"
#include "runtime/sampling/sampling_params.h"

enum { QR_SELECTION_MAX = 256 }; /* tokens of one selection by a device */

#define QR_NO_DRAW (-1.0) /* in place of the uniform number that a draw takes */

/* What is wanted of one row of logits. */
struct qr_logit_wish {
    int32_t n_tokens; /* a selection of so many; 0, from a device: the whole row */
    int32_t token_id; /* of the selection's token_logit; -1: of none */
    /* Not 0: e^((logit - largest) / temperature) is summed up over the row, and a token drawn where
     * `uniform` in [0, 1) falls in that sum by ascending id; QR_NO_DRAW: none is. */
    float temperature;
    double uniform;
    /* Not 0: all of the above is of the row as these make it, and n_tokens is not 0; of the row as
     * it came, n_reported tokens are selected. */
    int32_t n_edits;                   /* at most QR_MAX_LOGIT_EDITS */
    const struct qr_logit_edit *edits; /* [n_edits], each of another token; borrowed */
    int32_t n_reported;                /* 1 or more */
};

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
        *tokens; /* [n] the largest, descending, ties by lower id; borrowed */
    double
        sum_weights; /* of e^((logit - largest) / temperature) over the row, with a temperature */
    bool is_drawn;   /* a draw was asked for, and this came: */
    struct qr_token_logit drawn;
    /* Of an edited row: the same tokens' logits as they were; [n], borrowed. */
    const float *unedited;
    float drawn_unedited;
};

/* Finds in logits [vocab_size] what is wished for; tokens [wish.n_tokens] become those of *out,
 * fewer where there are no more. On any thread. */
typedef void (*qr_select_row)(const float *logits, int32_t vocab_size, struct qr_logit_wish wish,
                              struct qr_token_logit *tokens, struct qr_selection *out);

QR_BEGIN_DECLS

/* What the parameters want of the row that they draw from, after `position` tokens: as little as
 * will mostly do. n_tokens 0: the row. Without edits; n_reported is set in case there are some. */
struct qr_logit_wish qr_selection_wish(const struct qr_sampling_params *params, int32_t position);
/* What the log-probability of a given token wants. */
struct qr_logit_wish qr_selection_wish_to_score(const struct qr_sampling_params *params,
                                                int32_t token_id);
/* How many of the leading tokens of what was wished for are left to draw from by top-p and min-p
 * of the whole vocabulary, or all, where others filter; 0: some that it has not got. */
int32_t qr_selection_kept(const struct qr_selection *selection,
                          const struct qr_sampling_params *params, int32_t vocab_size);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_SELECTION_H */
