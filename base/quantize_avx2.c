/* quantize_avx2.c - quantize.inc.h for this instruction set. */
#include "base/quantize.h"

#if defined(__x86_64__)
#include "base/simd_int8_avx2.h"

#define QR_QUANTIZE qr_quantize_avx2

#include "base/quantize.inc.h"
#endif
