/* dequantize.c - see dequantize.h for the contract: the formats without blocks, and the table. */
#include "base/dequantize.h"

static void widen_f32(const uint8_t *row, int64_t n, float *out)
{
    memcpy(out, row, (size_t)n * sizeof(*out));
}

static void widen_f16(const uint8_t *row, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = qr_read_f16(row + 2 * i);
}

static void widen_bf16(const uint8_t *row, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = qr_bf16_to_f32((uint16_t)(row[2 * i] | row[2 * i + 1] << 8));
}

static void widen_e4m3(const uint8_t *row, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = qr_e4m3_to_f32(row[i]);
}

static void widen_int8(const uint8_t *row, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(int8_t)row[i];
}

void qr_dequantize(enum qr_dtype dtype, const void *row, int64_t n, float *out)
{
    static void (*const formats[QR_DTYPE_END])(const uint8_t *, int64_t, float *) = {
        [QR_DTYPE_F32] = widen_f32,           [QR_DTYPE_F16] = widen_f16,
        [QR_DTYPE_BF16] = widen_bf16,         [QR_DTYPE_E4M3] = widen_e4m3,
        [QR_DTYPE_INT8] = widen_int8,         [QR_DTYPE_Q4_0] = qr_dequantize_q4_0,
        [QR_DTYPE_Q4_1] = qr_dequantize_q4_1, [QR_DTYPE_Q5_0] = qr_dequantize_q5_0,
        [QR_DTYPE_Q5_1] = qr_dequantize_q5_1, [QR_DTYPE_Q8_0] = qr_dequantize_q8_0,
        [QR_DTYPE_Q4_K] = qr_dequantize_q4_k, [QR_DTYPE_Q5_K] = qr_dequantize_q5_k,
        [QR_DTYPE_Q6_K] = qr_dequantize_q6_k,
    };

    formats[dtype](row, n / qr_dtype_block_size(dtype), out);
}
