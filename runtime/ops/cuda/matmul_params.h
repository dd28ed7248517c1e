/*
 * matmul_params.h - what the kernels of a matrix product are given (cuda_matmul.h).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_MATMUL_PARAMS_H
#define QUIRE_RUNTIME_OPS_CUDA_MATMUL_PARAMS_H

#include <stdint.h>

enum {
    QR_MATMUL_PARTS = 3,     /* matrices of one launch */
    QR_MATMUL_SLICES = 8,    /* of k, at most */
    QR_MATMUL_STEP = 64,     /* elements of k that are loaded together; divides a slice */
    QR_SKINNY_THREADS = 256, /* a warp for each slice */
    QR_TILED_OUTS = 128,     /* outputs of a tile */
    QR_MATMUL_F32_THREADS = 128,
    QR_MATMUL_F32_OUTS = 8, /* of a block: half a warp each */
    QR_MATMUL_F32_ROWS = 8,
};

/* What becomes of a sum. */
enum qr_cuda_epilogue {
    QR_CUDA_STORE,     /* out of the activation type = sum */
    QR_CUDA_STORE_F32, /* out F32 = sum */
    QR_CUDA_ADD_F32,   /* out F32 += sum */
};

struct qr_matmul_part {
    const void *weight;  /* [n_out] rows of row_bytes */
    const float *scales; /* [n_out], or NULL */
    void *out;           /* [n_rows][n_out] */
    int32_t n_out;
    int32_t first_tile; /* of this matrix, in the launch's numbering of its output tiles */
};

struct qr_matmul_params {
    struct qr_matmul_part parts[QR_MATMUL_PARTS]; /* [n_parts] */
    const void *x;                                /* [n_rows][n_in] */
    int64_t row_bytes;                            /* of a weight row */
    int32_t n_parts;
    int32_t n_rows;
    int32_t n_in;
    int32_t slice_length;
    int32_t n_slices;
    int32_t epilogue; /* enum qr_cuda_epilogue */
    /* tiled only */
    int32_t n_row_tiles;
    int32_t split;     /* blocks that share a tile's slices */
    float *partials;   /* [tile][slice][outputs of the tile, as threads hold them] */
    int32_t *counters; /* [tile] blocks of the tile that are done; zero between launches */
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_MATMUL_PARAMS_H */
