/*
 * test_known_patterns.c - the scanners made by hand cut as the regular expressions do: on
 * texts where they once might differ, and on random strings.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "runtime/tokenizer/regex.h"

enum { N_RANDOM = 60000, MAX_CHARS = 24, MAX_BYTES = MAX_CHARS * 4, N_PATTERNS = 4 };

#define CL100K_WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
#define CL100K_REST  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *const patterns[N_PATTERNS] = {
    QR_GPT2_PATTERN,
    CL100K_WORDS "{1,3}" CL100K_REST,
    CL100K_WORDS CL100K_REST,
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};

/* In a group of its own the pattern is not known by its text, so PCRE2 matches it. */
static struct qr_regex *as_expression(const char *pattern)
{
    char grouped[1024];
    struct qr_regex *regex;
    struct qr_error err = {0};

    snprintf(grouped, sizeof(grouped), "(?:%s)", pattern);
    assert_null(qr_known_pattern(grouped));
    if (qr_regex_compile(grouped, &regex, &err) != QR_OK)
        fail_msg("%s", err.message);
    return regex;
}

static void print_text(const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        print_error("%02x ", (unsigned char)text[i]);
    print_error("\n");
}

static void assert_same_cuts(int pattern, struct qr_regex_scan *scan, const char *text,
                             size_t n_bytes)
{
    qr_pattern_scan_fn known = qr_known_pattern(patterns[pattern]);
    const char *seen;

    assert_non_null(known);
    assert_int_equal(qr_regex_scan_see(scan, text, n_bytes, &seen), QR_OK);
    for (size_t at = 0; at < n_bytes;) {
        bool found;
        size_t begin;
        size_t end;
        assert_int_equal(qr_regex_scan_next(scan, seen, n_bytes, at, &found, &begin, &end), QR_OK);
        if (!found || begin != at || known(text, n_bytes, at) != end) {
            print_text(text, n_bytes);
            fail_msg("pattern %d cuts at %zu from %zu on, the expression at %zu", pattern,
                     known(text, n_bytes, at), at, end);
        }
        at = end;
    }
}

static void chosen_texts(void **state)
{
    static const char *const texts[] = {
        "it's we'll THEY'RE I'D 'S 'ss ''s '",
        "\xc5\xbf '\xc5\xbf '\xc5\xbf"
        "a",
        "a  b   c \n d\r\n\r\n  e\n",
        "  \n \t x",
        "\n\n",
        "   ",
        " \n",
        "12345 1234567 \xc2\xbd\xd9\xa3",
        "a.b,c!! ?\n\n/x//\r\n",
        "\xc2\xa0"
        "a\xc2\x85"
        "b\xe2\x80\xa8 c\xe3\x80\x80\xe3\x80\x80"
        "d\xe1\xa0\x8e e",
        "HelloWorld HTMLParser iPhone ABCdef'sX \xc7\x85x",
        "e\xcc\x81 \xcc\x81"
        "a A\xcc\x81 \xcc\x81\xcc\x81",
        "\xca\xb0"
        "AAA\xca\xb0"
        "BB \xe6\xbc\xa2\xe5\xad\x97"
        "AB\xe6\xbc\xa2",
        "\xf0\x9f\xa6\x99 \xf0\x9f\xa6\x99'll \xf0\x9d\x94\xb8",
        "a\xf0\x9e\x93\x90\xf0\x9e\x93\xb0 \xe1\xb2\x89z\xf0\x9f\xab\xa8" /* younger than the
                                                                             libraries */
        "b\xf0\x9e\x97\xbf\xf0\xb1\x8d\x90",
    };

    (void)state;
    for (int pattern = 0; pattern < N_PATTERNS; pattern++) {
        struct qr_regex *regex = as_expression(patterns[pattern]);
        struct qr_regex_scan scan = {0};
        assert_int_equal(qr_regex_scan_begin(regex, &scan), QR_OK);
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
            assert_same_cuts(pattern, &scan, texts[i], strlen(texts[i]));
        qr_regex_scan_end(&scan);
        qr_regex_free(regex);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* Whether both libraries know the character: their versions of Unicode may differ. */
static bool is_agreed_on(pcre2_code *unassigned, pcre2_match_data *match, const char *text,
                         size_t n_bytes, utf8proc_int32_t codepoint)
{
    bool is_unknown = pcre2_match(unassigned, (PCRE2_SPTR)text, n_bytes, 0, 0, match, NULL) > 0;
    return is_unknown == (utf8proc_category(codepoint) == UTF8PROC_CATEGORY_CN);
}

/* Mostly characters that patterns treat in their own ways, else any at all. */
static utf8proc_int32_t random_char(uint64_t *state)
{
    static const utf8proc_int32_t telling[] = {
        ' ',   ' ',    ' ',    '\n',    '\r',    '\t',   '\'',  '\'',   '/',   's',   'S',
        'l',   'L',    'e',    'r',     'v',     't',    'a',   'B',    '1',   '2',   '.',
        0,     0x7f,   0x85,   0xa0,    0xe9,    0xc9,   0x17f, 0x1c5,  0x2b0, 0x301, 0x4e2d,
        0x663, 0x2028, 0x3000, 0x1f999, 0x1d538, 0x180e, 0xbd,  0x212a,
    };
    uint64_t kind = next_random(state) % 8;

    if (kind < 6)
        return telling[next_random(state) % (sizeof(telling) / sizeof(telling[0]))];
    utf8proc_int32_t codepoint =
        (utf8proc_int32_t)(next_random(state) % (kind == 6 ? 0x3000 : 0x110000));
    return codepoint >= 0xd800 && codepoint < 0xe000 ? 'x' : codepoint;
}

static size_t random_text(uint64_t *state, pcre2_code *unassigned, pcre2_match_data *match,
                          char text[MAX_BYTES])
{
    uint64_t n_chars = 1 + next_random(state) % MAX_CHARS;
    size_t n_bytes = 0;

    for (uint64_t i = 0; i < n_chars; i++) {
        utf8proc_int32_t codepoint = random_char(state);
        char encoded[4];
        size_t length = (size_t)utf8proc_encode_char(codepoint, (utf8proc_uint8_t *)encoded);
        if (!is_agreed_on(unassigned, match, encoded, length, codepoint))
            continue;
        memcpy(text + n_bytes, encoded, length);
        n_bytes += length;
    }
    return n_bytes;
}

static void random_texts(void **state)
{
    uint64_t random = 1;
    char text[MAX_BYTES];
    int code;
    PCRE2_SIZE offset;
    pcre2_code *unassigned = pcre2_compile((PCRE2_SPTR) "\\p{Cn}", PCRE2_ZERO_TERMINATED,
                                           PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);

    (void)state;
    assert_non_null(unassigned);
    for (int pattern = 0; pattern < N_PATTERNS; pattern++) {
        struct qr_regex *regex = as_expression(patterns[pattern]);
        struct qr_regex_scan scan = {0};
        assert_int_equal(qr_regex_scan_begin(regex, &scan), QR_OK);
        for (int i = 0; i < N_RANDOM; i++) {
            size_t n_bytes = random_text(&random, unassigned, match, text);
            assert_same_cuts(pattern, &scan, text, n_bytes);
        }
        qr_regex_scan_end(&scan);
        qr_regex_free(regex);
    }
    pcre2_match_data_free(match);
    pcre2_code_free(unassigned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chosen_texts),
        cmocka_unit_test(random_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
