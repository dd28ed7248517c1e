/*
 * dtype.h - number formats of weights, activations and KV pages.
 *
 * BF16 is the upper half of an F32; F16 is IEEE binary16. Both are carried as
 * uint16_t and little-endian, as in safetensors.
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
    QR_DTYPE_COUNT,
};

QR_BEGIN_DECLS

size_t qr_dtype_size(enum qr_dtype dtype);      /* bytes of one element */
const char *qr_dtype_name(enum qr_dtype dtype); /* "F32", "F16", "BF16": safetensors' names */
/* False when the name is none that Quire reads. */
bool qr_dtype_parse(const char *name, enum qr_dtype *dtype);

static inline float qr_bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof(value));
    return value;
}

float qr_f16_to_f32(uint16_t bits);
uint16_t qr_f32_to_f16(float value); /* to nearest, ties to even */

QR_END_DECLS

#endif /* QUIRE_BASE_DTYPE_H */
