/* tokenizers.c - see tokenizers.h for the contract. */
#include "tests/support/tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "tests/support/testdata.h"

static const char *const tiny_tokens[] = {"he",        "ll", "hell", "hello",
                                          "\xc4\xa0w", "aa", "aaaa", "aaaaaaaa"};

static const char *const tiny_rest =
    "{\"version\":\"1.0\",\"normalizer\":null,"
    "\"added_tokens\":["
    "{\"id\":264,\"content\":\"<bos>\",\"special\":true,\"normalized\":false},"
    "{\"id\":265,\"content\":\"</s>\",\"special\":true,\"normalized\":false},"
    "{\"id\":266,\"content\":\"<tool>\",\"special\":false,\"normalized\":false}],"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
    "\"post_processor\":null,"
    "\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"merges\":[\"h e\",\"l l\",\"he ll\","
    "\"hell o\",\"\\u0120 w\",\"a a\",\"aa aa\",\"aaaa aaaa\"]}}";

static json_t *tiny_vocab(void)
{
    json_t *vocab = json_object();

    for (int byte = 0; byte < 256; byte++) {
        char text[QR_BYTE_CHAR_MAX + 1] = {0};
        qr_byte_to_char((uint8_t)byte, text);
        json_object_set_new(vocab, text, json_integer(byte));
    }
    for (int i = 0; i < TINY_BOS - TINY_HE; i++)
        json_object_set_new(vocab, tiny_tokens[i], json_integer(TINY_HE + i));
    return vocab;
}

static void apply_change(json_t *root, const char *key, json_t *value)
{
    const char *dot = strchr(key, '.');
    json_t *object = root;
    char parent[64];

    if (dot != NULL) {
        snprintf(parent, sizeof(parent), "%.*s", (int)(dot - key), key);
        object = json_object_get(root, parent);
        key = dot + 1;
    }
    assert_true(json_is_object(object));
    if (json_is_null(value))
        json_object_del(object, key);
    else
        json_object_set(object, key, value);
}

char *tiny_tokenizer_json(const char *changes)
{
    json_error_t error;
    json_t *root = json_loads(tiny_rest, 0, &error);
    json_t *change = json_loads(changes, 0, &error);
    const char *key;
    json_t *value;

    assert_non_null(root);
    if (change == NULL)
        fail_msg("%s: %s", changes, error.text);
    json_object_set_new(json_object_get(root, "model"), "vocab", tiny_vocab());
    json_object_foreach(change, key, value) apply_change(root, key, value);
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    json_decref(change);
    json_decref(root);
    return text;
}

static struct qr_tokenizer *read_json(const char *json)
{
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    if (qr_tokenizer_from_json("tokenizer.json", json, strlen(json), &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    return tok;
}

struct qr_tokenizer *tiny_tokenizer(const char *changes)
{
    char *json = tiny_tokenizer_json(changes);
    struct qr_tokenizer *tok = read_json(json);

    free(json);
    return tok;
}

void assert_encodes(const struct qr_tokenizer *tok, const char *text, size_t n_bytes,
                    const struct qr_encode_options *options, const int32_t *expected, size_t n)
{
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_error err = {0};

    if (qr_tokenizer_encode(tok, text, n_bytes, options, &ids, &err) != QR_OK)
        fail_msg("\"%.*s\": %s", (int)n_bytes, text, err.message);
    for (size_t i = 0; i < n && i < ids.count; i++) {
        if (ids.ids[i] != expected[i])
            fail_msg("\"%.*s\": id %zu is %d, expected %d", (int)n_bytes, text, i, ids.ids[i],
                     expected[i]);
    }
    if (ids.count != n)
        fail_msg("\"%.*s\": %zu ids, expected %zu", (int)n_bytes, text, ids.count, n);
    qr_token_ids_free(&ids);
}

/* How many bytes U+FFFD replaces at `text`: the longest that begins some character. */
static size_t bad_bytes(const char *text, size_t n_bytes)
{
    size_t n = 1;

    while (n < n_bytes && n < 4 && qr_utf8_char_length(text, n + 1) == -1)
        n++;
    return qr_utf8_char_length(text, 1) == -1 ? n : 1;
}

static void replace_bad_bytes(const struct qr_buffer *text, struct qr_buffer *out)
{
    for (size_t i = 0; i < text->length;) {
        int length = qr_utf8_char_length(text->data + i, text->length - i);
        if (length > 0) {
            assert_int_equal(qr_buffer_append(out, text->data + i, (size_t)length), QR_OK);
            i += (size_t)length;
        } else {
            assert_int_equal(qr_buffer_append(out, "\xef\xbf\xbd", 3), QR_OK);
            i += bad_bytes(text->data + i, text->length - i);
        }
    }
}

void assert_streams_like_decode(const struct qr_tokenizer *tok, const int32_t *ids, size_t n,
                                bool skip_special)
{
    struct qr_buffer whole = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer expected = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer streamed = {.arena = QR_ARENA_REQUEST};
    size_t max = qr_tokenizer_max_push_bytes(tok);
    char *out = malloc(max);
    struct qr_detokenizer detok;

    assert_non_null(out);
    assert_int_equal(qr_tokenizer_decode(tok, ids, n, skip_special, &whole, NULL), QR_OK);
    replace_bad_bytes(&whole, &expected);
    qr_detokenizer_init(&detok, tok, skip_special, false);
    for (size_t i = 0; i <= n; i++) {
        size_t written =
            i < n ? qr_detokenizer_push(&detok, ids[i], out) : qr_detokenizer_flush(&detok, out);
        assert_true(written <= max);
        assert_true(qr_utf8_is_valid(out, written));
        assert_int_equal(qr_buffer_append(&streamed, out, written), QR_OK);
    }
    assert_int_equal(streamed.length, expected.length);
    if (expected.length > 0)
        assert_memory_equal(streamed.data, expected.data, expected.length);
    free(out);
    qr_buffer_free(&whole);
    qr_buffer_free(&expected);
    qr_buffer_free(&streamed);
}

struct qr_token_ids ids_from_json(const json_t *array)
{
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    json_t *id;
    size_t i;

    assert_true(json_is_array(array));
    json_array_foreach(array, i, id)
        assert_int_equal(qr_token_ids_append(&ids, (int32_t)json_integer_value(id)), QR_OK);
    return ids;
}

struct qr_tokenizer *open_testdata_tokenizer(const char *relative)
{
    char path[QR_TEST_PATH_MAX];
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    if (!qr_testdata(relative, path))
        return NULL;
    if (qr_tokenizer_open(path, &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    return tok;
}
