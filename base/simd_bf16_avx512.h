/*
 * simd_bf16_avx512.h - vectors of pairs of BF16 (AVX512-BF16): rounding to them, laying
 * them side by side, and products.
 *
 * Rounding and products take denormal numbers, and make them, as zero, whatever the thread's
 * rounding is set to. With QUIRE_EMULATE_AVX512 they are emulated, so that tests can check kernels
 * where there is no such instruction. Source: Intel 64 and IA-32 Architectures Software Developer's
 * Manual, volume 2; that a product is two fused multiply-adds, the second of each pair first, is
 * not there, but was found to hold for every bit of 96 million results on an Emerald Rapids.
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
/* The pairs of n numbers from `from` on of 16 rows, n <= 32, as columns: to [16 pairs], of stride
 * numbers each, of which the first 32 are those of the rows; pairs that the rows do not have are
 * zero. */
static inline void qr_bf16_transpose_pairs(const uint16_t *const *rows, int32_t from, int n,
                                           uint16_t *to, size_t stride);
/* The first of each row, the second, ...: to [32][2]; of two rows of n numbers, n <= 32, and zero
 * behind. */
static inline void qr_bf16_interleave(const uint16_t *even, const uint16_t *odd, int n,
                                      uint16_t *to);
/* sums + x[1] * w[][1] + x[0] * w[][0]; w [16][2], x [2] */
static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, const uint16_t *w,
                                                 const uint16_t *x);

#ifndef QUIRE_EMULATE_AVX512

static inline void qr_f32x16_store_bf16_flushed(uint16_t *p, qr_f32x16 a)
{
    __m256bh rounded = _mm512_cvtneps_pbh(a);
    memcpy(p, &rounded, sizeof(rounded));
}

static inline __m512i qr_avx512_load_halves(const uint16_t *p, int n)
{
    return n == 32 ? _mm512_loadu_si512(p)
                   : _mm512_maskz_loadu_epi16((__mmask32)((1ULL << n) - 1), p);
}

/* In each of four parts of 16 bytes, 4 rows of 4 numbers as columns. */
static inline __attribute__((always_inline)) void qr_avx512_transpose_parts(__m512i *rows)
{
    __m512i a = _mm512_unpacklo_epi32(rows[0], rows[1]);
    __m512i b = _mm512_unpackhi_epi32(rows[0], rows[1]);
    __m512i c = _mm512_unpacklo_epi32(rows[2], rows[3]);
    __m512i d = _mm512_unpackhi_epi32(rows[2], rows[3]);

    rows[0] = _mm512_unpacklo_epi64(a, c);
    rows[1] = _mm512_unpackhi_epi64(a, c);
    rows[2] = _mm512_unpacklo_epi64(b, d);
    rows[3] = _mm512_unpackhi_epi64(b, d);
}

static inline __attribute__((always_inline)) void qr_bf16_transpose_pairs(
    const uint16_t *const *rows, int32_t from, int n, uint16_t *to, size_t stride)
{
    __m512i lanes[16];

    for (int i = 0; i < QR_LANES; i++)
        lanes[i] = qr_avx512_load_halves(rows[i] + from, n);
    for (int i = 0; i < QR_LANES; i += 4)
        qr_avx512_transpose_parts(lanes + i);
    for (int c = 0; c < 4; c++) { /* the four parts that have columns c, 4 + c, 8 + c, 12 + c */
        __m512i low = _mm512_shuffle_i32x4(lanes[c], lanes[4 + c], 0x44);
        __m512i high = _mm512_shuffle_i32x4(lanes[c], lanes[4 + c], 0xEE);
        __m512i low_behind = _mm512_shuffle_i32x4(lanes[8 + c], lanes[12 + c], 0x44);
        __m512i high_behind = _mm512_shuffle_i32x4(lanes[8 + c], lanes[12 + c], 0xEE);
        uint16_t *column = to + (size_t)c * stride;
        _mm512_storeu_si512(column, _mm512_shuffle_i32x4(low, low_behind, 0x88));
        _mm512_storeu_si512(column + 4 * stride, _mm512_shuffle_i32x4(low, low_behind, 0xDD));
        _mm512_storeu_si512(column + 8 * stride, _mm512_shuffle_i32x4(high, high_behind, 0x88));
        _mm512_storeu_si512(column + 12 * stride, _mm512_shuffle_i32x4(high, high_behind, 0xDD));
    }
}

static inline void qr_bf16_interleave(const uint16_t *even, const uint16_t *odd, int n,
                                      uint16_t *to)
{
    __m512i a = qr_avx512_load_halves(even, n);
    __m512i b = qr_avx512_load_halves(odd, n);
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    /* lane i takes number i of the one and of the other, whose numbers count from 32 on */
    __m512i first = _mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(0x00010001)),
                                     _mm512_set1_epi32(0x00200000));
    __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(0x00100010));

    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, first, b));
    _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(a, second, b));
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

static inline void qr_bf16_transpose_pairs(const uint16_t *const *rows, int32_t from, int n,
                                           uint16_t *to, size_t stride)
{
    for (int k = 0; k < 32; k++) {
        for (int i = 0; i < QR_LANES; i++)
            to[(size_t)(k / 2) * stride + (size_t)(2 * i + k % 2)] = k < n ? rows[i][from + k] : 0;
    }
}

static inline void qr_bf16_interleave(const uint16_t *even, const uint16_t *odd, int n,
                                      uint16_t *to)
{
    for (int k = 0; k < 32; k++) {
        to[2 * k] = k < n ? even[k] : 0;
        to[2 * k + 1] = k < n ? odd[k] : 0;
    }
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
