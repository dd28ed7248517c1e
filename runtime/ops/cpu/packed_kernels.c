/* packed_kernels.c - see packed_kernels.h for the contract. */
#include "runtime/ops/cpu/packed_kernels.h"

const struct qr_packed_kernels *qr_packed_kernels_of(enum qr_isa isa)
{
    switch (isa) {
#if defined(__aarch64__)
    case QR_ISA_NEON:
        return &qr_packed_kernels_neon;
#endif
#if defined(__x86_64__)
    case QR_ISA_AVX2:
        return &qr_packed_kernels_avx2;
    case QR_ISA_AVX512:
        return &qr_packed_kernels_avx512;
    case QR_ISA_AVX512VNNI:
        return &qr_packed_kernels_avx512vnni;
    case QR_ISA_AVX512BF16:
        return &qr_packed_kernels_avx512bf16;
    case QR_ISA_AMX:
        return &qr_packed_kernels_amx;
#endif
    default:
        return &qr_packed_kernels_scalar;
    }
}
