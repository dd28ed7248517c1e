/* test_nfc_runs.c - text that is composed run by run equals text that is composed at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "runtime/tokenizer/nfc_runs.h"
#include "runtime/tokenizer/unicode.h"
#include "runtime/tokenizer/unicode_versions.h"

enum { N_RANDOM = 20000, MAX_CHARS = 60, N_PLANES = 0x20000 };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static void compose_at_once(const char *text, size_t n_bytes, struct qr_buffer *out)
{
    utf8proc_uint8_t *whole = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n_bytes,
                                      &whole, UTF8PROC_STABLE | UTF8PROC_COMPOSE);

    assert_true(n >= 0);
    assert_int_equal(qr_buffer_append(out, whole, (size_t)n), QR_OK);
    free(whole);
}

static void assert_composes(const char *text, size_t n_bytes)
{
    struct qr_buffer expected = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer out = {.arena = QR_ARENA_REQUEST};
    size_t done = 0;
    size_t length;

    for (size_t at = 0; at < n_bytes; at += length) {
        if (!qr_unicode_is_inert(qr_unicode_char(text + at, n_bytes - at, &length)))
            continue;
        compose_at_once(text + done, at - done, &expected);
        assert_int_equal(qr_buffer_append(&expected, text + at, length), QR_OK);
        done = at + length;
    }
    compose_at_once(text + done, n_bytes - done, &expected);
    assert_int_equal(qr_unicode_normalize(QR_NFC, text, n_bytes, &out), QR_OK);
    assert_int_equal(out.length, expected.length);
    if (out.length > 0)
        assert_memory_equal(out.data, expected.data, out.length);
    qr_buffer_free(&expected);
    qr_buffer_free(&out);
}

/* Every character after a letter, before a mark and between two Hangul letters. */
static void each_character(void **state)
{
    static const char *const before[] = {"", "e", "\xe1\x84\x80", "\xea\xb0\x80", "\xe0\xa7\x87"};
    static const char *const after[] = {"", "\xcc\x81", "\xe1\x85\xa1", "\xe0\xa6\xbe", "x"};

    (void)state;
    for (utf8proc_int32_t codepoint = 0x80; codepoint < N_PLANES; codepoint++) {
        char text[32];
        if (codepoint >= 0xd800 && codepoint < 0xe000)
            continue;
        for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
            size_t n = strlen(before[i]);
            memcpy(text, before[i], n);
            n += (size_t)utf8proc_encode_char(codepoint, (utf8proc_uint8_t *)text + n);
            memcpy(text + n, after[i], strlen(after[i]));
            assert_composes(text, n + strlen(after[i]));
        }
    }
}

static void random_texts(void **state)
{
    static const utf8proc_int32_t telling[] = {
        'a',    'e',    'x',    ' ',     0xe9,    0x301,   0x323,   0x344,  0x1100,  0x1161,
        0x11a8, 0xac00, 0x9c7,  0x9be,   0x9d7,   0x2019,  0x4e2d,  0x304b, 0x3099,  0x212b,
        0x2126, 0x1f82, 0xf900, 0x1f600, 0x1d15e, 0x110a5, 0x110ba, 0x9fe,  0x11935, 0x11930,
    };
    uint64_t random = 1;
    char text[MAX_CHARS * 4];

    (void)state;
    for (int i = 0; i < N_RANDOM; i++) {
        uint64_t n_chars = next_random(&random) % MAX_CHARS;
        bool is_sparse = next_random(&random) % 2 == 0; /* long inert runs between */
        size_t n = 0;
        for (uint64_t k = 0; k < n_chars; k++) {
            uint64_t which = next_random(&random) % (sizeof(telling) / sizeof(telling[0]));
            utf8proc_int32_t codepoint =
                is_sparse && next_random(&random) % 16 != 0 ? 'a' : telling[which];
            n += (size_t)utf8proc_encode_char(codepoint, (utf8proc_uint8_t *)text + n);
        }
        assert_composes(text, n);
    }
}

static void runs_are_short(void **state)
{
    static const char text[] =
        "It\xe2\x80\x99s plain \xe4\xb8\xad\xe6\x96\x87 up to caf"
        "e\xcc\x81, and \xe2\x80\x9cplain\xe2\x80\x9d from there on, to the end";
    size_t begin;
    size_t end;

    (void)state;
    qr_nfc_next_run(text, strlen(text), 0, &begin, &end);
    assert_int_equal(begin, strstr(text, "e\xcc\x81") - text);
    assert_int_equal(end, begin + 3);
    qr_nfc_next_run(text, strlen(text), end, &begin, &end);
    assert_int_equal(begin, strlen(text));
    assert_int_equal(end, strlen(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_character),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(runs_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
