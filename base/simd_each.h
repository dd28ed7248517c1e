/*
 * simd_each.h - what is done to each of 16 vectors, one after another: for the instruction sets
 * that have no way to do it side by side. Included by such simd_*.h headers only.
 */
#ifndef QUIRE_BASE_SIMD_EACH_H
#define QUIRE_BASE_SIMD_EACH_H

static inline qr_f32x16 qr_f32x16_reduce_max_each(const qr_f32x16 *v)
{
    float largest[QR_LANES];

    for (int i = 0; i < QR_LANES; i++)
        largest[i] = qr_f32x16_reduce_max(v[i]);
    return qr_f32x16_load(largest);
}

#endif /* QUIRE_BASE_SIMD_EACH_H */
