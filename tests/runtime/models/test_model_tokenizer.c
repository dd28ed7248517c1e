/* test_model_tokenizer.c - vocabularies in GGUF files, held against llama.cpp's published ids. */
#include "runtime/models/model_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mapped_file.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/testdata.h"
#include "tests/support/tokenizers.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

/* The ids on one line, into `ids`; returns where the next line begins. */
static const char *read_line(const char *line, struct qr_token_ids *ids)
{
    char *end = (char *)(uintptr_t)line;

    ids->count = 0;
    while (*end != '\n' && *end != '\0') {
        assert_int_equal(qr_token_ids_append(ids, (int32_t)strtol(end, &end, 10)), QR_OK);
        while (*end == ' ')
            end++;
    }
    return *end == '\n' ? end + 1 : end;
}

/* The file as text; the caller frees it. */
static char *read_text(const char *path)
{
    struct qr_mapped_file file;

    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    char *text = strndup((const char *)file.data, file.size);
    qr_mapped_file_close(&file);
    return text;
}

/* The texts of NAME.inp and the ids of NAME.out. */
static void check_published(const char *name, int n_texts)
{
    char gguf_path[QR_TEST_PATH_MAX], path[QR_TEST_PATH_MAX + 8];
    struct qr_tokenizer *tok;
    struct qr_token_ids wanted = {0};
    const struct qr_encode_options plain = {0};
    struct qr_error err = {""};
    int n = 0;

    if (!qr_testdata(name, gguf_path))
        return;
    if (qr_model_open_tokenizer(gguf_path, &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    snprintf(path, sizeof(path), "%s.inp", gguf_path);
    char *texts = read_text(path);
    snprintf(path, sizeof(path), "%s.out", gguf_path);
    char *lines = read_text(path);
    const char *line = lines;
    const char *text = texts;
    for (const char *end; (end = strstr(text, SEPARATOR)) != NULL;
         text = end + strlen(SEPARATOR), n++) {
        line = read_line(line, &wanted);
        assert_encodes(tok, text, (size_t)(end - text), &plain, wanted.ids, wanted.count);
    }
    assert_int_equal(n, n_texts);
    free(texts);
    free(lines);
    qr_token_ids_free(&wanted);
    qr_tokenizer_close(tok);
}

static void ids_are_those_of_llama_cpp(void **state)
{
    (void)state;
    check_published("tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf", 46);
    check_published("tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf", 46);
}

static void a_file_says_what_stands_around_a_text(void **state)
{
    (void)state;
    char path[1024];
    struct qr_tokenizer *tok;
    struct qr_error err = {""};

    snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/gguf/vocabulary",
             getenv("QUIRE_SOURCE_DIR"));
    struct qr_gguf_file file;
    assert_int_equal(qr_gguf_open(path, &file, &err), QR_OK);
    assert_int_equal(qr_tokenizer_from_gguf(&file.gguf, &tok, &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "<0x00> is missing")); /* it has no bytes */
    qr_gguf_close(&file);
}

struct bad_vocabulary {
    const char *model;
    int n_tokens;
    int n_scores;
    int n_types;
    uint32_t bos_id;
    enum qr_status status;
    const char *words;
};

static void check_bad(const struct bad_vocabulary *bad)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a"};
    static const float scores[4] = {0};
    static const int32_t types[4] = {2, 3, 3, 1};
    struct gguf_builder builder = {0};
    struct qr_buffer bytes = {0};
    struct qr_gguf gguf;
    struct qr_tokenizer *tok;
    struct qr_error err = {""};

    if (bad->model != NULL)
        gguf_add_string(&builder, "tokenizer.ggml.model", bad->model);
    gguf_add_strings(&builder, "tokenizer.ggml.tokens", bad->n_tokens, tokens);
    if (bad->n_scores >= 0)
        gguf_add_array(&builder, "tokenizer.ggml.scores", QR_GGUF_FLOAT32, (uint64_t)bad->n_scores,
                       scores, (size_t)bad->n_scores * sizeof(float));
    if (bad->n_types >= 0)
        gguf_add_array(&builder, "tokenizer.ggml.token_type", QR_GGUF_INT32, (uint64_t)bad->n_types,
                       types, (size_t)bad->n_types * sizeof(int32_t));
    gguf_add_u32(&builder, "tokenizer.ggml.bos_token_id", bad->bos_id);
    gguf_build(&builder, &bytes);
    assert_int_equal(
        qr_gguf_parse("v.gguf", (const uint8_t *)bytes.data, bytes.length, &gguf, NULL), QR_OK);
    assert_int_equal(qr_tokenizer_from_gguf(&gguf, &tok, &err), bad->status);
    if (strstr(err.message, bad->words) == NULL)
        fail_msg("\"%s\" does not mention \"%s\"", err.message, bad->words);
    qr_gguf_free(&gguf);
    qr_buffer_free(&bytes);
    gguf_free(&builder);
}

static void vocabularies_that_do_not_add_up_are_refused(void **state)
{
    (void)state;
    static const struct bad_vocabulary bad[] = {
        {NULL, 4, 4, 4, 1, QR_ERR_UNSUPPORTED, "model is \"\""},
        {"rwkv", 4, 4, 4, 1, QR_ERR_UNSUPPORTED, "model is \"rwkv\""},
        {"llama", 0, 0, 0, 1, QR_ERR_INVALID, "tokenizer.ggml.tokens is missing"},
        {"llama", 4, 3, 4, 1, QR_ERR_INVALID, "scores has 3 entries for 4 tokens"},
        {"llama", 4, 4, 2, 1, QR_ERR_INVALID, "token_type has 2 entries"},
        {"llama", 4, -1, 4, 1, QR_ERR_INVALID, "needs tokenizer.ggml.scores"},
        {"llama", 4, 4, -1, 1, QR_ERR_INVALID, "needs tokenizer.ggml.scores"},
        {"llama", 4, 4, 4, 4, QR_ERR_INVALID, "bos_token_id is 4; there are 4 tokens"},
        {"gpt2", 4, 4, 2, 1, QR_ERR_INVALID, "token_type has 2 entries"},
        {"gpt2", 4, 4, 4, 9, QR_ERR_INVALID, "bos_token_id is 9"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_bad(&bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_llama_cpp),
        cmocka_unit_test(a_file_says_what_stands_around_a_text),
        cmocka_unit_test(vocabularies_that_do_not_add_up_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
