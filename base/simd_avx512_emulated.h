/*
 * simd_avx512_emulated.h - the AVX-512 intrinsics of simd_avx512.h without the processor:
 * SIMDe's, and here the ones that SIMDe does not have in Debian 12. For tests only.
 *
 * To be built with AVX2, FMA and F16C: SIMDe fuses a multiply-add only where it may use
 * the processor's own.
 */
#ifndef QUIRE_BASE_SIMD_AVX512_EMULATED_H
#define QUIRE_BASE_SIMD_AVX512_EMULATED_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <math.h>
#include <simde/x86/avx512.h>
#include <stdint.h>
#include <string.h>

#define QR_EACH_LANE for (int i = 0; i < 16; i++)

static inline __m512 qr_emulated_maskz_loadu_ps(__mmask16 mask, const float *p)
{
    float lane[16];
    QR_EACH_LANE lane[i] = (mask >> i & 1) != 0 ? p[i] : 0.0f;
    return _mm512_loadu_ps(lane);
}

static inline void qr_emulated_mask_storeu_ps(float *p, __mmask16 mask, __m512 a)
{
    float lane[16];
    _mm512_storeu_ps(lane, a);
    QR_EACH_LANE if ((mask >> i & 1) != 0) p[i] = lane[i];
}

static inline __m256 qr_emulated_extractf32x8_ps(__m512 a, int half)
{
    float lane[16];
    _mm512_storeu_ps(lane, a);
    return _mm256_loadu_ps(lane + 8 * half);
}

static inline __m256i qr_emulated_maskz_loadu_epi16(__mmask16 mask, const uint16_t *p)
{
    uint16_t lane[16];
    QR_EACH_LANE lane[i] = (mask >> i & 1) != 0 ? p[i] : 0;
    return _mm256_loadu_si256((const __m256i *)(const void *)lane);
}

static inline __m512 qr_emulated_cvtph_ps(__m256i bits)
{
    float lane[16];
    _mm256_storeu_ps(lane, _mm256_cvtph_ps(_mm256_castsi256_si128(bits)));
    _mm256_storeu_ps(lane + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1)));
    return _mm512_loadu_ps(lane);
}

static inline __m512i qr_emulated_cvtepu16_epi32(__m256i bits)
{
    uint16_t narrow[16];
    uint32_t wide[16];
    memcpy(narrow, &bits, sizeof(narrow));
    QR_EACH_LANE wide[i] = narrow[i];
    return _mm512_loadu_si512(wide);
}

static inline __m512i qr_emulated_cvtps_epi32(__m512 a)
{
    float lane[16];
    int32_t whole[16];
    _mm512_storeu_ps(lane, a);
    QR_EACH_LANE whole[i] = _mm_cvtss_si32(_mm_set_ss(lane[i]));
    return _mm512_loadu_si512(whole);
}

static inline __m512i qr_emulated_srai_epi32(__m512i a, unsigned int count)
{
    int32_t lane[16];
    memcpy(lane, &a, sizeof(lane));
    QR_EACH_LANE lane[i] >>= count;
    return _mm512_loadu_si512(lane);
}

static inline __m512 qr_emulated_cvtepi32_ps(__m512i a)
{
    int32_t whole[16];
    float lane[16];
    memcpy(whole, &a, sizeof(whole));
    QR_EACH_LANE lane[i] = (float)whole[i];
    return _mm512_loadu_ps(lane);
}

static inline __m512i qr_emulated_cvtepu8_epi32(__m128i bytes)
{
    uint8_t narrow[16];
    int32_t wide[16];
    memcpy(narrow, &bytes, sizeof(narrow));
    QR_EACH_LANE wide[i] = narrow[i];
    return _mm512_loadu_si512(wide);
}

static inline __m512i qr_emulated_cvtepi8_epi32(__m128i bytes)
{
    int8_t narrow[16];
    int32_t wide[16];
    memcpy(narrow, &bytes, sizeof(narrow));
    QR_EACH_LANE wide[i] = narrow[i];
    return _mm512_loadu_si512(wide);
}

static inline __m512i qr_emulated_madd_epi16(__m512i a, __m512i b)
{
    int16_t left[32], right[32];
    int32_t sum[16];
    memcpy(left, &a, sizeof(left));
    memcpy(right, &b, sizeof(right));
    QR_EACH_LANE sum[i] = left[2 * i] * right[2 * i] + left[2 * i + 1] * right[2 * i + 1];
    return _mm512_loadu_si512(sum);
}

/* Quarters of a, two of them, then two of b; `which` as the processor takes it. */
static inline __m512 qr_emulated_shuffle_f32x4(__m512 a, __m512 b, int which)
{
    float left[16], right[16], lane[16];
    _mm512_storeu_ps(left, a);
    _mm512_storeu_ps(right, b);
    QR_EACH_LANE lane[i] = (i < 8 ? left : right)[(which >> i / 4 * 2 & 3) * 4 + i % 4];
    return _mm512_loadu_ps(lane);
}

/* The same with lanes, within each quarter. */
static inline __m512 qr_emulated_shuffle_ps(__m512 a, __m512 b, int which)
{
    float left[16], right[16], lane[16];
    _mm512_storeu_ps(left, a);
    _mm512_storeu_ps(right, b);
    QR_EACH_LANE lane[i] = (i % 4 < 2 ? left : right)[i / 4 * 4 + (which >> i % 4 * 2 & 3)];
    return _mm512_loadu_ps(lane);
}

static inline __m512 qr_emulated_scalef_ps(__m512 a, __m512 k)
{
    float lane[16], exponent[16];
    _mm512_storeu_ps(lane, a);
    _mm512_storeu_ps(exponent, k);
    QR_EACH_LANE lane[i] =
        isnan(exponent[i]) ? exponent[i] : ldexpf(lane[i], (int)floorf(exponent[i]));
    return _mm512_loadu_ps(lane);
}

static inline void qr_emulated_mask_storeu_epi16(uint16_t *p, __mmask16 mask, __m256i a)
{
    uint16_t lane[16];
    _mm256_storeu_si256((__m256i *)(void *)lane, a);
    QR_EACH_LANE if ((mask >> i & 1) != 0) p[i] = lane[i];
}

static inline __m256i qr_emulated_cvtps_ph(__m512 a, int rounding)
{
    float lane[16];
    _mm512_storeu_ps(lane, a);
    (void)rounding; /* to nearest: all that is used */
    return _mm256_set_m128i(_mm256_cvtps_ph(_mm256_loadu_ps(lane + 8), _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(_mm256_loadu_ps(lane), _MM_FROUND_TO_NEAREST_INT));
}

static inline __m256i qr_emulated_cvtepi32_epi16(__m512i a)
{
    uint32_t wide[16];
    uint16_t narrow[16];
    memcpy(wide, &a, sizeof(wide));
    QR_EACH_LANE narrow[i] = (uint16_t)wide[i];
    return _mm256_loadu_si256((const __m256i *)(const void *)narrow);
}

/* Of a with itself: where it is NaN, all that is used. */
static inline __mmask16 qr_emulated_cmp_ps_mask(__m512 a, __m512 b, int predicate)
{
    float lane[16];
    unsigned int mask = 0;
    _mm512_storeu_ps(lane, a);
    (void)b;
    (void)predicate;
    QR_EACH_LANE mask |= (lane[i] != lane[i] ? 1u : 0u) << i;
    return (__mmask16)mask;
}

#undef QR_EACH_LANE

/* SIMDe's alias has the parameters of another one. */
#undef _mm512_madd_epi16
/* Compilers define these as macros even where the processor lacks them. */
#undef _mm512_extractf32x8_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_ps
#undef _mm512_scalef_ps
#undef _mm512_cvtps_ph
#undef _mm512_cmp_ps_mask

#define _mm512_maskz_loadu_ps    qr_emulated_maskz_loadu_ps
#define _mm512_mask_storeu_ps    qr_emulated_mask_storeu_ps
#define _mm512_extractf32x8_ps   qr_emulated_extractf32x8_ps
#define _mm256_maskz_loadu_epi16 qr_emulated_maskz_loadu_epi16
#define _mm512_cvtph_ps          qr_emulated_cvtph_ps
#define _mm512_cvtepu16_epi32    qr_emulated_cvtepu16_epi32
#define _mm512_cvtps_epi32       qr_emulated_cvtps_epi32
#define _mm512_srai_epi32        qr_emulated_srai_epi32
#define _mm512_madd_epi16        qr_emulated_madd_epi16
#define _mm512_cvtepi32_ps       qr_emulated_cvtepi32_ps
#define _mm512_cvtepu8_epi32     qr_emulated_cvtepu8_epi32
#define _mm512_cvtepi8_epi32     qr_emulated_cvtepi8_epi32
#define _mm512_shuffle_f32x4     qr_emulated_shuffle_f32x4
#define _mm512_shuffle_ps        qr_emulated_shuffle_ps
#define _mm512_scalef_ps         qr_emulated_scalef_ps
#define _mm256_mask_storeu_epi16 qr_emulated_mask_storeu_epi16
#define _mm512_cvtps_ph          qr_emulated_cvtps_ph
#define _mm512_cvtepi32_epi16    qr_emulated_cvtepi32_epi16
#define _mm512_cmp_ps_mask       qr_emulated_cmp_ps_mask

#endif /* QUIRE_BASE_SIMD_AVX512_EMULATED_H */
