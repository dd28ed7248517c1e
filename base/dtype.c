/* dtype.c - see dtype.h for the contract. */
#include "base/dtype.h"

#include "base/assert.h"

struct dtype_facts {
    const char *name;
    int32_t block; /* elements */
    size_t bytes;  /* of a block */
};

static const struct dtype_facts facts[QR_DTYPE_END] = {
    [QR_DTYPE_F32] = {"F32", 1, 4},       [QR_DTYPE_F16] = {"F16", 1, 2},
    [QR_DTYPE_BF16] = {"BF16", 1, 2},     [QR_DTYPE_E4M3] = {"E4M3", 1, 1},
    [QR_DTYPE_INT8] = {"INT8", 1, 1},     [QR_DTYPE_Q4_0] = {"Q4_0", 32, 18},
    [QR_DTYPE_Q4_1] = {"Q4_1", 32, 20},   [QR_DTYPE_Q5_0] = {"Q5_0", 32, 22},
    [QR_DTYPE_Q5_1] = {"Q5_1", 32, 24},   [QR_DTYPE_Q8_0] = {"Q8_0", 32, 34},
    [QR_DTYPE_Q4_K] = {"Q4_K", 256, 144}, [QR_DTYPE_Q5_K] = {"Q5_K", 256, 176},
    [QR_DTYPE_Q6_K] = {"Q6_K", 256, 210},
};

size_t qr_dtype_size(enum qr_dtype dtype)
{
    QR_ASSERT(facts[dtype].block == 1);
    return facts[dtype].bytes;
}

int32_t qr_dtype_block_size(enum qr_dtype dtype)
{
    return facts[dtype].block;
}

size_t qr_dtype_block_bytes(enum qr_dtype dtype)
{
    return facts[dtype].bytes;
}

size_t qr_dtype_row_bytes(enum qr_dtype dtype, int64_t n)
{
    QR_ASSERT(n % facts[dtype].block == 0);
    return (size_t)(n / facts[dtype].block) * facts[dtype].bytes;
}

const char *qr_dtype_name(enum qr_dtype dtype)
{
    return facts[dtype].name;
}

bool qr_dtype_parse(const char *name, enum qr_dtype *dtype)
{
    for (int i = 0; i < QR_DTYPE_COUNT; i++) {
        if (strcmp(name, facts[i].name) == 0) {
            *dtype = (enum qr_dtype)i;
            return true;
        }
    }
    return false;
}

float qr_f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1Fu;
    uint32_t mantissa = bits & 0x3FFu;
    uint32_t wide;

    if (exponent == 0x1F) {
        wide = sign | 0x7F800000u | (mantissa << 13);
    } else if (exponent != 0) {
        wide = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else { /* zero or subnormal: mantissa * 2^-24, exact in F32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        memcpy(&wide, &magnitude, sizeof(wide));
        wide |= sign;
    }

    float value;
    memcpy(&value, &wide, sizeof(value));
    return value;
}

uint16_t qr_f32_to_f16(float value)
{
    uint32_t wide;
    memcpy(&wide, &value, sizeof(wide));
    uint16_t sign = (uint16_t)(wide >> 16 & 0x8000u);
    wide &= 0x7FFFFFFFu;

    if (wide > 0x7F800000u) /* NaN: quiet, with what is left of its payload */
        return (uint16_t)(sign | 0x7E00u | (wide >> 13 & 0x3FFu));
    if (wide >= 0x477FF000u) /* 65520: halfway between the largest F16 and the next power of two */
        return (uint16_t)(sign | 0x7C00u);
    if (wide < 0x38800000u) { /* below 2^-14: beside 0.5, an F32 counts in units of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &wide, sizeof(magnitude));
        magnitude += 0.5f;
        memcpy(&wide, &magnitude, sizeof(wide));
        return (uint16_t)(sign | (wide - 0x3F000000u));
    }
    wide += 0xFFFu + (wide >> 13 & 1u);
    return (uint16_t)(sign | ((wide >> 13) - (112u << 10)));
}
