/*
 * cuda_ops_rig.h - an opened CUDA device for tests of kernels, memory that is freed with it, and
 * the scalar definitions of the number formats.
 */
#ifndef QUIRE_TESTS_SUPPORT_CUDA_OPS_RIG_H
#define QUIRE_TESTS_SUPPORT_CUDA_OPS_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "runtime/ops/cuda/cuda_types.h"

struct cuda_ops_rig {
    struct qr_cuda cuda;
    void *pieces[64]; /* [n_pieces] device memory */
    int32_t n_pieces;
};

/* What fails ends the test. */
void cuda_ops_rig_open(struct cuda_ops_rig *rig);
/* Waits, and fails the test if anything had failed. */
void cuda_ops_rig_check(struct cuda_ops_rig *rig);
void cuda_ops_rig_close(struct cuda_ops_rig *rig);

/* Device memory, which on the emulator holds NaN. */
void *cuda_ops_rig_alloc(struct cuda_ops_rig *rig, size_t n_bytes);
void *cuda_ops_rig_upload(struct cuda_ops_rig *rig, const void *data, size_t n_bytes);
/* Checks, then copies. */
void cuda_ops_rig_download(struct cuda_ops_rig *rig, const void *from, void *to, size_t n_bytes);

/* Uniform in [-1, 1), a function of (seed, i). */
float cuda_ops_random(uint64_t seed, uint64_t i);
/* Element i of an array of this type; E4M3 and INT8 without a scale. */
float cuda_ops_get(enum qr_cuda_type type, const void *data, size_t i);
/* Rounds to the nearest, ties to even; E4M3 at most 448, by search among all its numbers. */
void cuda_ops_put(enum qr_cuda_type type, void *data, size_t i, float value);

#endif /* QUIRE_TESTS_SUPPORT_CUDA_OPS_RIG_H */
