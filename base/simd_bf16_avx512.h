/*
 * simd_bf16_avx512.h - vectors of pairs of BF16 (AVX512-BF16): rounding to them, and products.
 *
 * Both take denormal numbers, and make them, as zero, whatever the thread's rounding is set to.
 * With QUIRE_EMULATE_AVX512 they are emulated, so that tests can check kernels where there is no
 * such instruction. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2;
 * that a product is two fused multiply-adds, the second of each pair first, is not there, but was
 * found to hold for every bit of 96 million results on an Emerald Rapids.
 */
#ifndef QUIRE_BASE_SIMD_BF16_AVX512_H
#define QUIRE_BASE_SIMD_BF16_AVX512_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"
#include "base/simd_avx512.h"

/* 16 numbers to nearest even. */
static inline void qr_f32x16_store_bf16_flushed(uint16_t *p, qr_f32x16 a);
/* sums + x[1] * w[][1] + x[0] * w[][0]; w [16][2], x [2] */
static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, const uint16_t *w,
                                                 const uint16_t *x);

#ifndef QUIRE_EMULATE_AVX512

static inline void qr_f32x16_store_bf16_flushed(uint16_t *p, qr_f32x16 a)
{
    __m256bh rounded = _mm512_cvtneps_pbh(a);
    memcpy(p, &rounded, sizeof(rounded));
}

static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, const uint16_t *w,
                                                 const uint16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, sizeof(pair));
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_loadu_si512(w),
                            (__m512bh)_mm512_set1_epi32(pair));
}

#else

static inline float qr_emulated_flush(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0.0f, x) : x;
}

static inline float qr_emulated_bf16(uint16_t bits)
{
    return qr_emulated_flush(qr_bf16_to_f32(bits));
}

/* a b + c */
static inline float qr_emulated_bf16_fma(uint16_t a, uint16_t b, float c)
{
    return qr_emulated_flush(fmaf(qr_emulated_bf16(a), qr_emulated_bf16(b), qr_emulated_flush(c)));
}

static inline void qr_f32x16_store_bf16_flushed(uint16_t *p, qr_f32x16 a)
{
    float lane[16];

    _mm512_storeu_ps(lane, a);
    for (int i = 0; i < QR_LANES; i++)
        p[i] = qr_f32_to_bf16(qr_emulated_flush(lane[i]));
}

static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, const uint16_t *w,
                                                 const uint16_t *x)
{
    float lane[16];

    _mm512_storeu_ps(lane, sums);
    for (int i = 0; i < QR_LANES; i++) {
        lane[i] = qr_emulated_bf16_fma(w[2 * i + 1], x[1], lane[i]);
        lane[i] = qr_emulated_bf16_fma(w[2 * i], x[0], lane[i]);
    }
    return _mm512_loadu_ps(lane);
}

#endif

#endif /* QUIRE_BASE_SIMD_BF16_AVX512_H */
