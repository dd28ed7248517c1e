/* conformance_definitions.c - see conformance_definitions.h for the contract. */
#include "tests/support/conformance_definitions.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { WARP = 32, BLOCK = 128 };

static float to_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static bool is_nan_bits(uint32_t bits)
{
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

/* ---- number formats, from their definition ---- */

struct format {
    int mantissa_bits, bias;
    uint32_t largest;  /* bits of the largest finite number */
    uint32_t overflow; /* bits of what larger numbers become */
};

static const struct format BF16 = {7, 127, 0x7f7f, 0x7f80};
static const struct format F16 = {10, 15, 0x7bff, 0x7c00};
static const struct format E4M3 = {3, 7, 0x7e, 0x7e};

/* The magnitude that the bits, without a sign, stand for. */
static double magnitude(const struct format *f, uint32_t bits)
{
    int exponent = (int)(bits >> f->mantissa_bits);
    double mantissa = (double)(bits & ((1u << f->mantissa_bits) - 1));
    double unit = (double)(1u << f->mantissa_bits);
    return exponent == 0 ? ldexp(mantissa / unit, 1 - f->bias)
                         : ldexp(1.0 + mantissa / unit, exponent - f->bias);
}

/* Bits of the number nearest to x >= 0, ties to the even one. */
static uint32_t nearest(const struct format *f, double x)
{
    int exponent;
    frexp(x, &exponent); /* x in [2^(exponent - 1), 2^exponent) */
    if (exponent - 1 < 1 - f->bias)
        exponent = 2 - f->bias;
    double unit = ldexp(1.0, exponent - 1 - f->mantissa_bits);
    double n = nearbyint(x / unit); /* to even */
    double rounded = n * unit;
    uint32_t low = 0, high = f->largest;
    if (rounded > magnitude(f, f->largest))
        return f->overflow;
    while (low < high) { /* magnitudes grow with their bits */
        uint32_t middle = (low + high) / 2;
        if (magnitude(f, middle) < rounded)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t round_to(const struct format *f, double x, uint32_t nan, uint32_t sign_bit)
{
    if (isnan(x))
        return nan;
    return (signbit(x) ? sign_bit : 0) | nearest(f, fabs(x));
}

static double value_of(const struct format *f, uint32_t bits, uint32_t sign_bit)
{
    uint32_t rest = bits & (sign_bit - 1);
    double value = rest > f->overflow  ? (double)NAN
                   : rest > f->largest ? (double)INFINITY
                                       : magnitude(f, rest);
    return bits & sign_bit ? -value : value;
}

/* ---- how a result may differ ---- */

static bool same(const struct conformance_case *c, const uint32_t *expected, const uint32_t *got)
{
    return memcmp(expected, got, (size_t)c->n_out * sizeof(*got)) == 0;
}

/* Any NaN will do where one is expected. */
static bool same_float(uint32_t expected, uint32_t got)
{
    return expected == got || (is_nan_bits(expected) && is_nan_bits(got));
}

/* ---- exchange ---- */

static bool check_shuffle(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                          int i, uint32_t *expected)
{
    int warp = i / WARP * WARP, argument = (int)(in[2 * i + 1] % 32);
    int from = warp + argument;
    expected[0] = in[2 * from];
    expected[1] = in[2 * (warp + ((i % WARP) ^ argument))];
    expected[2] = in[2 * from];
    expected[3] = in[2 * from + 1];
    return same(c, expected, out + 4 * i);
}

static bool check_ballot(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                         int i, uint32_t *expected)
{
    expected[0] = expected[1] = 0;
    for (int lane = 0; lane < WARP; lane++) {
        expected[0] |= (in[i / WARP * WARP + lane] & 1u) << lane;
        expected[1] += in[i] >> lane & 1u;
    }
    return same(c, expected, out + 2 * i);
}

static bool check_barriers(const struct conformance_case *c, const uint32_t *in,
                           const uint32_t *out, int i, uint32_t *expected)
{
    expected[0] = expected[1] = 0;
    for (int k = 0; k < BLOCK; k++) {
        expected[1] += in[i / BLOCK * BLOCK + k];
        if (k < BLOCK / 2)
            expected[0] += in[i / (BLOCK / 2) * (BLOCK / 2) + k];
    }
    return same(c, expected, out + 2 * i);
}

static bool check_sync_warp(const struct conformance_case *c, const uint32_t *in,
                            const uint32_t *out, int i, uint32_t *expected)
{
    expected[0] = in[i ^ 5];
    return same(c, expected, out + i);
}

static bool check_atomics(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                          int i, uint32_t *expected)
{
    expected[0] = expected[1] = 0;
    for (int k = 0; k < BLOCK; k++) {
        uint32_t word = in[i / BLOCK * BLOCK + k];
        expected[0] += word % 1000;
        expected[1] = word > expected[1] ? word : expected[1];
    }
    return same(c, expected, out + 2 * i);
}

/* ---- memory ---- */

static bool check_chunks(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                         int i, uint32_t *expected)
{
    memcpy(expected, in + 4 * i, 16);
    memcpy(expected + 4, in + 4 * (i ^ 1), 16);
    return same(c, expected, out + 8 * i);
}

static bool check_copy_async(const struct conformance_case *c, const uint32_t *in,
                             const uint32_t *out, int i, uint32_t *expected)
{
    memcpy(expected, in + 4 * (i ^ 1), 16);
    memset(expected + 4, 0, 16);
    return same(c, expected, out + 8 * i);
}

static bool check_bulk_copy(const struct conformance_case *c, const uint32_t *in,
                            const uint32_t *out, int i, uint32_t *expected)
{
    memcpy(expected, in + 4 * (i ^ 1), 16);
    memcpy(expected + 4, in + 4 * (i ^ 1), 16);
    return same(c, expected, out + 8 * i);
}

/* ---- matrices: "Matrix fragments" of the PTX ISA ---- */

/* Element (row, column) of 8x8 matrix m whose rows the lanes 8m to 8m + 7 hold. */
static uint32_t element(const uint32_t *in, int warp, int m, int row, int column)
{
    uint32_t word = in[4 * (warp + 8 * m + row) + column / 2];
    return column % 2 == 0 ? word & 0xffffu : word >> 16;
}

static bool check_load_matrix(const struct conformance_case *c, const uint32_t *in,
                              const uint32_t *out, int i, uint32_t *expected)
{
    int warp = i / WARP * WARP, lane = i % WARP;
    for (int m = 0; m < 4; m++)
        expected[m] = element(in, warp, m, lane / 4, 2 * (lane % 4)) |
                      element(in, warp, m, lane / 4, 2 * (lane % 4) + 1) << 16;
    return same(c, expected, out + 4 * i);
}

static bool check_load_matrix_transposed(const struct conformance_case *c, const uint32_t *in,
                                         const uint32_t *out, int i, uint32_t *expected)
{
    int warp = i / WARP * WARP, lane = i % WARP;
    for (int m = 0; m < 4; m++)
        expected[m] = element(in, warp, m, 2 * (lane % 4), lane / 4) |
                      element(in, warp, m, 2 * (lane % 4) + 1, lane / 4) << 16;
    return same(c, expected, out + 4 * i);
}

static bool check_transpose(const struct conformance_case *c, const uint32_t *in,
                            const uint32_t *out, int i, uint32_t *expected)
{
    uint32_t matrix[8][8];
    int lane = i % WARP;
    for (int l = 0; l < WARP; l++) {
        matrix[l / 4][2 * (l % 4)] = in[i / WARP * WARP + l] & 0xffffu;
        matrix[l / 4][2 * (l % 4) + 1] = in[i / WARP * WARP + l] >> 16;
    }
    expected[0] = matrix[2 * (lane % 4)][lane / 4] | matrix[2 * (lane % 4) + 1][lane / 4] << 16;
    return same(c, expected, out + i);
}

static double half_of(const struct format *f, uint32_t word, int half)
{
    return value_of(f, half == 0 ? word & 0xffffu : word >> 16, 0x8000u);
}

/*
 * Row `row` of A times column `column` of B, plus C, in double precision; and the sum of the
 * magnitudes, which bounds the error of a sum in F32 whatever its order.
 */
static double product(const struct format *f, const uint32_t *warp_in, int row, int column,
                      double c, double *sum_of_magnitudes)
{
    double sum = c;
    *sum_of_magnitudes = fabs(c);
    for (int k = 0; k < 16; k++) {
        /* a_i: row is group or group + 8 (i in 2,3,6,7); column 2t + (i & 1), + 8 for i >= 4 */
        int a_lane = row % 8 * 4 + k % 8 / 2, a_register = row / 8 + k / 8 * 2;
        int b_lane = column * 4 + k % 8 / 2, b_register = k / 8;
        double term = half_of(f, warp_in[10 * a_lane + a_register], k % 2) *
                      half_of(f, warp_in[10 * b_lane + 4 + b_register], k % 2);
        sum += term;
        *sum_of_magnitudes += fabs(term);
    }
    return sum;
}

static bool check_mma(const struct format *f, bool exact, const uint32_t *in, const uint32_t *out,
                      int i, uint32_t *expected)
{
    const double largest_error = 0x1p-19; /* of 17 terms, cut to F32 one by one or all together */
    const uint32_t *warp_in = in + 10 * (i / WARP * WARP);
    int lane = i % WARP;
    bool right = true;
    for (int r = 0; r < 4; r++) {
        double magnitudes;
        double sum = product(f, warp_in, lane / 4 + r / 2 * 8, lane % 4 * 2 + r % 2,
                             (double)to_float(in[10 * i + 6 + r]), &magnitudes);
        double got = (double)to_float(out[4 * i + r]);
        expected[r] = to_bits((float)sum);
        right = right && (exact ? got == sum : fabs(got - sum) <= magnitudes * largest_error);
    }
    return right;
}

static bool check_mma_bf16(const struct conformance_case *c, const uint32_t *in,
                           const uint32_t *out, int i, uint32_t *expected)
{
    return check_mma(&BF16, c->fill == FILL_INTEGERS_BF16, in, out, i, expected);
}

static bool check_mma_f16(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                          int i, uint32_t *expected)
{
    return check_mma(&F16, c->fill == FILL_INTEGERS_F16, in, out, i, expected);
}

/* Element (k, column) of the warpgroup's B: threads have 8 neighbours of a row or of a column. */
static double wide_b(const struct format *f, const uint32_t *group_in, bool rows_are_k, int k,
                     int column)
{
    int thread = rows_are_k ? 8 * k + column / 8 : 2 * column + k / 8;
    int at = rows_are_k ? column % 8 : k % 8;
    return half_of(f, group_in[8 * thread + 4 + at / 2], at % 2);
}

/* Twice row `row` of A times column `column` of B, and the magnitudes. */
static double wide_product(const struct format *f, const uint32_t *group_in, bool rows_are_k,
                           int row, int column, double *sum_of_magnitudes)
{
    const uint32_t *warp_in = group_in + 8 * WARP * (row / 16);
    double sum = 0;

    *sum_of_magnitudes = 0;
    for (int k = 0; k < 16; k++) {
        int a_lane = row % 8 * 4 + k % 8 / 2, a_register = row % 16 / 8 + k / 8 * 2;
        double term = 2 * half_of(f, warp_in[8 * a_lane + a_register], k % 2) *
                      wide_b(f, group_in, rows_are_k, k, column);
        sum += term;
        *sum_of_magnitudes += fabs(term);
    }
    return sum;
}

/* PTX ISA, "Register fragments and shared memory matrix layouts" of wgmma: rows of a warp and of a
 * lane as for mma, by columns of 8. */
static bool check_wgmma(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                        int i, uint32_t *expected)
{
    const double largest_error = 0x1p-18; /* of 32 terms */
    const struct format *f =
        c->fill == FILL_INTEGERS_BF16 || c->fill == FILL_NUMBERS_BF16 ? &BF16 : &F16;
    bool exact = c->fill == FILL_INTEGERS_BF16 || c->fill == FILL_INTEGERS_F16;
    bool rows_are_k = strstr(c->kernel, "rows") != NULL;
    const uint32_t *group_in = in + 8 * (i / BLOCK * BLOCK);
    int warp = i % BLOCK / WARP, lane = i % WARP;
    bool right = true;

    for (int r = 0; r < 32; r++) {
        double magnitudes;
        int row = 16 * warp + lane / 4 + r / 2 % 2 * 8;
        int column = r / 4 * 8 + lane % 4 * 2 + r % 2;
        double sum = wide_product(f, group_in, rows_are_k, row, column, &magnitudes);
        double got = (double)to_float(out[32 * i + r]);
        expected[r] = to_bits((float)sum);
        right = right && (exact ? got == sum : fabs(got - sum) <= magnitudes * largest_error);
    }
    return right;
}

/* ---- arithmetic ---- */

/* Subnormal numbers count as zero. */
static double flushed(uint32_t bits)
{
    float x = to_float(bits);
    return fabsf(x) < 0x1p-126f ? copysign(0.0, (double)x) : (double)x;
}

static bool check_exp2(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                       int i, uint32_t *expected)
{
    (void)c;
    double y = exp2(flushed(in[i])), got = (double)to_float(out[i]);
    expected[0] = to_bits((float)y);
    if (isnan(y) || isinf((float)y))
        return same_float(expected[0], out[i]);
    if (y < 0x1p-126 * (1.0 + 0x1p-20)) /* may be flushed */
        return out[i] == 0 || fabs(got - y) <= y * 0x1p-22;
    return fabs(got - y) <= y * 0x1p-22;
}

static bool check_log2(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                       int i, uint32_t *expected)
{
    (void)c;
    double y = log2(flushed(in[i])), got = (double)to_float(out[i]);
    expected[0] = to_bits((float)y);
    if (isnan(y) || isinf(y))
        return same_float(expected[0], out[i]);
    return fabs(got - y) <= 0x1p-22 * fmax(1.0, fabs(y));
}

static bool check_sqrt(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                       int i, uint32_t *expected)
{
    (void)c;
    expected[0] = to_bits((float)sqrt((double)to_float(in[i])));
    return same_float(expected[0], out[i]);
}

static bool check_fma(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                      int i, uint32_t *expected)
{
    (void)c;
    const uint32_t *word = in + 3 * i;
    expected[0] = to_bits(fmaf(to_float(word[0]), to_float(word[1]), to_float(word[2])));
    return same_float(expected[0], out[i]);
}

static bool check_max(const struct conformance_case *c, const uint32_t *in, const uint32_t *out,
                      int i, uint32_t *expected)
{
    (void)c;
    uint32_t a = in[2 * i], b = in[2 * i + 1];
    if (is_nan_bits(a) || is_nan_bits(b))
        expected[0] = is_nan_bits(a) ? b : a;
    else if (to_float(a) == to_float(b)) /* equal: the same, or zeros, of which +0 is larger */
        expected[0] = a & b;
    else
        expected[0] = to_float(a) > to_float(b) ? a : b;
    return same_float(expected[0], out[i]);
}

static bool check_permute_bytes(const struct conformance_case *c, const uint32_t *in,
                                const uint32_t *out, int i, uint32_t *expected)
{
    uint8_t bytes[8], chosen[4];
    memcpy(bytes, in + 3 * i, 8); /* little-endian */
    for (int k = 0; k < 4; k++) {
        uint32_t nibble = in[3 * i + 2] >> (4 * k) & 15;
        uint8_t byte = bytes[nibble % 8];
        chosen[k] = nibble < 8 ? byte : byte >= 128 ? 255 : 0;
    }
    memcpy(expected, chosen, 4);
    return same(c, expected, out + i);
}

static bool check_plain_f32(const struct conformance_case *c, const uint32_t *in,
                            const uint32_t *out, int i, uint32_t *expected)
{
    (void)c;
    volatile float x = to_float(in[3 * i]), y = to_float(in[3 * i + 1]),
                   z = to_float(in[3 * i + 2]);
    volatile float xy = x * y;
    expected[0] = to_bits(x + y);
    expected[1] = to_bits(x / y);
    expected[2] = to_bits(xy + z);
    return same_float(expected[0], out[3 * i]) && same_float(expected[1], out[3 * i + 1]) &&
           same_float(expected[2], out[3 * i + 2]);
}

/* ---- conversions ---- */

static uint32_t pack(const struct format *f, double low, double high)
{
    return round_to(f, low, 0x7fff, 0x8000) | round_to(f, high, 0x7fff, 0x8000) << 16;
}

static bool check_pack_bf16(const struct conformance_case *c, const uint32_t *in,
                            const uint32_t *out, int i, uint32_t *expected)
{
    expected[0] = pack(&BF16, (double)to_float(in[2 * i]), (double)to_float(in[2 * i + 1]));
    return same(c, expected, out + i);
}

static bool check_pack_f16(const struct conformance_case *c, const uint32_t *in,
                           const uint32_t *out, int i, uint32_t *expected)
{
    expected[0] = pack(&F16, (double)to_float(in[2 * i]), (double)to_float(in[2 * i + 1]));
    return same(c, expected, out + i);
}

static bool check_f16_to_float(const struct conformance_case *c, const uint32_t *in,
                               const uint32_t *out, int i, uint32_t *expected)
{
    (void)c;
    for (int half = 0; half < 2; half++)
        expected[half] = to_bits((float)half_of(&F16, in[i], half));
    return same_float(expected[0], out[2 * i]) && same_float(expected[1], out[2 * i + 1]);
}

static bool check_mul_bf16x2(const struct conformance_case *c, const uint32_t *in,
                             const uint32_t *out, int i, uint32_t *expected)
{
    expected[0] = pack(&BF16, half_of(&BF16, in[2 * i], 0) * half_of(&BF16, in[2 * i + 1], 0),
                       half_of(&BF16, in[2 * i], 1) * half_of(&BF16, in[2 * i + 1], 1));
    return same(c, expected, out + i);
}

/* NaN (0x7f, 0xff) may become anything: it does not occur in KV pages or weights. */
static bool check_e4m3_to_f16(const struct conformance_case *c, const uint32_t *in,
                              const uint32_t *out, int i, uint32_t *expected)
{
    (void)c;
    uint32_t mask = 0;
    expected[0] = 0;
    for (int half = 0; half < 2; half++) {
        uint32_t byte = in[i] >> (8 * half) & 0xff;
        double value = value_of(&E4M3, byte, 0x80u);
        if ((byte & 0x7f) == 0x7f)
            continue;
        expected[0] |= round_to(&F16, value, 0, 0x8000) << (16 * half);
        mask |= 0xffffu << (16 * half);
    }
    return ((out[i] ^ expected[0]) & mask) == 0;
}

static bool check_pack_e4m3(const struct conformance_case *c, const uint32_t *in,
                            const uint32_t *out, int i, uint32_t *expected)
{
    (void)c;
    bool right = out[i] >> 16 == 0;
    expected[0] = 0;
    for (int half = 0; half < 2; half++) {
        double value = (double)to_float(in[2 * i + half]);
        uint32_t byte = round_to(&E4M3, value, 0x7f, 0x80), got = out[i] >> (8 * half) & 0xff;
        expected[0] |= byte << (8 * half);
        right = right && (got == byte || (isnan(value) && (got & 0x7f) == 0x7f));
    }
    return right;
}

enum { ONLY = CONFORMANCE_ONLY };
enum { FEW = 64 * BLOCK, MANY = 512 * BLOCK };
/* Six values between each two neighbours, two of them a thread. */
enum { ALL_HALVES = 65536 * 6 / 2 };

const struct conformance_case conformance_cases[] = {
    {"shuffle", 2, 4, FILL_BITS, FEW, 80, check_shuffle},
    {"ballot", 1, 2, FILL_BITS, FEW, 80, check_ballot},
    {"barriers", 1, 2, FILL_BITS, FEW, 80, check_barriers},
    {"sync_warp", 1, 1, FILL_BITS, FEW, 80, check_sync_warp},
    {"atomics", 1, 2, FILL_BITS, FEW, 80, check_atomics},
    {"chunks", 4, 8, FILL_BITS, FEW, 80, check_chunks},
    {"copy_async", 4, 8, FILL_BITS, FEW, 80, check_copy_async},
    {"bulk_copy", 4, 8, FILL_BITS, FEW, 90, check_bulk_copy},
    {"load_matrix", 4, 4, FILL_BITS, FEW, 80, check_load_matrix},
    {"load_matrix_transposed", 4, 4, FILL_BITS, FEW, 80, check_load_matrix_transposed},
    {"transpose_8x8", 1, 1, FILL_BITS, FEW, 80, check_transpose},
    {"mma_bf16", 10, 4, FILL_INTEGERS_BF16, FEW, 80, check_mma_bf16},
    {"mma_bf16", 10, 4, FILL_NUMBERS_BF16, FEW, 80, check_mma_bf16},
    {"mma_f16", 10, 4, FILL_INTEGERS_F16, FEW, 80, check_mma_f16},
    {"mma_f16", 10, 4, FILL_NUMBERS_F16, FEW, 80, check_mma_f16},
    {"wgmma_columns_bf16", 8, 32, FILL_INTEGERS_BF16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_columns_bf16", 8, 32, FILL_NUMBERS_BF16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_columns_f16", 8, 32, FILL_INTEGERS_F16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_columns_f16", 8, 32, FILL_NUMBERS_F16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_rows_bf16", 8, 32, FILL_INTEGERS_BF16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_rows_bf16", 8, 32, FILL_NUMBERS_BF16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_rows_f16", 8, 32, FILL_INTEGERS_F16, FEW, ONLY + 90, check_wgmma},
    {"wgmma_rows_f16", 8, 32, FILL_NUMBERS_F16, FEW, ONLY + 90, check_wgmma},
    {"exp2", 1, 1, FILL_FLOATS, MANY, 80, check_exp2},
    {"log2", 1, 1, FILL_FLOATS, MANY, 80, check_log2},
    {"sqrt", 1, 1, FILL_FLOATS, MANY, 80, check_sqrt},
    {"fma", 3, 1, FILL_FLOATS, MANY, 80, check_fma},
    {"max", 2, 1, FILL_FLOATS, MANY, 80, check_max},
    {"permute_bytes", 3, 1, FILL_BITS, FEW, 80, check_permute_bytes},
    {"plain_f32", 3, 3, FILL_FLOATS, MANY, 80, check_plain_f32},
    {"pack_bf16", 2, 1, FILL_BF16_EDGE, ALL_HALVES, 80, check_pack_bf16},
    {"pack_f16", 2, 1, FILL_F16_EDGE, ALL_HALVES, 80, check_pack_f16},
    {"pack_f16", 2, 1, FILL_FLOATS, MANY, 80, check_pack_f16},
    {"f16_to_float", 1, 2, FILL_COUNT, 65536, 80, check_f16_to_float},
    {"mul_bf16x2", 2, 1, FILL_BITS, MANY, 80, check_mul_bf16x2},
    {"e4m3_to_f16", 1, 1, FILL_COUNT, 65536, 80, check_e4m3_to_f16},
    {"pack_e4m3", 2, 1, FILL_E4M3_EDGE, 256 * 6 / 2, 80, check_pack_e4m3},
    {"pack_e4m3", 2, 1, FILL_FLOATS, MANY, 80, check_pack_e4m3},
};
const int n_conformance_cases = (int)(sizeof(conformance_cases) / sizeof(conformance_cases[0]));
