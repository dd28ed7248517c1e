/* kernels.c - see kernels.h for the contract. */
#include "runtime/ops/cpu/kernels.h"

const struct qr_cpu_kernels *qr_cpu_kernels_of(enum qr_isa isa)
{
#if defined(__x86_64__)
    if (isa >= QR_ISA_AVX512)
        return &qr_cpu_kernels_avx512;
    if (isa == QR_ISA_AVX2)
        return &qr_cpu_kernels_avx2;
#elif defined(__aarch64__)
    if (isa == QR_ISA_NEON)
        return &qr_cpu_kernels_neon;
#else
    (void)isa;
#endif
    return &qr_cpu_kernels_scalar;
}
