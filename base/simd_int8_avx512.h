/*
 * simd_int8_avx512.h - the interface of simd_int8_scalar.h on AVX-512 (F, BW, DQ, VL); with its
 * VNNI instructions where the file is built for them.
 */
#ifndef QUIRE_BASE_SIMD_INT8_AVX512_H
#define QUIRE_BASE_SIMD_INT8_AVX512_H

#include <string.h>

#include "base/simd_avx512.h"

typedef __m512i qr_i32x16;
typedef __m512i qr_u8x64;

static inline qr_u8x64 qr_u8x64_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline void qr_u8x64_store(uint8_t *p, qr_u8x64 a)
{
    _mm512_storeu_si512(p, a);
}

/* Compilers differ in the type of a shift that is no literal. */
static inline __m512i qr_avx512_down(__m512i a, int shift)
{
    return shift == 4 ? _mm512_srli_epi16(a, 4) : shift == 2 ? _mm512_srli_epi16(a, 2) : a;
}

static inline __m512i qr_avx512_up(__m512i a, int shift)
{
    return shift == 4 ? _mm512_slli_epi16(a, 4) : shift == 2 ? _mm512_slli_epi16(a, 2) : a;
}

/* Shifts are of 16 bits; the mask drops what crosses from the neighbouring byte. */
static inline qr_u8x64 qr_u8x64_bits(qr_u8x64 a, int shift, uint8_t mask)
{
    __m512i kept = _mm512_set1_epi8((char)(mask & (0xFF >> shift)));
    return _mm512_and_si512(qr_avx512_down(a, shift), kept);
}

static inline qr_u8x64 qr_u8x64_bits_up(qr_u8x64 a, int shift, uint8_t mask)
{
    __m512i kept = _mm512_set1_epi8((char)(mask & (0xFF << shift)));
    return _mm512_and_si512(qr_avx512_up(a, shift), kept);
}

static inline qr_u8x64 qr_u8x64_or(qr_u8x64 a, qr_u8x64 b)
{
    return _mm512_or_si512(a, b);
}

static inline qr_i32x16 qr_i32x16_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

static inline qr_i32x16 qr_i32x16_add(qr_i32x16 a, qr_i32x16 b)
{
    return _mm512_add_epi32(a, b);
}

static inline qr_i32x16 qr_i32x16_shift_up(qr_i32x16 a, int n)
{
    return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n));
}

static inline qr_f32x16 qr_f32x16_from_i32(qr_i32x16 a)
{
    return _mm512_cvtepi32_ps(a);
}

static inline qr_f32x16 qr_f32x16_load_u8(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

static inline qr_f32x16 qr_f32x16_load_s8(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

static inline void qr_f32x16_store_s8(int8_t *p, qr_f32x16 a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}

static inline __m512i qr_avx512_four_bytes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
}

#ifdef __AVX512VNNI__

static inline qr_i32x16 qr_dot_u7(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    return _mm512_dpbusd_epi32(sum, w, qr_avx512_four_bytes(x));
}

/* The instruction takes w without a sign, as it is; what it has too much is 128 times the sum of x.
 */
static inline qr_i32x16 qr_dot_raised_begin(int32_t minus_x_sum)
{
    return qr_i32x16_shift_up(_mm512_set1_epi32(minus_x_sum), 7);
}

static inline qr_i32x16 qr_dot_raised(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    return _mm512_dpbusd_epi32(sum, w, qr_avx512_four_bytes(x));
}

#else

/* Two products of at most 128 * 127 each fit the 16 bits that are added first. */
static inline qr_i32x16 qr_avx512_dot(qr_i32x16 sum, __m512i w, __m512i x)
{
    __m512i pairs = _mm512_maddubs_epi16(w, x);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

static inline qr_i32x16 qr_dot_u7(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    return qr_avx512_dot(sum, w, qr_avx512_four_bytes(x));
}

static inline qr_i32x16 qr_dot_raised_begin(int32_t minus_x_sum)
{
    (void)minus_x_sum;
    return _mm512_setzero_si512();
}

/* |w - 128| times x with its sign. */
static inline qr_i32x16 qr_dot_raised(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    __m512i lowered = _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80));
    __m512i four = qr_avx512_four_bytes(x);
    __m512i with_sign =
        _mm512_mask_sub_epi8(four, _mm512_movepi8_mask(lowered), _mm512_setzero_si512(), four);
    return qr_avx512_dot(sum, _mm512_abs_epi8(lowered), with_sign);
}

#endif

#include "base/simd_u4_sums.h"

#endif /* QUIRE_BASE_SIMD_INT8_AVX512_H */
