/*
 * test_sentencepiece_trainer.c - SentencePiece's models from text: BPE learns what the
 * sentencepiece package learns from the same files (tools/fixtures/sentencepiece_trainer.py),
 * both models are the same for any number of threads, and errors say what is wrong.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mapped_file.h"
#include "proto/sentencepiece/sentencepiece_model.pb-c.h"
#include "runtime/tokenizer/trainer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tokenizers.h"

enum { PATH_BYTES = 512, MAX_FILES = 4, MAX_THREADS = 3 };

typedef Quire__Sentencepiece__ModelProto model_proto;
typedef enum qr_status (*train_fn)(const struct qr_trainer_config *config, const char *const *files,
                                   int32_t n_files, const char *output_dir, struct qr_error *err);

/* A case of the fixture as options. */
struct training {
    char paths[MAX_FILES][PATH_BYTES];
    const char *files[MAX_FILES];
    const char *special_tokens[MAX_FILES];
    struct qr_trainer_config config;
    int32_t n_files;
};

static const char *source_path(const char *relative, char *path)
{
    const char *root = getenv("QUIRE_SOURCE_DIR");

    snprintf(path, PATH_BYTES, "%s/%s", root != NULL ? root : ".", relative);
    return path;
}

static void add_file(struct training *training, const char *relative)
{
    int32_t i = training->n_files++;
    training->files[i] = source_path(relative, training->paths[i]);
}

static void init_training(struct training *training, int32_t vocab_size)
{
    *training = (struct training){.n_files = 0};
    training->config = (struct qr_trainer_config){
        .vocab_size = vocab_size,
        .special_tokens = training->special_tokens,
        .n_threads = 1,
        .character_coverage = 0.9995F,
        .max_piece_length = 16,
    };
}

static void read_case(struct training *training, const json_t *row)
{
    const json_t *coverage = json_object_get(row, "character_coverage");
    const json_t *max_length = json_object_get(row, "max_piece_length");
    const json_t *item;
    size_t i;

    init_training(training, (int32_t)json_integer_value(json_object_get(row, "vocab_size")));
    json_array_foreach(json_object_get(row, "files"), i, item)
        add_file(training, json_string_value(item));
    json_array_foreach(json_object_get(row, "special_tokens"), i, item)
        training->special_tokens[training->config.n_special++] = json_string_value(item);
    training->config.byte_fallback = json_is_true(json_object_get(row, "byte_fallback"));
    if (coverage != NULL)
        training->config.character_coverage = (float)json_real_value(coverage);
    if (max_length != NULL)
        training->config.max_piece_length = (int32_t)json_integer_value(max_length);
}

/* Trains with 1, 2 and 3 threads, which must give the same file; leaves it in `dir`. */
static void train(struct training *training, train_fn fn, const struct qr_temp_dir *dir,
                  char path[PATH_BYTES])
{
    struct qr_buffer first = {.arena = QR_ARENA_REQUEST};
    struct qr_mapped_file file;
    struct qr_error err = {0};

    snprintf(path, PATH_BYTES, "%s/tokenizer.model", dir->path);
    for (int32_t n = 1; n <= MAX_THREADS; n++) {
        training->config.n_threads = n;
        if (fn(&training->config, training->files, training->n_files, dir->path, &err) != QR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
        if (n == 1)
            assert_int_equal(qr_buffer_append(&first, file.data, file.size), QR_OK);
        assert_int_equal(file.size, first.length);
        assert_memory_equal(file.data, first.data, file.size);
        qr_mapped_file_close(&file);
    }
    qr_buffer_free(&first);
}

static model_proto *read_model(const char *path)
{
    struct qr_mapped_file file;

    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    model_proto *model = quire__sentencepiece__model_proto__unpack(NULL, file.size, file.data);
    qr_mapped_file_close(&file);
    assert_non_null(model);
    return model;
}

static void check_pieces(const char *path, const json_t *row)
{
    model_proto *model = read_model(path);
    const json_t *pieces = json_object_get(row, "pieces");
    const json_t *scores = json_object_get(row, "scores");

    assert_int_equal(model->n_pieces, json_array_size(pieces));
    for (size_t i = 0; i < model->n_pieces; i++) {
        const char *expected = json_string_value(json_array_get(pieces, i));
        const ProtobufCBinaryData *text = &model->pieces[i]->piece;
        if (text->len != strlen(expected) || memcmp(text->data, expected, text->len) != 0)
            fail_msg("piece %zu is \"%.*s\", not \"%s\"", i, (int)text->len,
                     (const char *)text->data, expected);
        assert_true(model->pieces[i]->score == (float)json_real_value(json_array_get(scores, i)));
    }
    quire__sentencepiece__model_proto__free_unpacked(model, NULL);
}

static void check_encodings(const char *path, const json_t *row)
{
    const struct qr_encode_options options = {.add_bos = false};
    struct qr_tokenizer *tok;
    struct qr_error err = {0};
    const json_t *one;
    size_t i;

    if (qr_tokenizer_open(path, &tok, &err) != QR_OK)
        fail_msg("%s", err.message);
    json_array_foreach(json_object_get(row, "encodings"), i, one)
    {
        const json_t *text = json_object_get(one, "text");
        struct qr_token_ids ids = ids_from_json(json_object_get(one, "ids"));
        assert_encodes(tok, json_string_value(text), json_string_length(text), &options, ids.ids,
                       ids.count);
        qr_token_ids_free(&ids);
    }
    qr_tokenizer_close(tok);
}

static void bpe_equals_reference(void **state)
{
    char path[PATH_BYTES];
    struct qr_temp_dir dir;
    struct training training;
    json_error_t error;
    const json_t *row;
    size_t i;

    (void)state;
    json_t *root = json_load_file(
        source_path("tests/runtime/tokenizer/data/sentencepiece_trainer.json", path), 0, &error);
    assert_true(json_array_size(root) >= 4);
    qr_temp_dir_make(&dir);
    json_array_foreach(root, i, row)
    {
        read_case(&training, row);
        train(&training, qr_train_sentencepiece_bpe, &dir, path);
        check_pieces(path, row);
        check_encodings(path, row);
    }
    qr_temp_dir_remove(&dir);
    json_decref(root);
}

/* Scores are the logarithms of shares, in falling order; each character has a piece. */
static void unigram_is_a_distribution(void **state)
{
    char path[PATH_BYTES];
    struct qr_temp_dir dir;
    struct training training;
    double sum = 0;
    int n_letters = 0;

    (void)state;
    qr_temp_dir_make(&dir);
    init_training(&training, 600);
    add_file(&training, "tests/runtime/tokenizer/data/apache.txt");
    training.special_tokens[training.config.n_special++] = "<|x|>";
    train(&training, qr_train_unigram, &dir, path);
    model_proto *model = read_model(path);
    assert_int_equal(model->n_pieces, 600);
    assert_int_equal(model->trainer_spec->model_type,
                     QUIRE__SENTENCEPIECE__TRAINER_SPEC__MODEL_TYPE__UNIGRAM);
    assert_memory_equal(model->pieces[3]->piece.data, "<|x|>", 5);
    for (size_t i = 4; i < model->n_pieces; i++) {
        const ProtobufCBinaryData *text = &model->pieces[i]->piece;
        assert_true(model->pieces[i]->score < 0);
        assert_true(i == 4 || model->pieces[i]->score <= model->pieces[i - 1]->score);
        sum += exp((double)model->pieces[i]->score);
        n_letters += text->len == 1 && text->data[0] >= 'a' && text->data[0] <= 'z';
    }
    assert_int_equal(n_letters, 26);
    /* The digamma function takes from the rare pieces, and the last choice leaves some out. */
    assert_true(sum > 0.8 && sum < 1);
    quire__sentencepiece__model_proto__free_unpacked(model, NULL);
    qr_temp_dir_remove(&dir);
}

static void check_one_token(const char *path, const char *word)
{
    const struct qr_encode_options options = {.add_bos = false};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    struct qr_tokenizer *tok;

    assert_int_equal(qr_tokenizer_open(path, &tok, NULL), QR_OK);
    assert_string_equal(qr_tokenizer_kind(tok), "sentencepiece-unigram");
    assert_int_equal(qr_tokenizer_encode(tok, word, strlen(word), &options, &ids, NULL), QR_OK);
    assert_int_equal(ids.count, 1);
    assert_int_equal(qr_tokenizer_decode(tok, ids.ids, 1, false, &text, NULL), QR_OK);
    assert_string_equal(text.data, word);
    qr_buffer_free(&text);
    qr_token_ids_free(&ids);
    qr_tokenizer_close(tok);
}

/* A word that is always the same is worth one piece; its parts by themselves are not. */
static void unigram_finds_words(void **state)
{
    char path[PATH_BYTES];
    char text_path[PATH_BYTES];
    struct qr_temp_dir dir;
    struct training training;
    bool has_word = false;

    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(text_path, sizeof(text_path), "%s/text", dir.path);
    FILE *file = fopen(text_path, "w");
    assert_non_null(file);
    for (int i = 0; i < 200; i++)
        fprintf(file, "quire serves %d  quire\n", i * 7919 % 1000);
    fclose(file);
    init_training(&training, 32);
    training.files[training.n_files++] = text_path;
    train(&training, qr_train_unigram, &dir, path);
    model_proto *model = read_model(path);
    for (size_t i = 0; i < model->n_pieces; i++) {
        const ProtobufCBinaryData *piece = &model->pieces[i]->piece;
        has_word =
            has_word || (piece->len == 8 && memcmp(piece->data, "\xe2\x96\x81quire", 8) == 0);
        assert_false(piece->len == 4 && memcmp(piece->data, "quir", 4) == 0);
    }
    assert_true(has_word);
    quire__sentencepiece__model_proto__free_unpacked(model, NULL);
    check_one_token(path, "quire");
    qr_temp_dir_remove(&dir);
}

static void assert_refused(train_fn fn, const struct qr_trainer_config *config, const char *file,
                           const char *message)
{
    struct qr_error err = {0};

    assert_int_equal(fn(config, &file, 1, "/nonexistent", &err), QR_ERR_INVALID);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, message);
}

static void errors(void **state)
{
    static const train_fn both[] = {qr_train_sentencepiece_bpe, qr_train_unigram};
    static const char *const taken[] = {"</s>"};
    char text[PATH_BYTES];
    char empty[PATH_BYTES];
    struct qr_temp_dir dir;

    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(empty, sizeof(empty), "%s/empty", dir.path);
    fclose(fopen(empty, "w"));
    source_path("tests/runtime/tokenizer/data/mixed.txt", text);
    for (int i = 0; i < 2; i++) {
        struct training training;
        struct qr_trainer_config *config = &training.config;
        init_training(&training, 3);
        assert_refused(both[i], config, text, "vocab_size: 3 is too small; <unk>, <s>, </s>");
        config->vocab_size = 20;
        assert_refused(both[i], config, text, "characters; a smaller character coverage");
        assert_refused(both[i], config, empty, "no text");
        config->byte_fallback = true;
        assert_refused(both[i], config, text, "the 256 bytes");
        config->byte_fallback = false;
        config->character_coverage = 0;
        assert_refused(both[i], config, text, "character_coverage: 0 is not in (0, 1]");
        config->character_coverage = 1;
        config->max_piece_length = 0;
        assert_refused(both[i], config, text, "max_piece_length: 0 is not in 1 to 512");
        config->max_piece_length = 16;
        config->n_threads = 0;
        assert_refused(both[i], config, text, "threads: 0 is not in 1 to 1024");
        config->n_threads = 1;
        config->special_tokens = taken;
        config->n_special = 1;
        assert_refused(both[i], config, text, "\"</s>\" is there without being asked for");
    }
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_equals_reference),
        cmocka_unit_test(unigram_is_a_distribution),
        cmocka_unit_test(unigram_finds_words),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
