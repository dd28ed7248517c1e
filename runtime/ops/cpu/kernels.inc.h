/*
 * kernels.inc.h - the kernels of kernels.h, written once.
 *
 * The including file has included one of the simd_*.h headers and defines QR_KERNELS
 * (the name of the table).
 */
#include <math.h>

#include "runtime/ops/cpu/kernels.h"

#define QR_INLINE static inline __attribute__((always_inline))

QR_INLINE qr_f32x16 load_weight_partial(enum qr_dtype dtype, const void *base, size_t index, int n)
{
    if (dtype == QR_DTYPE_F32)
        return qr_f32x16_load_partial((const float *)base + index, n);
    if (dtype == QR_DTYPE_F16)
        return qr_f32x16_load_f16_partial((const uint16_t *)base + index, n);
    return qr_f32x16_load_bf16_partial((const uint16_t *)base + index, n);
}

QR_INLINE int lanes_left(int32_t i, int32_t n)
{
    return n - i < QR_LANES ? n - i : QR_LANES;
}

static float sum_of(const float *x, int32_t dim)
{
    qr_f32x16 sum = qr_f32x16_zero();

    for (int32_t i = 0; i < dim; i += QR_LANES)
        sum = qr_f32x16_add(sum, qr_f32x16_load_partial(x + i, lanes_left(i, dim)));
    return qr_f32x16_reduce_add(sum);
}

/* x - mean for n lanes, 0 for the rest; means: QR_LANES times the mean. */
QR_INLINE qr_f32x16 load_centred(const float *x, const float *means, int n)
{
    return qr_f32x16_sub(qr_f32x16_load_partial(x, n), qr_f32x16_load_partial(means, n));
}

static void norm_row(const struct qr_norm_args *args, const float *x, float *out)
{
    int32_t dim = args->dim;
    float mean = args->kind == QR_NORM_LAYER ? sum_of(x, dim) / (float)dim : 0.0f;
    qr_f32x16 squares = qr_f32x16_zero();
    qr_f32x16 offset = qr_f32x16_set1(args->weight_offset);
    float means[QR_LANES];

    qr_f32x16_store(means, qr_f32x16_set1(mean));
    for (int32_t i = 0; i < dim; i += QR_LANES) {
        qr_f32x16 v = load_centred(x + i, means, lanes_left(i, dim));
        squares = qr_f32x16_fma(v, v, squares);
    }
    float variance = qr_f32x16_reduce_add(squares) / (float)dim;
    qr_f32x16 scale = qr_f32x16_set1(1.0f / sqrtf(variance + args->eps));
    for (int32_t i = 0; i < dim; i += QR_LANES) {
        int n = lanes_left(i, dim);
        qr_f32x16 w = load_weight_partial(args->weight_dtype, args->weight, (size_t)i, n);
        qr_f32x16 v = qr_f32x16_mul(load_centred(x + i, means, n), scale);
        v = qr_f32x16_mul(v, qr_f32x16_add(w, offset));
        if (args->bias != NULL)
            v = qr_f32x16_add(v, load_weight_partial(args->bias_dtype, args->bias, (size_t)i, n));
        if (args->adds)
            v = qr_f32x16_add(qr_f32x16_load_partial(out + i, n), v);
        qr_f32x16_store_partial(out + i, v, n);
    }
}

static void norm(const struct qr_norm_args *args, int32_t first, int32_t last)
{
    for (int32_t row = first; row < last; row++) {
        size_t offset = (size_t)row * (size_t)args->dim;
        norm_row(args, args->x + offset, args->out + offset);
    }
}

/* x / (1 + e^-z) */
QR_INLINE qr_f32x16 times_sigmoid(qr_f32x16 x, qr_f32x16 z)
{
    qr_f32x16 e = qr_f32x16_exp(qr_f32x16_sub(qr_f32x16_zero(), z));
    return qr_f32x16_div(x, qr_f32x16_add(qr_f32x16_set1(1.0f), e));
}

/* 1 + tanh(z) is 2 / (1 + e^-2z). */
QR_INLINE qr_f32x16 gelu_tanh(qr_f32x16 x)
{
    const float twice_sqrt_2_over_pi = 1.5957691216057308f;
    qr_f32x16 cubed = qr_f32x16_mul(qr_f32x16_mul(x, x), x);
    qr_f32x16 z = qr_f32x16_fma(cubed, qr_f32x16_set1(0.044715f), x);
    return times_sigmoid(x, qr_f32x16_mul(z, qr_f32x16_set1(twice_sqrt_2_over_pi)));
}

/* erf by formula 7.1.26 of Abramowitz and Stegun, of an absolute error below 2e-7. */
QR_INLINE qr_f32x16 gelu(qr_f32x16 x)
{
    static const float coefficients[] = {1.061405429f, -1.453152027f, 1.421413741f, -0.284496736f,
                                         0.254829592f};
    qr_f32x16 one = qr_f32x16_set1(1.0f);
    qr_f32x16 z = qr_f32x16_mul(x, qr_f32x16_set1(0.70710678f));
    qr_f32x16 size = qr_f32x16_max(z, qr_f32x16_sub(qr_f32x16_zero(), z));
    qr_f32x16 t = qr_f32x16_div(one, qr_f32x16_fma(size, qr_f32x16_set1(0.3275911f), one));
    qr_f32x16 e = qr_f32x16_exp(qr_f32x16_sub(qr_f32x16_zero(), qr_f32x16_mul(size, size)));
    qr_f32x16 p = qr_f32x16_set1(coefficients[0]);

    for (int i = 1; i < 5; i++)
        p = qr_f32x16_fma(p, t, qr_f32x16_set1(coefficients[i]));
    /* x / 2 (1 + erf z) = (x + |x| erf |z|) / 2 */
    qr_f32x16 erf = qr_f32x16_sub(one, qr_f32x16_mul(qr_f32x16_mul(p, t), e));
    qr_f32x16 magnitude = qr_f32x16_max(x, qr_f32x16_sub(qr_f32x16_zero(), x));
    return qr_f32x16_mul(qr_f32x16_fma(magnitude, erf, x), qr_f32x16_set1(0.5f));
}

QR_INLINE void activate_row(enum qr_activation activation, float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = lanes_left(i, n);
        qr_f32x16 g = qr_f32x16_load_partial(gate + i, count);
        if (activation == QR_ACTIVATION_SILU)
            g = times_sigmoid(g, g);
        else if (activation == QR_ACTIVATION_GELU)
            g = gelu(g);
        else
            g = gelu_tanh(g);
        if (up != NULL)
            g = qr_f32x16_mul(g, qr_f32x16_load_partial(up + i, count));
        qr_f32x16_store_partial(gate + i, g, count);
    }
}

static void activate(enum qr_activation activation, float *gate, const float *up, int32_t n)
{
    if (activation == QR_ACTIVATION_SILU)
        activate_row(QR_ACTIVATION_SILU, gate, up, n);
    else if (activation == QR_ACTIVATION_GELU)
        activate_row(QR_ACTIVATION_GELU, gate, up, n);
    else
        activate_row(QR_ACTIVATION_GELU_TANH, gate, up, n);
}

static void soft_cap(float *x, int32_t n, float cap)
{
    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = lanes_left(i, n);
        qr_f32x16 v = qr_f32x16_soft_cap(qr_f32x16_load_partial(x + i, count), cap);
        qr_f32x16_store_partial(x + i, v, count);
    }
}

static void add(float *x, const float *y, int32_t n)
{
    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = lanes_left(i, n);
        qr_f32x16 sum = qr_f32x16_add(qr_f32x16_load_partial(x + i, count),
                                      qr_f32x16_load_partial(y + i, count));
        qr_f32x16_store_partial(x + i, sum, count);
    }
}

/* Pairs of all heads by the turns of QR_LANES pairs, of which n are there. */
static void rotate_lanes(float *heads, int32_t n_heads, int32_t head_dim, const float *turns,
                         int32_t half, int n)
{
    float cosines[QR_LANES] = {0};
    float sines[QR_LANES] = {0};

    for (int i = 0; i < n; i++) {
        cosines[i] = turns[2 * i];
        sines[i] = turns[2 * i + 1];
    }
    qr_f32x16 cos = qr_f32x16_load(cosines);
    qr_f32x16 sin = qr_f32x16_load(sines);
    for (int32_t h = 0; h < n_heads; h++, heads += head_dim) {
        qr_f32x16 a = qr_f32x16_load_partial(heads, n);
        qr_f32x16 b = qr_f32x16_load_partial(heads + half, n);
        qr_f32x16 first = qr_f32x16_sub(qr_f32x16_mul(a, cos), qr_f32x16_mul(b, sin));
        qr_f32x16 second = qr_f32x16_add(qr_f32x16_mul(b, cos), qr_f32x16_mul(a, sin));
        qr_f32x16_store_partial(heads, first, n);
        qr_f32x16_store_partial(heads + half, second, n);
    }
}

static void rotate(float *heads, int32_t n_heads, int32_t head_dim, const float *turns,
                   int32_t half)
{
    for (int32_t i = 0; i < half; i += QR_LANES)
        rotate_lanes(heads + i, n_heads, head_dim, turns + 2 * (size_t)i, half,
                     lanes_left(i, half));
}

static void widen(enum qr_dtype dtype, const void *row, int32_t n, float *out)
{
    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = lanes_left(i, n);
        qr_f32x16_store_partial(out + i, load_weight_partial(dtype, row, (size_t)i, count), count);
    }
}

#include "runtime/ops/cpu/kernels_select.inc.h"

const struct qr_cpu_kernels QR_KERNELS = {
    .norm = norm,
    .activate = activate,
    .soft_cap = soft_cap,
    .add = add,
    .rotate = rotate,
    .widen = widen,
    .select = select_tokens,
};
