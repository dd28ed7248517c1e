/* simd_probe_neon.c - simd_probe.inc.h for this instruction set. */
#include "tests/support/simd_probe.h"

#if defined(__aarch64__)
#include "base/simd_neon.h"

#define SIMD_PROBE      simd_probe_neon
#define SIMD_PROBE_NAME "neon"

#include "tests/support/simd_probe.inc.h"
#endif
