/*
 * kernels.inc.h - the kernels of kernels.h, written once.
 *
 * The including file has included one of the simd_*.h headers and defines QR_KERNELS
 * (the name of the table), QR_TILE_ROWS and QR_TILE_OUTS (results that are summed side
 * by side; as many as the registers hold).
 */
#include <math.h>

#include "runtime/ops/cpu/kernels.h"

#define QR_INLINE static inline __attribute__((always_inline))

enum { ROW_BLOCK = 32 }; /* rows of x that stay in cache while the weights pass by */

QR_INLINE qr_f32x16 load_weight(enum qr_dtype dtype, const void *base, size_t index)
{
    if (dtype == QR_DTYPE_F32)
        return qr_f32x16_load((const float *)base + index);
    if (dtype == QR_DTYPE_F16)
        return qr_f32x16_load_f16((const uint16_t *)base + index);
    return qr_f32x16_load_bf16((const uint16_t *)base + index);
}

QR_INLINE qr_f32x16 load_weight_partial(enum qr_dtype dtype, const void *base, size_t index, int n)
{
    if (dtype == QR_DTYPE_F32)
        return qr_f32x16_load_partial((const float *)base + index, n);
    if (dtype == QR_DTYPE_F16)
        return qr_f32x16_load_f16_partial((const uint16_t *)base + index, n);
    return qr_f32x16_load_bf16_partial((const uint16_t *)base + index, n);
}

/* rows x outs results from (row, out) on; rows, outs and dtype are constants at every call. */
QR_INLINE void matmul_tile(const struct qr_matmul_args *args, enum qr_dtype dtype, int rows,
                           int outs, int32_t row, int32_t out)
{
    size_t n_in = (size_t)args->n_in;
    const float *x = args->x + (size_t)row * n_in;
    size_t w = (size_t)out * n_in;
    qr_f32x16 sums[QR_TILE_ROWS][QR_TILE_OUTS];
    size_t k = 0;

    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < outs; o++)
            sums[r][o] = qr_f32x16_zero();
    }
    for (; k + QR_LANES <= n_in; k += QR_LANES) {
        for (int o = 0; o < outs; o++) {
            qr_f32x16 weight = load_weight(dtype, args->weight, w + (size_t)o * n_in + k);
            for (int r = 0; r < rows; r++)
                sums[r][o] =
                    qr_f32x16_fma(qr_f32x16_load(x + (size_t)r * n_in + k), weight, sums[r][o]);
        }
    }
    int tail = (int)(n_in - k);
    for (int o = 0; o < outs && tail > 0; o++) {
        qr_f32x16 weight = load_weight_partial(dtype, args->weight, w + (size_t)o * n_in + k, tail);
        for (int r = 0; r < rows; r++)
            sums[r][o] = qr_f32x16_fma(qr_f32x16_load_partial(x + (size_t)r * n_in + k, tail),
                                       weight, sums[r][o]);
    }
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < outs; o++)
            args->out[(size_t)(row + r) * (size_t)args->n_out + (size_t)(out + o)] =
                qr_f32x16_reduce_add(sums[r][o]);
    }
}

QR_INLINE void matmul_rows(const struct qr_matmul_args *args, enum qr_dtype dtype, int outs,
                           int32_t row, int32_t end_row, int32_t out)
{
    for (; row + QR_TILE_ROWS <= end_row; row += QR_TILE_ROWS)
        matmul_tile(args, dtype, QR_TILE_ROWS, outs, row, out);
    for (; row < end_row; row++)
        matmul_tile(args, dtype, 1, outs, row, out);
}

QR_INLINE void matmul_dtype(const struct qr_matmul_args *args, enum qr_dtype dtype, int32_t first,
                            int32_t last)
{
    for (int32_t row = 0; row < args->n_rows; row += ROW_BLOCK) {
        int32_t end_row = row + ROW_BLOCK < args->n_rows ? row + ROW_BLOCK : args->n_rows;
        int32_t out = first;
        for (; out + QR_TILE_OUTS <= last; out += QR_TILE_OUTS)
            matmul_rows(args, dtype, QR_TILE_OUTS, row, end_row, out);
        for (; out < last; out++)
            matmul_rows(args, dtype, 1, row, end_row, out);
    }
}

static void matmul(const struct qr_matmul_args *args, int32_t first, int32_t last)
{
    if (args->dtype == QR_DTYPE_F32)
        matmul_dtype(args, QR_DTYPE_F32, first, last);
    else if (args->dtype == QR_DTYPE_F16)
        matmul_dtype(args, QR_DTYPE_F16, first, last);
    else
        matmul_dtype(args, QR_DTYPE_BF16, first, last);
}

static void rms_norm_row(const struct qr_rms_norm_args *args, const float *x, float *out)
{
    int32_t dim = args->dim;
    qr_f32x16 sum = qr_f32x16_zero();

    for (int32_t i = 0; i < dim; i += QR_LANES) {
        int n = dim - i < QR_LANES ? dim - i : QR_LANES;
        qr_f32x16 v = qr_f32x16_load_partial(x + i, n);
        sum = qr_f32x16_fma(v, v, sum);
    }
    float mean = qr_f32x16_reduce_add(sum) / (float)dim;
    qr_f32x16 scale = qr_f32x16_set1(1.0f / sqrtf(mean + args->eps));
    for (int32_t i = 0; i < dim; i += QR_LANES) {
        int n = dim - i < QR_LANES ? dim - i : QR_LANES;
        qr_f32x16 v = qr_f32x16_mul(qr_f32x16_load_partial(x + i, n), scale);
        qr_f32x16 w = load_weight_partial(args->dtype, args->weight, (size_t)i, n);
        qr_f32x16_store_partial(out + i, qr_f32x16_mul(v, w), n);
    }
}

static void rms_norm(const struct qr_rms_norm_args *args, int32_t first, int32_t last)
{
    for (int32_t row = first; row < last; row++) {
        size_t offset = (size_t)row * (size_t)args->dim;
        rms_norm_row(args, args->x + offset, args->out + offset);
    }
}

static void swiglu(float *gate, const float *up, int32_t n)
{
    qr_f32x16 one = qr_f32x16_set1(1.0f);

    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = n - i < QR_LANES ? n - i : QR_LANES;
        qr_f32x16 g = qr_f32x16_load_partial(gate + i, count);
        qr_f32x16 e = qr_f32x16_exp(qr_f32x16_sub(qr_f32x16_zero(), g));
        qr_f32x16 silu = qr_f32x16_div(g, qr_f32x16_add(one, e));
        qr_f32x16 u = qr_f32x16_load_partial(up + i, count);
        qr_f32x16_store_partial(gate + i, qr_f32x16_mul(silu, u), count);
    }
}

static void widen(enum qr_dtype dtype, const void *row, int32_t n, float *out)
{
    for (int32_t i = 0; i < n; i += QR_LANES) {
        int count = n - i < QR_LANES ? n - i : QR_LANES;
        qr_f32x16_store_partial(out + i, load_weight_partial(dtype, row, (size_t)i, count), count);
    }
}

const struct qr_cpu_kernels QR_KERNELS = {
    .matmul = matmul,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .widen = widen,
};
