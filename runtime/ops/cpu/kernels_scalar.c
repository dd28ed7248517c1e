/* kernels_scalar.c - the kernels of kernels.inc.h for this instruction set. */
#include "base/simd_scalar.h"

#define QR_KERNELS qr_cpu_kernels_scalar

#include "runtime/ops/cpu/kernels.inc.h"
