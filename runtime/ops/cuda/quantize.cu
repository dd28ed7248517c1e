/*
 * quantize.cu - matrices to 8 bits with a scale for each row, a block for each row.
 */
#include "runtime/ops/cuda/block_reduce.cuh"
#include "runtime/ops/cuda/elementwise_params.h"
#include "runtime/ops/cuda/wide_access.cuh"

enum { QUANTIZE_WARPS = QR_QUANTIZE_THREADS / 32, QUANTIZE_STRIDE = QR_QUANTIZE_THREADS * 16 };

/* To the nearest integer, ties to even, as a signed byte: adding 1.5 * 2^23 rounds. */
QR_DEVICE uint32_t int8_bits(float x)
{
    return qr_float_bits(x + 12582912.0f) & 0xffu;
}

/* Four bytes of the quotients; zeros stay zeros. */
QR_DEVICE uint32_t quantize_four(int32_t type, const float *value, float scale)
{
    float x[4];

    QR_UNROLL
    for (int i = 0; i < 4; i++)
        x[i] = value[i] / scale;
    if (type == QR_TYPE_E4M3)
        return qr_pack_e4m3(x[0], x[1]) | (uint32_t)qr_pack_e4m3(x[2], x[3]) << 16;
    return int8_bits(x[0]) | int8_bits(x[1]) << 8 | int8_bits(x[2]) << 16 | int8_bits(x[3]) << 24;
}

QR_KERNEL(qr_quantize, struct qr_quantize_params, QR_QUANTIZE_THREADS, 4)
{
    QR_SHARED(memory);
    int row = qr_block_index();
    int width = p.from_type == QR_TYPE_F32 ? 4 : 2;
    const char *from = (const char *)p.from + (int64_t)row * p.n_in * width;
    char *to = (char *)p.to + (int64_t)row * p.row_bytes;
    float value[16];
    float largest = 0.0f;

    qr_wait_for_previous_kernel();
    for (int i = qr_thread_index() * 8; i < p.n_in; i += QR_QUANTIZE_THREADS * 8) {
        qr_load_eight(p.from_type, from, i, p.n_in, value);
        QR_UNROLL
        for (int j = 0; j < 8; j++)
            largest = qr_max(largest, qr_bits_float(qr_float_bits(value[j]) & 0x7fffffffu));
    }
    largest = qr_block_reduce<qr_largest, QUANTIZE_WARPS>(largest, (float *)memory);
    float scale = largest == 0.0f ? 1.0f : largest / (p.to_type == QR_TYPE_E4M3 ? 448.0f : 127.0f);
    for (int i = qr_thread_index() * 16; i < p.n_in; i += QUANTIZE_STRIDE) {
        qr_load_eight(p.from_type, from, i, p.n_in, value);
        qr_load_eight(p.from_type, from, i + 8, p.n_in, value + 8);
        qr_chunk chunk;
        QR_UNROLL
        for (int j = 0; j < 4; j++)
            chunk.word[j] = quantize_four(p.to_type, value + 4 * j, scale);
        qr_store_chunk(to + i, chunk);
    }
    if (qr_thread_index() == 0)
        p.scales[row] = scale;
}
