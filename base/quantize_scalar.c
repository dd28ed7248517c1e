/* quantize_scalar.c - quantize.inc.h in plain C. */
#include "base/simd_int8_scalar.h"

#define QR_QUANTIZE qr_quantize_scalar

#include "base/quantize.inc.h"
