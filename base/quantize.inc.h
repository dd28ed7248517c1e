/*
 * quantize.inc.h - quantize.h on the vectors of simd_scalar.h; a file includes one of the
 * simd_int8_*.h and says what the function is called (QR_QUANTIZE).
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/quantize.h"

enum {
    BLOCK = 32,
    K_BLOCK = 256,
    K_BLOCK_BYTES = 144,
    K_PARTS = K_BLOCK / BLOCK,
    K_LEVEL = 15,        /* the largest quant of Q4_K */
    K_SCALE_LEVEL = 63,  /* the largest scale and minimum of a part */
    CHUNK = 2 * K_BLOCK, /* elements that are widened at a time: as many parts as lanes */
    N_CANDIDATES = 9,
};

static inline void put_f16(float value, uint8_t *bytes)
{
    uint16_t bits = qr_f32_to_f16(value);

    memcpy(bytes, &bits, sizeof(bits));
}

/* d, or NaN where one of the 32 is no finite number. */
static inline float unless_spoiled(float d, qr_f32x16 low, qr_f32x16 high)
{
    qr_f32x16 zero = qr_f32x16_zero();
    float sum = qr_f32x16_reduce_add(qr_f32x16_fma(low, zero, qr_f32x16_mul(high, zero)));

    return sum == 0.0f ? d : sum;
}

/* 1 / d, and 0 where that is no number to multiply with. */
static inline float inverse_of(float d)
{
    float inverse = 1.0f / d;

    return fabsf(inverse) <= FLT_MAX ? inverse : 0.0f;
}

static inline qr_f32x16 minus(qr_f32x16 x)
{
    return qr_f32x16_sub(qr_f32x16_zero(), x);
}

/*
 * To the nearest whole number, halves up; x in [0, 2^22). Vectors round halves to even: what is
 * left over is 0.5 where that went down, and at least 2^-25 less elsewhere.
 */
static inline qr_f32x16 round_up_halves(qr_f32x16 x)
{
    qr_f32x16 whole = qr_f32x16_round(x);
    qr_f32x16 left = qr_f32x16_sub(x, whole);
    qr_f32x16 up = qr_f32x16_fma(left, qr_f32x16_set1(0x1p25f), qr_f32x16_set1(1.0f - 0x1p24f));

    return qr_f32x16_add(whole, qr_f32x16_max(up, qr_f32x16_zero()));
}

/* Halves away from zero. */
static inline qr_f32x16 round_away(qr_f32x16 x)
{
    qr_f32x16 above = qr_f32x16_max(x, qr_f32x16_zero());
    qr_f32x16 below = qr_f32x16_max(minus(x), qr_f32x16_zero());

    return qr_f32x16_sub(round_up_halves(above), round_up_halves(below));
}

/* The whole part of x in [0.25, 2^22), of which a fraction is a multiple of 2^-25. */
static inline qr_f32x16 whole_part(qr_f32x16 x)
{
    qr_f32x16 whole = qr_f32x16_round(x);
    qr_f32x16 over = qr_f32x16_mul(qr_f32x16_sub(whole, x), qr_f32x16_set1(0x1p25f));
    qr_f32x16 down = qr_f32x16_max(over, qr_f32x16_zero());

    return qr_f32x16_sub(whole, qr_f32x16_min(down, qr_f32x16_set1(1.0f)));
}

/* x [32] */
static inline void quantize_q8_0(const float *x, uint8_t *block)
{
    qr_f32x16 low = qr_f32x16_load(x);
    qr_f32x16 high = qr_f32x16_load(x + QR_LANES);
    qr_f32x16 most =
        qr_f32x16_max(qr_f32x16_max(low, minus(low)), qr_f32x16_max(high, minus(high)));
    float d = unless_spoiled(qr_f32x16_reduce_max(most) / 127.0f, low, high);
    qr_f32x16 inverse = qr_f32x16_set1(inverse_of(d));
    int8_t q[BLOCK];

    put_f16(d, block);
    qr_f32x16_store_s8(q, round_away(qr_f32x16_mul(low, inverse)));
    qr_f32x16_store_s8(q + QR_LANES, round_away(qr_f32x16_mul(high, inverse)));
    memcpy(block + 2, q, sizeof(q));
}

/* The number of largest magnitude; of two, the first. x [32] */
static inline float largest_of(const float *x, qr_f32x16 low, qr_f32x16 high)
{
    float most = qr_f32x16_reduce_max(qr_f32x16_max(low, high));
    float least = -qr_f32x16_reduce_max(qr_f32x16_max(minus(low), minus(high)));

    if (most != -least)
        return most > -least ? most : least;
    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) == most)
            return x[i];
    return most;
}

static inline qr_f32x16 q4_0_quants(qr_f32x16 x, float inverse)
{
    qr_f32x16 scaled = qr_f32x16_mul(x, qr_f32x16_set1(inverse));
    qr_f32x16 q = whole_part(qr_f32x16_add(scaled, qr_f32x16_set1(8.5f)));

    return qr_f32x16_min(q, qr_f32x16_set1(15.0f));
}

/* Bytes of 16 whole numbers in [0, 255]. */
static inline void store_u8(uint8_t *bytes, qr_f32x16 x)
{
    int8_t lowered[QR_LANES];

    qr_f32x16_store_s8(lowered, qr_f32x16_sub(x, qr_f32x16_set1(128.0f)));
    for (int i = 0; i < QR_LANES; i++)
        bytes[i] = (uint8_t)lowered[i] ^ 0x80;
}

/* Bytes of nibbles: low in the lower 4 bits. */
static inline void store_nibbles(uint8_t *bytes, qr_f32x16 low, qr_f32x16 high)
{
    store_u8(bytes, qr_f32x16_fma(high, qr_f32x16_set1(16.0f), low));
}

/* x [32] */
static inline void quantize_q4_0(const float *x, uint8_t *block)
{
    qr_f32x16 low = qr_f32x16_load(x);
    qr_f32x16 high = qr_f32x16_load(x + QR_LANES);
    float d = unless_spoiled(largest_of(x, low, high) / -8.0f, low, high);
    float inverse = inverse_of(d);

    put_f16(d, block);
    store_nibbles(block + 2, q4_0_quants(low, inverse), q4_0_quants(high, inverse));
}

/* ---- Q4_K: lane l of a vector is part l of up to two blocks, so that sums need no adding across
 * lanes ---- */

struct k_parts {
    float x[BLOCK][QR_LANES];
    float weights[BLOCK][QR_LANES]; /* of the squared errors */
    qr_f32x16 least;                /* of each part and 0 */
    qr_f32x16 range;
    qr_f32x16 sum_w, sum_x; /* of w, w x */
    /* what was found: a part's numbers are about scale * q - minimum */
    float scale[QR_LANES];
    float minimum[QR_LANES];
};

/* x [n_parts][32]; lanes beyond are zeros. A large weight counts for more in a product. */
static void read_parts(struct k_parts *parts, const float *x, int n_parts)
{
    qr_f32x16 least = qr_f32x16_zero(), most = qr_f32x16_set1(-FLT_MAX);
    qr_f32x16 squares = qr_f32x16_zero(), sum_w = squares, sum_x = squares;
    float usual[QR_LANES];

    memset(parts->x, 0, sizeof(parts->x));
    for (int l = 0; l < n_parts; l++)
        for (int i = 0; i < BLOCK; i++)
            parts->x[i][l] = x[l * BLOCK + i];
    for (int i = 0; i < BLOCK; i++) {
        qr_f32x16 v = qr_f32x16_load(parts->x[i]);
        least = qr_f32x16_min(least, v);
        most = qr_f32x16_max(most, v);
        squares = qr_f32x16_fma(v, v, squares);
    }
    qr_f32x16_store(usual, squares);
    for (int l = 0; l < QR_LANES; l++)
        usual[l] = sqrtf(usual[l] / BLOCK) + FLT_MIN; /* no weight is 0 */
    for (int i = 0; i < BLOCK; i++) {
        qr_f32x16 v = qr_f32x16_load(parts->x[i]);
        qr_f32x16 w = qr_f32x16_add(qr_f32x16_load(usual), qr_f32x16_max(v, minus(v)));
        qr_f32x16_store(parts->weights[i], w);
        sum_w = qr_f32x16_add(sum_w, w);
        sum_x = qr_f32x16_fma(w, v, sum_x);
    }
    parts->least = least;
    parts->range = qr_f32x16_sub(most, least);
    parts->sum_w = sum_w;
    parts->sum_x = sum_x;
}

static inline qr_f32x16 k_quants(qr_f32x16 x, qr_f32x16 least, qr_f32x16 inverse)
{
    qr_f32x16 q = qr_f32x16_round(qr_f32x16_mul(qr_f32x16_sub(x, least), inverse));

    q = qr_f32x16_max(q, qr_f32x16_zero());
    return qr_f32x16_min(q, qr_f32x16_set1((float)K_LEVEL));
}

/* Of each part a fit of scale * q + offset, and how much smaller than that of zeros its error is.
 */
struct k_fits {
    float scale[QR_LANES];
    float offset[QR_LANES];
    float gain[QR_LANES];
};

/*
 * The best fit to the quants of which these are the weighted sums, into `plain`; and the best one
 * without an offset. Division by zero makes gains that are no numbers, or scales below zero.
 */
static inline void fit(const struct k_parts *parts, qr_f32x16 q, qr_f32x16 qq, qr_f32x16 qx,
                       struct k_fits *plain, struct k_fits *centred)
{
    qr_f32x16 w = parts->sum_w, x = parts->sum_x;
    qr_f32x16 det = qr_f32x16_sub(qr_f32x16_mul(w, qq), qr_f32x16_mul(q, q));
    qr_f32x16 scale = qr_f32x16_div(qr_f32x16_sub(qr_f32x16_mul(w, qx), qr_f32x16_mul(x, q)), det);
    qr_f32x16 offset =
        qr_f32x16_div(qr_f32x16_sub(qr_f32x16_mul(qq, x), qr_f32x16_mul(q, qx)), det);
    qr_f32x16 alone = qr_f32x16_div(qx, qq);

    qr_f32x16_store(plain->scale, scale);
    qr_f32x16_store(plain->offset, offset);
    qr_f32x16_store(plain->gain, qr_f32x16_fma(scale, qx, qr_f32x16_mul(offset, x)));
    qr_f32x16_store(centred->scale, alone);
    qr_f32x16_store(centred->gain, qr_f32x16_mul(alone, qx));
}

/* The best fits to the quants for one inverse of the scale. Files hold -offset, which has no sign:
 * where the best offset is above zero, there is none. */
static void try_inverse(const struct k_parts *parts, qr_f32x16 inverse, struct k_fits *best)
{
    qr_f32x16 sum_q = qr_f32x16_zero(), sum_qq = sum_q, sum_qx = sum_q;
    struct k_fits plain, centred;

    for (int i = 0; i < BLOCK; i++) {
        qr_f32x16 v = qr_f32x16_load(parts->x[i]);
        qr_f32x16 k = k_quants(v, parts->least, inverse);
        qr_f32x16 weighted = qr_f32x16_mul(k, qr_f32x16_load(parts->weights[i]));
        sum_q = qr_f32x16_add(sum_q, weighted);
        sum_qq = qr_f32x16_fma(weighted, k, sum_qq);
        sum_qx = qr_f32x16_fma(weighted, v, sum_qx);
    }
    fit(parts, sum_q, sum_qq, sum_qx, &plain, &centred);
    for (int l = 0; l < QR_LANES; l++) {
        bool has_offset = plain.scale[l] >= 0.0f && plain.offset[l] <= 0.0f;
        float scale = has_offset ? plain.scale[l] : centred.scale[l];
        float gain = has_offset ? plain.gain[l] : centred.gain[l];
        if (gain > best->gain[l] && gain <= FLT_MAX && scale >= 0.0f) {
            best->gain[l] = gain;
            best->scale[l] = scale;
            best->offset[l] = has_offset ? plain.offset[l] : 0.0f;
        }
    }
}

/* Levels that the range of a part is cut in by the candidates: about those that there are. */
static inline float levels_of(int candidate)
{
    return (float)K_LEVEL - 1.25f + 0.25f * (float)candidate;
}

static void search_parts(struct k_parts *parts)
{
    struct k_fits best = {.scale = {0}};
    float range[QR_LANES], inverse[QR_LANES];

    qr_f32x16_store(range, parts->range);
    qr_f32x16_store(best.offset, parts->least);
    for (int l = 0; l < QR_LANES; l++) /* all numbers alike: the least one alone is exact */
        best.gain[l] = range[l] > 0.0f ? -1.0f : FLT_MAX;
    for (int c = 0; c < N_CANDIDATES; c++) {
        for (int l = 0; l < QR_LANES; l++)
            inverse[l] = levels_of(c) * inverse_of(range[l]);
        try_inverse(parts, qr_f32x16_load(inverse), &best);
    }
    for (int l = 0; l < QR_LANES; l++) {
        parts->scale[l] = best.scale[l];
        parts->minimum[l] = -best.offset[l];
    }
}

/* values [8] as whole multiples, in [0, 63], of an F16 that is returned. */
static float share_scale(const float *values, float spoiled, uint8_t *steps, uint8_t *bytes)
{
    float most = 0.0f;

    for (int j = 0; j < K_PARTS; j++)
        most = values[j] > most ? values[j] : most;
    put_f16(most / (float)K_SCALE_LEVEL + spoiled, bytes);
    uint16_t bits;
    memcpy(&bits, bytes, sizeof(bits));
    float shared = qr_f16_to_f32(bits);
    float inverse = inverse_of(shared);
    for (int j = 0; j < K_PARTS; j++) {
        float step = rintf(values[j] * inverse);
        steps[j] = (uint8_t)(step > 0.0f ? step < (float)K_SCALE_LEVEL ? step : K_SCALE_LEVEL : 0);
    }
    return shared;
}

/* The reverse of qr_read_k_scale, for all parts. */
static void put_k_scales(const uint8_t *s, const uint8_t *m, uint8_t *packed)
{
    for (int j = 0; j < K_PARTS / 2; j++) {
        uint8_t s_upper = s[j + 4], m_upper = m[j + 4];
        packed[j] = (uint8_t)(s[j] | s_upper >> 4 << 6);
        packed[j + 4] = (uint8_t)(m[j] | m_upper >> 4 << 6);
        packed[j + 8] = (uint8_t)((s_upper & 0xF) | (m_upper & 0xF) << 4);
    }
}

/* Scales of the block whose first part is lane `first`; x [256]. Then its quants, for these. */
static void put_k_block(const struct k_parts *parts, int first, const float *x, uint8_t *block)
{
    uint8_t s[K_PARTS], m[K_PARTS];
    qr_f32x16 q[2 * K_PARTS];
    float spoiled = 0.0f;

    for (int i = 0; i < K_BLOCK; i += BLOCK)
        spoiled = unless_spoiled(spoiled, qr_f32x16_load(x + i), qr_f32x16_load(x + i + QR_LANES));
    float d = share_scale(parts->scale + first, spoiled, s, block);
    float dmin = share_scale(parts->minimum + first, spoiled, m, block + 2);
    put_k_scales(s, m, block + 4);
    for (int j = 0; j < K_PARTS; j++, x += BLOCK) {
        qr_f32x16 least = qr_f32x16_set1(-(dmin * (float)m[j]));
        qr_f32x16 inverse = qr_f32x16_set1(inverse_of(d * (float)s[j]));
        q[2 * j] = k_quants(qr_f32x16_load(x), least, inverse);
        q[2 * j + 1] = k_quants(qr_f32x16_load(x + QR_LANES), least, inverse);
    }
    for (int j = 0; j < K_PARTS; j += 2) {
        uint8_t *nibbles = block + 16 + j * QR_LANES;
        store_nibbles(nibbles, q[2 * j], q[2 * j + 2]);
        store_nibbles(nibbles + QR_LANES, q[2 * j + 1], q[2 * j + 3]);
    }
}

/* x [n], n 256 or 512 */
static void quantize_q4_k(const float *x, int n, uint8_t *blocks)
{
    struct k_parts parts;

    read_parts(&parts, x, n / BLOCK);
    search_parts(&parts);
    for (int at = 0; at < n; at += K_BLOCK, blocks += K_BLOCK_BYTES)
        put_k_block(&parts, at / BLOCK, x + at, blocks);
}

/* ---- */

/* Elements [at, at + n) of the row, n a multiple of 32. */
static inline void widen(enum qr_dtype from, const void *row, int64_t at, int n, float *out)
{
    for (int i = 0; i < n; i += QR_LANES) {
        qr_f32x16 v = from == QR_DTYPE_F32   ? qr_f32x16_load((const float *)row + at + i)
                      : from == QR_DTYPE_F16 ? qr_f32x16_load_f16((const uint16_t *)row + at + i)
                                             : qr_f32x16_load_bf16((const uint16_t *)row + at + i);
        qr_f32x16_store(out + i, v);
    }
}

void QR_QUANTIZE(enum qr_dtype from, const void *row, int64_t n, enum qr_dtype to, uint8_t *blocks)
{
    size_t block_bytes = qr_dtype_block_bytes(to);
    float x[CHUNK];

    QR_ASSERT(from < QR_DTYPE_COUNT && n % qr_dtype_block_size(to) == 0);
    QR_ASSERT(to == QR_DTYPE_Q8_0 || to == QR_DTYPE_Q4_0 || to == QR_DTYPE_Q4_K);
    for (int64_t at = 0; at < n; at += CHUNK) {
        int count = n - at < CHUNK ? (int)(n - at) : CHUNK;
        widen(from, row, at, count, x);
        if (to == QR_DTYPE_Q4_K)
            quantize_q4_k(x, count, blocks);
        for (int i = 0; i < count && to == QR_DTYPE_Q8_0; i += BLOCK)
            quantize_q8_0(x + i, blocks + (size_t)(i / BLOCK) * block_bytes);
        for (int i = 0; i < count && to == QR_DTYPE_Q4_0; i += BLOCK)
            quantize_q4_0(x + i, blocks + (size_t)(i / BLOCK) * block_bytes);
        blocks += qr_dtype_row_bytes(to, count);
    }
}
