/*
 * cuda_matmul.h - out[r][n] = sum over k of W[n][k] x[r][k], for few rows and for many.
 *
 * The sum of a result has one order, whatever computes it: k is cut in at most 8 slices of
 * qr_cuda_slice_length(n_in) elements; each slice is summed in F32 from zero in ascending k by
 * m16n8k16 products, then the slices are added in ascending order. So a row's bits depend neither
 * on n_rows, nor on the kernel and the tiles chosen, nor on the size of the device. (F32 weights:
 * the order of matmul_f32.cuh.) Only cuBLASLt, where it is used, has an order of its own.
 *
 * Kernels: "skinny" (a block takes 16 outputs of 8 rows or 32 of 16; its eight warps are the
 * slices, and weights go straight to registers), "tiled" (128 outputs by 32, 64 or 128 rows through
 * shared memory; where there are fewer tiles than multiprocessors, slices are spread over blocks
 * and added in order by the last one to finish), "odd" (n_in no multiple of 8), and F32.
 *
 * Threads: the engine's. Work is enqueued; failures are latched (base/cuda/cuda.h).
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_MATMUL_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "runtime/ops/cuda/cuda_cublaslt.h"
#include "runtime/ops/cuda/cuda_types.h"
#include "runtime/ops/cuda/matmul_params.h"

enum {
    QR_CUDA_N_SKINNY = 2, /* for up to 8 and 16 rows */
    QR_CUDA_N_TILED = 3,  /* tiles of 32, 64 and 128 rows */
};

enum qr_cuda_matmul_kernel {
    QR_CUDA_MATMUL_AUTO, /* the rule of cuda_matmul.c */
    QR_CUDA_MATMUL_SKINNY,
    QR_CUDA_MATMUL_TILED,
};

struct qr_cuda_matmul_config {
    enum qr_cuda_type activation; /* F32, F16 or BF16 */
    int32_t max_rows;
    struct qr_cuda_cublaslt *cublaslt; /* for many rows of 16-bit weights; NULL: own kernels only,
                                          whose rows are bit-identical in any batch */
    enum qr_cuda_matmul_kernel kernel; /* AUTO but in tests */
    int32_t split;                     /* blocks that share a tile's slices; 0: the rule */
};

struct qr_cuda_matmul {
    struct qr_cuda *cuda; /* borrowed */
    struct qr_cuda_matmul_config config;
    struct qr_cuda_kernel skinny[QR_CUDA_N_TYPES][QR_CUDA_N_SKINNY]; /* [weight type][] */
    struct qr_cuda_kernel tiled[QR_CUDA_N_TYPES][QR_CUDA_N_TILED];
    struct qr_cuda_kernel odd[QR_CUDA_N_TYPES];
    struct qr_cuda_kernel f32;
    void *workspace; /* device */
};

QR_BEGIN_DECLS

/* May these meet in a product? */
bool qr_cuda_types_match(enum qr_cuda_type weight, enum qr_cuda_type activation);
/* How the kernels of two types that match and are not F32 are called: "bf16", "e4m3_bf16". */
const char *qr_cuda_product_suffix(enum qr_cuda_type weight, enum qr_cuda_type activation);
/* Shared memory of kernels: of matmul_skinny.cuh each warp's sums of a block's outputs and rows; of
 * matmul_tiled.cuh 4 stages of 16-bit weights, 6 of 8-bit ones. */
int32_t qr_cuda_skinny_bytes(int32_t outs, int32_t rows);
int32_t qr_cuda_tiled_bytes(enum qr_cuda_type weight, int32_t rows);

/* Elements of a slice of k: ceil(n_in / 8), rounded up to 64. */
int32_t qr_cuda_slice_length(int32_t n_in);
/* Bytes of device workspace, which the matmuls of one stream share. */
size_t qr_cuda_matmul_workspace_bytes(const struct qr_cuda_properties *properties,
                                      const struct qr_cuda_matmul_config *config);
/* Finds the kernels and enqueues the workspace's clearing. workspace: device memory of at least
 * qr_cuda_matmul_workspace_bytes, aligned to 256, that outlives *out. Nothing to close. */
QR_MUST_CHECK enum qr_status qr_cuda_matmul_open(struct qr_cuda *cuda,
                                                 const struct qr_cuda_matmul_config *config,
                                                 void *workspace, struct qr_cuda_matmul *out,
                                                 struct qr_error *err);
/*
 * n (1 to QR_MATMUL_PARTS) products with the same x. weights: of one type and one n_in, any n_out
 * >= 1. Kernels read them before those enqueued earlier have ended: whatever writes a weight must
 * have been waited for by qr_cuda_synchronize. x: device, [n_rows][n_in] of the activation type,
 * aligned to 16. outs: device, [n_rows][weights[i]->n_out] of the epilogue's type; no two overlap,
 * nor x.
 */
void qr_cuda_matmul(struct qr_cuda_matmul *matmul, int32_t n,
                    const struct qr_cuda_matrix *const *weights, const void *x, int32_t n_rows,
                    enum qr_cuda_epilogue epilogue, void *const *outs);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_MATMUL_H */
