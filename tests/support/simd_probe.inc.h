/* simd_probe.inc.h - the table SIMD_PROBE (named SIMD_PROBE_NAME) for the set whose header the
 * including file has included. */
#include "tests/support/simd_probe.h"

static void probe_apply(enum simd_op op, const float *a, const float *b, const float *c, float *out)
{
    qr_f32x16 x = qr_f32x16_load(a);
    qr_f32x16 y = qr_f32x16_load(b);
    qr_f32x16 result = qr_f32x16_zero();

    switch (op) {
    case SIMD_ADD:
        result = qr_f32x16_add(x, y);
        break;
    case SIMD_SUB:
        result = qr_f32x16_sub(x, y);
        break;
    case SIMD_MUL:
        result = qr_f32x16_mul(x, y);
        break;
    case SIMD_DIV:
        result = qr_f32x16_div(x, y);
        break;
    case SIMD_FMA:
        result = qr_f32x16_fma(x, y, qr_f32x16_load(c));
        break;
    case SIMD_ADD_PRODUCT:
        result = qr_f32x16_load(c);
        qr_f32x16_add_product(&result, x, y);
        break;
    case SIMD_MAX:
        result = qr_f32x16_max(x, y);
        break;
    case SIMD_MIN:
        result = qr_f32x16_min(x, y);
        break;
    case SIMD_ROUND:
        result = qr_f32x16_round(x);
        break;
    case SIMD_EXP:
        result = qr_f32x16_exp(x);
        break;
    case SIMD_OPS:
        break;
    }
    qr_f32x16_store(out, result);
}

static float probe_reduce_add(const float *a)
{
    return qr_f32x16_reduce_add(qr_f32x16_load(a));
}

static void probe_reduce_add_each(const float *a, float *out)
{
    qr_f32x16 v[QR_LANES];

    for (int i = 0; i < QR_LANES; i++)
        v[i] = qr_f32x16_load(a + i * QR_LANES);
    qr_f32x16_store(out, qr_f32x16_reduce_add_each(v));
}

static void probe_reduce_max_each(const float *a, float *out)
{
    qr_f32x16 v[QR_LANES];

    for (int i = 0; i < QR_LANES; i++)
        v[i] = qr_f32x16_load(a + i * QR_LANES);
    qr_f32x16_store(out, qr_f32x16_reduce_max_each(v));
}

static float probe_reduce_max(const float *a)
{
    return qr_f32x16_reduce_max(qr_f32x16_load(a));
}

static void probe_load(enum qr_dtype dtype, const void *p, int n, float *out)
{
    qr_f32x16 v;

    if (dtype == QR_DTYPE_F32)
        v = n == QR_LANES ? qr_f32x16_load(p) : qr_f32x16_load_partial(p, n);
    else if (dtype == QR_DTYPE_F16)
        v = n == QR_LANES ? qr_f32x16_load_f16(p) : qr_f32x16_load_f16_partial(p, n);
    else
        v = n == QR_LANES ? qr_f32x16_load_bf16(p) : qr_f32x16_load_bf16_partial(p, n);
    qr_f32x16_store(out, v);
}

static void probe_store_partial(const float *a, int n, float *out)
{
    qr_f32x16_store_partial(out, qr_f32x16_load(a), n);
}

static void probe_store_narrow(enum qr_dtype dtype, const float *a, int n, uint16_t *out)
{
    if (dtype == QR_DTYPE_F16)
        qr_f32x16_store_f16_partial(out, qr_f32x16_load(a), n);
    else
        qr_f32x16_store_bf16_partial(out, qr_f32x16_load(a), n);
}

const struct simd_probe SIMD_PROBE = {
    .name = SIMD_PROBE_NAME,
    .apply = probe_apply,
    .reduce_add = probe_reduce_add,
    .reduce_add_each = probe_reduce_add_each,
    .reduce_max_each = probe_reduce_max_each,
    .reduce_max = probe_reduce_max,
    .load = probe_load,
    .store_partial = probe_store_partial,
    .store_narrow = probe_store_narrow,
};
