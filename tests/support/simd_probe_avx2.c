/* simd_probe_avx2.c - simd_probe.inc.h for this instruction set. */
#include "tests/support/simd_probe.h"

#if defined(__x86_64__)
#include "base/simd_avx2.h"

#define SIMD_PROBE      simd_probe_avx2
#define SIMD_PROBE_NAME "avx2"

#include "tests/support/simd_probe.inc.h"
#endif
