/*
 * simd_scalar.h - the 16-lane vector of the kernels, in plain C: the definition that
 * simd_neon.h, simd_avx2.h and simd_avx512.h follow bit for bit.
 *
 * A kernel is written once against this interface and compiled for each instruction
 * set. Multiply-adds are fused everywhere, reductions run in one fixed tree (lane i
 * with i + 8, then + 4, + 2, + 1), so all sets give the same bits. One of these
 * headers is included by a translation unit, never two.
 */
#ifndef QUIRE_BASE_SIMD_SCALAR_H
#define QUIRE_BASE_SIMD_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"

enum { QR_LANES = 16 };

typedef struct {
    float lane[QR_LANES];
} qr_f32x16;

#define QR_EACH_LANE for (int i = 0; i < QR_LANES; i++)

static inline qr_f32x16 qr_f32x16_set1(float x)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = x;
    return r;
}

static inline qr_f32x16 qr_f32x16_zero(void)
{
    return qr_f32x16_set1(0.0f);
}

static inline qr_f32x16 qr_f32x16_load(const float *p)
{
    qr_f32x16 r;
    memcpy(r.lane, p, sizeof(r.lane));
    return r;
}

static inline void qr_f32x16_store(float *p, qr_f32x16 a)
{
    memcpy(p, a.lane, sizeof(a.lane));
}

/* The first n of 16 lanes, n in [0, 16]; the others are zero and their memory is not read. */
static inline qr_f32x16 qr_f32x16_load_partial(const float *p, int n)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = i < n ? p[i] : 0.0f;
    return r;
}

static inline void qr_f32x16_store_partial(float *p, qr_f32x16 a, int n)
{
    QR_EACH_LANE if (i < n) p[i] = a.lane[i];
}

static inline qr_f32x16 qr_f32x16_load_bf16(const uint16_t *p)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = qr_bf16_to_f32(p[i]);
    return r;
}

static inline qr_f32x16 qr_f32x16_load_bf16_partial(const uint16_t *p, int n)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = i < n ? qr_bf16_to_f32(p[i]) : 0.0f;
    return r;
}

/* Of 16 pairs the first, or the second, of each. */
static inline qr_f32x16 qr_f32x16_load_bf16_even(const uint16_t *p)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = qr_bf16_to_f32(p[2 * i]);
    return r;
}

static inline qr_f32x16 qr_f32x16_load_bf16_odd(const uint16_t *p)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = qr_bf16_to_f32(p[2 * i + 1]);
    return r;
}

static inline qr_f32x16 qr_f32x16_load_f16(const uint16_t *p)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = qr_f16_to_f32(p[i]);
    return r;
}

static inline qr_f32x16 qr_f32x16_load_f16_partial(const uint16_t *p, int n)
{
    qr_f32x16 r;
    QR_EACH_LANE r.lane[i] = i < n ? qr_f16_to_f32(p[i]) : 0.0f;
    return r;
}

/* The first n lanes, n in [0, 16], rounded to nearest, ties to even; as qr_f32_to_f16 does. */
static inline void qr_f32x16_store_f16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    QR_EACH_LANE if (i < n) p[i] = qr_f32_to_f16(a.lane[i]);
}

/* The same as qr_f32_to_bf16 does. */
static inline void qr_f32x16_store_bf16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    QR_EACH_LANE if (i < n) p[i] = qr_f32_to_bf16(a.lane[i]);
}

static inline qr_f32x16 qr_f32x16_add(qr_f32x16 a, qr_f32x16 b)
{
    QR_EACH_LANE a.lane[i] += b.lane[i];
    return a;
}

static inline qr_f32x16 qr_f32x16_sub(qr_f32x16 a, qr_f32x16 b)
{
    QR_EACH_LANE a.lane[i] -= b.lane[i];
    return a;
}

static inline qr_f32x16 qr_f32x16_mul(qr_f32x16 a, qr_f32x16 b)
{
    QR_EACH_LANE a.lane[i] *= b.lane[i];
    return a;
}

static inline qr_f32x16 qr_f32x16_div(qr_f32x16 a, qr_f32x16 b)
{
    QR_EACH_LANE a.lane[i] /= b.lane[i];
    return a;
}

/* a * b + c, rounded once */
static inline qr_f32x16 qr_f32x16_fma(qr_f32x16 a, qr_f32x16 b, qr_f32x16 c)
{
    QR_EACH_LANE a.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return a;
}

/* The same as a fused multiply-add, for loops whose sums shall not leave their registers. */
static inline void qr_f32x16_add_product(qr_f32x16 *sum, qr_f32x16 a, qr_f32x16 b)
{
    *sum = qr_f32x16_fma(a, b, *sum);
}

/* b where either is NaN, as the processors do. */
static inline qr_f32x16 qr_f32x16_max(qr_f32x16 a, qr_f32x16 b)
{
    QR_EACH_LANE a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

static inline qr_f32x16 qr_f32x16_min(qr_f32x16 a, qr_f32x16 b)
{
    QR_EACH_LANE a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

/* To the nearest whole number, halves to even. */
static inline qr_f32x16 qr_f32x16_round(qr_f32x16 a)
{
    QR_EACH_LANE a.lane[i] = rintf(a.lane[i]);
    return a;
}

/* a * 2^k for whole k in [-252, 252]: two factors, so that results below 2^-126 are right too. */
static inline qr_f32x16 qr_f32x16_scale2(qr_f32x16 a, qr_f32x16 k)
{
    QR_EACH_LANE
    {
        int32_t whole = isnan(k.lane[i]) ? 0 : (int32_t)k.lane[i];
        int32_t half = whole >> 1;
        uint32_t bits[2] = {(uint32_t)(half + 127) << 23, (uint32_t)(whole - half + 127) << 23};
        float factor[2];
        memcpy(factor, bits, sizeof(factor));
        a.lane[i] = a.lane[i] * factor[0] * factor[1];
    }
    return a;
}

static inline float qr_f32x16_reduce_add(qr_f32x16 a)
{
    for (int width = QR_LANES / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++)
            a.lane[i] += a.lane[i + width];
    }
    return a.lane[0];
}

/* Lane i is qr_f32x16_reduce_add of v[i], v [QR_LANES]. */
static inline qr_f32x16 qr_f32x16_reduce_add_each(const qr_f32x16 *v)
{
    qr_f32x16 sums;
    for (int i = 0; i < QR_LANES; i++)
        sums.lane[i] = qr_f32x16_reduce_add(v[i]);
    return sums;
}

static inline float qr_f32x16_reduce_max(qr_f32x16 a)
{
    for (int width = QR_LANES / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++)
            a.lane[i] = a.lane[i] > a.lane[i + width] ? a.lane[i] : a.lane[i + width];
    }
    return a.lane[0];
}

#undef QR_EACH_LANE

#include "base/simd_each.h"
#include "base/simd_exp.h"

#endif /* QUIRE_BASE_SIMD_SCALAR_H */
