/* simd_probe_emulated_avx512.c - simd_probe.inc.h for AVX-512 on SIMDe. */
#include <stddef.h>

#include "tests/support/simd_probe.h"

#if defined(QUIRE_EMULATE_AVX512) && __has_include(<simde/x86/avx512.h>)

#include "base/simd_avx512.h"

#define SIMD_PROBE      probe_emulated
#define SIMD_PROBE_NAME "emulated avx512"
extern const struct simd_probe SIMD_PROBE;

#include "tests/support/simd_probe.inc.h"

const struct simd_probe *const simd_probe_emulated_avx512 = &probe_emulated;

#else

const struct simd_probe *const simd_probe_emulated_avx512 = NULL;

#endif
