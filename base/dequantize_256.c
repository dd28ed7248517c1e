/* dequantize_256.c - the formats of dequantize.h whose blocks have 256 elements. */
#include "base/dequantize.h"

enum { PART = 32, PARTS = 8 };

/* What part j of a block of Q4_K or Q5_K is multiplied with, and what is taken off. */
static void read_part(const uint8_t *block, int j, float *scale, float *minimum)
{
    uint8_t s, m;

    qr_read_k_scale(block + QR_Q4_K_SCALES, j, &s, &m);
    *scale = qr_read_f16(block) * (float)s;
    *minimum = qr_read_f16(block + 2) * (float)m;
}

void qr_dequantize_q4_k(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    uint8_t q[PARTS * PART];

    for (int64_t b = 0; b < n_blocks; b++, blocks += 144) {
        qr_block_quants(QR_DTYPE_Q4_K, blocks, q);
        for (int j = 0; j < PARTS; j++, out += PART) {
            float scale, minimum;
            read_part(blocks, j, &scale, &minimum);
            for (int i = 0; i < PART; i++)
                out[i] = scale * (float)q[j * PART + i] - minimum;
        }
    }
}

void qr_dequantize_q5_k(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    for (int64_t b = 0; b < n_blocks; b++, blocks += 176) {
        const uint8_t *fifth_bits = blocks + QR_Q4_K_NIBBLES; /* bit j of byte i: of part j */
        for (int j = 0; j < PARTS; j++, out += PART) {
            const uint8_t *nibbles = fifth_bits + PART + j / 2 * PART;
            int shift = j % 2 * 4;
            float scale, minimum;
            read_part(blocks, j, &scale, &minimum);
            for (int i = 0; i < PART; i++) {
                int q = (nibbles[i] >> shift & 0xF) | (fifth_bits[i] >> j & 1) << 4;
                out[i] = scale * (float)q - minimum;
            }
        }
    }
}

void qr_dequantize_q6_k(const uint8_t *blocks, int64_t n_blocks, float *out)
{
    enum { RUN = PART / 2 };
    uint8_t q[PARTS * PART];

    for (int64_t b = 0; b < n_blocks; b++, blocks += 210) {
        const uint8_t *scales = blocks + QR_Q6_K_SCALES; /* of int8_t, for 16 elements each */
        float d = qr_read_f16(blocks + QR_Q6_K_D);
        qr_block_quants(QR_DTYPE_Q6_K, blocks, q);
        for (int run = 0; run < 2 * PARTS; run++, out += RUN) {
            float scale = d * (float)(int8_t)scales[run];
            for (int i = 0; i < RUN; i++)
                out[i] = scale * (float)(q[run * RUN + i] - 32);
        }
    }
}
