/*
 * cuda_cublaslt_api.h - the part of cuBLASLt that Quire calls, as a table of functions: filled from
 * libcublasLt.so (cuda_cublaslt.c), or by a test.
 *
 * Names, arguments and results are those of the library, versions 12 and 13, reference:
 * https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api. 0 is success. Enumerations are
 * passed as int, as the C ABI does.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_CUBLASLT_API_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_CUBLASLT_API_H

#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"
#include "base/status.h"

typedef int qr_cublas_status;
typedef struct qr_cublaslt_handle_opaque *qr_cublaslt_handle;
typedef struct qr_cublaslt_desc_opaque *qr_cublaslt_desc;
typedef struct qr_cublaslt_layout_opaque *qr_cublaslt_layout;
typedef struct qr_cublaslt_preference_opaque *qr_cublaslt_preference;

enum { QR_CUBLAS_OP_T = 1 };         /* cublasOperation_t */
enum { QR_CUBLAS_COMPUTE_32F = 68 }; /* cublasComputeType_t */
enum {                               /* cudaDataType_t */
       QR_CUDA_R_32F = 0,
       QR_CUDA_R_16F = 2,
       QR_CUDA_R_16BF = 14,
};
enum { QR_CUBLASLT_DESC_TRANSA = 3 };        /* cublasLtMatmulDescAttributes_t: int32_t */
enum { QR_CUBLASLT_LAYOUT_COLS = 3 };        /* cublasLtMatrixLayoutAttribute_t: uint64_t */
enum { QR_CUBLASLT_PREF_MAX_WORKSPACE = 1 }; /* cublasLtMatmulPreferenceAttributes_t: uint64_t */

struct qr_cublaslt_algo { /* cublasLtMatmulAlgo_t */
    uint64_t data[8];
};
struct qr_cublaslt_heuristic { /* cublasLtMatmulHeuristicResult_t */
    struct qr_cublaslt_algo algo;
    size_t workspace_size;
    qr_cublas_status state;
    float waves_count;
    int reserved[4];
};

struct qr_cublaslt_api {
    qr_cublas_status (*create)(qr_cublaslt_handle *handle);
    qr_cublas_status (*destroy)(qr_cublaslt_handle handle);
    qr_cublas_status (*desc_create)(qr_cublaslt_desc *desc, int compute_type, int scale_type);
    qr_cublas_status (*desc_set)(qr_cublaslt_desc desc, int attribute, const void *value,
                                 size_t n_bytes);
    qr_cublas_status (*desc_destroy)(qr_cublaslt_desc desc);
    qr_cublas_status (*layout_create)(qr_cublaslt_layout *layout, int type, uint64_t rows,
                                      uint64_t cols, int64_t leading_dimension);
    qr_cublas_status (*layout_set)(qr_cublaslt_layout layout, int attribute, const void *value,
                                   size_t n_bytes);
    qr_cublas_status (*layout_destroy)(qr_cublaslt_layout layout);
    qr_cublas_status (*preference_create)(qr_cublaslt_preference *preference);
    qr_cublas_status (*preference_set)(qr_cublaslt_preference preference, int attribute,
                                       const void *value, size_t n_bytes);
    qr_cublas_status (*preference_destroy)(qr_cublaslt_preference preference);
    qr_cublas_status (*get_heuristic)(qr_cublaslt_handle handle, qr_cublaslt_desc desc,
                                      qr_cublaslt_layout a, qr_cublaslt_layout b,
                                      qr_cublaslt_layout c, qr_cublaslt_layout d,
                                      qr_cublaslt_preference preference, int n_wanted,
                                      struct qr_cublaslt_heuristic *results, int *n_found);
    qr_cublas_status (*matmul)(qr_cublaslt_handle handle, qr_cublaslt_desc desc, const void *alpha,
                               const void *a, qr_cublaslt_layout a_layout, const void *b,
                               qr_cublaslt_layout b_layout, const void *beta, const void *c,
                               qr_cublaslt_layout c_layout, void *d, qr_cublaslt_layout d_layout,
                               const struct qr_cublaslt_algo *algo, void *workspace,
                               size_t workspace_bytes, qr_cu_stream stream);
};

struct qr_cuda_cublaslt;

QR_BEGIN_DECLS

/* As qr_cuda_cublaslt_open, with these functions, which outlive *out. */
QR_MUST_CHECK enum qr_status qr_cuda_cublaslt_open_api(struct qr_cuda *cuda,
                                                       const struct qr_cublaslt_api *api,
                                                       void *workspace,
                                                       struct qr_cuda_cublaslt **out,
                                                       struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_CUBLASLT_API_H */
