/* simd_int8_neon.h - the interface of simd_int8_scalar.h on aarch64 with its dot products. */
#ifndef QUIRE_BASE_SIMD_INT8_NEON_H
#define QUIRE_BASE_SIMD_INT8_NEON_H

#include <string.h>

#include "base/simd_neon.h"

typedef struct {
    int32x4_t q0; /* lanes 0 to 3 */
    int32x4_t q1;
    int32x4_t q2;
    int32x4_t q3; /* lanes 12 to 15 */
} qr_i32x16;

typedef struct {
    uint8x16_t q0; /* the bytes of lanes 0 to 3 */
    uint8x16_t q1;
    uint8x16_t q2;
    uint8x16_t q3;
} qr_u8x64;

static inline qr_u8x64 qr_u8x64_load(const uint8_t *p)
{
    return (qr_u8x64){vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)};
}

static inline void qr_u8x64_store(uint8_t *p, qr_u8x64 a)
{
    vst1q_u8(p, a.q0);
    vst1q_u8(p + 16, a.q1);
    vst1q_u8(p + 32, a.q2);
    vst1q_u8(p + 48, a.q3);
}

/* Shifts are literals of the instructions. */
static inline uint8x16_t qr_neon_down(uint8x16_t a, int shift)
{
    return shift == 4 ? vshrq_n_u8(a, 4) : shift == 2 ? vshrq_n_u8(a, 2) : a;
}

static inline uint8x16_t qr_neon_up(uint8x16_t a, int shift)
{
    return shift == 4 ? vshlq_n_u8(a, 4) : shift == 2 ? vshlq_n_u8(a, 2) : a;
}

static inline qr_u8x64 qr_u8x64_bits(qr_u8x64 a, int shift, uint8_t mask)
{
    uint8x16_t kept = vdupq_n_u8(mask);
    return (qr_u8x64){
        vandq_u8(qr_neon_down(a.q0, shift), kept), vandq_u8(qr_neon_down(a.q1, shift), kept),
        vandq_u8(qr_neon_down(a.q2, shift), kept), vandq_u8(qr_neon_down(a.q3, shift), kept)};
}

static inline qr_u8x64 qr_u8x64_bits_up(qr_u8x64 a, int shift, uint8_t mask)
{
    uint8x16_t kept = vdupq_n_u8(mask);
    return (qr_u8x64){
        vandq_u8(qr_neon_up(a.q0, shift), kept), vandq_u8(qr_neon_up(a.q1, shift), kept),
        vandq_u8(qr_neon_up(a.q2, shift), kept), vandq_u8(qr_neon_up(a.q3, shift), kept)};
}

static inline qr_u8x64 qr_u8x64_or(qr_u8x64 a, qr_u8x64 b)
{
    return (qr_u8x64){QR_NEON_OF_2(vorrq_u8, a, b)};
}

static inline qr_i32x16 qr_i32x16_set1(int32_t x)
{
    int32x4_t quarter = vdupq_n_s32(x);
    return (qr_i32x16){quarter, quarter, quarter, quarter};
}

static inline qr_i32x16 qr_i32x16_shift_up(qr_i32x16 a, int n)
{
    int32x4_t by = vdupq_n_s32(n);
    return (qr_i32x16){vshlq_s32(a.q0, by), vshlq_s32(a.q1, by), vshlq_s32(a.q2, by),
                       vshlq_s32(a.q3, by)};
}

static inline qr_f32x16 qr_f32x16_from_i32(qr_i32x16 a)
{
    return (qr_f32x16){QR_NEON_OF_1(vcvtq_f32_s32, a)};
}

static inline qr_f32x16 qr_f32x16_load_u8(const uint8_t *p)
{
    uint8x16_t bytes = vld1q_u8(p);
    uint16x8_t lo = vmovl_u8(vget_low_u8(bytes));
    uint16x8_t hi = vmovl_u8(vget_high_u8(bytes));
    return (qr_f32x16){
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(lo))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(lo))),
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(hi))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(hi)))};
}

static inline qr_f32x16 qr_f32x16_load_s8(const uint8_t *p)
{
    int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
    int16x8_t lo = vmovl_s8(vget_low_s8(bytes));
    int16x8_t hi = vmovl_s8(vget_high_s8(bytes));
    return (qr_f32x16){
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))};
}

static inline void qr_f32x16_store_s8(int8_t *p, qr_f32x16 a)
{
    int16x8_t lo = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a.q0)), vmovn_s32(vcvtnq_s32_f32(a.q1)));
    int16x8_t hi = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a.q2)), vmovn_s32(vcvtnq_s32_f32(a.q3)));
    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

static inline int8x16_t qr_neon_four_bytes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Of signed bytes; those of w below 128 are such as they are. */
static inline int32x4_t qr_neon_dot(int32x4_t sum, uint8x16_t w, int8x16_t x)
{
    return vdotq_s32(sum, vreinterpretq_s8_u8(w), x);
}

static inline qr_i32x16 qr_dot_u7(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    int8x16_t four = qr_neon_four_bytes(x);
    return (qr_i32x16){qr_neon_dot(sum.q0, w.q0, four), qr_neon_dot(sum.q1, w.q1, four),
                       qr_neon_dot(sum.q2, w.q2, four), qr_neon_dot(sum.q3, w.q3, four)};
}

static inline qr_i32x16 qr_dot_raised_begin(int32_t minus_x_sum)
{
    (void)minus_x_sum;
    return qr_i32x16_set1(0);
}

/* A byte less 128 is the signed byte whose upper bit is the other one. */
static inline qr_i32x16 qr_dot_raised(qr_i32x16 sum, qr_u8x64 w, const int8_t *x)
{
    uint8x16_t upper = vdupq_n_u8(0x80);
    qr_u8x64 lowered = {veorq_u8(w.q0, upper), veorq_u8(w.q1, upper), veorq_u8(w.q2, upper),
                        veorq_u8(w.q3, upper)};
    return qr_dot_u7(sum, lowered, x);
}

#include "base/simd_u4_sums.h"

#endif /* QUIRE_BASE_SIMD_INT8_NEON_H */
