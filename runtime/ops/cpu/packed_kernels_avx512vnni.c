/*
 * packed_kernels_avx512vnni.c - the kernels of packed_kernels.inc.h for this instruction set, which
 * Intel's processors without a matrix unit are given: AMD's that have it have AVX512-BF16 as well.
 */
#include "runtime/ops/cpu/packed_kernels.h"

#if defined(__x86_64__)
#include "base/simd_int8_avx512.h"

#define QR_KERNELS         qr_packed_kernels_avx512vnni
#define QR_SHIFTS_ARE_DEAR true
#define QR_TILE_ROWS       6
#define QR_TILES           2
#define QR_FLOAT_ROWS      8
#define QR_FLOAT_TILES     2

#include "runtime/ops/cpu/packed_kernels.inc.h"
#endif
