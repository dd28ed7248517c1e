/*
 * cuda_types.h - number formats and weight matrices in device memory.
 *
 * Activations and weights meet as follows: F32 weights with F32 activations; F16 weights with F16;
 * BF16 with BF16; E4M3 and INT8, which have one scale for each row of the matrix, with F16 or BF16.
 * The residual stream and the logits are F32 in every case.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_TYPES_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

/* The numbers of enum qr_dtype, so that one may be cast to the other. */
enum qr_cuda_type {
    QR_CUDA_F32 = QR_DTYPE_F32,
    QR_CUDA_F16 = QR_DTYPE_F16,
    QR_CUDA_BF16 = QR_DTYPE_BF16,
    QR_CUDA_E4M3 = QR_DTYPE_E4M3, /* weights only: FP8, largest 448 */
    QR_CUDA_INT8 = QR_DTYPE_INT8, /* weights only: -127 to 127 */
    QR_CUDA_N_TYPES,
};

/* A matrix, or the table of an embedding: element (n, k) is data[n][k] * scales[n]. */
struct qr_cuda_matrix {
    enum qr_cuda_type type;
    int32_t n_out;       /* rows */
    int32_t n_in;        /* columns */
    const void *data;    /* device, [n_out] rows of qr_cuda_row_bytes, aligned to 16 */
    const float *scales; /* device, [n_out]; NULL unless E4M3 or INT8 */
};

QR_BEGIN_DECLS

size_t qr_cuda_type_size(enum qr_cuda_type type);      /* bytes of an element */
const char *qr_cuda_type_name(enum qr_cuda_type type); /* "F32", "F16", "BF16", "E4M3", "INT8" */
/* Bytes from one row of a matrix to the next: n_in elements; of the 8-bit types rounded up to
 * 16 bytes, filled with zeros. */
size_t qr_cuda_row_bytes(enum qr_cuda_type type, int32_t n_in);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_TYPES_H */
