/*
 * simd_bf16_avx512.h - vectors of pairs of BF16 (AVX512-BF16): rounding to them, laying them side
 * by side, and products.
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

/* 16 pairs */
#ifndef QUIRE_EMULATE_AVX512
typedef __m512i qr_bf16_pairs;
#else
typedef struct {
    uint16_t number[32];
} qr_bf16_pairs;
#endif

/* 16 numbers to nearest even. */
static inline void qr_f32x16_store_bf16_flushed(uint16_t *p, qr_f32x16 a);
static inline qr_bf16_pairs qr_bf16_pairs_load(const uint16_t *p);        /* [16][2] */
static inline void qr_bf16_pairs_store(uint16_t *p, qr_bf16_pairs pairs); /* [16][2] */
/* Numbers [from, from + n) of 16 rows, n <= 32: columns[k] gets pair k of each row; zero behind. */
static inline void qr_bf16_transpose_pairs(const uint16_t *const *rows, int32_t from, int n,
                                           qr_bf16_pairs columns[16]);
/* A pair of number k of both, for each of n <= 32, the first 16 and the others; zero behind. */
static inline void qr_bf16_interleave(const uint16_t *even, const uint16_t *odd, int n,
                                      qr_bf16_pairs to[2]);
/* sums + x[1] * w[][1] + x[0] * w[][0]; w [16][2], x [2] */
static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, qr_bf16_pairs w,
                                                 const uint16_t *x);

#ifndef QUIRE_EMULATE_AVX512

static inline void qr_f32x16_store_bf16_flushed(uint16_t *p, qr_f32x16 a)
{
    __m256bh rounded = _mm512_cvtneps_pbh(a);
    memcpy(p, &rounded, sizeof(rounded));
}

static inline qr_bf16_pairs qr_bf16_pairs_load(const uint16_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline void qr_bf16_pairs_store(uint16_t *p, qr_bf16_pairs pairs)
{
    _mm512_storeu_si512(p, pairs);
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
    const uint16_t *const *rows, int32_t from, int n, qr_bf16_pairs columns[16])
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
        columns[c] = _mm512_shuffle_i32x4(low, low_behind, 0x88);
        columns[4 + c] = _mm512_shuffle_i32x4(low, low_behind, 0xDD);
        columns[8 + c] = _mm512_shuffle_i32x4(high, high_behind, 0x88);
        columns[12 + c] = _mm512_shuffle_i32x4(high, high_behind, 0xDD);
    }
}

static inline void qr_bf16_interleave(const uint16_t *even, const uint16_t *odd, int n,
                                      qr_bf16_pairs to[2])
{
    __m512i a = qr_avx512_load_halves(even, n);
    __m512i b = qr_avx512_load_halves(odd, n);
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    /* lane i takes number i of the one and of the other, whose numbers count from 32 on */
    __m512i first = _mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(0x00010001)),
                                     _mm512_set1_epi32(0x00200000));
    __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(0x00100010));

    to[0] = _mm512_permutex2var_epi16(a, first, b);
    to[1] = _mm512_permutex2var_epi16(a, second, b);
}

static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, qr_bf16_pairs w, const uint16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, sizeof(pair));
    return _mm512_dpbf16_ps(sums, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
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

static inline qr_bf16_pairs qr_bf16_pairs_load(const uint16_t *p)
{
    qr_bf16_pairs pairs;
    memcpy(&pairs, p, sizeof(pairs));
    return pairs;
}

static inline void qr_bf16_pairs_store(uint16_t *p, qr_bf16_pairs pairs)
{
    memcpy(p, &pairs, sizeof(pairs));
}

static inline void qr_bf16_transpose_pairs(const uint16_t *const *rows, int32_t from, int n,
                                           qr_bf16_pairs columns[16])
{
    for (int k = 0; k < 32; k++) {
        for (int i = 0; i < QR_LANES; i++)
            columns[k / 2].number[2 * i + k % 2] = k < n ? rows[i][from + k] : 0;
    }
}

static inline void qr_bf16_interleave(const uint16_t *even, const uint16_t *odd, int n,
                                      qr_bf16_pairs to[2])
{
    for (int k = 0; k < 32; k++) {
        to[k / 16].number[k % 16 * 2] = k < n ? even[k] : 0;
        to[k / 16].number[k % 16 * 2 + 1] = k < n ? odd[k] : 0;
    }
}

static inline qr_f32x16 qr_f32x16_add_bf16_pairs(qr_f32x16 sums, qr_bf16_pairs w, const uint16_t *x)
{
    float lane[16];

    _mm512_storeu_ps(lane, sums);
    for (int i = 0; i < QR_LANES; i++) {
        lane[i] = qr_emulated_bf16_fma(w.number[2 * i + 1], x[1], lane[i]);
        lane[i] = qr_emulated_bf16_fma(w.number[2 * i], x[0], lane[i]);
    }
    return _mm512_loadu_ps(lane);
}

#endif

#endif /* QUIRE_BASE_SIMD_BF16_AVX512_H */
