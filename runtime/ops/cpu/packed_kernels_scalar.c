/* packed_kernels_scalar.c - the kernels of packed_kernels.inc.h for this instruction set. */
#include "base/simd_int8_scalar.h"

#define QR_KERNELS     qr_packed_kernels_scalar
#define QR_TILE_ROWS   1
#define QR_TILES       1
#define QR_FLOAT_ROWS  2
#define QR_FLOAT_TILES 1

#include "runtime/ops/cpu/packed_kernels.inc.h"
