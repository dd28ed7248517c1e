/* simd_probe.h - the 16-lane vectors of base/simd_*.h, each set behind a table of functions. */
#ifndef QUIRE_TESTS_SUPPORT_SIMD_PROBE_H
#define QUIRE_TESTS_SUPPORT_SIMD_PROBE_H

#include <stdint.h>

#include "base/dtype.h"

enum simd_op {
    SIMD_ADD,
    SIMD_SUB,
    SIMD_MUL,
    SIMD_DIV,
    SIMD_FMA,
    SIMD_ADD_PRODUCT,
    SIMD_MAX,
    SIMD_MIN,
    SIMD_ROUND,
    SIMD_EXP,
    SIMD_OPS,
};

struct simd_probe {
    const char *name;
    /* 16 lanes each; ops of one or two operands ignore the others */
    void (*apply)(enum simd_op op, const float *a, const float *b, const float *c, float *out);
    float (*reduce_add)(const float *a);
    void (*reduce_add_each)(const float *a, float *out); /* a [16][16] */
    void (*reduce_max_each)(const float *a, float *out);
    float (*reduce_max)(const float *a);
    /* n = 16 is the whole load, less a partial one; out has 16 lanes */
    void (*load)(enum qr_dtype dtype, const void *p, int n, float *out);
    void (*store_partial)(const float *a, int n, float *out);
    /* rounded to F16 or BF16 */
    void (*store_narrow)(enum qr_dtype dtype, const float *a, int n, uint16_t *out);
};

/* The sets that run here, the scalar one first. Writes at most 4, returns how many. */
int simd_probes(const struct simd_probe *probes[4]);

extern const struct simd_probe simd_probe_scalar;
extern const struct simd_probe simd_probe_neon;
extern const struct simd_probe simd_probe_avx2;
extern const struct simd_probe simd_probe_avx512;
/* NULL where SIMDe is not installed */
extern const struct simd_probe *const simd_probe_emulated_avx512;

#endif /* QUIRE_TESTS_SUPPORT_SIMD_PROBE_H */
