/*
 * simd_avx512.h - the interface of simd_scalar.h on AVX-512 (F, BW, DQ, VL).
 *
 * With QUIRE_EMULATE_AVX512 the intrinsics are emulated (simd_avx512_emulated.h),
 * so that tests can check these kernels where there is no AVX-512.
 */
#ifndef QUIRE_BASE_SIMD_AVX512_H
#define QUIRE_BASE_SIMD_AVX512_H

#include <stdint.h>

#ifdef QUIRE_EMULATE_AVX512
#include "base/simd_avx512_emulated.h"
#else
#include <immintrin.h>
#endif

enum { QR_LANES = 16 };

typedef __m512 qr_f32x16;

static inline qr_f32x16 qr_f32x16_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline qr_f32x16 qr_f32x16_zero(void)
{
    return _mm512_setzero_ps();
}

static inline qr_f32x16 qr_f32x16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void qr_f32x16_store(float *p, qr_f32x16 a)
{
    _mm512_storeu_ps(p, a);
}

static inline __mmask16 qr_avx512_mask(int n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline qr_f32x16 qr_f32x16_load_partial(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(qr_avx512_mask(n), p);
}

static inline void qr_f32x16_store_partial(float *p, qr_f32x16 a, int n)
{
    _mm512_mask_storeu_ps(p, qr_avx512_mask(n), a);
}

static inline qr_f32x16 qr_avx512_widen_bf16(__m256i bits)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

static inline qr_f32x16 qr_f32x16_load_bf16(const uint16_t *p)
{
    return qr_avx512_widen_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static inline qr_f32x16 qr_f32x16_load_bf16_partial(const uint16_t *p, int n)
{
    return qr_avx512_widen_bf16(_mm256_maskz_loadu_epi16(qr_avx512_mask(n), p));
}

/* Of 16 pairs the first, or the second, of each. */
static inline qr_f32x16 qr_f32x16_load_bf16_even(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}

static inline qr_f32x16 qr_f32x16_load_bf16_odd(const uint16_t *p)
{
    __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper));
}

static inline qr_f32x16 qr_f32x16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static inline qr_f32x16 qr_f32x16_load_f16_partial(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(qr_avx512_mask(n), p));
}

static inline void qr_f32x16_store_f16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    _mm256_mask_storeu_epi16(p, qr_avx512_mask(n),
                             _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* The upper halves, rounded by what adding to the lower ones carries; NaN must not carry. */
static inline void qr_f32x16_store_bf16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    __m512i bits = _mm512_castps_si512(a);
    __m512i upper = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
    __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, is_nan, upper, _mm512_set1_epi32(0x40));
    _mm256_mask_storeu_epi16(p, qr_avx512_mask(n), _mm512_cvtepi32_epi16(rounded));
}

static inline qr_f32x16 qr_f32x16_add(qr_f32x16 a, qr_f32x16 b)
{
    return _mm512_add_ps(a, b);
}

static inline qr_f32x16 qr_f32x16_sub(qr_f32x16 a, qr_f32x16 b)
{
    return _mm512_sub_ps(a, b);
}

static inline qr_f32x16 qr_f32x16_mul(qr_f32x16 a, qr_f32x16 b)
{
    return _mm512_mul_ps(a, b);
}

static inline qr_f32x16 qr_f32x16_div(qr_f32x16 a, qr_f32x16 b)
{
    return _mm512_div_ps(a, b);
}

static inline qr_f32x16 qr_f32x16_fma(qr_f32x16 a, qr_f32x16 b, qr_f32x16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline void qr_f32x16_add_product(qr_f32x16 *sum, qr_f32x16 a, qr_f32x16 b)
{
    *sum = qr_f32x16_fma(a, b, *sum);
}

static inline qr_f32x16 qr_f32x16_max(qr_f32x16 a, qr_f32x16 b)
{
    return _mm512_max_ps(a, b);
}

static inline qr_f32x16 qr_f32x16_min(qr_f32x16 a, qr_f32x16 b)
{
    return _mm512_min_ps(a, b);
}

static inline qr_f32x16 qr_f32x16_round(qr_f32x16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT);
}

/* The instruction rounds once, and so do two factors of which the first gives no subnormal. */
static inline qr_f32x16 qr_f32x16_scale2(qr_f32x16 a, qr_f32x16 k)
{
    return _mm512_scalef_ps(a, k);
}

static inline float qr_f32x16_reduce_add(qr_f32x16 a)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Halves of 16 vectors are joined, then quarters, then pairs: what is done to each alone, in four
 * times three steps for two, four, eight vectors at a time. */
#define QR_AVX512_REDUCE_EACH(v, join)                                                          \
    do {                                                                                        \
        __m512 four[4];                                                                         \
        __m512 two[2];                                                                          \
        for (int i = 0; i < 4; i++) {                                                           \
            __m512 a = join(_mm512_shuffle_f32x4((v)[i], (v)[i + 4], 0x44),                     \
                            _mm512_shuffle_f32x4((v)[i], (v)[i + 4], 0xEE));                    \
            __m512 b = join(_mm512_shuffle_f32x4((v)[i + 8], (v)[i + 12], 0x44),                \
                            _mm512_shuffle_f32x4((v)[i + 8], (v)[i + 12], 0xEE));               \
            four[i] = join(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD)); \
        }                                                                                       \
        for (int i = 0; i < 2; i++)                                                             \
            two[i] = join(_mm512_shuffle_ps(four[2 * i], four[2 * i + 1], 0x44),                \
                          _mm512_shuffle_ps(four[2 * i], four[2 * i + 1], 0xEE));               \
        return join(_mm512_shuffle_ps(two[0], two[1], 0x88),                                    \
                    _mm512_shuffle_ps(two[0], two[1], 0xDD));                                   \
    } while (0)

static inline qr_f32x16 qr_f32x16_reduce_add_each(const qr_f32x16 *v)
{
    QR_AVX512_REDUCE_EACH(v, _mm512_add_ps);
}

static inline qr_f32x16 qr_f32x16_reduce_max_each(const qr_f32x16 *v)
{
    QR_AVX512_REDUCE_EACH(v, _mm512_max_ps);
}

#undef QR_AVX512_REDUCE_EACH

static inline float qr_f32x16_reduce_max(qr_f32x16 a)
{
    __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#include "base/simd_exp.h"

#endif /* QUIRE_BASE_SIMD_AVX512_H */
