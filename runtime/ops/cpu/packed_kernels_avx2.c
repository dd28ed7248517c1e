/* packed_kernels_avx2.c - the kernels of packed_kernels.inc.h for this instruction set. */
#include "runtime/ops/cpu/packed_kernels.h"

#if defined(__x86_64__)
#include "base/simd_int8_avx2.h"

#define QR_KERNELS     qr_packed_kernels_avx2
#define QR_TILE_ROWS   4
#define QR_TILES       1
#define QR_FLOAT_ROWS  6
#define QR_FLOAT_TILES 1

#include "runtime/ops/cpu/packed_kernels.inc.h"
#endif
