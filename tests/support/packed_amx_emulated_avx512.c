/* packed_amx_emulated_avx512.c - the CPU's products for the matrix unit, emulated, and AVX-512 on
 * SIMDe. */
#include "tests/support/kernel_sets.h"

#if defined(QUIRE_EMULATE_AVX512) && __has_include(<simde/x86/avx512.h>)

#include "base/simd_amx.h"

#define QR_KERNELS packed_amx_emulated
#define QR_MATRIX_UNIT
#define QR_BF16_ROWS
#define QR_TILE_ROWS   4
#define QR_TILES       2
#define QR_FLOAT_ROWS  8
#define QR_FLOAT_TILES 2
extern const struct qr_packed_kernels QR_KERNELS;

#include "runtime/ops/cpu/packed_kernels.inc.h"

const struct qr_packed_kernels *const packed_emulated_amx = &packed_amx_emulated;

#else

#include <stddef.h>

const struct qr_packed_kernels *const packed_emulated_amx = NULL;

#endif
