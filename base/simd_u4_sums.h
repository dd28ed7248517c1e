/*
 * simd_u4_sums.h - sums of products with integers below 16, where they are like any others. AVX2
 * has 16 bits for them until they are whole, and has its own. Included by the other simd_int8_*.h.
 */
#ifndef QUIRE_BASE_SIMD_U4_SUMS_H
#define QUIRE_BASE_SIMD_U4_SUMS_H

/* Sums of at most 8 groups of four products in each lane. */
typedef qr_i32x16 qr_u4_sums;

static inline qr_u4_sums qr_u4_begin(qr_i32x16 begin)
{
    return begin;
}

/* The bytes of w in [0, 15], those of x in [-127, 127]. */
static inline qr_u4_sums qr_dot_u4(qr_u4_sums sums, qr_u8x64 w, const int8_t *x)
{
    return qr_dot_u7(sums, w, x);
}

/* begin and all products; begin: the same as given to qr_u4_begin. */
static inline qr_i32x16 qr_u4_end(qr_u4_sums sums, qr_i32x16 begin)
{
    (void)begin;
    return sums;
}

#endif /* QUIRE_BASE_SIMD_U4_SUMS_H */
