/* simd_probe_avx512.c - simd_probe.inc.h for this instruction set. */
#include "tests/support/simd_probe.h"

#if defined(__x86_64__)
#include "base/simd_avx512.h"

#define SIMD_PROBE      simd_probe_avx512
#define SIMD_PROBE_NAME "avx512"

#include "tests/support/simd_probe.inc.h"
#endif
