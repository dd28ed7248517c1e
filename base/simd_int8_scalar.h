/*
 * simd_int8_scalar.h - dot products of bytes in the 16-lane vector of the kernels, in plain C: the
 * definition that the other simd_int8_*.h follow. Sums are exact, so all sets agree.
 *
 * 64 bytes are 16 lanes of four; a dot product adds to each lane's 32-bit sum the four products
 * with the four bytes of `x`, which all lanes share. One of these headers is included by a
 * translation unit, never two.
 */
#ifndef QUIRE_BASE_SIMD_INT8_SCALAR_H
#define QUIRE_BASE_SIMD_INT8_SCALAR_H

#include "base/simd_scalar.h"

typedef struct {
    int32_t lane[QR_LANES];
} qr_i32x16;

typedef struct {
    uint8_t byte[4 * QR_LANES];
} qr_u8x64;

static inline qr_u8x64 qr_u8x64_load(const uint8_t *p)
{
    qr_u8x64 r;
    memcpy(r.byte, p, sizeof(r.byte));
    return r;
}

static inline void qr_u8x64_store(uint8_t *p, qr_u8x64 a)
{
    memcpy(p, a.byte, sizeof(a.byte));
}

/* (a >> shift) & mask in each byte; shift 0, 2 or 4 */
static inline qr_u8x64 qr_u8x64_bits(qr_u8x64 a, int shift, uint8_t mask)
{
    for (int i = 0; i < 4 * QR_LANES; i++)
        a.byte[i] = (uint8_t)(a.byte[i] >> shift & mask);
    return a;
}

/* (a << shift) & mask in each byte; shift 0, 2 or 4 */
static inline qr_u8x64 qr_u8x64_bits_up(qr_u8x64 a, int shift, uint8_t mask)
{
    for (int i = 0; i < 4 * QR_LANES; i++)
        a.byte[i] = (uint8_t)(a.byte[i] << shift & mask);
    return a;
}

static inline qr_u8x64 qr_u8x64_or(qr_u8x64 a, qr_u8x64 b)
{
    for (int i = 0; i < 4 * QR_LANES; i++)
        a.byte[i] |= b.byte[i];
    return a;
}

static inline qr_i32x16 qr_i32x16_set1(int32_t x)
{
    qr_i32x16 r;
    for (int i = 0; i < QR_LANES; i++)
        r.lane[i] = x;
    return r;
}

/* Each lane times 2^n, of either sign. */
static inline qr_i32x16 qr_i32x16_shift_up(qr_i32x16 a, int n)
{
    for (int i = 0; i < QR_LANES; i++)
        a.lane[i] *= 1 << n;
    return a;
}

static inline qr_f32x16 qr_f32x16_from_i32(qr_i32x16 a)
{
    qr_f32x16 r;
    for (int i = 0; i < QR_LANES; i++)
        r.lane[i] = (float)a.lane[i];
    return r;
}

static inline qr_f32x16 qr_f32x16_load_u8(const uint8_t *p)
{
    qr_f32x16 r;
    for (int i = 0; i < QR_LANES; i++)
        r.lane[i] = (float)p[i];
    return r;
}

static inline qr_f32x16 qr_f32x16_load_s8(const uint8_t *p)
{
    qr_f32x16 r;
    for (int i = 0; i < QR_LANES; i++)
        r.lane[i] = (float)(int8_t)p[i];
    return r;
}

/* To nearest; a[i] in [-127, 127]. */
static inline void qr_f32x16_store_s8(int8_t *p, qr_f32x16 a)
{
    for (int i = 0; i < QR_LANES; i++)
        p[i] = (int8_t)lrintf(a.lane[i]);
}

/* sum + w . x; the bytes of w in [0, 127], those of x in [-127, 127] */
static inline qr_i32x16 qr_dot_u7(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    for (int i = 0; i < 4 * QR_LANES; i++)
        sum.lane[i / 4] += (int32_t)w.byte[i] * x[i % 4];
    return sum;
}

/*
 * What dot products of raised bytes begin with: minus_x_sum is less than 0 by the sum of all bytes
 * of x that they will meet.
 */
static inline qr_i32x16 qr_dot_raised_begin(int32_t minus_x_sum)
{
    (void)minus_x_sum;
    return qr_i32x16_set1(0);
}

/* sum + (w - 128) . x, so that w is any signed byte raised by 128; those of x in [-127, 127] */
static inline qr_i32x16 qr_dot_raised(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    for (int i = 0; i < 4 * QR_LANES; i++)
        sum.lane[i / 4] += ((int32_t)w.byte[i] - 128) * x[i % 4];
    return sum;
}

#include "base/simd_u4_sums.h"

#endif /* QUIRE_BASE_SIMD_INT8_SCALAR_H */
