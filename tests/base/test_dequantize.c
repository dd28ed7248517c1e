/* test_dequantize.c - every format against the values that the gguf package computes. */
#include "base/dequantize.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

enum { MAX_ELEMENTS = 1024 };

static uint32_t f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static enum qr_dtype dtype_named(const char *name)
{
    for (int i = 0; i < QR_DTYPE_END; i++)
        if (strcmp(qr_dtype_name((enum qr_dtype)i), name) == 0)
            return (enum qr_dtype)i;
    fail_msg("no dtype is called %s", name);
    return QR_DTYPE_END;
}

/* The number in hex[at], hex[at + 1], ..., n digits. */
static uint32_t hex_number(const char *hex, size_t at, size_t n)
{
    char digits[9] = "";
    memcpy(digits, hex + at, n);
    return (uint32_t)strtoul(digits, NULL, 16);
}

static void check_format(const json_t *format)
{
    enum qr_dtype dtype = dtype_named(json_string_value(json_object_get(format, "name")));
    const char *hex_blocks = json_string_value(json_object_get(format, "blocks"));
    const char *hex_values = json_string_value(json_object_get(format, "values"));
    int64_t n = (int64_t)strlen(hex_values) / 8;
    uint8_t blocks[MAX_ELEMENTS + 1];
    float values[MAX_ELEMENTS];

    assert_true(n > 0 && n <= MAX_ELEMENTS);
    assert_int_equal(strlen(hex_blocks) / 2, qr_dtype_row_bytes(dtype, n));
    for (size_t i = 0; i < strlen(hex_blocks) / 2; i++) /* at an odd address: blocks may stand so */
        blocks[1 + i] = (uint8_t)hex_number(hex_blocks, 2 * i, 2);
    qr_dequantize(dtype, blocks + 1, n, values);
    for (int64_t i = 0; i < n; i++)
        if (f32_bits(values[i]) != hex_number(hex_values, 8 * (size_t)i, 8))
            fail_msg("%s: element %d is %a (%08x), not %.8s", qr_dtype_name(dtype), (int)i,
                     (double)values[i], f32_bits(values[i]), hex_values + 8 * i);
}

static void blocks_are_what_the_gguf_package_makes_of_them(void **state)
{
    (void)state;
    char path[1024];
    json_error_t err;

    snprintf(path, sizeof(path), "%s/tests/base/data/dequantized.json", getenv("QUIRE_SOURCE_DIR"));
    json_t *formats = json_load_file(path, 0, &err);
    assert_non_null(formats);
    assert_int_equal(json_array_size(formats), QR_DTYPE_END - QR_DTYPE_Q4_0);
    for (size_t i = 0; i < json_array_size(formats); i++)
        check_format(json_array_get(formats, i));
    json_decref(formats);
}

static void formats_without_blocks_are_widened(void **state)
{
    (void)state;
    static const float f32[] = {1.5f, -0.0f};
    static const uint16_t f16[] = {0x3E00, 0x8000};
    static const uint16_t bf16[] = {0x3FC0, 0x8000};
    static const uint8_t e4m3[] = {0x3C, 0x80};
    static const int8_t int8[] = {-127, 5};
    float out[2];

    qr_dequantize(QR_DTYPE_F32, f32, 2, out);
    assert_memory_equal(out, f32, sizeof(f32));
    qr_dequantize(QR_DTYPE_F16, f16, 2, out);
    assert_memory_equal(out, f32, sizeof(f32));
    qr_dequantize(QR_DTYPE_BF16, bf16, 2, out);
    assert_memory_equal(out, f32, sizeof(f32));
    qr_dequantize(QR_DTYPE_E4M3, e4m3, 2, out);
    assert_memory_equal(out, f32, sizeof(f32));
    qr_dequantize(QR_DTYPE_INT8, int8, 2, out);
    assert_true(out[0] == -127.0f && out[1] == 5.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_what_the_gguf_package_makes_of_them),
        cmocka_unit_test(formats_without_blocks_are_widened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
