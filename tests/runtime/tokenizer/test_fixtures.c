/*
 * test_fixtures.c - small tokenizers of every kind give the ids and the texts that the
 * reference implementations gave (tools/fixtures/small_tokenizers.py).
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/testdata.h"
#include "tests/support/tokenizers.h"

enum { MAX_NAME = 64, MIN_CASES = 900 };

static void path_of(const char *name, char path[QR_TEST_PATH_MAX])
{
    const char *source = getenv("QUIRE_SOURCE_DIR");
    snprintf(path, QR_TEST_PATH_MAX, "%s/tests/runtime/tokenizer/data/tokenizers/%s",
             source != NULL ? source : ".", name);
}

/* How many U+FFFD stand for bytes that are no character is each implementation's choice. */
static bool is_broken(const char *text)
{
    return strstr(text, "\xef\xbf\xbd") != NULL;
}

static void check_text(const struct qr_tokenizer *tok, const json_t *row, const char *key,
                       const char *ids_key, bool skip_special)
{
    const json_t *expected = json_object_get(row, key);
    struct qr_token_ids ids = ids_from_json(json_object_get(row, ids_key));
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};

    assert_streams_like_decode(tok, ids.ids, ids.count, skip_special);
    assert_int_equal(qr_buffer_append(&text, "", 0), QR_OK);
    assert_int_equal(qr_tokenizer_decode(tok, ids.ids, ids.count, skip_special, &text, NULL),
                     QR_OK);
    if (!is_broken(json_string_value(expected)) &&
        (text.length != json_string_length(expected) ||
         memcmp(text.data, json_string_value(expected), text.length) != 0))
        fail_msg("%s: \"%s\" decodes to \"%s\", expected \"%s\"",
                 json_string_value(json_object_get(row, "tokenizer")),
                 json_string_value(json_object_get(row, "text")), text.data,
                 json_string_value(expected));
    qr_buffer_free(&text);
    qr_token_ids_free(&ids);
}

static void check_ids(const struct qr_tokenizer *tok, const json_t *row, const char *key,
                      struct qr_encode_options options)
{
    const json_t *text = json_object_get(row, "text");
    struct qr_token_ids ids = ids_from_json(json_object_get(row, key));

    assert_encodes(tok, json_string_value(text), json_string_length(text), &options, ids.ids,
                   ids.count);
    qr_token_ids_free(&ids);
}

static void check_case(const struct qr_tokenizer *tok, const json_t *row)
{
    check_ids(tok, row, "plain", (struct qr_encode_options){0});
    if (json_object_get(row, "ids") == NULL) { /* SentencePiece has no other way to encode */
        check_text(tok, row, "decoded", "plain", true);
        return;
    }
    check_ids(tok, row, "ids", (struct qr_encode_options){.add_bos = true, .parse_special = true});
    check_text(tok, row, "decoded", "ids", true);
    check_text(tok, row, "all", "ids", false);
}

/* The tokenizer of the row before, which most rows go on with. */
struct opened {
    struct qr_tokenizer *tok;
    char name[MAX_NAME];
};

static void open_for(struct opened *opened, const json_t *row)
{
    const char *wanted = json_string_value(json_object_get(row, "tokenizer"));
    struct qr_error err = {0};
    char path[QR_TEST_PATH_MAX];

    if (strcmp(opened->name, wanted) == 0)
        return;
    qr_tokenizer_close(opened->tok);
    snprintf(opened->name, MAX_NAME, "%s", wanted);
    path_of(wanted, path);
    if (qr_tokenizer_open(path, &opened->tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    print_message("%s: %s\n", wanted, qr_tokenizer_kind(opened->tok));
}

static void check_row(void *arg, const json_t *row)
{
    struct opened *opened = arg;

    open_for(opened, row);
    check_case(opened->tok, row);
}

static void test_fixtures(void **state)
{
    char path[QR_TEST_PATH_MAX];
    struct opened opened = {.tok = NULL};

    (void)state;
    path_of("expected.jsonl", path);
    assert_true(qr_for_each_json_line(path, check_row, &opened) >= MIN_CASES);
    qr_tokenizer_close(opened.tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
