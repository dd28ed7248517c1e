/*
 * test_quantize.c - the bytes of Q8_0 and Q4_0 are those of the gguf package; Q4_K is close, and
 * closer than Q4_0; every instruction set and every source gives the same bytes.
 */
#include "base/quantize.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/dequantize.h"

enum { N_ROW = 64, N = 8448, MAX_BYTES = N * 2 }; /* N is 33 blocks of 256: an odd number */

static const enum qr_dtype formats[] = {QR_DTYPE_Q8_0, QR_DTYPE_Q4_0, QR_DTYPE_Q4_K};
enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* About normal: the sum of 12 evenly spread numbers, less 6. */
static void make_normal(float *x, float deviation)
{
    uint32_t seed = 11;

    for (int i = 0; i < N; i++) {
        float sum = -6.0f;
        for (int k = 0; k < 12; k++)
            sum += (float)next(&seed) * 0x1p-24f;
        x[i] = sum * deviation;
    }
}

/* The sets that run here, besides the scalar one. */
static bool runs_here(int isa)
{
    if (!qr_isa_supported((enum qr_isa)isa))
        print_message("skipped: no %s here\n", qr_isa_name((enum qr_isa)isa));
    return qr_isa_supported((enum qr_isa)isa);
}

static void read_hex(const char *hex, uint8_t *bytes, size_t n)
{
    assert_int_equal(strlen(hex), 2 * n);
    for (size_t i = 0; i < n; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
}

static void check_row(const json_t *item, enum qr_dtype format, qr_quantize_fn quantize)
{
    const char *hex = json_string_value(json_object_get(item, "row"));
    size_t n_bytes = qr_dtype_row_bytes(format, N_ROW);
    uint8_t wanted[MAX_BYTES], found[MAX_BYTES];
    float row[N_ROW];

    for (int i = 0; i < N_ROW; i++) {
        char digits[9] = "";
        memcpy(digits, hex + 8 * i, 8);
        uint32_t bits = (uint32_t)strtoul(digits, NULL, 16);
        memcpy(&row[i], &bits, sizeof(bits));
    }
    read_hex(json_string_value(json_object_get(item, qr_dtype_name(format))), wanted, n_bytes);
    quantize(QR_DTYPE_F32, row, N_ROW, format, found);
    for (size_t i = 0; i < n_bytes; i++)
        if (found[i] != wanted[i])
            fail_msg("%s of %.16s...: byte %zu is %02x, not %02x", qr_dtype_name(format), hex, i,
                     found[i], wanted[i]);
}

static void bytes_are_those_of_the_gguf_package(void **state)
{
    (void)state;
    char path[1024];
    json_error_t err;

    snprintf(path, sizeof(path), "%s/tests/base/data/quantized.json", getenv("QUIRE_SOURCE_DIR"));
    json_t *rows = json_load_file(path, 0, &err);
    assert_non_null(rows);
    assert_true(json_array_size(rows) > 8);
    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        for (size_t i = 0; runs_here(isa) && i < json_array_size(rows); i++) {
            check_row(json_array_get(rows, i), QR_DTYPE_Q8_0, qr_quantizer_of((enum qr_isa)isa));
            check_row(json_array_get(rows, i), QR_DTYPE_Q4_0, qr_quantizer_of((enum qr_isa)isa));
        }
    }
    json_decref(rows);
}

static void instruction_sets_give_the_same_bytes(void **state)
{
    (void)state;
    static float x[N];
    static uint8_t wanted[MAX_BYTES], found[MAX_BYTES];

    make_normal(x, 0.02f);
    for (int i = 0; i < 600; i++) /* parts that are one number, of one sign, far from zero */
        x[i] = i < 64 ? 0.0f : i < 128 ? -0.3f : i < 192 ? 0.7f : i < 300 ? fabsf(x[i]) : x[i] - 5;
    for (int f = 0; f < N_FORMATS; f++) {
        size_t n_bytes = qr_dtype_row_bytes(formats[f], N);
        qr_quantize_scalar(QR_DTYPE_F32, x, N, formats[f], wanted);
        for (int isa = 1; isa < QR_ISA_COUNT; isa++) {
            if (!runs_here(isa))
                continue;
            memset(found, 0xFF, n_bytes);
            qr_quantizer_of((enum qr_isa)isa)(QR_DTYPE_F32, x, N, formats[f], found);
            assert_memory_equal(found, wanted, n_bytes);
        }
    }
}

static void halves_are_widened_first(void **state)
{
    (void)state;
    static float x[N];
    static uint16_t f16[N], bf16[N];
    static uint8_t wanted[MAX_BYTES], found[MAX_BYTES];
    qr_quantize_fn quantize = qr_quantizer_of(qr_isa_best());

    make_normal(x, 0.5f);
    for (int f = 0; f < N_FORMATS; f++) {
        size_t n_bytes = qr_dtype_row_bytes(formats[f], N);
        for (int i = 0; i < N; i++) {
            f16[i] = qr_f32_to_f16(x[i]);
            x[i] = qr_f16_to_f32(f16[i]);
        }
        quantize(QR_DTYPE_F32, x, N, formats[f], wanted);
        quantize(QR_DTYPE_F16, f16, N, formats[f], found);
        assert_memory_equal(found, wanted, n_bytes);
        for (int i = 0; i < N; i++) {
            bf16[i] = qr_f32_to_bf16(x[i]);
            x[i] = qr_bf16_to_f32(bf16[i]);
        }
        quantize(QR_DTYPE_F32, x, N, formats[f], wanted);
        quantize(QR_DTYPE_BF16, bf16, N, formats[f], found);
        assert_memory_equal(found, wanted, n_bytes);
    }
}

/* The root of the mean squared error, over that of the numbers. */
static double error_of(enum qr_dtype format, const float *x, int64_t n)
{
    uint8_t *blocks = malloc(qr_dtype_row_bytes(format, n));
    float *found = malloc((size_t)n * sizeof(*found));
    double error = 0.0, whole = 0.0;

    assert_true(blocks != NULL && found != NULL);
    qr_quantizer_of(qr_isa_best())(QR_DTYPE_F32, x, n, format, blocks);
    qr_dequantize(format, blocks, n, found);
    for (int64_t i = 0; i < n; i++) {
        error += ((double)found[i] - (double)x[i]) * ((double)found[i] - (double)x[i]);
        whole += (double)x[i] * (double)x[i];
    }
    free(blocks);
    free(found);
    return sqrt(error / whole);
}

static void the_search_of_q4_k_pays(void **state)
{
    (void)state;
    static float x[N];

    make_normal(x, 0.02f);
    assert_true(error_of(QR_DTYPE_Q8_0, x, N) < 0.006);
    assert_true(error_of(QR_DTYPE_Q4_0, x, N) < 0.090);
    assert_true(error_of(QR_DTYPE_Q4_K, x, N) < 0.074);
    for (int i = 0; i < N; i++) /* of one sign: where a minimum is worth its bits */
        x[i] -= 0.1f;
    assert_true(error_of(QR_DTYPE_Q4_K, x, N) < 0.4 * error_of(QR_DTYPE_Q4_0, x, N));
}

static void what_q4_k_can_say_is_kept(void **state)
{
    (void)state;
    enum { N_BLOCK = 256 };
    float x[N_BLOCK], found[N_BLOCK];
    uint8_t block[144];

    for (int i = 0; i < N_BLOCK; i++) /* d * s * q - dmin * m with s = 63, m = 63, q from 0 to 15 */
        x[i] = 0.5f * 63.0f * (float)(i * 7 % 16) - 0.25f * 63.0f;
    qr_quantizer_of(qr_isa_best())(QR_DTYPE_F32, x, N_BLOCK, QR_DTYPE_Q4_K, block);
    qr_dequantize(QR_DTYPE_Q4_K, block, N_BLOCK, found);
    assert_memory_equal(found, x, sizeof(x));
    memset(x, 0, sizeof(x));
    qr_quantizer_of(qr_isa_best())(QR_DTYPE_F32, x, N_BLOCK, QR_DTYPE_Q4_K, block);
    qr_dequantize(QR_DTYPE_Q4_K, block, N_BLOCK, found);
    for (int i = 0; i < N_BLOCK; i++)
        assert_true(found[i] == 0.0f);
}

static void what_is_no_number_stays_none(void **state)
{
    (void)state;
    enum { N_BLOCK = 256 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[N_BLOCK], found[N_BLOCK];
    uint8_t blocks[N_BLOCK * 2];

    for (int f = 0; f < N_FORMATS; f++) {
        for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
            for (int i = 0; i < N_BLOCK; i++)
                x[i] = 0.125f * (float)(i % 5);
            x[37] = bad[b];
            qr_quantizer_of(qr_isa_best())(QR_DTYPE_F32, x, N_BLOCK, formats[f], blocks);
            qr_dequantize(formats[f], blocks, N_BLOCK, found);
            for (int i = 32; i < 64; i++)
                assert_true(isnan(found[i]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_the_gguf_package),
        cmocka_unit_test(instruction_sets_give_the_same_bytes),
        cmocka_unit_test(halves_are_widened_first),
        cmocka_unit_test(the_search_of_q4_k_pays),
        cmocka_unit_test(what_q4_k_can_say_is_kept),
        cmocka_unit_test(what_is_no_number_stays_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
