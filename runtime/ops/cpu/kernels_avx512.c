/* kernels_avx512.c - the kernels of kernels.inc.h for this instruction set. */
#include "runtime/ops/cpu/kernels.h"

#if defined(__x86_64__)
#include "base/simd_avx512.h"

#define QR_KERNELS qr_cpu_kernels_avx512

#include "runtime/ops/cpu/kernels.inc.h"
#endif
