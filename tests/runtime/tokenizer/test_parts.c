/* test_parts.c - the small parts: byte alphabet, string table, trie, patterns, NFC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/trie.h"
#include "runtime/tokenizer/unicode.h"

static void test_byte_alphabet(void **state)
{
    char text[QR_BYTE_CHAR_MAX];
    char byte_text;

    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        size_t n = qr_byte_to_char((uint8_t)byte, text);
        assert_int_equal(qr_chars_to_bytes(text, n, &byte_text), 1);
        assert_int_equal((uint8_t)byte_text, byte);
    }
    /* As GPT-2's vocabulary writes them. */
    assert_int_equal(qr_byte_to_char(' ', text), 2);
    assert_memory_equal(text, "\xc4\xa0", 2);
    assert_int_equal(qr_byte_to_char('\n', text), 2);
    assert_memory_equal(text, "\xc4\x8a", 2);
    assert_int_equal(qr_byte_to_char(0xad, text), 2);
    assert_memory_equal(text, "\xc5\x83", 2);
    assert_int_equal(qr_byte_to_char('~', text), 1);
    assert_int_equal(qr_codepoint_to_byte(0x144), -1);
    assert_int_equal(qr_codepoint_to_byte(' '), -1);
    assert_int_equal(qr_chars_to_bytes("a b", 3, text), -1);
    assert_int_equal(qr_chars_to_bytes("\xc4", 1, text), -1);
    assert_int_equal(qr_chars_to_bytes("\xe6\xbc\xa2", 3, text), -1);
}

static void test_string_table(void **state)
{
    struct qr_string_table table = {0};
    char text[32];
    int32_t index;

    (void)state;
    assert_int_equal(qr_string_table_find(&table, "a", 1), -1);
    for (int32_t round = 0; round < 2; round++) {
        for (int32_t i = 0; i < 10000; i++) {
            int n = snprintf(text, sizeof(text), "%d", i);
            assert_int_equal(qr_string_table_add(&table, text, (size_t)n, &index), QR_OK);
            assert_int_equal(index, i);
        }
    }
    assert_int_equal(table.count, 10000);
    assert_int_equal(qr_string_table_add(&table, "", 0, &index), QR_OK);
    assert_int_equal(qr_string_table_find(&table, "", 0), 10000);
    assert_int_equal(qr_string_table_add(&table, "1\0", 2, &index), QR_OK);
    assert_int_equal(index, 10001);
    assert_int_equal(qr_string_table_find(&table, "1", 1), 1);
    assert_int_equal(qr_string_table_length(&table, 123), 3);
    assert_memory_equal(qr_string_table_text(&table, 123), "123", 3);
    assert_int_equal(qr_string_table_find(&table, "10000", 5), -1);
    qr_string_table_free(&table);
}

static void test_trie(void **state)
{
    struct qr_trie trie = {0};
    size_t length;

    (void)state;
    assert_int_equal(qr_trie_longest(&trie, "a", 1, &length), -1);
    assert_int_equal(qr_trie_add(&trie, "a", 1, 1), QR_OK);
    assert_int_equal(qr_trie_add(&trie, "abc", 3, 2), QR_OK);
    assert_int_equal(qr_trie_add(&trie, "abd", 3, 3), QR_OK);
    assert_int_equal(qr_trie_add(&trie, "\xff", 1, 0), QR_OK);
    assert_int_equal(qr_trie_longest(&trie, "abdc", 4, &length), 3);
    assert_int_equal(length, 3);
    assert_int_equal(qr_trie_longest(&trie, "abx", 3, &length), 1);
    assert_int_equal(length, 1);
    assert_int_equal(qr_trie_longest(&trie, "abc", 2, &length), 1);
    assert_int_equal(qr_trie_longest(&trie, "b", 1, &length), -1);
    assert_int_equal(qr_trie_longest(&trie, "", 0, &length), -1);
    assert_int_equal(qr_trie_longest(&trie, "\xff", 1, &length), 0);
    qr_trie_free(&trie);
}

/* The matches of the pattern in the text, each in brackets. */
static void assert_matches(const char *pattern, const char *text, const char *expected)
{
    struct qr_regex *regex;
    struct qr_regex_scan scan;
    char out[256] = "";
    size_t begin;
    size_t end = 0;
    bool found = true;

    assert_int_equal(qr_regex_compile(pattern, &regex, NULL), QR_OK);
    assert_int_equal(qr_regex_scan_begin(regex, &scan), QR_OK);
    while (found) {
        assert_int_equal(qr_regex_scan_next(&scan, text, strlen(text), end, &found, &begin, &end),
                         QR_OK);
        if (found)
            snprintf(out + strlen(out), sizeof(out) - strlen(out), "[%.*s]", (int)(end - begin),
                     text + begin);
    }
    assert_string_equal(out, expected);
    qr_regex_scan_end(&scan);
    qr_regex_free(regex);
}

static void test_patterns(void **state)
{
    (void)state;
    assert_matches(QR_GPT2_PATTERN, "It's  12 caf\xc3\xa9s!  ",
                   "[It]['s][ ][ 12][ caf\xc3\xa9s][!][  ]");
    assert_matches("b", "abcb", "[b][b]");
    assert_matches("x", "abc", "");
    /* Empty matches cut nothing, not even within a character. */
    assert_matches("z*", "\xc3\xa9z", "[z]");
    assert_matches("(?=a)|b", "aab", "[b]");
    /* Matches that \K makes begin before the last one's end, or end before they begin. */
    assert_matches("ab|(?<=(?&x)b)a(?(DEFINE)(?<x>\\K))", "aba", "[ab][a]");
    assert_matches("(?=a(?&x))|b(?(DEFINE)(?<x>\\K))", "aab", "[b]");
}

static void test_pattern_errors(void **state)
{
    struct qr_regex *regex;
    struct qr_regex_scan scan;
    struct qr_error err = {0};
    char text[64];
    bool found;
    size_t begin;
    size_t end;

    (void)state;
    assert_int_equal(qr_regex_compile("a(", &regex, &err), QR_ERR_INVALID);
    assert_null(regex);
    assert_non_null(strstr(err.message, "\"a(\" is not understood: missing closing parenthesis"));
    assert_int_equal(qr_regex_compile("\\C", &regex, &err), QR_ERR_INVALID);
    /* A pattern that would backtrack for ages is stopped. */
    assert_int_equal(qr_regex_compile("(a|a)*[bc]", &regex, &err), QR_OK);
    assert_int_equal(qr_regex_scan_begin(regex, &scan), QR_OK);
    memset(text, 'a', sizeof(text));
    assert_int_equal(qr_regex_scan_next(&scan, text, sizeof(text), 0, &found, &begin, &end),
                     QR_ERR_UNSUPPORTED);
    qr_regex_scan_end(&scan);
    qr_regex_free(regex);
}

static void assert_nfc(const char *text, const char *expected)
{
    struct qr_buffer out = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_unicode_normalize(QR_NFC, text, strlen(text), &out), QR_OK);
    assert_string_equal(out.data, expected);
    qr_buffer_free(&out);
}

static void test_nfc(void **state)
{
    (void)state;
    assert_nfc("plain", "plain");
    assert_nfc("e\xcc\x81", "\xc3\xa9");
    /* Marks are put in order before they are composed: dot below, then acute. */
    assert_nfc("e\xcc\x81\xcc\xa3", "\xe1\xba\xb9\xcc\x81");
    /* Hangul, and a singleton: the Angstrom sign is the letter. */
    assert_nfc("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c");
    assert_nfc("\xe2\x84\xab", "\xc3\x85");
    /* Compatibility forms stay; so does what is not UTF-8. */
    assert_nfc("\xef\xac\x81\xff\xe1"
               "e\xcc\x81",
               "\xef\xac\x81\xff\xe1\xc3\xa9");
    /* The longest decomposition that there is, alone and repeated. */
    assert_nfc("\xe1\xbe\x82", "\xe1\xbe\x82");
    assert_nfc("\xe1\xbe\x82\xe1\xbe\x82\xe1\xbe\x82", "\xe1\xbe\x82\xe1\xbe\x82\xe1\xbe\x82");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_alphabet),  cmocka_unit_test(test_string_table),
        cmocka_unit_test(test_trie),           cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_pattern_errors), cmocka_unit_test(test_nfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
