/*
 * select_params.h - what the kernels of cuda_select.h are given.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_SELECT_PARAMS_H
#define QUIRE_RUNTIME_OPS_CUDA_SELECT_PARAMS_H

#include <stdint.h>

enum {
    QR_SELECT_THREADS = 512,
    QR_SELECT_PER_THREAD = 16, /* logits, or candidates of parts */
    QR_SELECT_PART = QR_SELECT_THREADS * QR_SELECT_PER_THREAD,
    QR_SELECT_MAX_K = 256,
    QR_SELECT_MAX_PARTS = QR_SELECT_PART / QR_SELECT_MAX_K,
    QR_DRAW_PER_THREAD = 4, /* neighbours: a warp reads whole lines */
    QR_DRAW_PART = QR_SELECT_THREADS * QR_DRAW_PER_THREAD,
    QR_DRAW_MAX_PARTS = QR_SELECT_MAX_PARTS * (QR_SELECT_PART / QR_DRAW_PART),
};

/* A logit and its token as one number that is larger where the candidate is better: the logit's
 * key, then the complement of the id. 0: none. */
typedef uint64_t qr_select_key;

/* Of a part of a row. */
struct qr_select_sums {
    float largest;
    float sum_exp;
    int32_t invalid;
    int32_t padding;
};

/* As struct qr_cuda_candidate. */
struct qr_select_candidate {
    float logit;
    int32_t token_id;
};

/* As struct qr_logit_edit. */
struct qr_select_edit {
    int32_t token_id;
    float add;
    float repetition;
    float subtract;
};

/* As struct qr_cuda_edited_row. */
struct qr_select_edited_row {
    int32_t logit_row;
    int32_t first_edit;
    int32_t n_edits;
    int32_t unused;
};

/* What stands in memory for a row, before the candidates that are told: struct qr_cuda_selected. */
struct qr_selected_head {
    float largest;
    float sum_exp;
    float token_logit;
    int32_t invalid;
};

/* As struct qr_cuda_draw. */
struct qr_select_draw {
    double uniform;
    float temperature;
    float top_p;
    float min_p;
    int32_t top_k;
    int32_t row;
    int32_t unused;
};

/* As struct qr_drawn_token. */
struct qr_select_drawn {
    float logit;
    int32_t token_id;
    float unedited;
};

struct qr_select_params {
    const float *logits;                     /* [][vocab_size] */
    const struct qr_select_edited_row *rows; /* [n_rows] of logits; NULL: all, one by one */
    const int32_t *token_ids;                /* [n_rows], or NULL */
    qr_select_key *keys;                     /* [n_rows][n_parts][k] */
    struct qr_select_sums *sums;             /* [n_rows][n_parts] */
    struct qr_select_candidate *candidates;  /* [n_rows][k], the best first */
    void *out;                               /* [n_rows] struct qr_cuda_selected, every out_bytes */
    int64_t out_bytes;
    int32_t vocab_size;
    int32_t n_parts;
    int32_t k;
    int32_t n_told; /* of these, in `out` too */
};

/* After a selection from the same rows. */
struct qr_draw_params {
    const float *logits;                          /* [][vocab_size] */
    const struct qr_select_edited_row *rows;      /* [n_rows]; NULL: all, one by one */
    const struct qr_select_candidate *candidates; /* [n_rows][k] */
    const void *selected;                         /* its `out` */
    int64_t selected_bytes;
    const struct qr_select_draw *draws; /* [n_draws] */
    struct qr_select_drawn *drawn;      /* [n_draws] */
    int32_t vocab_size;
    int32_t k;
};

struct qr_edit_params {
    float *logits;                           /* [][vocab_size] */
    const struct qr_select_edited_row *rows; /* [n_rows] */
    const struct qr_select_edit *edits;      /* of all rows */
    float *saved;                            /* of each edit: the logit before it */
    /* Of the restored: [n_rows] struct qr_cuda_selected, every out_bytes, and behind its candidates
     * float [n_told]; and the tokens drawn from them. */
    void *out;
    int64_t out_bytes;
    const struct qr_select_draw *draws; /* [n_draws] */
    struct qr_select_drawn *drawn;      /* [n_draws] */
    int32_t vocab_size;
    int32_t n_told;
    int32_t n_draws;
    int32_t unused; /* no padding */
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_SELECT_PARAMS_H */
