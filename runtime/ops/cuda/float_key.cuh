/* float_key.cuh - floats as unsigned numbers of the same order, the two zeros equal; NaN is beyond
 * the infinity of its sign. */
#ifndef QUIRE_RUNTIME_OPS_CUDA_FLOAT_KEY_CUH
#define QUIRE_RUNTIME_OPS_CUDA_FLOAT_KEY_CUH

#include "base/cuda/primitives.cuh"

QR_DEVICE uint32_t qr_float_key(float x)
{
    uint32_t bits = qr_float_bits(x + 0.0f);
    return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

QR_DEVICE float qr_key_float(uint32_t key)
{
    return qr_bits_float((key >> 31) != 0 ? key & 0x7fffffffu : ~key);
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_FLOAT_KEY_CUH */
