/* dequantize_32.c - the formats of dequantize.h whose blocks have 32 elements. */
#include "base/dequantize.h"

enum { HALF = 16 }; /* a byte of nibbles holds element i in its lower bits, i + HALF in its upper */

void qr_dequantize_q4_0(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    uint8_t q[2 * HALF];

    for (int64_t b = 0; b < n_blocks; b++, blocks += 18, out += 32) {
        float d = qr_read_f16(blocks);
        qr_block_quants(QR_DTYPE_Q4_0, blocks, q);
        for (int i = 0; i < 2 * HALF; i++)
            out[i] = d * (float)(q[i] - 8);
    }
}

void qr_dequantize_q4_1(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, blocks += 20, out += 32) {
        const uint8_t *nibbles = blocks + 4;
        float d = qr_read_f16(blocks);
        float m = qr_read_f16(blocks + 2);
        for (int i = 0; i < HALF; i++) {
            out[i] = d * (float)(nibbles[i] & 0xF) + m;
            out[i + HALF] = d * (float)(nibbles[i] >> 4) + m;
        }
    }
}

/* The fifth bits of a block: bit i is that of element i. */
static uint32_t read_bits(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static int fifth_bit(uint32_t bits, int i)
{
    return (int)(bits >> i & 1u) << 4;
}

void qr_dequantize_q5_0(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, blocks += 22, out += 32) {
        const uint8_t *nibbles = blocks + 6;
        uint32_t bits = read_bits(blocks + 2);
        float d = qr_read_f16(blocks);
        for (int i = 0; i < HALF; i++) {
            out[i] = d * (float)(((nibbles[i] & 0xF) | fifth_bit(bits, i)) - 16);
            out[i + HALF] = d * (float)(((nibbles[i] >> 4) | fifth_bit(bits, i + HALF)) - 16);
        }
    }
}

void qr_dequantize_q5_1(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, blocks += 24, out += 32) {
        const uint8_t *nibbles = blocks + 8;
        uint32_t bits = read_bits(blocks + 4);
        float d = qr_read_f16(blocks);
        float m = qr_read_f16(blocks + 2);
        for (int i = 0; i < HALF; i++) {
            out[i] = d * (float)((nibbles[i] & 0xF) | fifth_bit(bits, i)) + m;
            out[i + HALF] = d * (float)((nibbles[i] >> 4) | fifth_bit(bits, i + HALF)) + m;
        }
    }
}

void qr_dequantize_q8_0(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, blocks += 34, out += 32) {
        float d = qr_read_f16(blocks);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(int8_t)blocks[2 + i];
    }
}
