/*
 * wide_access.cuh - eight elements of a float type at a time, as F32, in accesses of 16 bytes where
 * they are aligned and whole, else one by one.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_WIDE_ACCESS_CUH
#define QUIRE_RUNTIME_OPS_CUDA_WIDE_ACCESS_CUH

#include "base/cuda/primitives.cuh"

/* enum qr_dtype, whose header is C's. */
enum : int32_t { QR_TYPE_F32, QR_TYPE_F16, QR_TYPE_BF16, QR_TYPE_E4M3, QR_TYPE_INT8 };

QR_DEVICE bool qr_is_aligned(const void *p)
{
    return ((uintptr_t)p & 15u) == 0;
}

QR_DEVICE float qr_load_one(int32_t type, const void *base, int64_t i)
{
    if (type == QR_TYPE_F32)
        return ((const float *)base)[i];
    if (type == QR_TYPE_F16)
        return qr_to_float(((const qr_f16 *)base)[i]);
    if (type == QR_TYPE_BF16)
        return qr_to_float(((const qr_bf16 *)base)[i]);
    if (type == QR_TYPE_E4M3)
        return qr_f16_bits_to_float((uint16_t)qr_e4m3x2_to_f16x2(((const uint8_t *)base)[i]));
    return (float)((const int8_t *)base)[i];
}

QR_DEVICE void qr_store_one(int32_t type, void *base, int64_t i, float value)
{
    if (type == QR_TYPE_F32)
        ((float *)base)[i] = value;
    else if (type == QR_TYPE_F16)
        qr_from_float(value, (qr_f16 *)base + i);
    else
        qr_from_float(value, (qr_bf16 *)base + i);
}

template <class T> QR_DEVICE void qr_unpack_chunk(T, qr_chunk chunk, float *to)
{
    QR_UNROLL
    for (int i = 0; i < 4; i++)
        qr_unpack(T{}, chunk.word[i], &to[2 * i], &to[2 * i + 1]);
}
template <class T> QR_DEVICE qr_chunk qr_pack_chunk(T, const float *from)
{
    return qr_chunk{{qr_pack(T{}, from[0], from[1]), qr_pack(T{}, from[2], from[3]),
                     qr_pack(T{}, from[4], from[5]), qr_pack(T{}, from[6], from[7])}};
}

/* Elements i..i + 7 of those below n; zeros for the rest. */
QR_DEVICE void qr_load_eight(int32_t type, const void *base, int64_t i, int64_t n, float *to)
{
    int width = type == QR_TYPE_F32 ? 4 : type <= QR_TYPE_BF16 ? 2 : 1;
    const char *from = (const char *)base + i * width;

    if (width == 1 || i + 8 > n || !qr_is_aligned(from)) {
        QR_UNROLL
        for (int j = 0; j < 8; j++)
            to[j] = i + j < n ? qr_load_one(type, base, i + j) : 0.0f;
    } else if (type == QR_TYPE_F32) {
        QR_UNROLL
        for (int j = 0; j < 8; j++)
            to[j] = qr_bits_float(qr_load_chunk(from + j / 4 * 16).word[j % 4]);
    } else if (type == QR_TYPE_F16) {
        qr_unpack_chunk(qr_f16{}, qr_load_chunk(from), to);
    } else {
        qr_unpack_chunk(qr_bf16{}, qr_load_chunk(from), to);
    }
}

/* Types of 16 and 32 bits. */
QR_DEVICE void qr_store_eight(int32_t type, void *base, int64_t i, int64_t n, const float *from)
{
    char *to = (char *)base + i * (type == QR_TYPE_F32 ? 4 : 2);

    if (i + 8 > n || !qr_is_aligned(to)) {
        QR_UNROLL
        for (int j = 0; j < 8; j++) {
            if (i + j < n)
                qr_store_one(type, base, i + j, from[j]);
        }
    } else if (type == QR_TYPE_F32) {
        QR_UNROLL
        for (int j = 0; j < 2; j++)
            qr_store_chunk(
                to + 16 * j,
                qr_chunk{{qr_float_bits(from[4 * j]), qr_float_bits(from[4 * j + 1]),
                          qr_float_bits(from[4 * j + 2]), qr_float_bits(from[4 * j + 3])}});
    } else if (type == QR_TYPE_F16) {
        qr_store_chunk(to, qr_pack_chunk(qr_f16{}, from));
    } else {
        qr_store_chunk(to, qr_pack_chunk(qr_bf16{}, from));
    }
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_WIDE_ACCESS_CUH */
