/*
 * The expected answers come from the encoder alone: a byte string is well-formed when
 * some code point encodes to it, and cut off when it is the beginning of such a string.
 */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAST_CODE_POINT = 0x10FFFF };

/* For the first 1, 2 and 3 bytes, read as a big-endian number. */
struct known_strings {
    bool whole[3][1 << 24];
    bool begins_longer[3][1 << 24];
};

/* RFC 3629, section 3. Returns the length; 0 for a surrogate. */
static int encode(uint32_t c, unsigned char *out)
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    if (c >= 0xD800 && c <= 0xDFFF)
        return 0;
    int length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, c >>= 6)
        out[i] = (unsigned char)(0x80 | (c & 0x3F));
    out[0] = (unsigned char)((0xF00 >> length & 0xFF) | c);
    return length;
}

static uint32_t leading_bytes(const unsigned char *bytes, int n)
{
    uint32_t value = 0;
    for (int i = 0; i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

static int make_known_strings(void **state)
{
    struct known_strings *known = calloc(1, sizeof(*known));
    if (known == NULL)
        return -1;
    for (uint32_t c = 0; c <= LAST_CODE_POINT; c++) {
        unsigned char bytes[4];
        int length = encode(c, bytes);
        for (int n = 1; n < length; n++)
            known->begins_longer[n - 1][leading_bytes(bytes, n)] = true;
        if (length >= 1 && length <= 3)
            known->whole[length - 1][leading_bytes(bytes, length)] = true;
    }
    *state = known;
    return 0;
}

static int free_known_strings(void **state)
{
    free(*state);
    return 0;
}

/* What the header promises for a string of `n` bytes, n in [1, 3]. */
static int expected_length(const struct known_strings *known, const unsigned char *bytes, int n)
{
    for (int length = 1; length <= n; length++) {
        if (known->whole[length - 1][leading_bytes(bytes, length)])
            return length;
    }
    return known->begins_longer[n - 1][leading_bytes(bytes, n)] ? -1 : 0;
}

static void every_code_point_has_its_length(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= LAST_CODE_POINT; c++) {
        unsigned char bytes[4];
        int length = encode(c, bytes);
        for (int n = 0; n < length; n++)
            assert_int_equal(qr_utf8_char_length((const char *)bytes, (size_t)n), -1);
        for (int n = length; length > 0 && n <= 4; n++)
            assert_int_equal(qr_utf8_char_length((const char *)bytes, (size_t)n), length);
    }
}

static void every_string_of_up_to_three_bytes(void **state)
{
    const struct known_strings *known = *state;

    for (int n = 1; n <= 3; n++) {
        for (uint32_t value = 0; value < UINT32_C(1) << (8 * n); value++) {
            unsigned char bytes[3];
            for (int i = 0; i < n; i++)
                bytes[i] = (unsigned char)(value >> (8 * (n - 1 - i)));
            int expected = expected_length(known, bytes, n);
            if (qr_utf8_char_length((const char *)bytes, (size_t)n) != expected)
                fail_msg("%d bytes %06x: expected %d", n, value, expected);
        }
    }
}

/* Four bytes: every first three, with last bytes on both sides of each bound. */
static void four_byte_strings(void **state)
{
    static const unsigned char edges[] = {0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xFF};
    const struct known_strings *known = *state;

    for (uint32_t value = 0; value < 1 << 24; value++) {
        unsigned char bytes[4] = {(unsigned char)(value >> 16), (unsigned char)(value >> 8),
                                  (unsigned char)value, 0};
        if (!known->begins_longer[2][value])
            continue;
        for (size_t i = 0; i < sizeof(edges); i++) {
            bytes[3] = edges[i];
            int expected = edges[i] >= 0x80 && edges[i] <= 0xBF ? 4 : 0;
            if (qr_utf8_char_length((const char *)bytes, 4) != expected)
                fail_msg("%06x%02x: expected %d", value, edges[i], expected);
        }
    }
}

static void valid_prefix_ends_before_the_first_bad_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t prefix;
    } cases[] = {
        {"", 0},
        {"paged", 5},
        {"na\xC3\xAFve \xF0\x9F\x93\x84", 11},
        {"caf\xC3", 3},             /* cut off */
        {"ab\xFFzz", 2},            /* never a byte of UTF-8 */
        {"a\xC0\x80", 1},           /* overlong NUL */
        {"a\xED\xA0\x80", 1},       /* surrogate */
        {"a\xF4\x90\x80\x80", 1},   /* above U+10FFFF */
        {"\xE2\x82\xAC\xE2\x82", 3} /* a whole euro sign, then most of one */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].text);
        assert_int_equal(qr_utf8_valid_prefix(cases[i].text, n), cases[i].prefix);
        assert_int_equal(qr_utf8_is_valid(cases[i].text, n), cases[i].prefix == n);
    }
    assert_int_equal(qr_utf8_valid_prefix("a\0b", 3), 3);
}

static void text_of_all_code_points_is_valid(void **state)
{
    (void)state;
    size_t n = 0;
    char *text = malloc(4 * (LAST_CODE_POINT + 1));

    assert_non_null(text);
    for (uint32_t c = 0; c <= LAST_CODE_POINT; c++)
        n += (size_t)encode(c, (unsigned char *)text + n);
    assert_true(qr_utf8_is_valid(text, n));
    assert_int_equal(qr_utf8_valid_prefix(text, n - 1), n - 4);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_has_its_length),
        cmocka_unit_test(every_string_of_up_to_three_bytes),
        cmocka_unit_test(four_byte_strings),
        cmocka_unit_test(valid_prefix_ends_before_the_first_bad_byte),
        cmocka_unit_test(text_of_all_code_points_is_valid),
    };
    return cmocka_run_group_tests(tests, make_known_strings, free_known_strings);
}
