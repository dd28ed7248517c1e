/*
 * test_vocabulary_files.c - rank files, and vocabularies with merges, from made-up files: what
 * their names and the tokenizer_config.json beside them do, and broken ones.
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

#include "runtime/tokenizer/vocabulary_files.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tokenizers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define IDS(...)     ((const int32_t[]){__VA_ARGS__}), COUNT(((const int32_t[]){__VA_ARGS__}))

static const char gpt2_config[] = "{\"tokenizer_class\":\"GPT2TokenizerFast\"}";
/* "h", "e", "l", "o", " ", "he", "ll", "hell", "oho" in base64. */
static const char ranks[] = "aA== 0\nZQ== 1\nbA== 2\nbw== 3\nIA== 4\n"
                            "aGU= 5\nbGw= 6\naGVsbA== 7\nb2hv 9\n";
static const char vocab[] = "{\"h\":3,\"e\":1,\"l\":2,\"o\":0,\"\\u0120\":4,\"he\":5,\"ll\":6,"
                            "\"<|endoftext|>\":7}";
static const char merges[] = "#version: 0.2\r\nh e\r\nl l\r\n\r\n";

static void check(const struct qr_tokenizer *tok, const char *text, bool special,
                  const int32_t *ids, size_t n)
{
    const struct qr_encode_options options = {.parse_special = special, .add_bos = true};

    assert_encodes(tok, text, strlen(text), &options, ids, n);
    assert_streams_like_decode(tok, ids, n, false);
}

static struct qr_tokenizer *open_directory(const struct qr_temp_dir *dir)
{
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    if (qr_tokenizer_open(dir->path, &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    return tok;
}

static void test_ranks(void **state)
{
    static const char config[] =
        "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"eos_token\":\"<e>\",\"bos_token\":\"<b>\","
        "\"add_bos_token\":true,\"added_tokens_decoder\":{"
        "\"20\":{\"content\":\"<e>\",\"special\":true,\"normalized\":false},"
        "\"21\":{\"content\":\"<b>\",\"special\":true,\"normalized\":false}}}";
    static const char word_piece[] = "{\"model\":{\"type\":\"WordPiece\"}}";
    struct qr_temp_dir dir;

    (void)state;
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "my.tiktoken", ranks, strlen(ranks));
    qr_temp_dir_write(&dir, "tokenizer_config.json", config, strlen(config));
    struct qr_tokenizer *tok = open_directory(&dir);
    assert_int_equal(qr_tokenizer_bos_id(tok), 21);
    assert_int_equal(qr_tokenizer_eos_id(tok), 20);
    /* A whole piece is looked up first: nothing joins to "oho", which is a token. */
    check(tok, "oho", false, IDS(21, 9));
    check(tok, "ohohell<e>", true, IDS(21, 3, 0, 3, 7, 20));
    check(tok, "heo o", true, IDS(21, 5, 3, 4, 3));
    qr_tokenizer_close(tok);
    /* They serve as well where a tokenizer.json asks for too much. */
    qr_temp_dir_write(&dir, "tokenizer.json", word_piece, strlen(word_piece));
    tok = open_directory(&dir);
    check(tok, "oho", false, IDS(21, 9));
    qr_tokenizer_close(tok);
    qr_temp_dir_remove(&dir);
}

static void test_vocab_and_merges(void **state)
{
    struct qr_temp_dir dir;

    (void)state;
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "vocab.json", vocab, strlen(vocab));
    qr_temp_dir_write(&dir, "merges.txt", merges, strlen(merges));
    struct qr_tokenizer *tok = open_directory(&dir);
    assert_int_equal(qr_tokenizer_bos_id(tok), -1);
    assert_int_equal(qr_tokenizer_eos_id(tok), 7);
    check(tok, "hello l<|endoftext|>", true, IDS(5, 6, 0, 4, 2, 7));
    qr_tokenizer_close(tok);
    qr_temp_dir_remove(&dir);
}

static void assert_ranks_refused(const char *text, const char *config, enum qr_status expected,
                                 const char *message)
{
    const struct qr_file_text file = {"t.tiktoken", text, strlen(text)};
    json_t *root = config != NULL ? json_loads(config, 0, NULL) : NULL;
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    assert_int_equal(qr_tokenizer_from_tiktoken(&file, root, &tok, &err), expected);
    assert_null(tok);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.message, message);
    json_decref(root);
}

static void test_broken_ranks(void **state)
{
    (void)state;
    assert_ranks_refused(ranks, NULL, QR_ERR_UNSUPPORTED, "goes with 9 ranks is not known");
    assert_ranks_refused(ranks, "{\"tokenizer_class\":\"BertTokenizer\"}", QR_ERR_UNSUPPORTED,
                         "\"BertTokenizer\" is not known");
    assert_ranks_refused("aA== 0\naA== 1\n", gpt2_config, QR_ERR_INVALID,
                         "the token of rank 1 is there twice");
    assert_ranks_refused("aA== 0\naQ== 0\n", gpt2_config, QR_ERR_INVALID, "the id 0 of");
    assert_ranks_refused("aA== 0\naA= 1\n", gpt2_config, QR_ERR_INVALID, "line 2: must be");
    assert_ranks_refused("aA==\n", gpt2_config, QR_ERR_INVALID, "line 1: must be");
    assert_ranks_refused("aA== 99999999999999\n", gpt2_config, QR_ERR_INVALID, "line 1: must be");
    assert_ranks_refused("", gpt2_config, QR_ERR_INVALID, "vocab: is empty");
    assert_false(qr_looks_like_tiktoken("GGUF\x03\0\0\0", 8));
    assert_false(qr_looks_like_tiktoken("", 0));
    assert_true(qr_looks_like_tiktoken(ranks, strlen(ranks)));
}

static void assert_pair_refused(const char *vocab_text, const char *merges_text,
                                enum qr_status expected, const char *message)
{
    const struct qr_file_text files[] = {{"vocab.json", vocab_text, strlen(vocab_text)},
                                         {"merges.txt", merges_text, strlen(merges_text)}};
    struct qr_tokenizer *tok;
    struct qr_error err = {0};

    assert_int_equal(qr_tokenizer_from_vocab_and_merges(&files[0], &files[1], NULL, &tok, &err),
                     expected);
    assert_null(tok);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.message, message);
}

static void test_broken_pairs(void **state)
{
    struct qr_temp_dir dir;
    struct qr_tokenizer *tok;
    struct qr_error err = {0};
    char path[QR_TEMP_PATH_MAX + 32];

    (void)state;
    assert_pair_refused("{\"a\":\"b\"}", merges, QR_ERR_INVALID, "vocab.json: vocab: the id of");
    assert_pair_refused("[]", merges, QR_ERR_INVALID, "vocab.json: must hold a JSON object");
    assert_pair_refused(vocab, "he\n", QR_ERR_INVALID, "merges.txt: merges: line 1 must be");
    assert_pair_refused(vocab, "h x\n", QR_ERR_INVALID, "needs the token \"x\"");
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "vocab.json", vocab, strlen(vocab));
    snprintf(path, sizeof(path), "%s/vocab.json", dir.path);
    assert_int_equal(qr_tokenizer_open(path, &tok, &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "vocab.json and merges.txt belong together"));
    qr_temp_dir_remove(&dir);
}

/* A SentencePiece model's later tokens are in the tokenizer_config.json beside it. */
static void test_added_to_sentencepiece(void **state)
{
    static const char config[] = "{\"added_tokens_decoder\":{"
                                 "\"0\":{\"content\":\"<other>\",\"special\":true},"
                                 "\"900\":{\"content\":\"<|end|>\",\"special\":true,"
                                 "\"normalized\":false}},\"eos_token\":\"<|end|>\"}";
    const char *source = getenv("QUIRE_SOURCE_DIR");
    struct qr_temp_dir dir;
    char model[1 << 16];
    char path[1024];

    (void)state;
    snprintf(path, sizeof(path), "%s/tests/runtime/tokenizer/data/tokenizers/spm_bpe.model",
             source != NULL ? source : ".");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n_bytes = fread(model, 1, sizeof(model), file);
    fclose(file);
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "tokenizer.model", model, n_bytes);
    qr_temp_dir_write(&dir, "tokenizer_config.json", config, strlen(config));
    struct qr_tokenizer *tok = open_directory(&dir);
    assert_int_equal(qr_tokenizer_eos_id(tok), 900);
    assert_int_equal(qr_tokenizer_vocab_size(tok), 901);
    check(tok, "<|end|>", true, IDS(1, 900));
    qr_tokenizer_close(tok);
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_vocab_and_merges),
        cmocka_unit_test(test_broken_ranks),
        cmocka_unit_test(test_broken_pairs),
        cmocka_unit_test(test_added_to_sentencepiece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
