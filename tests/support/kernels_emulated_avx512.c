/* kernels_emulated_avx512.c - the CPU's kernels for AVX-512 on SIMDe. */
#include "tests/support/kernel_sets.h"

#if defined(QUIRE_EMULATE_AVX512) && __has_include(<simde/x86/avx512.h>)

#include "base/simd_avx512.h"

#define QR_KERNELS kernels_emulated
extern const struct qr_cpu_kernels QR_KERNELS;

#include "runtime/ops/cpu/kernels.inc.h"

const struct qr_cpu_kernels *const kernels_emulated_avx512 = &kernels_emulated;

#else

#include <stddef.h>

const struct qr_cpu_kernels *const kernels_emulated_avx512 = NULL;

#endif
