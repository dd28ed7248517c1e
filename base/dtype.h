/*
 * dtype.h - number formats of weights, activations and KV pages.
 *
 * BF16 is the upper half of an F32; F16 is IEEE binary16. Both are carried as
 * uint16_t and little-endian, as in safetensors. E4M3 is the FP8 of Micikevicius et al.,
 * "FP8 Formats for Deep Learning", 2022.
 *
 * Block formats hold a row of a matrix as blocks of 32 or 256 elements that share scales
 * (dequantize.h); a row is a whole number of them, and so are the bytes of a row.
 */
#ifndef QUIRE_BASE_DTYPE_H
#define QUIRE_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

enum qr_dtype {
    QR_DTYPE_F32,
    QR_DTYPE_F16,
    QR_DTYPE_BF16,
    QR_DTYPE_COUNT, /* of the formats that every kernel reads; the others are of weights alone */
    QR_DTYPE_E4M3 = QR_DTYPE_COUNT, /* FP8 with 4 bits of exponent, largest 448 */
    QR_DTYPE_INT8,                  /* -127 to 127; made by a device, no file has it */
    QR_DTYPE_Q4_0,                  /* blocks of 32 */
    QR_DTYPE_Q4_1,
    QR_DTYPE_Q5_0,
    QR_DTYPE_Q5_1,
    QR_DTYPE_Q8_0,
    QR_DTYPE_Q4_K, /* blocks of 256 */
    QR_DTYPE_Q5_K,
    QR_DTYPE_Q6_K,
    QR_DTYPE_END, /* of all */
};

QR_BEGIN_DECLS

size_t qr_dtype_size(enum qr_dtype dtype);        /* bytes of one element; of no block format */
int32_t qr_dtype_block_size(enum qr_dtype dtype); /* elements of a block; 1 of the others */
size_t qr_dtype_block_bytes(enum qr_dtype dtype); /* of a block, or of one element */
/* Bytes of a row of n elements, a multiple of the block size. */
size_t qr_dtype_row_bytes(enum qr_dtype dtype, int64_t n);
/* "F32", "F16", "BF16", which are safetensors' names; "E4M3", "INT8"; "Q4_K", GGUF's name */
const char *qr_dtype_name(enum qr_dtype dtype);
/* One of the first QR_DTYPE_COUNT. False when the name is none that Quire reads. */
bool qr_dtype_parse(const char *name, enum qr_dtype *dtype);

static inline float qr_bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof(value));
    return value;
}

/* Every value, exactly; 0x7F and 0xFF are NaN, there are no infinities. */
static inline float qr_e4m3_to_f32(uint8_t bits)
{
    /* The 7 bits in an F32's exponent and mantissa stand for the value times 2^-120. */
    uint32_t wide = (bits & 0x7Fu) == 0x7Fu ? 0x7FC00000u : (bits & 0x7Fu) << 20;
    float value;
    wide |= (bits & 0x80u) << 24;
    memcpy(&value, &wide, sizeof(value));
    return value * 0x1p120f;
}

/* To nearest, ties to even; NaN stays NaN. */
static inline uint16_t qr_f32_to_bf16(float value)
{
    uint32_t wide;
    memcpy(&wide, &value, sizeof(wide));
    if ((wide & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)(wide >> 16 | 0x40u);
    return (uint16_t)((wide + 0x7FFFu + (wide >> 16 & 1u)) >> 16);
}

float qr_f16_to_f32(uint16_t bits);
uint16_t qr_f32_to_f16(float value); /* to nearest, ties to even */

QR_END_DECLS

#endif /* QUIRE_BASE_DTYPE_H */
