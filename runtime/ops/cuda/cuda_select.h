/*
 * cuda_select.h - what sampling must know of a row of logits, found on the device, so that some
 * hundred bytes a row cross the bus and not the row.
 *
 * For each row: the k largest logits in descending order, equal ones by ascending id (the order of
 * runtime/sampling/candidates.c: -0 and 0 are equal), the largest logit and the sum of
 * e^(logit - largest), the logit of one token that the caller asks for, and whether a logit is NaN
 * or +inf. Rows are computed each by itself: parts of QR_CUDA_SELECT_PART logits first, each in one
 * order, then the parts in another.
 *
 * Threads: the engine's. Work is enqueued; failures are latched (base/cuda/cuda.h).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_SELECT_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_SELECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "runtime/sampling/logit_edits.h"

enum {
    QR_CUDA_SELECT_MAX_K = 256,
    QR_CUDA_SELECT_PART = 8192, /* logits that a block takes */
    QR_CUDA_SELECT_MAX_PARTS = 32,
    QR_CUDA_SELECT_MAX_VOCAB = QR_CUDA_SELECT_PART * QR_CUDA_SELECT_MAX_PARTS,
};

struct qr_cuda_candidate {
    float logit;
    int32_t token_id;
};

/* A row's result; stands in memory every qr_cuda_selected_bytes(k) bytes. */
struct qr_cuda_selected {
    float largest;      /* -inf: all are */
    float sum_exp;      /* of e^(logit - largest); the log-probability of a token is
                           logit - largest - log(sum_exp) */
    float token_logit;  /* of the token asked for; 0 where none was */
    int32_t invalid;    /* 1: a logit is NaN or +inf, and nothing else here means anything */
    float drawn_logit;  /* of the token that qr_cuda_draw drew */
    int32_t drawn_id;   /* -1: none */
    double sum_weights; /* of e^((logit - largest) / temperature), where qr_cuda_draw had one */
    struct qr_cuda_candidate candidates[]; /* [k]; where the vocabulary has fewer tokens, the rest
                                              has logit -inf and token_id -1 */
};

/* A row's weights to be summed up, and a token to be drawn where `uniform` in [0, 1) falls in that
 * sum by ascending id. */
struct qr_cuda_draw {
    double uniform;    /* < 0: none is drawn */
    float temperature; /* 0: neither */
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
    const struct qr_cuda_draw *draws;      /* [n_rows]; NULL: nothing is drawn */
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

size_t qr_cuda_selected_bytes(int32_t k);
/* Of a row that was edited: behind the candidates float [k], their logits without the edits. */
size_t qr_cuda_edited_bytes(int32_t k);
/* Bytes of device workspace for at most max_rows rows and max_k candidates each. */
size_t qr_cuda_select_workspace_bytes(int32_t vocab_size, int32_t max_rows, int32_t max_k);
/* QR_ERR_UNSUPPORTED: more than QR_CUDA_SELECT_MAX_VOCAB tokens. workspace: device memory,
 * aligned to 256, that outlives *out. Nothing to close. */
QR_MUST_CHECK enum qr_status qr_cuda_select_open(struct qr_cuda *cuda, int32_t vocab_size,
                                                 int32_t max_rows, int32_t max_k, void *workspace,
                                                 struct qr_cuda_select *out, struct qr_error *err);
/*
 * logits: device F32 [n_rows][vocab_size]; k in [1, max_k]; token_ids: device [n_rows], an id or
 * -1 for none; NULL: none at all. out: device, n_rows results (struct qr_cuda_selected).
 */
void qr_cuda_select(struct qr_cuda_select *select, const float *logits, int32_t n_rows, int32_t k,
                    const int32_t *token_ids, void *out);
/* After qr_cuda_select with the same k: draws [n_rows] of device memory, into its results `out`. */
void qr_cuda_draw(struct qr_cuda_select *select, const float *logits, int32_t n_rows, int32_t k,
                  const struct qr_cuda_draw *draws, void *out);
/*
 * Selects from rows of `logits` as their edits make them, and draws; the logits are then as before.
 * out: n_rows results every qr_cuda_edited_bytes(k); token_logit is that of the drawn token without
 * the edits.
 */
void qr_cuda_select_edited(struct qr_cuda_select *select, float *logits, int32_t n_rows, int32_t k,
                           const struct qr_cuda_edits *edits, void *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_SELECT_H */
