/*
 * quantize.h - floats as the block formats of dequantize.h.
 *
 * Q8_0 and Q4_0 are rounded as ggml's reference does, byte for byte: d is the largest magnitude
 * over 127, or the number of largest magnitude, with its sign, over -8. For Q4_K each part's scale
 * and minimum are searched for: of several candidates the one whose best fit, weighted towards the
 * large numbers, is closest. The bytes are the same on every instruction set. A block with a number
 * that is infinite or NaN becomes NaN as a whole.
 */
#ifndef QUIRE_BASE_QUANTIZE_H
#define QUIRE_BASE_QUANTIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu_features.h"
#include "base/dtype.h"

/*
 * row [n] of F32, F16 or BF16, aligned to its elements, n a multiple of the block size of `to`
 * (Q8_0, Q4_0 or Q4_K), becomes blocks [qr_dtype_row_bytes(to, n)].
 */
typedef void (*qr_quantize_fn)(enum qr_dtype from, const void *row, int64_t n, enum qr_dtype to,
                               uint8_t *blocks);

QR_BEGIN_DECLS

/* isa: one that runs here */
qr_quantize_fn qr_quantizer_of(enum qr_isa isa);

/* The instruction sets; private to base/. */
void qr_quantize_scalar(enum qr_dtype from, const void *row, int64_t n, enum qr_dtype to,
                        uint8_t *blocks);
void qr_quantize_avx2(enum qr_dtype from, const void *row, int64_t n, enum qr_dtype to,
                      uint8_t *blocks);
void qr_quantize_avx512(enum qr_dtype from, const void *row, int64_t n, enum qr_dtype to,
                        uint8_t *blocks);

QR_END_DECLS

#endif /* QUIRE_BASE_QUANTIZE_H */
