/*
 * dequantize.h - numbers of any dtype as F32: the definition of what a stored weight is.
 *
 * The block formats are those of ggml (https://github.com/ggml-org/ggml), as GGUF files hold
 * them. A block of 32 has an F16 scale d, and an F16 minimum m in the "_1" formats; element
 * values are
 *   Q4_0: d * (q - 8)    Q5_0: d * (q - 16)    Q8_0: d * q, q in [-128, 127]
 *   Q4_1: d * q + m      Q5_1: d * q + m
 * A block of 256 cuts in parts with a small integer scale s of their own, Q4_K and Q5_K also with
 * a minimum m: (d * s) * q - (dmin * m) in 8 parts of 32; Q6_K: (d * s) * (q - 32) in 16 of 16.
 * Every product and sum is rounded to F32, in the order written.
 */
#ifndef QUIRE_BASE_DEQUANTIZE_H
#define QUIRE_BASE_DEQUANTIZE_H

#include <stdint.h>

#include "base/dtype.h"

QR_BEGIN_DECLS

/*
 * out[i] = element i of `row`, i in [0, n), n a multiple of the block size. `row` is aligned to
 * the element size; blocks need no alignment. Of E4M3 and INT8: the code without a scale.
 */
void qr_dequantize(enum qr_dtype dtype, const void *row, int64_t n, float *out);

/* The block formats, n_blocks of them; private to base/. */
void qr_dequantize_q4_0(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q4_1(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q5_0(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q5_1(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q8_0(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q4_k(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q5_k(const uint8_t *blocks, int64_t n_blocks, float *out);
void qr_dequantize_q6_k(const uint8_t *blocks, int64_t n_blocks, float *out);

/*
 * The integers of one block as the formulas above have them, q[block size]: of Q8_0 bytes of
 * int8_t, of the others from 0 on. Q4_0, Q8_0, Q4_K, Q6_K.
 */
void qr_block_quants(enum qr_dtype dtype, const uint8_t *block, uint8_t *q);

/* Where parts of a block of 256 begin, in bytes. */
enum { QR_Q4_K_SCALES = 4, QR_Q4_K_NIBBLES = 16, QR_Q6_K_SCALES = 192, QR_Q6_K_D = 208 };

/*
 * Scale and minimum of part j of Q4_K and Q5_K, 6 bits each. Those of parts 0 to 3 are the lower
 * bits of bytes 0 to 3 and 4 to 7; those of parts 4 to 7 have their lower 4 bits in bytes 8 to 11
 * and their upper 2 in the upper bits of bytes 0 to 7.
 */
static inline void qr_read_k_scale(const uint8_t *packed, int j, uint8_t *scale, uint8_t *minimum)
{
    int s = packed[j % 4];
    int m = packed[j % 4 + 4];
    int low = packed[j % 4 + 8];

    *scale = (uint8_t)(j < 4 ? s & 0x3F : (low & 0xF) | (s >> 2 & 0x30));
    *minimum = (uint8_t)(j < 4 ? m & 0x3F : low >> 4 | (m >> 2 & 0x30));
}

/* The F16 at `bytes`, unaligned, as F32. */
static inline float qr_read_f16(const uint8_t *bytes)
{
    return qr_f16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

QR_END_DECLS

#endif /* QUIRE_BASE_DEQUANTIZE_H */
