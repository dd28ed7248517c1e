/* block_quants.c - the integers of blocks; see dequantize.h. */
#include "base/assert.h"
#include "base/dequantize.h"

enum { HALF = 16, PART = 32, PARTS = 8 };

/* A byte of nibbles holds element i in its lower bits, i + HALF in its upper. */
static void q4_0_quants(const uint8_t *block, uint8_t *q)
{
    const uint8_t *nibbles = block + 2;

    for (int i = 0; i < HALF; i++) {
        q[i] = nibbles[i] & 0xF;
        q[i + HALF] = nibbles[i] >> 4;
    }
}

/* A byte of nibbles holds element i of a part and of the part after it. */
static void q4_k_quants(const uint8_t *block, uint8_t *q)
{
    const uint8_t *nibbles = block + QR_Q4_K_NIBBLES;

    for (int j = 0; j < PARTS; j += 2, nibbles += PART, q += 2 * PART) {
        for (int i = 0; i < PART; i++) {
            q[i] = nibbles[i] & 0xF;
            q[i + PART] = nibbles[i] >> 4;
        }
    }
}

/*
 * Two halves of 4 parts: the lower nibbles of two runs of 32 bytes, then their upper nibbles; the
 * upper 2 bits of the 4 parts are in 32 bytes.
 */
static void q6_k_quants(const uint8_t *block, uint8_t *q)
{
    for (int half = 0; half < 2; half++, q += 4 * PART) {
        const uint8_t *nibbles = block + half * 2 * PART;
        const uint8_t *upper = block + 128 + half * PART;
        for (int i = 0; i < PART; i++) {
            q[i] = (uint8_t)((nibbles[i] & 0xF) | (upper[i] & 3) << 4);
            q[i + PART] = (uint8_t)((nibbles[i + PART] & 0xF) | (upper[i] >> 2 & 3) << 4);
            q[i + 2 * PART] = (uint8_t)(nibbles[i] >> 4 | (upper[i] >> 4 & 3) << 4);
            q[i + 3 * PART] = (uint8_t)(nibbles[i + PART] >> 4 | (upper[i] >> 6) << 4);
        }
    }
}

void qr_block_quants(enum qr_dtype dtype, const uint8_t *block, uint8_t *q)
{
    switch (dtype) {
    case QR_DTYPE_Q4_0:
        q4_0_quants(block, q);
        return;
    case QR_DTYPE_Q8_0:
        memcpy(q, block + 2, PART);
        return;
    case QR_DTYPE_Q4_K:
        q4_k_quants(block, q);
        return;
    default:
        QR_ASSERT(dtype == QR_DTYPE_Q6_K);
        q6_k_quants(block, q);
    }
}
