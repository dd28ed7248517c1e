/*
 * cuda_select.h - what sampling must know of a row of logits, found on the device, and the tokens
 * drawn there, so that some bytes a row cross the bus and not the row.
 *
 * For each row: the k largest logits in descending order, equal ones by ascending id (the order of
 * runtime/sampling/candidates.c: -0 and 0 are equal), of which the host is told the first n_told,
 * the largest logit and the sum of e^(logit - largest), the logit of one token that the caller asks
 * for, and whether a logit is NaN or +inf. Rows are computed each by itself: parts of
 * QR_CUDA_SELECT_PART logits first, each in one order, then the parts in another. Draws follow the
 * selection, any number from each row.
 *
 * Threads: the engine's. Work is enqueued; failures are latched (base/cuda/cuda.h).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_SELECT_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_SELECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "runtime/sampling/selection.h"

enum {
    QR_CUDA_SELECT_MAX_K = 256,
    QR_CUDA_SELECT_PART = 8192, /* logits that a block takes */
    QR_CUDA_SELECT_MAX_PARTS = 32,
    QR_CUDA_SELECT_MAX_VOCAB = QR_CUDA_SELECT_PART * QR_CUDA_SELECT_MAX_PARTS,
};

/* A row's result; stands in memory every qr_cuda_selected_bytes(n_told) bytes. */
struct qr_cuda_selected {
    float largest;     /* -inf: all are */
    float sum_exp;     /* of e^(logit - largest); the log-probability of a token is
                          logit - largest - log(sum_exp) */
    float token_logit; /* of the token asked for; 0 where none was */
    int32_t invalid;   /* 1: a logit is NaN or +inf, and nothing else here means anything */
    struct qr_token_logit candidates[]; /* [n_told]; where the vocabulary has fewer tokens, the rest
                                           has logit -inf and token_id -1 */
};

/* A token drawn from what filters leave of a row (candidates.h), where `uniform` falls in the sum
 * of its weights by ascending id. It needs as many candidates as qr_cuda_draw_candidates says. */
struct qr_cuda_draw {
    double uniform;    /* in [0, 1) */
    float temperature; /* > 0 */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    int32_t top_k;     /* 0: off; less than the vocabulary has */
    int32_t row;       /* of the selection's */
    int32_t unused;
};

/* A row that is selected from as edits make it. */
struct qr_cuda_edited_row {
    int32_t logit_row;
    int32_t first_edit;
    int32_t n_edits; /* each of another token */
    int32_t unused;
};

/* Device memory. */
struct qr_cuda_edits {
    const struct qr_cuda_edited_row *rows; /* [n_rows], each of another row of logits */
    const struct qr_logit_edit *edits;     /* of all rows */
    float *saved;                          /* for each edit: scratch */
};

/* Device memory. */
struct qr_cuda_draws {
    const struct qr_cuda_draw *draws; /* [n_draws] */
    struct qr_drawn_token *drawn; /* [n_draws] what came; token_id -1: the row is invalid, or all
                                     of it is -inf */
    int32_t n_draws;
};

struct qr_cuda_selection_sizes {
    int32_t n_rows;
    int32_t k;
    int32_t n_told; /* at most k */
};

struct qr_cuda_select {
    struct qr_cuda *cuda; /* borrowed */
    struct qr_cuda_kernel part;
    struct qr_cuda_kernel merge;
    struct qr_cuda_kernel draw;
    struct qr_cuda_kernel edit;
    struct qr_cuda_kernel restore;
    int32_t vocab_size;
    int32_t max_rows;
    int32_t max_k;
    void *workspace; /* device */
};

QR_BEGIN_DECLS

size_t qr_cuda_selected_bytes(int32_t n_told);
/* Of a row that was edited: behind the candidates float [n_told], their logits without the edits.
 */
size_t qr_cuda_edited_bytes(int32_t n_told);
/* Bytes of device workspace for at most max_rows rows and max_k candidates each. */
size_t qr_cuda_select_workspace_bytes(int32_t vocab_size, int32_t max_rows, int32_t max_k);
/* QR_ERR_UNSUPPORTED: more than QR_CUDA_SELECT_MAX_VOCAB tokens. workspace: device memory,
 * aligned to 256, that outlives *out. Nothing to close. */
QR_MUST_CHECK enum qr_status qr_cuda_select_open(struct qr_cuda *cuda, int32_t vocab_size,
                                                 int32_t max_rows, int32_t max_k, void *workspace,
                                                 struct qr_cuda_select *out, struct qr_error *err);
/* A draw from what the filter leaves of row `row` of a selection; its top_k is less than the
 * vocabulary has. */
struct qr_cuda_draw qr_cuda_draw_of(const struct qr_candidate_filter *filter, double uniform,
                                    int32_t row);
/* Candidates that it wants of its row's selection; 0: any number will do. */
int32_t qr_cuda_draw_candidates(const struct qr_candidate_filter *filter);
/*
 * logits: device F32 [n_rows][vocab_size]; token_ids: device [n_rows], an id or -1 for none; NULL:
 * none at all. out: device, n_rows results (struct qr_cuda_selected). Then the draws, from these.
 */
void qr_cuda_select(struct qr_cuda_select *select, const float *logits,
                    struct qr_cuda_selection_sizes sizes, const int32_t *token_ids,
                    const struct qr_cuda_draws *draws, void *out);
/*
 * The same of rows of `logits` as their edits make them; the logits are then as before. out: n_rows
 * results every qr_cuda_edited_bytes(n_told).
 */
void qr_cuda_select_edited(struct qr_cuda_select *select, float *logits,
                           struct qr_cuda_selection_sizes sizes, const struct qr_cuda_edits *edits,
                           const struct qr_cuda_draws *draws, void *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_SELECT_H */
