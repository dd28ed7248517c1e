/* kernels_neon.c - the kernels of kernels.inc.h for this instruction set. */
#include "runtime/ops/cpu/kernels.h"

#if defined(__aarch64__)
#include "base/simd_neon.h"

#define QR_KERNELS qr_cpu_kernels_neon

#include "runtime/ops/cpu/kernels.inc.h"
#endif
