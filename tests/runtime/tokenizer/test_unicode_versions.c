/*
 * test_unicode_versions.c - stand-ins are like what they stand in for; the older tables. What
 * Hugging Face's library makes of such characters is in test_fixtures.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/unicode.h"
#include "runtime/tokenizer/unicode_versions.h"

enum { N_CODEPOINTS = 0x110000 };

static size_t encode(int32_t codepoint, char text[4])
{
    return (size_t)utf8proc_encode_char(codepoint, (utf8proc_uint8_t *)text);
}

static void stand_ins_are_alike(void **state)
{
    int n_changed = 0;
    int n_other = 0; /* of another category now than in the library's version */

    (void)state;
    for (int32_t codepoint = 0; codepoint < N_CODEPOINTS; codepoint++) {
        int32_t stand_in = qr_unicode_stand_in(codepoint);
        char text[4];
        if (stand_in == codepoint)
            continue;
        n_changed++;
        assert_int_equal(qr_unicode_stand_in(stand_in), stand_in);
        assert_int_not_equal(utf8proc_category(stand_in), UTF8PROC_CATEGORY_CN);
        if (utf8proc_category(codepoint) != UTF8PROC_CATEGORY_CN &&
            utf8proc_category(codepoint) != utf8proc_category(stand_in))
            n_other++;
        assert_int_equal(encode(codepoint, text), encode(stand_in, text));
    }
    assert_in_range(n_changed, 10000, 11000); /* as many came with Unicode 15, 15.1 and 16 */
    assert_in_range(n_other, 0, 3);
    assert_int_equal(qr_unicode_stand_in(-1), -1);
}

/* U+1E4D0, a letter of Unicode 15, stands as one of as many bytes among what is left as it is. */
static void text_is_seen(void **state)
{
    static const char text[] = "a\xf0\x9e\x93\x90\xc3\xa9\xe4\xb8\xad\xf0\x9e\x93\x91";
    struct qr_buffer copy = {.arena = QR_ARENA_REQUEST};
    const char *seen;
    size_t length;

    (void)state;
    assert_true(qr_unicode_has_stand_in(text, strlen(text)));
    assert_int_equal(qr_unicode_see(text, strlen(text), &copy, &seen), QR_OK);
    assert_int_equal(copy.length, strlen(text));
    assert_int_equal(seen[0], 'a');
    assert_memory_equal(seen + 5, text + 5, 5);
    for (size_t at = 1; at < strlen(text); at += 9) {
        int32_t codepoint = qr_unicode_char(seen + at, strlen(text) - at, &length);
        assert_int_equal(length, 4);
        assert_int_equal(utf8proc_category(codepoint), UTF8PROC_CATEGORY_LO);
    }
    assert_false(qr_unicode_has_stand_in(text, 1));
    assert_int_equal(qr_unicode_see(text, 1, &copy, &seen), QR_OK);
    assert_ptr_equal(seen, text);
    qr_buffer_free(&copy);
}

static size_t match_length(const char *pattern, const char *text)
{
    struct qr_regex *regex;
    struct qr_regex_scan scan;
    const char *seen;
    bool found;
    size_t begin = 0;
    size_t end = 0;

    assert_int_equal(qr_regex_compile(pattern, &regex, NULL), QR_OK);
    assert_int_equal(qr_regex_scan_begin(regex, &scan), QR_OK);
    assert_int_equal(qr_regex_scan_see(&scan, text, strlen(text), &seen), QR_OK);
    assert_int_equal(qr_regex_scan_next(&scan, seen, strlen(text), 0, &found, &begin, &end), QR_OK);
    qr_regex_scan_end(&scan);
    qr_regex_free(regex);
    return found ? end - begin : 0;
}

static void patterns_see_stand_ins(void **state)
{
    (void)state;
    assert_int_equal(match_length("\\p{L}+", "\xf0\x9e\x93\x90\xf0\x9e\x93\x90"), 8);
    assert_int_equal(match_length("\\p{Han}", "\xf0\xb1\x8d\x90"), 4);
    assert_int_equal(match_length("\\p{Lu}", "\xe1\xb2\x89"), 3);
    /* A pattern with such a character itself matches it and no other. */
    assert_int_equal(match_length("\xf0\x9f\xab\xa8", "\xf0\x9f\xab\xa8"), 4);
    assert_int_equal(match_length("\xf0\x9f\xab\xa8", "\xf0\x9f\xab\xa9"), 0);
}

static void punctuation_is_old(void **state)
{
    const char *pattern = qr_unicode_punctuation();

    (void)state;
    assert_int_equal(match_length(pattern, "!"), 1);
    assert_int_equal(match_length(pattern, "~"), 1);
    assert_int_equal(match_length(pattern, "\xe2\x80\x9c"), 3);
    assert_int_equal(match_length(pattern, "\xe1\x99\xad"), 3); /* U+166D: a symbol since 12 */
    assert_int_equal(match_length(pattern, "\xd8\x9d"), 0);     /* U+061D, of Unicode 14 */
    assert_int_equal(match_length(pattern, "\xe1\xad\xbf"), 0); /* U+1B7F, of 16 */
    assert_int_equal(match_length("\\p{P}", "\xe1\xad\xbf"), 3);
    assert_int_equal(match_length(pattern, "a"), 0);
}

static void marks_and_letters(void **state)
{
    (void)state;
    assert_true(qr_unicode_is_mark(0x301));
    assert_true(qr_unicode_is_mark(0x1cf2)); /* a letter since 12 */
    assert_false(qr_unicode_is_mark(0x9fe)); /* of Unicode 11 */
    assert_false(qr_unicode_is_mark('a'));
    assert_true(qr_unicode_is_inert(0x9fe));
    assert_true(qr_unicode_is_inert(0x11935)); /* the first of a pair */
    assert_false(qr_unicode_is_inert(0x301));
    assert_false(qr_unicode_is_inert(-1));
    assert_int_equal(qr_unicode_lower('A'), 'a');
    assert_int_equal(qr_unicode_lower(0x1c89), 0x1c8a);
    assert_int_equal(qr_unicode_lower(0xa7cb), 0x264);
    assert_int_equal(qr_unicode_lower(0x10d65), 0x10d85);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stand_ins_are_alike),    cmocka_unit_test(text_is_seen),
        cmocka_unit_test(patterns_see_stand_ins), cmocka_unit_test(punctuation_is_old),
        cmocka_unit_test(marks_and_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
