/* cuda_types.c - see cuda_types.h for the contract. */
#include "runtime/ops/cuda/cuda_types.h"

size_t qr_cuda_type_size(enum qr_cuda_type type)
{
    return qr_dtype_size((enum qr_dtype)type);
}

const char *qr_cuda_type_name(enum qr_cuda_type type)
{
    return qr_dtype_name((enum qr_dtype)type);
}

size_t qr_cuda_row_bytes(enum qr_cuda_type type, int32_t n_in)
{
    size_t n_bytes = (size_t)n_in * qr_cuda_type_size(type);

    return qr_cuda_type_size(type) == 1 ? (n_bytes + 15) / 16 * 16 : n_bytes;
}
