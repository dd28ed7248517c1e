/* test_detokenizer.c - streaming: whole characters only, nothing lost, U+FFFD where due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/tokenizers.h"

/* Pushes bytes (ids below 256) one by one; the outputs, separated by "|". */
static void assert_pushes(const char *bytes, size_t n_bytes, const char *expected)
{
    struct qr_tokenizer *tok = tiny_tokenizer("{}");
    struct qr_detokenizer detok;
    char out[256] = {0};
    size_t length = 0;

    qr_detokenizer_init(&detok, tok, true, false);
    for (size_t i = 0; i < n_bytes; i++) {
        length += qr_detokenizer_push(&detok, (uint8_t)bytes[i], out + length);
        out[length++] = '|';
    }
    length += qr_detokenizer_flush(&detok, out + length);
    assert_string_equal(out, expected);
    /* A second flush has nothing left to say. */
    assert_int_equal(qr_detokenizer_flush(&detok, out), 0);
    qr_tokenizer_close(tok);
}

static void test_characters_come_whole(void **state)
{
    (void)state;
    assert_pushes("a\xc3\xa9z", 4, "a||\xc3\xa9|z|");
    assert_pushes("\xf0\x9f\xa6\x99", 4, "|||\xf0\x9f\xa6\x99|");
    assert_pushes("", 0, "");
    assert_pushes("a\0b", 3, "a|");
}

static void test_bad_bytes_are_replaced(void **state)
{
    (void)state;
    assert_pushes("\xff", 1, "\xef\xbf\xbd|");
    assert_pushes("\xa9", 1, "\xef\xbf\xbd|");
    /* An unfinished character, then text: one U+FFFD, at once with the text. */
    assert_pushes("\xf0\x9f\xa6!", 4, "|||\xef\xbf\xbd!|");
    /* Then another character's beginning. */
    assert_pushes("\xe2\x82\xc3\xa9", 4, "||\xef\xbf\xbd|\xc3\xa9|");
    /* At the end. */
    assert_pushes("x\xe2\x82", 3, "x|||\xef\xbf\xbd");
    /* Overlong and surrogate forms never begin a character. */
    assert_pushes("\xc0\xaf", 2, "\xef\xbf\xbd|\xef\xbf\xbd|");
    assert_pushes("\xed\xa0\x80", 3, "|\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd|");
}

static void test_special_tokens(void **state)
{
    const int32_t ids[] = {TINY_BOS, TINY_HELLO, TINY_TOOL, TINY_SPACE_W, TINY_EOS};
    struct qr_tokenizer *tok = tiny_tokenizer("{}");
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};

    (void)state;
    assert_int_equal(qr_tokenizer_decode(tok, ids, 5, true, &text, NULL), QR_OK);
    assert_string_equal(text.data, "hello<tool> w");
    qr_buffer_clear(&text);
    assert_int_equal(qr_tokenizer_decode(tok, ids, 5, false, &text, NULL), QR_OK);
    assert_string_equal(text.data, "<bos>hello<tool> w</s>");
    assert_streams_like_decode(tok, ids, 5, true);
    assert_streams_like_decode(tok, ids, 5, false);
    assert_true(qr_tokenizer_is_special(tok, TINY_BOS));
    assert_false(qr_tokenizer_is_special(tok, TINY_TOOL));
    assert_false(qr_tokenizer_is_special(tok, -1));
    assert_false(qr_tokenizer_is_special(tok, TINY_VOCAB_SIZE));
    qr_buffer_free(&text);
    qr_tokenizer_close(tok);
}

static void test_ids_out_of_range(void **state)
{
    const int32_t ids[] = {TINY_HELLO, TINY_VOCAB_SIZE};
    const int32_t negative = -1;
    struct qr_tokenizer *tok = tiny_tokenizer("{}");
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    struct qr_error err = {0};
    struct qr_detokenizer detok;
    char out[256];

    (void)state;
    assert_int_equal(qr_buffer_append(&text, "before", 6), QR_OK);
    assert_int_equal(qr_tokenizer_decode(tok, ids, 2, true, &text, &err), QR_ERR_INVALID);
    assert_string_equal(text.data, "before");
    assert_string_equal(err.message,
                        "token id 267 at position 1 is out of range; the vocabulary has 267");
    assert_int_equal(qr_tokenizer_decode(tok, &negative, 1, true, &text, &err), QR_ERR_INVALID);
    qr_detokenizer_init(&detok, tok, true, false);
    assert_int_equal(qr_detokenizer_push(&detok, TINY_VOCAB_SIZE, out), 0);
    assert_int_equal(qr_detokenizer_push(&detok, -1, out), 0);
    qr_buffer_free(&text);
    qr_tokenizer_close(tok);
}

/* Ids at random: mostly broken characters. */
static void test_random_ids(void **state)
{
    struct qr_tokenizer *tok = tiny_tokenizer("{}");
    int32_t ids[24];
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        for (int i = 0; i < 24; i++) {
            seed = seed * 1664525u + 1013904223u;
            /* The upper bytes more often than the rest. */
            ids[i] = (int32_t)((seed >> 8) % TINY_VOCAB_SIZE) | ((seed >> 30) != 0 ? 0x80 : 0);
            if (ids[i] >= TINY_VOCAB_SIZE)
                ids[i] &= 0xff;
        }
        assert_streams_like_decode(tok, ids, 24, round % 2 == 0);
    }
    qr_tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_come_whole),
        cmocka_unit_test(test_bad_bytes_are_replaced),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_ids_out_of_range),
        cmocka_unit_test(test_random_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
