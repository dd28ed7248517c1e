/* simd_int8_avx2.h - the interface of simd_int8_scalar.h on AVX2. */
#ifndef QUIRE_BASE_SIMD_INT8_AVX2_H
#define QUIRE_BASE_SIMD_INT8_AVX2_H

#include <string.h>

#include "base/simd_avx2.h"

typedef struct {
    __m256i lo; /* lanes 0 to 7 */
    __m256i hi; /* lanes 8 to 15 */
} qr_i32x16;

typedef qr_i32x16 qr_u8x64;

static inline qr_u8x64 qr_u8x64_load(const uint8_t *p)
{
    return (qr_u8x64){_mm256_loadu_si256((const __m256i *)(const void *)p),
                      _mm256_loadu_si256((const __m256i *)(const void *)(p + 32))};
}

static inline void qr_u8x64_store(uint8_t *p, qr_u8x64 a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(void *)(p + 32), a.hi);
}

/* Shifts are of 16 bits; the mask drops what crosses from the neighbouring byte. */
static inline qr_u8x64 qr_u8x64_bits(qr_u8x64 a, int shift, uint8_t mask)
{
    __m256i kept = _mm256_set1_epi8((char)(mask & (0xFF >> shift)));
    return (qr_u8x64){_mm256_and_si256(_mm256_srli_epi16(a.lo, shift), kept),
                      _mm256_and_si256(_mm256_srli_epi16(a.hi, shift), kept)};
}

static inline qr_u8x64 qr_u8x64_bits_up(qr_u8x64 a, int shift, uint8_t mask)
{
    __m256i kept = _mm256_set1_epi8((char)(mask & (0xFF << shift)));
    return (qr_u8x64){_mm256_and_si256(_mm256_slli_epi16(a.lo, shift), kept),
                      _mm256_and_si256(_mm256_slli_epi16(a.hi, shift), kept)};
}

static inline qr_u8x64 qr_u8x64_or(qr_u8x64 a, qr_u8x64 b)
{
    return (qr_u8x64){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}

static inline qr_i32x16 qr_i32x16_set1(int32_t x)
{
    return (qr_i32x16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

static inline qr_i32x16 qr_i32x16_shift_up(qr_i32x16 a, int n)
{
    return (qr_i32x16){_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}

static inline qr_f32x16 qr_f32x16_from_i32(qr_i32x16 a)
{
    return (qr_f32x16){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}

static inline __m128i qr_avx2_load_8(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

static inline qr_f32x16 qr_f32x16_load_u8(const uint8_t *p)
{
    return qr_f32x16_from_i32((qr_i32x16){_mm256_cvtepu8_epi32(qr_avx2_load_8(p)),
                                          _mm256_cvtepu8_epi32(qr_avx2_load_8(p + 8))});
}

static inline qr_f32x16 qr_f32x16_load_s8(const uint8_t *p)
{
    return qr_f32x16_from_i32((qr_i32x16){_mm256_cvtepi8_epi32(qr_avx2_load_8(p)),
                                          _mm256_cvtepi8_epi32(qr_avx2_load_8(p + 8))});
}

static inline void qr_f32x16_store_s8(int8_t *p, qr_f32x16 a)
{
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    words = _mm256_permute4x64_epi64(words, 0xD8); /* packs works on halves of 128 bits */
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
}

static inline __m256i qr_avx2_four_bytes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm256_set1_epi32(four);
}

/*
 * sum + w . x. Two products of at most 128 * 127 each fit the 16 bits that are added first. Written
 * as the instructions that it is: compilers left to themselves add in other orders, for which 16
 * registers are too few, and have the sums wait in memory.
 */
static inline __m256i qr_avx2_dot(__m256i sum, __m256i w, __m256i x)
{
    __m256i pairs;

    __asm__("vpmaddubsw %3, %2, %1\n\t"
            "vpmaddwd %4, %1, %1\n\t"
            "vpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(pairs)
            : "x"(w), "x"(x), "x"(_mm256_set1_epi16(1)));
    return sum;
}

static inline qr_i32x16 qr_dot_u7(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    __m256i four = qr_avx2_four_bytes(x);
    return (qr_i32x16){qr_avx2_dot(sum.lo, w.lo, four), qr_avx2_dot(sum.hi, w.hi, four)};
}

static inline qr_i32x16 qr_dot_raised_begin(int32_t minus_x_sum)
{
    (void)minus_x_sum;
    return qr_i32x16_set1(0);
}

/* sum + |w| . x, x with the signs of w; 1.15 times as fast with many rows as if the signs were
 * moved before. */
static inline __m256i qr_avx2_signed_dot(__m256i sum, __m256i w, __m256i x)
{
    __m256i pairs;

    __asm__("vpsignb %2, %4, %1\n\t"
            "vpmaddubsw %1, %3, %1\n\t"
            "vpmaddwd %5, %1, %1\n\t"
            "vpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(pairs)
            : "x"(w), "x"(_mm256_abs_epi8(w)), "x"(x), "x"(_mm256_set1_epi16(1)));
    return sum;
}

static inline qr_i32x16 qr_dot_raised(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    __m256i sign_bits = _mm256_set1_epi8((char)0x80);
    __m256i four = qr_avx2_four_bytes(x);
    return (qr_i32x16){
        qr_avx2_signed_dot(sum.lo, _mm256_xor_si256(w.lo, sign_bits), four),
        qr_avx2_signed_dot(sum.hi, _mm256_xor_si256(w.hi, sign_bits), four),
    };
}

/* As in simd_u4_sums.h, but two sums of 16 bits in each lane: 16 products of at most 15 * 127 fit
 * one, and widening them once takes the place of doing so for each group. */
typedef qr_i32x16 qr_u4_sums;

static inline qr_u4_sums qr_u4_begin(qr_i32x16 begin)
{
    (void)begin;
    return qr_i32x16_set1(0);
}

static inline __m256i qr_avx2_dot_u4(__m256i sums, __m256i w, __m256i x)
{
    __m256i pairs;

    __asm__("vpmaddubsw %3, %2, %1\n\t"
            "vpaddw %1, %0, %0"
            : "+x"(sums), "=&x"(pairs)
            : "x"(w), "x"(x));
    return sums;
}

static inline qr_u4_sums qr_dot_u4(qr_u4_sums sums, qr_u8x64 w, const int8_t *x)
{
    __m256i four = qr_avx2_four_bytes(x);
    return (qr_u4_sums){qr_avx2_dot_u4(sums.lo, w.lo, four), qr_avx2_dot_u4(sums.hi, w.hi, four)};
}

static inline qr_i32x16 qr_u4_end(qr_u4_sums sums, qr_i32x16 begin)
{
    __m256i ones = _mm256_set1_epi16(1);
    return (qr_i32x16){_mm256_add_epi32(begin.lo, _mm256_madd_epi16(sums.lo, ones)),
                       _mm256_add_epi32(begin.hi, _mm256_madd_epi16(sums.hi, ones))};
}

#endif /* QUIRE_BASE_SIMD_INT8_AVX2_H */
