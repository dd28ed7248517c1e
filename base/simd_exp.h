/*
 * simd_exp.h - e^x of 16 lanes, the same operations and so the same bits on every
 * instruction set. Included by the simd_*.h headers only.
 *
 * x = k ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite's two-part constant), then the
 * Taylor polynomial of degree 7 in r: relative error below 2^-22. Below -104 the
 * result is 0, above 89 it is +inf; NaN stays NaN.
 */
#ifndef QUIRE_BASE_SIMD_EXP_H
#define QUIRE_BASE_SIMD_EXP_H

static inline qr_f32x16 qr_f32x16_exp(qr_f32x16 x)
{
    static const float coefficients[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24,
                                         1.0f / 6,    1.0f / 2,   1.0f,       1.0f};
    /* The bounds come first in min and max, so that a NaN in x comes out as NaN. */
    x = qr_f32x16_min(qr_f32x16_set1(89.0f), x);
    x = qr_f32x16_max(qr_f32x16_set1(-105.0f), x);
    qr_f32x16 k = qr_f32x16_round(qr_f32x16_mul(x, qr_f32x16_set1(0x1.715476p+0f)));
    qr_f32x16 r = qr_f32x16_fma(k, qr_f32x16_set1(-0x1.62e4p-1f), x);
    r = qr_f32x16_fma(k, qr_f32x16_set1(-0x1.7f7d1cp-20f), r);

    qr_f32x16 p = qr_f32x16_set1(coefficients[0]);
    for (int i = 1; i < 8; i++)
        p = qr_f32x16_fma(p, r, qr_f32x16_set1(coefficients[i]));
    return qr_f32x16_scale2(p, k);
}

/* cap * tanh(x / cap) by tanh z = 1 - 2 / (1 + e^2z): absolute error below cap * 2^-22. */
static inline qr_f32x16 qr_f32x16_soft_cap(qr_f32x16 x, float cap)
{
    qr_f32x16 one = qr_f32x16_set1(1.0f);
    qr_f32x16 e = qr_f32x16_exp(qr_f32x16_mul(x, qr_f32x16_set1(2.0f / cap)));
    qr_f32x16 part = qr_f32x16_div(qr_f32x16_set1(2.0f), qr_f32x16_add(one, e));
    return qr_f32x16_mul(qr_f32x16_sub(one, part), qr_f32x16_set1(cap));
}

#endif /* QUIRE_BASE_SIMD_EXP_H */
