/* tile_kernel.h - the parameters of tile_kernel.cu. */
#ifndef QUIRE_TESTS_BASE_CUDA_TILE_KERNEL_H
#define QUIRE_TESTS_BASE_CUDA_TILE_KERNEL_H

#include <stdint.h>

enum { TILE_WARPS = 4, TILE_THREADS = 128, TILE_BYTES = 512 };

/* out[n] = W x for W [16 n_tiles][16 n_steps] and x [8][16 n_steps], both bf16. */
struct qr_test_tile_params {
    const void *w; /* [n_tiles][n_steps][16][16] */
    const void *x; /* [n_steps][8][16] */
    float *out;    /* [n_tiles][16][8] */
    int32_t n_steps;
};

#endif
