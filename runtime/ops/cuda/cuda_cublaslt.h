/*
 * cuda_cublaslt.h - matrix products of many rows by NVIDIA's cuBLASLt, where it is installed.
 *
 * The library (half a gigabyte) is loaded when this is opened; nothing links it. The algorithm of
 * a shape is asked for once and kept. A product that cuBLASLt refuses is left to the caller, who
 * has kernels of his own; that is logged once.
 *
 * Threads: the engine's. A row's bits may depend on n_rows.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_CUBLASLT_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_CUBLASLT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "runtime/ops/cuda/cuda_types.h"

struct qr_cuda_cublaslt;

QR_BEGIN_DECLS

/* Bytes of device workspace that an opened library wants. */
size_t qr_cuda_cublaslt_workspace_bytes(void);
/*
 * QR_ERR_NOT_FOUND: the library is not installed; QR_ERR_UNSUPPORTED: it lacks a function or
 * cannot start; err says which. The device's context is current. workspace: device memory of
 * qr_cuda_cublaslt_workspace_bytes, aligned to 256, that outlives *out.
 */
QR_MUST_CHECK enum qr_status qr_cuda_cublaslt_open(struct qr_cuda *cuda, void *workspace,
                                                   struct qr_cuda_cublaslt **out,
                                                   struct qr_error *err);
void qr_cuda_cublaslt_close(struct qr_cuda_cublaslt *lt); /* accepts NULL */

/*
 * out[r][n] = sum over k of W[n][k] x[r][k], plus out[r][n] when `add`, enqueued on the step's
 * stream. weight: F16 or BF16; x: device, [n_rows][n_in] of the weight's type;
 * out: device, [n_rows][n_out] of out_type (the weight's or F32).
 * False: refused, nothing was enqueued.
 */
bool qr_cuda_cublaslt_matmul(struct qr_cuda_cublaslt *lt, const struct qr_cuda_matrix *weight,
                             const void *x, int32_t n_rows, enum qr_cuda_type out_type, bool add,
                             void *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_CUBLASLT_H */
