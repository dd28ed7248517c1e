/* simd_avx2.h - the interface of simd_scalar.h on AVX2, FMA and F16C: 16 lanes are two registers.
 */
#ifndef QUIRE_BASE_SIMD_AVX2_H
#define QUIRE_BASE_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { QR_LANES = 16 };

typedef struct {
    __m256 lo; /* lanes 0 to 7 */
    __m256 hi; /* lanes 8 to 15 */
} qr_f32x16;

static inline qr_f32x16 qr_f32x16_set1(float x)
{
    return (qr_f32x16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline qr_f32x16 qr_f32x16_zero(void)
{
    return (qr_f32x16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

static inline qr_f32x16 qr_f32x16_load(const float *p)
{
    return (qr_f32x16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline void qr_f32x16_store(float *p, qr_f32x16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

/* All ones in the lanes below n. */
static inline __m256i qr_avx2_mask(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline qr_f32x16 qr_f32x16_load_partial(const float *p, int n)
{
    if (n == QR_LANES)
        return qr_f32x16_load(p);
    return (qr_f32x16){_mm256_maskload_ps(p, qr_avx2_mask(n)),
                       n > 8 ? _mm256_maskload_ps(p + 8, qr_avx2_mask(n - 8))
                             : _mm256_setzero_ps()};
}

/* Masked stores are microcode on AMD's processors, of 12 clocks and more. */
static inline void qr_f32x16_store_partial(float *p, qr_f32x16 a, int n)
{
    float tail[QR_LANES];

    if (n == QR_LANES) {
        qr_f32x16_store(p, a);
        return;
    }
    qr_f32x16_store(tail, a);
    memcpy(p, tail, (size_t)n * sizeof(*p));
}

static inline __m256 qr_avx2_widen_bf16(__m128i bits)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

static inline qr_f32x16 qr_f32x16_load_bf16(const uint16_t *p)
{
    return (qr_f32x16){qr_avx2_widen_bf16(_mm_loadu_si128((const __m128i *)(const void *)p)),
                       qr_avx2_widen_bf16(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}

/* Of 16 pairs the first, or the second, of each. */
static inline qr_f32x16 qr_f32x16_load_bf16_even(const uint16_t *p)
{
    const __m256i *pairs = (const __m256i *)(const void *)p;
    return (qr_f32x16){
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs), 16)),
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs + 1), 16)),
    };
}

static inline qr_f32x16 qr_f32x16_load_bf16_odd(const uint16_t *p)
{
    const __m256i *pairs = (const __m256i *)(const void *)p;
    __m256i upper = _mm256_set1_epi32((int)0xFFFF0000);
    return (qr_f32x16){
        _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(pairs), upper)),
        _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(pairs + 1), upper)),
    };
}

static inline qr_f32x16 qr_f32x16_load_f16(const uint16_t *p)
{
    return (qr_f32x16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                       _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}

/* There is no masked load of 16-bit lanes: the tail goes through the stack. */
static inline void qr_avx2_copy_tail(const uint16_t *p, int n, uint16_t out[QR_LANES])
{
    for (int i = 0; i < QR_LANES; i++)
        out[i] = i < n ? p[i] : 0;
}

static inline qr_f32x16 qr_f32x16_load_bf16_partial(const uint16_t *p, int n)
{
    uint16_t tail[QR_LANES];
    qr_avx2_copy_tail(p, n, tail);
    return qr_f32x16_load_bf16(tail);
}

static inline qr_f32x16 qr_f32x16_load_f16_partial(const uint16_t *p, int n)
{
    uint16_t tail[QR_LANES];
    qr_avx2_copy_tail(p, n, tail);
    return qr_f32x16_load_f16(tail);
}

static inline void qr_avx2_store_halves(uint16_t *p, __m128i lo, __m128i hi, int n)
{
    uint16_t halves[QR_LANES];

    _mm_storeu_si128((__m128i *)(void *)halves, lo);
    _mm_storeu_si128((__m128i *)(void *)(halves + 8), hi);
    memcpy(p, halves, (size_t)n * sizeof(*p));
}

static inline void qr_f32x16_store_f16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT };
    qr_avx2_store_halves(p, _mm256_cvtps_ph(a.lo, NEAREST), _mm256_cvtps_ph(a.hi, NEAREST), n);
}

/* The upper halves, rounded by what adding to the lower ones carries; NaN must not carry. */
static inline __m128i qr_avx2_narrow_bf16(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a);
    __m256i upper = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, quiet, is_nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

static inline void qr_f32x16_store_bf16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    qr_avx2_store_halves(p, qr_avx2_narrow_bf16(a.lo), qr_avx2_narrow_bf16(a.hi), n);
}

static inline qr_f32x16 qr_f32x16_add(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

static inline qr_f32x16 qr_f32x16_sub(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

static inline qr_f32x16 qr_f32x16_mul(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

static inline qr_f32x16 qr_f32x16_div(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

static inline qr_f32x16 qr_f32x16_fma(qr_f32x16 a, qr_f32x16 b, qr_f32x16 c)
{
    return (qr_f32x16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

/* Sixteen registers hold 12 sums and what is added to them as long as each sum stays where it is,
 * which compilers left to themselves do not see: one that waits in memory halves a loop's speed. */
static inline void qr_f32x16_add_product(qr_f32x16 *sum, qr_f32x16 a, qr_f32x16 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum->lo) : "x"(a.lo), "x"(b.lo));
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum->hi) : "x"(a.hi), "x"(b.hi));
}

static inline qr_f32x16 qr_f32x16_max(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

static inline qr_f32x16 qr_f32x16_min(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

static inline qr_f32x16 qr_f32x16_round(qr_f32x16 a)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (qr_f32x16){_mm256_round_ps(a.lo, NEAREST), _mm256_round_ps(a.hi, NEAREST)};
}

static inline __m256 qr_avx2_scale2(__m256 a, __m256 k)
{
    __m256i whole = _mm256_cvtps_epi32(k);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    half = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    rest = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(half)), _mm256_castsi256_ps(rest));
}

static inline qr_f32x16 qr_f32x16_scale2(qr_f32x16 a, qr_f32x16 k)
{
    return (qr_f32x16){qr_avx2_scale2(a.lo, k.lo), qr_avx2_scale2(a.hi, k.hi)};
}

static inline float qr_f32x16_reduce_add(qr_f32x16 a)
{
    __m256 eight = _mm256_add_ps(a.lo, a.hi);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Eight sums of v[first ...], side by side where they would be one after the other. */
static inline __m256 qr_avx2_reduce_add_eight(const qr_f32x16 *v)
{
    __m256 four[4];
    __m256 two[2];

    for (int i = 0; i < 4; i++) {
        __m256 a = _mm256_add_ps(v[i].lo, v[i].hi);
        __m256 b = _mm256_add_ps(v[i + 4].lo, v[i + 4].hi);
        four[i] =
            _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (int i = 0; i < 2; i++)
        two[i] = _mm256_add_ps(_mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0x44),
                               _mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0xEE));
    return _mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88),
                         _mm256_shuffle_ps(two[0], two[1], 0xDD));
}

static inline qr_f32x16 qr_f32x16_reduce_add_each(const qr_f32x16 *v)
{
    return (qr_f32x16){qr_avx2_reduce_add_eight(v), qr_avx2_reduce_add_eight(v + 8)};
}

static inline float qr_f32x16_reduce_max(qr_f32x16 a)
{
    __m256 eight = _mm256_max_ps(a.lo, a.hi);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#include "base/simd_each.h"
#include "base/simd_exp.h"

#endif /* QUIRE_BASE_SIMD_AVX2_H */
