/* packed_kernels_neon.c - the kernels of packed_kernels.inc.h for this instruction set. */
#include "runtime/ops/cpu/packed_kernels.h"

#if defined(__aarch64__)
#include "base/simd_int8_neon.h"

#define QR_KERNELS     qr_packed_kernels_neon
#define QR_TILE_ROWS   2
#define QR_TILES       1
#define QR_FLOAT_ROWS  6
#define QR_FLOAT_TILES 1

#include "runtime/ops/cpu/packed_kernels.inc.h"
#endif
