/* simd_probe_scalar.c - simd_probe.inc.h for this instruction set. */
#include "base/simd_scalar.h"

#define SIMD_PROBE      simd_probe_scalar
#define SIMD_PROBE_NAME "scalar"

#include "tests/support/simd_probe.inc.h"
