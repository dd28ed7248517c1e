/*
 * test_bpe_trainer.c - the trainer learns the merges that Hugging Face's learns from the
 * same files (tools/fixtures/bpe_trainer.py), again and again, and says what is wrong.
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
#include "runtime/tokenizer/bpe_writer.h"
#include "runtime/tokenizer/trainer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tokenizers.h"

enum { PATH_BYTES = 512, MAX_FILES = 4 };

static json_t *load_json(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);

    if (root == NULL)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static const char *source_path(const char *relative, char *path)
{
    const char *root = getenv("QUIRE_SOURCE_DIR");

    snprintf(path, PATH_BYTES, "%s/%s", root != NULL ? root : ".", relative);
    return path;
}

struct fixture {
    json_t *root;
    char paths[MAX_FILES][PATH_BYTES];
    const char *files[MAX_FILES];
    const char *special_tokens[MAX_FILES];
    struct qr_trainer_config config;
    int32_t n_files;
};

static void open_fixture(struct fixture *fixture)
{
    char path[PATH_BYTES];
    json_t *item;
    size_t i;

    *fixture = (struct fixture){
        .root = load_json(source_path("tests/runtime/tokenizer/data/bpe_trainer.json", path)),
        .config = {.min_frequency = 2, .n_threads = 1, .special_tokens = fixture->special_tokens},
    };
    fixture->config.vocab_size =
        (int32_t)json_integer_value(json_object_get(fixture->root, "vocab_size"));
    json_array_foreach(json_object_get(fixture->root, "files"), i, item)
    {
        fixture->files[i] = source_path(json_string_value(item), fixture->paths[i]);
        fixture->n_files++;
    }
    json_array_foreach(json_object_get(fixture->root, "special_tokens"), i, item)
    {
        fixture->special_tokens[i] = json_string_value(item);
        fixture->config.n_special++;
    }
}

static void train(const struct fixture *fixture, const char *dir)
{
    struct qr_error err = {0};

    if (qr_train_byte_level_bpe(&fixture->config, fixture->files, fixture->n_files, dir, &err) !=
        QR_OK)
        fail_msg("%s", err.message);
}

static void test_equals_reference(void **state)
{
    const struct qr_encode_options options = {.parse_special = true};
    struct fixture fixture;
    struct qr_temp_dir dir;
    char path[QR_TEMP_PATH_MAX + 32];
    struct qr_tokenizer *tok;
    json_t *one;
    size_t i;

    (void)state;
    open_fixture(&fixture);
    qr_temp_dir_make(&dir);
    train(&fixture, dir.path);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir.path);
    json_t *trained = load_json(path);
    json_t *model = json_object_get(trained, "model");
    assert_int_equal(json_object_size(json_object_get(model, "vocab")), fixture.config.vocab_size);
    assert_true(
        json_equal(json_object_get(model, "merges"), json_object_get(fixture.root, "merges")));
    json_decref(trained);

    assert_int_equal(qr_tokenizer_open(path, &tok, NULL), QR_OK);
    assert_true(json_array_size(json_object_get(fixture.root, "encodings")) > 0);
    json_array_foreach(json_object_get(fixture.root, "encodings"), i, one)
    {
        const json_t *text = json_object_get(one, "text");
        struct qr_token_ids ids = ids_from_json(json_object_get(one, "ids"));
        assert_encodes(tok, json_string_value(text), json_string_length(text), &options, ids.ids,
                       ids.count);
        assert_streams_like_decode(tok, ids.ids, ids.count, false);
        qr_token_ids_free(&ids);
    }
    assert_true(qr_tokenizer_is_special(tok, 0));
    assert_encodes(tok, "<|eos|>", 7, &options, (const int32_t[]){1}, 1);
    qr_tokenizer_close(tok);
    json_decref(fixture.root);
    qr_temp_dir_remove(&dir);
}

static void assert_same_file(const char *dir_a, const char *dir_b)
{
    char path[QR_TEMP_PATH_MAX + 32];
    struct qr_mapped_file a;
    struct qr_mapped_file b;

    snprintf(path, sizeof(path), "%s/tokenizer.json", dir_a);
    assert_int_equal(qr_mapped_file_open(path, &a, NULL), QR_OK);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir_b);
    assert_int_equal(qr_mapped_file_open(path, &b, NULL), QR_OK);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    qr_mapped_file_close(&a);
    qr_mapped_file_close(&b);
}

/* The same bytes, whatever the order of the files. */
static void test_deterministic(void **state)
{
    struct fixture fixture;
    struct qr_temp_dir first;
    struct qr_temp_dir second;

    (void)state;
    open_fixture(&fixture);
    qr_temp_dir_make(&first);
    qr_temp_dir_make(&second);
    train(&fixture, first.path);
    assert_int_equal(fixture.n_files, 2);
    const char *file = fixture.files[0];
    fixture.files[0] = fixture.files[1];
    fixture.files[1] = file;
    train(&fixture, second.path);
    assert_same_file(first.path, second.path);
    json_decref(fixture.root);
    qr_temp_dir_remove(&first);
    qr_temp_dir_remove(&second);
}

/* Trains on `text` and compares the merges, written "a b,c d". */
static void assert_merges(const char *text, size_t n_bytes, int32_t n_merges, int64_t min_frequency,
                          const char *expected)
{
    const struct qr_trainer_config config = {
        .vocab_size = 256 + n_merges,
        .min_frequency = min_frequency,
        .n_threads = 1,
    };
    struct qr_temp_dir dir;
    char path[QR_TEMP_PATH_MAX + 32];
    const char *file = path;
    char merges[256] = "";
    json_t *merge;
    size_t i;

    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "text", text, n_bytes);
    snprintf(path, sizeof(path), "%s/text", dir.path);
    assert_int_equal(qr_train_byte_level_bpe(&config, &file, 1, dir.path, NULL), QR_OK);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir.path);
    json_t *root = load_json(path);
    json_array_foreach(json_object_get(json_object_get(root, "model"), "merges"), i, merge)
    {
        size_t length = strlen(merges);
        snprintf(merges + length, sizeof(merges) - length, "%s%s %s", i == 0 ? "" : ",",
                 json_string_value(json_array_get(merge, 0)),
                 json_string_value(json_array_get(merge, 1)));
    }
    assert_string_equal(merges, expected);
    json_decref(root);
    qr_temp_dir_remove(&dir);
}

static void test_order_of_merges(void **state)
{
    (void)state;
    assert_merges("ab ab ab cd cd", 14, 2, 2, "a b,c d");
    /* Equally frequent: the smaller left id first, then the smaller right one. */
    assert_merges("zy\nxb\nxa\nzy\nxb\nxa\n", 18, 3, 2, "x a,x b,z y");
    /* Pairs that are too rare stay apart, and there may be fewer merges than asked for. */
    assert_merges("ab ab cd", 8, 9, 2, "a b");
    assert_merges("ab cd", 5, 1, 1, "a b");
    assert_merges("aaaa", 4, 9, 1, "a a,aa aa");
    assert_merges("", 0, 9, 1, "");
    /* Bytes that are not UTF-8 are words of their own, each. */
    assert_merges("\xff\xfe\xff\xfe"
                  "ab",
                  6, 9, 1, "a b");
}

static void test_errors(void **state)
{
    static const char *const twice[] = {"<s>", "<s>"};
    static const char *const empty[] = {""};
    struct qr_trainer_config config = {.vocab_size = 255, .min_frequency = 2, .n_threads = 1};
    const char *missing = "/nonexistent/text";
    struct qr_error err;

    (void)state;
    assert_int_equal(qr_train_byte_level_bpe(&config, &missing, 1, "/tmp", &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "vocab_size: 255 is too small"));
    config.vocab_size = 300;
    assert_int_equal(qr_train_byte_level_bpe(&config, &missing, 1, "/tmp", &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/text: No such file"));
    config.n_special = 2;
    config.special_tokens = twice;
    assert_int_equal(qr_train_byte_level_bpe(&config, &missing, 1, "/tmp", &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "\"<s>\" is given twice"));
    config.n_special = 1;
    config.special_tokens = empty;
    assert_int_equal(qr_train_byte_level_bpe(&config, &missing, 1, "/tmp", &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "special token 0 is empty"));
    config.n_special = 0;
    assert_int_equal(qr_train_byte_level_bpe(&config, NULL, 0, "/proc/nowhere", &err), QR_ERR_IO);
    assert_non_null(strstr(err.message, "/proc/nowhere: the directory cannot be made"));
}

/* Of merges that name one pair the last counts. */
static void test_repeated_merges(void **state)
{
    static const char *const tokens[] = {"a", "b", "c", "ab", "bc"};
    const struct qr_bpe_merge merges[] = {{0, 1}, {1, 2}, {0, 1}};
    struct qr_string_table vocab = {0};
    struct qr_temp_dir dir;
    char path[QR_TEMP_PATH_MAX + 32];
    int32_t index;

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(qr_string_table_add(&vocab, tokens[i], strlen(tokens[i]), &index), QR_OK);
    qr_temp_dir_make(&dir);
    assert_int_equal(qr_bpe_write(dir.path, &vocab, 0, merges, 3, NULL), QR_OK);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir.path);
    json_t *root = load_json(path);
    json_t *expected = json_pack("[[s, s], [s, s]]", "b", "c", "a", "b");
    assert_true(json_equal(json_object_get(json_object_get(root, "model"), "merges"), expected));
    json_decref(expected);
    json_decref(root);
    qr_string_table_free(&vocab);
    qr_temp_dir_remove(&dir);
}

struct calls {
    int count;
    int64_t last_done;
    int64_t last_total;
    char phase[16];
};

static void note_progress(void *arg, const char *phase, int64_t done, int64_t total)
{
    struct calls *calls = arg;

    if (strcmp(calls->phase, phase) == 0)
        assert_true(done >= calls->last_done);
    snprintf(calls->phase, sizeof(calls->phase), "%s", phase);
    assert_true(done <= total);
    calls->last_done = done;
    calls->last_total = total;
    calls->count++;
}

static void test_progress(void **state)
{
    struct calls calls = {0};
    struct fixture fixture;
    struct qr_temp_dir dir;

    (void)state;
    open_fixture(&fixture);
    fixture.config.progress = note_progress;
    fixture.config.progress_arg = &calls;
    qr_temp_dir_make(&dir);
    train(&fixture, dir.path);
    assert_true(calls.count > 2);
    assert_string_equal(calls.phase, "merging");
    assert_int_equal(calls.last_done, fixture.config.vocab_size);
    assert_int_equal(calls.last_total, fixture.config.vocab_size);
    json_decref(fixture.root);
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_reference), cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_order_of_merges),  cmocka_unit_test(test_errors),
        cmocka_unit_test(test_repeated_merges),  cmocka_unit_test(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
