/*
 * test_tokenizer_json_limits.c - what a tokenizer.json may ask for has bounds: how deep it goes,
 * how long it makes a text, and how long its patterns look.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/tokenizer_impl.h"
#include "tests/support/tokenizers.h"

/* Each step makes the text a thousand times as long, which is too much at once. */
static void test_growth(void **state)
{
    static const char step[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                               "\"content\":\"%s\"}";
    const struct qr_encode_options options = {0};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer changes = {.arena = QR_ARENA_REQUEST};
    struct qr_error err = {0};
    char content[1024] = "";
    char text[1000];

    (void)state;
    memset(content, 'a', 1000);
    memset(text, 'a', sizeof(text));
    assert_int_equal(qr_buffer_printf(&changes, "{\"normalizer\":{\"type\":\"Sequence\","
                                                "\"normalizers\":["),
                     QR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(qr_buffer_printf(&changes, i > 0 ? "," : ""), QR_OK);
        assert_int_equal(qr_buffer_printf(&changes, step, content), QR_OK);
    }
    assert_int_equal(qr_buffer_printf(&changes, "]}}"), QR_OK);
    struct qr_tokenizer *tok = tiny_tokenizer(changes.data);
    assert_int_equal(qr_tokenizer_encode(tok, text, sizeof(text), &options, &ids, &err),
                     QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "normaliser makes 1000 bytes of text too long"));
    qr_tokenizer_close(tok);
    qr_buffer_free(&changes);
}

static void check_backtracking(const char *changes, const char *message)
{
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const struct qr_encode_options options = {0};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok = tiny_tokenizer(changes);
    struct qr_error err = {0};

    assert_int_equal(qr_tokenizer_encode(tok, text, strlen(text), &options, &ids, &err),
                     QR_ERR_UNSUPPORTED);
    assert_string_equal(err.message, message);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
}

static void test_backtracking(void **state)
{
    (void)state;
    check_backtracking(
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
        "{\"Regex\":\"(a|a)*[bc]\"}}}",
        "the tokenizer's pattern backtracks too long on this text");
    check_backtracking("{\"normalizer\":{\"type\":\"Replace\",\"content\":\"\",\"pattern\":"
                       "{\"Regex\":\"(a|a)*[bc]\"}}}",
                       "the tokenizer's normaliser backtracks too long on this text");
}

/* Sequences within each other, with `step` in the innermost. */
static void check_nested(const char *field, const char *list, const char *step, int depth,
                         enum qr_status expected)
{
    struct qr_buffer changes = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    assert_int_equal(qr_buffer_printf(&changes, "{\"%s\":", field), QR_OK);
    for (int i = 0; i < depth; i++)
        assert_int_equal(qr_buffer_printf(&changes, "{\"type\":\"Sequence\",\"%s\":[", list),
                         QR_OK);
    assert_int_equal(qr_buffer_printf(&changes, "{\"type\":\"%s\"}", step), QR_OK);
    for (int i = 0; i < depth; i++)
        assert_int_equal(qr_buffer_printf(&changes, "]}"), QR_OK);
    assert_int_equal(qr_buffer_printf(&changes, "}"), QR_OK);
    char *json = tiny_tokenizer_json(changes.data);
    assert_int_equal(qr_tokenizer_from_json("t.json", json, strlen(json), &tok, &err), expected);
    if (expected != QR_OK)
        assert_non_null(strstr(err.message, "more than 8 Sequences within each other"));
    qr_tokenizer_close(tok);
    free(json);
    qr_buffer_free(&changes);
}

static void test_nested(void **state)
{
    static const char *const fields[][3] = {{"normalizer", "normalizers", "NFC"},
                                            {"pre_tokenizer", "pretokenizers", "ByteLevel"},
                                            {"decoder", "decoders", "ByteLevel"},
                                            {"post_processor", "processors", "ByteLevel"}};

    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        check_nested(fields[i][0], fields[i][1], fields[i][2], 8, QR_OK);
        check_nested(fields[i][0], fields[i][1], fields[i][2], 9, QR_ERR_UNSUPPORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_backtracking),
        cmocka_unit_test(test_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
