#include "base/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint32_t f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* IEEE 754 binary16 as the standard defines it: (-1)^s * 2^(e-25) * (1024 + m), e in 1..30. */
static float f16_by_definition(uint16_t bits)
{
    int exponent = (bits >> 10) & 0x1F;
    int mantissa = bits & 0x3FF;
    float magnitude;

    if (exponent == 0x1F)
        magnitude = INFINITY;
    else if (exponent == 0)
        magnitude = ldexpf((float)mantissa, -24);
    else
        magnitude = ldexpf((float)(1024 + mantissa), exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static void every_f16_is_converted_exactly(void **state)
{
    (void)state;
    int n_nan = 0;

    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float value = qr_f16_to_f32((uint16_t)bits);
        if ((bits & 0x7C00) == 0x7C00 && (bits & 0x3FF) != 0) {
            /* a NaN keeps its sign and payload */
            uint32_t wide = (bits & 0x8000) << 16 | 0x7F800000 | (bits & 0x3FF) << 13;
            assert_int_equal(f32_bits(value), wide);
            n_nan++;
        } else {
            assert_int_equal(f32_bits(value), f32_bits(f16_by_definition((uint16_t)bits)));
        }
    }
    assert_int_equal(n_nan, 2 * 1023);
}

static void assert_f16(float value, uint16_t bits)
{
    assert_int_equal(qr_f32_to_f16(value), bits);
    assert_int_equal(qr_f32_to_f16(-value), bits | 0x8000);
}

/* Each F16 comes back, what lies beside the middle of two goes to the nearer, the middle to the
 * even. */
static void f32_is_rounded_to_the_nearest_f16(void **state)
{
    (void)state;
    for (uint16_t bits = 0; bits < 0x7C00; bits++) {
        float value = qr_f16_to_f32(bits);
        /* Above the largest stands what would be the next, were the exponent not taken. */
        float next = bits < 0x7BFF ? qr_f16_to_f32((uint16_t)(bits + 1)) : 65536.0f;
        float middle = value + (next - value) / 2;
        assert_f16(value, bits);
        assert_f16(nextafterf(middle, value), bits);
        assert_f16(nextafterf(middle, next), (uint16_t)(bits + 1));
        assert_f16(middle, (uint16_t)(bits + (bits & 1)));
    }
    assert_f16(INFINITY, 0x7C00);
    assert_f16(1e30f, 0x7C00);
    assert_true(isnan(qr_f16_to_f32(qr_f32_to_f16(NAN))));
}

static void landmarks_of_f16(void **state)
{
    (void)state;
    assert_true(qr_f16_to_f32(0x3C00) == 1.0f);
    assert_true(qr_f16_to_f32(0xC000) == -2.0f);
    assert_true(qr_f16_to_f32(0x7BFF) == 65504.0f);
    assert_true(qr_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(qr_f16_to_f32(0x0400) == 0x1p-14f);
    assert_true(signbit(qr_f16_to_f32(0x8000)) && qr_f16_to_f32(0x8000) == 0.0f);
}

static void every_bf16_is_the_upper_half_of_its_f32(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++)
        assert_int_equal(f32_bits(qr_bf16_to_f32((uint16_t)bits)), bits << 16);
    assert_true(qr_bf16_to_f32(0x3F80) == 1.0f);
    assert_true(qr_bf16_to_f32(0xC049) == -3.140625f);
    assert_true(isinf(qr_bf16_to_f32(0x7F80)));
}

/* Sign, 4 bits of exponent with bias 7, 3 bits of mantissa; the largest exponent has numbers too.
 */
static void every_e4m3_is_converted_exactly(void **state)
{
    (void)state;
    for (int bits = 0; bits <= 0xFF; bits++) {
        int exponent = bits >> 3 & 0xF;
        double mantissa = bits & 7;
        double magnitude =
            exponent == 0 ? ldexp(mantissa, -9) : ldexp(1.0 + mantissa / 8, exponent - 7);
        float value = qr_e4m3_to_f32((uint8_t)bits);
        if ((bits & 0x7F) == 0x7F)
            assert_true(isnan(value));
        else
            assert_true((double)value == ((bits & 0x80) != 0 ? -magnitude : magnitude));
    }
    assert_true(qr_e4m3_to_f32(0x7E) == 448.0f);
    assert_true(signbit(qr_e4m3_to_f32(0x80)));
}

static void f32_is_rounded_to_the_nearest_bf16(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float value = qr_bf16_to_f32((uint16_t)bits);
        if (!isnan(value))
            assert_int_equal(qr_f32_to_bf16(value), bits);
    }
    assert_int_equal(qr_f32_to_bf16(0x1.01p0f), 0x3F80);       /* a tie, down to even */
    assert_int_equal(qr_f32_to_bf16(0x1.010002p0f), 0x3F81);   /* just above it */
    assert_int_equal(qr_f32_to_bf16(0x1.03p0f), 0x3F82);       /* a tie, up to even */
    assert_int_equal(qr_f32_to_bf16(0x1.fffffep127f), 0x7F80); /* beyond the largest */
    assert_true(isnan(qr_bf16_to_f32(qr_f32_to_bf16(NAN))));
}

static void rows_of_blocks_have_whole_blocks(void **state)
{
    (void)state;
    assert_int_equal(qr_dtype_row_bytes(QR_DTYPE_F32, 3), 12);
    assert_int_equal(qr_dtype_row_bytes(QR_DTYPE_E4M3, 3), 3);
    assert_int_equal(qr_dtype_row_bytes(QR_DTYPE_Q8_0, 64), 68);
    assert_int_equal(qr_dtype_row_bytes(QR_DTYPE_Q4_K, 4096), 2304);
    assert_int_equal(qr_dtype_block_size(QR_DTYPE_Q6_K), 256);
    assert_int_equal(qr_dtype_block_size(QR_DTYPE_BF16), 1);
    assert_int_equal(qr_dtype_block_bytes(QR_DTYPE_Q6_K), 210);
}

static void names_are_those_of_safetensors(void **state)
{
    (void)state;
    static const char *const names[QR_DTYPE_COUNT] = {"F32", "F16", "BF16"};
    static const size_t sizes[QR_DTYPE_COUNT] = {4, 2, 2};

    for (int i = 0; i < QR_DTYPE_COUNT; i++) {
        enum qr_dtype dtype = QR_DTYPE_COUNT;
        assert_true(qr_dtype_parse(names[i], &dtype));
        assert_int_equal(dtype, i);
        assert_string_equal(qr_dtype_name(dtype), names[i]);
        assert_int_equal(qr_dtype_size(dtype), sizes[i]);
    }
    enum qr_dtype untouched = QR_DTYPE_F16;
    assert_false(qr_dtype_parse("f32", &untouched));
    assert_false(qr_dtype_parse("F8_E4M3", &untouched));
    assert_false(qr_dtype_parse("E4M3", &untouched)); /* a device makes them, no file has them */
    assert_false(qr_dtype_parse("", &untouched));
    assert_int_equal(untouched, QR_DTYPE_F16);
    assert_string_equal(qr_dtype_name(QR_DTYPE_E4M3), "E4M3");
    assert_string_equal(qr_dtype_name(QR_DTYPE_INT8), "INT8");
    assert_int_equal(qr_dtype_size(QR_DTYPE_E4M3), 1);
    assert_int_equal(qr_dtype_size(QR_DTYPE_INT8), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_is_converted_exactly),
        cmocka_unit_test(f32_is_rounded_to_the_nearest_f16),
        cmocka_unit_test(landmarks_of_f16),
        cmocka_unit_test(every_bf16_is_the_upper_half_of_its_f32),
        cmocka_unit_test(f32_is_rounded_to_the_nearest_bf16),
        cmocka_unit_test(every_e4m3_is_converted_exactly),
        cmocka_unit_test(rows_of_blocks_have_whole_blocks),
        cmocka_unit_test(names_are_those_of_safetensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
