/*
 * test_published.c - real tokenizers give the ids that their makers published, and
 * turn them back into the text, at once and as a stream.
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

#include "base/mapped_file.h"
#include "tests/support/testdata.h"
#include "tests/support/tokenizers.h"

static void assert_decodes(const struct qr_tokenizer *tok, const int32_t *ids, size_t n,
                           const char *text, size_t n_bytes)
{
    struct qr_buffer decoded = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_tokenizer_decode(tok, ids, n, false, &decoded, NULL), QR_OK);
    if (decoded.length != n_bytes || (n_bytes > 0 && memcmp(decoded.data, text, n_bytes) != 0))
        fail_msg("decoded to \"%.*s\", expected \"%.*s\"", (int)decoded.length, decoded.data,
                 (int)n_bytes, text);
    qr_buffer_free(&decoded);
}

static void check_case(void *arg, const json_t *row)
{
    const struct qr_tokenizer *tok = arg;
    const json_t *text = json_object_get(row, "text");
    struct qr_token_ids ids = ids_from_json(json_object_get(row, "ids"));
    const struct qr_encode_options options = {
        .add_bos = json_is_true(json_object_get(row, "bos")),
        .parse_special = json_is_true(json_object_get(row, "special")),
    };
    size_t n_bos = options.add_bos ? 1 : 0;

    assert_encodes(tok, json_string_value(text), json_string_length(text), &options, ids.ids,
                   ids.count);
    assert_decodes(tok, ids.ids + n_bos, ids.count - n_bos, json_string_value(text),
                   json_string_length(text));
    assert_streams_like_decode(tok, ids.ids, ids.count, true);
    assert_streams_like_decode(tok, ids.ids, ids.count, false);
    qr_token_ids_free(&ids);
}

/* Runs `check` on each line of a .jsonl file; returns how many there were. */
static int for_each_line(struct qr_tokenizer *tok, const char *relative,
                         void (*check)(void *tok, const json_t *row))
{
    char path[QR_TEST_PATH_MAX];

    return qr_testdata(relative, path) ? qr_for_each_json_line(path, check, tok) : 0;
}

static void check_corpus(const struct qr_tokenizer *tok, const char *corpus,
                         const json_t *fingerprint)
{
    const struct qr_encode_options options = {0};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    char path[QR_TEST_PATH_MAX];
    char relative[128];
    struct qr_mapped_file file;

    snprintf(relative, sizeof(relative), "tokenizers/corpora/%s", corpus);
    assert_true(qr_testdata(relative, path));
    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    assert_int_equal(
        qr_tokenizer_encode(tok, (const char *)file.data, file.size, &options, &ids, NULL), QR_OK);
    assert_int_equal(ids.count, json_integer_value(json_object_get(fingerprint, "n_tokens")));
    struct qr_token_ids first = ids_from_json(json_object_get(fingerprint, "first16"));
    struct qr_token_ids last = ids_from_json(json_object_get(fingerprint, "last8"));
    assert_memory_equal(ids.ids, first.ids, first.count * sizeof(int32_t));
    assert_memory_equal(ids.ids + ids.count - last.count, last.ids, last.count * sizeof(int32_t));
    if (json_is_true(json_object_get(fingerprint, "decode_equals_text")))
        assert_decodes(tok, ids.ids, ids.count, (const char *)file.data, file.size);
    assert_streams_like_decode(tok, ids.ids, ids.count, true);
    qr_token_ids_free(&first);
    qr_token_ids_free(&last);
    qr_token_ids_free(&ids);
    qr_mapped_file_close(&file);
}

static void check_corpora(const struct qr_tokenizer *tok, const char *name)
{
    const char *corpus;
    json_t *fingerprints;

    json_t *root = qr_testdata_json("tokenizers/expected/corpora_fingerprints.json");
    if (root == NULL)
        return;
    assert_int_equal(json_object_size(root), 2);
    json_object_foreach(root, corpus, fingerprints)
        check_corpus(tok, corpus, json_object_get(fingerprints, name));
    json_decref(root);
}

/* The published cases of the tokenizer `name`, and its fingerprints of two books. */
static void check_published(struct qr_tokenizer *tok, const char *name, int n_cases)
{
    char relative[64];

    if (tok == NULL)
        return;
    snprintf(relative, sizeof(relative), "tokenizers/expected/%s.jsonl", name);
    assert_int_equal(for_each_line(tok, relative, check_case), n_cases);
    check_corpora(tok, name);
    qr_tokenizer_close(tok);
}

static void test_llama2(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/llama2/tokenizer.model");
    if (tok == NULL)
        return;
    assert_string_equal(qr_tokenizer_kind(tok), "sentencepiece-bpe");
    assert_int_equal(qr_tokenizer_vocab_size(tok), 32000);
    assert_int_equal(qr_tokenizer_bos_id(tok), 1);
    assert_int_equal(qr_tokenizer_eos_id(tok), 2);
    check_published(tok, "llama2", 60);
}

static void test_llama2_json(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/llama2");
    if (tok == NULL)
        return;
    assert_string_equal(qr_tokenizer_kind(tok), "bpe");
    assert_int_equal(qr_tokenizer_bos_id(tok), 1);
    assert_int_equal(qr_tokenizer_eos_id(tok), 2);
    check_published(tok, "llama2", 60);
}

static void test_gpt2(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/gpt2");
    if (tok == NULL)
        return;
    assert_string_equal(qr_tokenizer_kind(tok), "byte-level-bpe");
    assert_int_equal(qr_tokenizer_vocab_size(tok), 50257);
    assert_int_equal(qr_tokenizer_bos_id(tok), -1);
    assert_int_equal(qr_tokenizer_eos_id(tok), 50256);
    check_published(tok, "gpt2", 60);
}

/* The vocabulary and merges that OpenAI published, beside the tokenizer.json of them. */
static void test_gpt2_vocab_and_merges(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/gpt2/encoder.json");
    if (tok == NULL)
        return;
    assert_int_equal(qr_tokenizer_vocab_size(tok), 50257);
    assert_int_equal(qr_tokenizer_eos_id(tok), 50256);
    check_published(tok, "gpt2", 60);
}

static void test_cl100k(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/tiktoken");
    if (tok == NULL)
        return;
    assert_string_equal(qr_tokenizer_kind(tok), "byte-level-bpe");
    assert_int_equal(qr_tokenizer_vocab_size(tok), 100277);
    assert_int_equal(qr_tokenizer_eos_id(tok), 100257);
    check_published(tok, "cl100k", 9);
}

static void check_round_trip(void *arg, const json_t *row)
{
    const struct qr_tokenizer *tok = arg;
    struct qr_token_ids ids = ids_from_json(json_object_get(row, "input_tok_ids"));
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    const struct qr_encode_options options = {.parse_special = true};

    assert_int_equal(qr_tokenizer_decode(tok, ids.ids, ids.count, false, &text, NULL), QR_OK);
    assert_encodes(tok, text.data, text.length, &options, ids.ids, ids.count);
    assert_streams_like_decode(tok, ids.ids, ids.count, false);
    qr_buffer_free(&text);
    qr_token_ids_free(&ids);
}

static void test_qwen(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/qwen");
    if (tok == NULL)
        return;
    assert_int_equal(qr_tokenizer_bos_id(tok), -1);
    assert_int_equal(
        for_each_line(tok, "traces/sharegpt/sharegpt-qwen3-32b-300-sps10.jsonl", check_round_trip),
        300);
    check_published(tok, "qwen", 48);
}

static void test_llama3(void **state)
{
    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("tokenizers/llama3/tokenizer.model");
    if (tok == NULL)
        return;
    assert_int_equal(qr_tokenizer_bos_id(tok), 128000);
    assert_int_equal(qr_tokenizer_eos_id(tok), 128001);
    assert_int_equal(for_each_line(tok, "traces/sharegpt/sharegpt-llama-3.1-8b-300-sps10.jsonl",
                                   check_round_trip),
                     300);
    check_published(tok, "llama3", 56);
}

/* Published conversations print a newline as its byte token. */
static void unprint_newlines(struct qr_buffer *text)
{
    char *to = text->data;

    for (const char *from = text->data; *from != '\0';) {
        bool is_newline = strncmp(from, "<0x0A>", 6) == 0;
        *to++ = is_newline ? '\n' : *from;
        from += is_newline ? 6 : 1;
    }
    text->length = (size_t)(to - text->data);
}

static void check_conversation(const struct qr_tokenizer *tok, const char *sample,
                               const char *version)
{
    const struct qr_encode_options options = {.parse_special = true};
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    struct qr_mapped_file file;
    char path[QR_TEST_PATH_MAX];
    char relative[256];

    snprintf(relative, sizeof(relative), "tokenizers/mistral/samples/%s/tokens_%s.json", sample,
             version);
    json_t *root = qr_testdata_json(relative);
    snprintf(relative, sizeof(relative), "tokenizers/mistral/samples/%s/text_%s.txt", sample,
             version);
    assert_true(qr_testdata(relative, path));
    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    assert_int_equal(qr_buffer_append(&text, file.data, file.size), QR_OK);
    qr_mapped_file_close(&file);
    unprint_newlines(&text);
    struct qr_token_ids ids = ids_from_json(json_object_get(root, "tokens"));
    assert_encodes(tok, text.data, text.length, &options, ids.ids, ids.count);
    assert_streams_like_decode(tok, ids.ids, ids.count, false);
    qr_token_ids_free(&ids);
    qr_buffer_free(&text);
    json_decref(root);
}

/* One line of ids, separated by spaces. */
static struct qr_token_ids ids_from_line(const char *line)
{
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    char *end;

    for (long id = strtol(line, &end, 10); end != line; id = strtol(line, &end, 10)) {
        assert_int_equal(qr_token_ids_append(&ids, (int32_t)id), QR_OK);
        line = end;
    }
    return ids;
}

/* llama.cpp's own cases: texts with a line between, and a line of ids for each. */
static void check_llama_cpp(const char *name, const char *tokenizer)
{
    static const char between[] = "\n__ggml_vocab_test__\n";
    const struct qr_encode_options options = {0};
    char relative[128];
    char path[QR_TEST_PATH_MAX];
    struct qr_mapped_file texts;
    char *line = NULL;
    size_t capacity = 0;
    int count = 0;

    struct qr_tokenizer *tok = open_testdata_tokenizer(tokenizer);
    snprintf(relative, sizeof(relative), "tokenizers/llama.cpp/ggml-vocab-%s.gguf.inp", name);
    if (tok == NULL || !qr_testdata(relative, path))
        return;
    assert_int_equal(qr_mapped_file_open(path, &texts, NULL), QR_OK);
    memcpy(strrchr(path, '.'), ".out", 5);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    const char *text = (const char *)texts.data;
    const char *texts_end = text + texts.size;
    for (; getline(&line, &capacity, file) > 0; count++) {
        const char *end = memmem(text, (size_t)(texts_end - text), between, sizeof(between) - 1);
        assert_non_null(end);
        struct qr_token_ids ids = ids_from_line(line);
        assert_encodes(tok, text, (size_t)(end - text), &options, ids.ids, ids.count);
        assert_streams_like_decode(tok, ids.ids, ids.count, false);
        qr_token_ids_free(&ids);
        text = end + sizeof(between) - 1;
    }
    assert_int_equal(count, 46);
    free(line);
    fclose(file);
    qr_mapped_file_close(&texts);
    qr_tokenizer_close(tok);
}

static void test_llama_cpp(void **state)
{
    (void)state;
    check_llama_cpp("gpt-2", "tokenizers/gpt2/encoder.json");
    check_llama_cpp("llama-bpe", "tokenizers/llama3");
    check_llama_cpp("qwen2", "tokenizers/qwen");
    check_llama_cpp("llama-spm", "tokenizers/llama2/tokenizer.model");
}

static void test_mistral(void **state)
{
    static const char *const samples[] = {"no_tools", "get_weather_full", "get_weather_no_history",
                                          "get_weather_no_system_prompt"};
    static const char *const versions[] = {"v1", "v2", "v3"};

    (void)state;
    for (int v = 0; v < 3; v++) {
        char relative[64];
        snprintf(relative, sizeof(relative), "tokenizers/mistral/tokenizer.model.%s", versions[v]);
        struct qr_tokenizer *tok = open_testdata_tokenizer(relative);
        if (tok == NULL)
            return;
        for (int s = 0; s < (v == 0 ? 1 : 4); s++) /* v1 knew no tools */
            check_conversation(tok, samples[s], versions[v]);
        qr_tokenizer_close(tok);
    }
}

static void test_stories260k(void **state)
{
    const struct qr_encode_options options = {.add_bos = true};
    json_t *one;
    size_t i;

    (void)state;
    struct qr_tokenizer *tok = open_testdata_tokenizer("models/stories260k/tok512.model");
    json_t *root = qr_testdata_json("models/stories260k/reference.json");
    if (tok == NULL || root == NULL) {
        json_decref(root);
        qr_tokenizer_close(tok);
        return;
    }
    assert_int_equal(json_array_size(json_object_get(root, "cases")), 8);
    json_array_foreach(json_object_get(root, "cases"), i, one)
    {
        const json_t *prompt = json_object_get(one, "prompt");
        const json_t *greedy_text = json_object_get(one, "greedy_text");
        struct qr_token_ids ids = ids_from_json(json_object_get(one, "prompt_ids"));
        assert_encodes(tok, json_string_value(prompt), json_string_length(prompt), &options,
                       ids.ids, ids.count);
        qr_token_ids_free(&ids);

        /* What was generated goes on from the prompt: its leading space is text. */
        struct qr_detokenizer detok;
        char out[4096] = {0};
        size_t length = 0;
        ids = ids_from_json(json_object_get(one, "greedy_ids"));
        qr_detokenizer_init(&detok, tok, true, true);
        for (size_t k = 0; k < ids.count; k++)
            length += qr_detokenizer_push(&detok, ids.ids[k], out + length);
        assert_int_equal(qr_detokenizer_flush(&detok, out + length), 0);
        assert_string_equal(out, json_string_value(greedy_text));
        qr_token_ids_free(&ids);
    }
    json_decref(root);
    qr_tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama2),  cmocka_unit_test(test_llama2_json),
        cmocka_unit_test(test_gpt2),    cmocka_unit_test(test_gpt2_vocab_and_merges),
        cmocka_unit_test(test_cl100k),  cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_llama3),  cmocka_unit_test(test_llama_cpp),
        cmocka_unit_test(test_mistral), cmocka_unit_test(test_stories260k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
