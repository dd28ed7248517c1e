/*
 * experts_params.h - what the kernels of a mixture of experts are given (cuda_experts.h).
 *
 * A pair is a row and one of its experts: pair = row * n_used + i, where the row's experts ascend
 * with i.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_EXPERTS_PARAMS_H
#define QUIRE_RUNTIME_OPS_CUDA_EXPERTS_PARAMS_H

#include <stdint.h>

enum {
    QR_ROUTE_THREADS = 256, /* a warp for each row */
    QR_ROUTE_ROWS = QR_ROUTE_THREADS / 32,
    QR_EXPERT_FEW = 8,   /* pairs of a tile of few rows */
    QR_EXPERT_MANY = 32, /* of many */
    QR_COMBINE_THREADS = 256,
    QR_COMBINE_PER_BLOCK = QR_COMBINE_THREADS * 8, /* elements of a row */
};

/* An expert's matrices: gate and up [inner][hidden], down [hidden][inner]; scales of their rows, or
 * NULL. */
struct qr_expert_weights {
    const void *gate;
    const void *up;
    const void *down;
    const float *gate_scales;
    const float *up_scales;
    const float *down_scales;
};

/* Pairs of one expert that a block computes together: order[first] to order[first + n - 1]. */
struct qr_expert_tile {
    int32_t expert;
    int32_t first;
    int32_t n; /* at least 1 */
};

/* What the router decided. Device memory that the kernels after it read. */
struct qr_routing {
    int32_t *chosen;              /* [n_pairs] the pair's expert */
    float *weights;               /* [n_pairs] and its weight */
    int32_t *order;               /* [n_pairs] pairs, by expert */
    struct qr_expert_tile *tiles; /* [*n_tiles] */
    int32_t *n_tiles;
};

/* A block for QR_ROUTE_ROWS rows. The last one to finish makes the order and the tiles. */
struct qr_route_params {
    struct qr_routing routing;
    const float *logits;   /* [n_rows][n_experts] */
    const int32_t *n_live; /* [1] rows of the step, or NULL: all; the others choose no expert */
    int32_t *n_done;       /* blocks; zero between launches */
    int32_t first_row;     /* of the step's rows */
    int32_t n_rows;
    int32_t n_experts;
    int32_t n_used;
    int32_t tile_pairs;
    int32_t renormalizes;
};

/* Block (x, y): outputs of tile x of the pairs. */
struct qr_experts_params {
    struct qr_routing routing;
    const struct qr_expert_weights *experts; /* [n_experts] */
    const void *x;     /* [n_rows][n_in]; a row for each pair, or for x_pairs neighbouring ones */
    void *out;         /* [n_pairs][n_out]: gate and up: of the activation type; down: F32 */
    int64_t row_bytes; /* of a weight row */
    int32_t n_rows;
    int32_t n_in;
    int32_t n_out;
    int32_t slice_length;
    int32_t n_slices;
    int32_t x_pairs;
    int32_t activation; /* enum qr_activation, of the gate */
    int32_t unused;     /* no padding */
};

/* Block (x, y): columns from y * QR_COMBINE_PER_BLOCK on of row x. */
struct qr_combine_params {
    const float *weights;  /* [n_rows][n_used] */
    const float *partials; /* [n_rows][n_used][dim] */
    const int32_t *n_live; /* as in qr_route_params */
    float *residual;       /* [n_rows][dim] */
    int32_t first_row;
    int32_t n_used;
    int32_t dim;
    int32_t unused;
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_EXPERTS_PARAMS_H */
