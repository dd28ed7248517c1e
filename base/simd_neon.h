/* simd_neon.h - the interface of simd_scalar.h on aarch64: 16 lanes are four registers. */
#ifndef QUIRE_BASE_SIMD_NEON_H
#define QUIRE_BASE_SIMD_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

enum { QR_LANES = 16 };

/* Members, not an array: compilers keep those in registers wherever they are inlined. */
typedef struct {
    float32x4_t q0; /* lanes 0 to 3 */
    float32x4_t q1;
    float32x4_t q2;
    float32x4_t q3; /* lanes 12 to 15 */
} qr_f32x16;

/* The four registers that a function of one makes of those of vectors. */
#define QR_NEON_OF_1(f, a) f((a).q0), f((a).q1), f((a).q2), f((a).q3)
#define QR_NEON_OF_2(f, a, b) \
    f((a).q0, (b).q0), f((a).q1, (b).q1), f((a).q2, (b).q2), f((a).q3, (b).q3)

static inline qr_f32x16 qr_f32x16_set1(float x)
{
    float32x4_t quarter = vdupq_n_f32(x);
    return (qr_f32x16){quarter, quarter, quarter, quarter};
}

static inline qr_f32x16 qr_f32x16_zero(void)
{
    return qr_f32x16_set1(0.0f);
}

static inline qr_f32x16 qr_f32x16_load(const float *p)
{
    return (qr_f32x16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}

static inline void qr_f32x16_store(float *p, qr_f32x16 a)
{
    vst1q_f32(p, a.q0);
    vst1q_f32(p + 4, a.q1);
    vst1q_f32(p + 8, a.q2);
    vst1q_f32(p + 12, a.q3);
}

/* There are no masked loads and stores: what is less than a vector goes through the stack. */
static inline qr_f32x16 qr_f32x16_load_partial(const float *p, int n)
{
    float tail[QR_LANES] = {0};

    if (n == QR_LANES)
        return qr_f32x16_load(p);
    for (int i = 0; i < n; i++)
        tail[i] = p[i];
    return qr_f32x16_load(tail);
}

static inline void qr_f32x16_store_partial(float *p, qr_f32x16 a, int n)
{
    float tail[QR_LANES];

    if (n == QR_LANES) {
        qr_f32x16_store(p, a);
        return;
    }
    qr_f32x16_store(tail, a);
    for (int i = 0; i < n; i++)
        p[i] = tail[i];
}

static inline void qr_neon_copy_tail(const uint16_t *p, int n, uint16_t out[QR_LANES])
{
    for (int i = 0; i < QR_LANES; i++)
        out[i] = i < n ? p[i] : 0;
}

static inline float32x4_t qr_neon_widen_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

static inline qr_f32x16 qr_f32x16_load_bf16(const uint16_t *p)
{
    return (qr_f32x16){qr_neon_widen_bf16(p), qr_neon_widen_bf16(p + 4), qr_neon_widen_bf16(p + 8),
                       qr_neon_widen_bf16(p + 12)};
}

static inline qr_f32x16 qr_f32x16_load_bf16_partial(const uint16_t *p, int n)
{
    uint16_t tail[QR_LANES];
    qr_neon_copy_tail(p, n, tail);
    return qr_f32x16_load_bf16(tail);
}

/* Of 16 pairs the first, or the second, of each. */
static inline float32x4_t qr_neon_even_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(vld1q_u16(p)), 16));
}

static inline qr_f32x16 qr_f32x16_load_bf16_even(const uint16_t *p)
{
    return (qr_f32x16){qr_neon_even_bf16(p), qr_neon_even_bf16(p + 8), qr_neon_even_bf16(p + 16),
                       qr_neon_even_bf16(p + 24)};
}

static inline float32x4_t qr_neon_odd_bf16(const uint16_t *p)
{
    uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(p));
    return vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xFFFF0000)));
}

static inline qr_f32x16 qr_f32x16_load_bf16_odd(const uint16_t *p)
{
    return (qr_f32x16){qr_neon_odd_bf16(p), qr_neon_odd_bf16(p + 8), qr_neon_odd_bf16(p + 16),
                       qr_neon_odd_bf16(p + 24)};
}

static inline float32x4_t qr_neon_widen_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline qr_f32x16 qr_f32x16_load_f16(const uint16_t *p)
{
    return (qr_f32x16){qr_neon_widen_f16(p), qr_neon_widen_f16(p + 4), qr_neon_widen_f16(p + 8),
                       qr_neon_widen_f16(p + 12)};
}

static inline qr_f32x16 qr_f32x16_load_f16_partial(const uint16_t *p, int n)
{
    uint16_t tail[QR_LANES];
    qr_neon_copy_tail(p, n, tail);
    return qr_f32x16_load_f16(tail);
}

static inline void qr_neon_store_halves(uint16_t *p, uint16x4_t q0, uint16x4_t q1, uint16x4_t q2,
                                        uint16x4_t q3, int n)
{
    uint16_t tail[QR_LANES];
    uint16_t *to = n == QR_LANES ? p : tail;

    vst1_u16(to, q0);
    vst1_u16(to + 4, q1);
    vst1_u16(to + 8, q2);
    vst1_u16(to + 12, q3);
    for (int i = 0; i < n && to == tail; i++)
        p[i] = tail[i];
}

static inline uint16x4_t qr_neon_narrow_f16(float32x4_t a)
{
    return vreinterpret_u16_f16(vcvt_f16_f32(a));
}

static inline void qr_f32x16_store_f16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    qr_neon_store_halves(p, QR_NEON_OF_1(qr_neon_narrow_f16, a), n);
}

/* The upper halves, rounded by what adding to the lower ones carries; NaN must not carry. */
static inline uint16x4_t qr_neon_narrow_bf16(float32x4_t a)
{
    uint32x4_t bits = vreinterpretq_u32_f32(a);
    uint32x4_t upper = vshrq_n_u32(bits, 16);
    uint32x4_t half = vaddq_u32(vandq_u32(upper, vdupq_n_u32(1)), vdupq_n_u32(0x7FFF));
    uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, half), 16);
    uint32x4_t quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
    return vmovn_u32(vbslq_u32(vceqq_f32(a, a), rounded, quiet));
}

static inline void qr_f32x16_store_bf16_partial(uint16_t *p, qr_f32x16 a, int n)
{
    qr_neon_store_halves(p, QR_NEON_OF_1(qr_neon_narrow_bf16, a), n);
}

static inline qr_f32x16 qr_f32x16_add(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){QR_NEON_OF_2(vaddq_f32, a, b)};
}

static inline qr_f32x16 qr_f32x16_sub(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){QR_NEON_OF_2(vsubq_f32, a, b)};
}

static inline qr_f32x16 qr_f32x16_mul(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){QR_NEON_OF_2(vmulq_f32, a, b)};
}

static inline qr_f32x16 qr_f32x16_div(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){QR_NEON_OF_2(vdivq_f32, a, b)};
}

/* The instruction adds to its first operand. */
static inline qr_f32x16 qr_f32x16_fma(qr_f32x16 a, qr_f32x16 b, qr_f32x16 c)
{
    return (qr_f32x16){vfmaq_f32(c.q0, a.q0, b.q0), vfmaq_f32(c.q1, a.q1, b.q1),
                       vfmaq_f32(c.q2, a.q2, b.q2), vfmaq_f32(c.q3, a.q3, b.q3)};
}

/* The processor's own maximum and minimum treat NaN and the signs of zero otherwise. */
static inline float32x4_t qr_neon_max(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline float32x4_t qr_neon_min(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

static inline void qr_f32x16_add_product(qr_f32x16 *sum, qr_f32x16 a, qr_f32x16 b)
{
    *sum = qr_f32x16_fma(a, b, *sum);
}

static inline qr_f32x16 qr_f32x16_max(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){QR_NEON_OF_2(qr_neon_max, a, b)};
}

static inline qr_f32x16 qr_f32x16_min(qr_f32x16 a, qr_f32x16 b)
{
    return (qr_f32x16){QR_NEON_OF_2(qr_neon_min, a, b)};
}

static inline qr_f32x16 qr_f32x16_round(qr_f32x16 a)
{
    return (qr_f32x16){QR_NEON_OF_1(vrndnq_f32, a)};
}

static inline float32x4_t qr_neon_scale2(float32x4_t a, float32x4_t k)
{
    int32x4_t whole = vcvtnq_s32_f32(k);
    int32x4_t half = vshrq_n_s32(whole, 1);
    int32x4_t rest = vsubq_s32(whole, half);
    int32x4_t bias = vdupq_n_s32(127);
    half = vshlq_n_s32(vaddq_s32(half, bias), 23);
    rest = vshlq_n_s32(vaddq_s32(rest, bias), 23);
    return vmulq_f32(vmulq_f32(a, vreinterpretq_f32_s32(half)), vreinterpretq_f32_s32(rest));
}

static inline qr_f32x16 qr_f32x16_scale2(qr_f32x16 a, qr_f32x16 k)
{
    return (qr_f32x16){QR_NEON_OF_2(qr_neon_scale2, a, k)};
}

/* The tree's first two steps: lanes i, i + 4, i + 8 and i + 12. */
static inline float32x4_t qr_neon_add_quarters(qr_f32x16 a)
{
    return vaddq_f32(vaddq_f32(a.q0, a.q2), vaddq_f32(a.q1, a.q3));
}

static inline float qr_f32x16_reduce_add(qr_f32x16 a)
{
    float32x4_t four = qr_neon_add_quarters(a);
    return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}

/* Two sums each of two vectors, side by side: those of lanes 0 and 2, and of 1 and 3. */
static inline float32x4_t qr_neon_add_halves(float32x4_t a, float32x4_t b)
{
    return vcombine_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a)),
                        vadd_f32(vget_low_f32(b), vget_high_f32(b)));
}

/* Four sums of v[0 ... 3]. */
static inline float32x4_t qr_neon_reduce_add_four(const qr_f32x16 *v)
{
    return vpaddq_f32(qr_neon_add_halves(qr_neon_add_quarters(v[0]), qr_neon_add_quarters(v[1])),
                      qr_neon_add_halves(qr_neon_add_quarters(v[2]), qr_neon_add_quarters(v[3])));
}

static inline qr_f32x16 qr_f32x16_reduce_add_each(const qr_f32x16 *v)
{
    return (qr_f32x16){qr_neon_reduce_add_four(v), qr_neon_reduce_add_four(v + 4),
                       qr_neon_reduce_add_four(v + 8), qr_neon_reduce_add_four(v + 12)};
}

static inline float qr_f32x16_reduce_max(qr_f32x16 a)
{
    float32x4_t four = qr_neon_max(qr_neon_max(a.q0, a.q2), qr_neon_max(a.q1, a.q3));
    float32x4_t two = qr_neon_max(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(qr_neon_max(two, vextq_f32(two, two, 1)), 0);
}

#include "base/simd_each.h"
#include "base/simd_exp.h"

#endif /* QUIRE_BASE_SIMD_NEON_H */
