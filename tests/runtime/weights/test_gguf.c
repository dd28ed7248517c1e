/* test_gguf.c - GGUF files of the gguf package and of llama.cpp, and every way in which one lies.
 */
#include "runtime/weights/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/gguf_builder.h"
#include "tests/support/testdata.h"

static void open_seed(const char *name, struct qr_gguf_file *file)
{
    char path[1024];
    struct qr_error err = {""};

    snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/gguf/%s", getenv("QUIRE_SOURCE_DIR"), name);
    if (qr_gguf_open(path, file, &err) != QR_OK)
        fail_msg("%s", err.message);
}

static int64_t int_of(const struct qr_gguf *gguf, const char *key)
{
    int64_t out = 0;
    struct qr_error err = {""};
    if (qr_gguf_get_int(gguf, key, INT64_MIN, INT64_MAX, -1, &out, &err) != QR_OK)
        fail_msg("%s", err.message);
    return out;
}

static void every_type_of_the_package_is_read(void **state)
{
    (void)state;
    struct qr_gguf_file file;
    struct qr_gguf_text text;
    double number = 0.0;
    bool flag = false;

    open_seed("values", &file);
    const struct qr_gguf *gguf = &file.gguf;
    assert_int_equal(int_of(gguf, "u8"), 200);
    assert_int_equal(int_of(gguf, "i8"), -100);
    assert_int_equal(int_of(gguf, "u16"), 60000);
    assert_int_equal(int_of(gguf, "i16"), -30000);
    assert_int_equal(int_of(gguf, "u32"), 4000000000);
    assert_int_equal(int_of(gguf, "i32"), -2000000000);
    assert_int_equal(int_of(gguf, "u64"), INT64_MAX);
    assert_int_equal(int_of(gguf, "i64"), -(INT64_C(1) << 62));
    assert_int_equal(int_of(gguf, "same"), 7);
    assert_int_equal(int_of(gguf, "absent"), -1);
    assert_int_equal(qr_gguf_get_number(gguf, "f32", 0, 1, 0, &number, NULL), QR_OK);
    assert_true(number == (double)0.1f);
    assert_int_equal(qr_gguf_get_number(gguf, "f64", -1, 1, 0, &number, NULL), QR_OK);
    assert_true(number == -0.1);
    assert_int_equal(qr_gguf_get_number(gguf, "u8", 0, 1000, 0, &number, NULL), QR_OK);
    assert_true(number == 200.0);
    assert_int_equal(qr_gguf_get_bool(gguf, "yes", false, &flag, NULL), QR_OK);
    assert_true(flag);
    assert_int_equal(qr_gguf_get_bool(gguf, "no", true, &flag, NULL), QR_OK);
    assert_false(flag);
    assert_int_equal(qr_gguf_get_string(gguf, "text", &text, NULL), QR_OK);
    assert_true(qr_gguf_text_is(text, "Grüße"));
    assert_int_equal(qr_gguf_get_string(gguf, "absent", &text, NULL), QR_OK);
    assert_null(text.bytes);
    qr_gguf_close(&file);
}

static void arrays_are_read_item_by_item(void **state)
{
    (void)state;
    static const char *const strings[] = {"a", "", "日本"};
    struct qr_gguf_file file;

    open_seed("values", &file);
    const struct qr_gguf_value *ints = qr_gguf_get_array(&file.gguf, "ints", QR_GGUF_INT32);
    assert_non_null(ints);
    assert_int_equal(ints->count, 3);
    assert_int_equal(qr_gguf_int_at(ints, 0), 3);
    assert_int_equal(qr_gguf_int_at(ints, 1), -1);
    const struct qr_gguf_value *numbers = qr_gguf_get_array(&file.gguf, "numbers", QR_GGUF_FLOAT32);
    assert_non_null(numbers);
    assert_true(qr_gguf_number_at(numbers, 1) == 1.5);
    const struct qr_gguf_value *array = qr_gguf_get_array(&file.gguf, "strings", QR_GGUF_STRING);
    assert_non_null(array);
    const uint8_t *cursor = array->data;
    for (uint64_t i = 0; i < array->count; i++)
        assert_true(qr_gguf_text_is(qr_gguf_next_string(&cursor), strings[i]));
    assert_null(qr_gguf_get_array(&file.gguf, "strings", QR_GGUF_INT32));
    assert_null(qr_gguf_get_array(&file.gguf, "text", QR_GGUF_STRING));
    qr_gguf_close(&file);
}

static void assert_mentions(const struct qr_error *err, const char *words)
{
    if (strstr(err->message, words) == NULL)
        fail_msg("\"%s\" does not mention \"%s\"", err->message, words);
}

static void values_of_another_kind_are_refused_by_name(void **state)
{
    (void)state;
    struct qr_gguf_file file;
    struct qr_gguf_text text;
    struct qr_error err = {""};
    int64_t integer;
    double number;
    bool flag;

    open_seed("values", &file);
    const struct qr_gguf *gguf = &file.gguf;
    assert_int_equal(qr_gguf_get_int(gguf, "u8", 0, 100, 1, &integer, &err), QR_ERR_INVALID);
    assert_mentions(&err, "u8 is 200; it must be in [0, 100]");
    assert_int_equal(qr_gguf_get_int(gguf, "f32", 0, 1, 1, &integer, &err), QR_ERR_INVALID);
    assert_mentions(&err, "f32 must be an integer");
    assert_int_equal(qr_gguf_get_int(gguf, "ints", 0, 9, 1, &integer, &err), QR_ERR_INVALID);
    assert_int_equal(qr_gguf_get_int(gguf, "yes", 0, 9, 1, &integer, &err), QR_ERR_INVALID);
    assert_int_equal(qr_gguf_get_number(gguf, "text", 0, 9, 1, &number, &err), QR_ERR_INVALID);
    assert_int_equal(qr_gguf_get_number(gguf, "f64", 0, 9, 1, &number, &err), QR_ERR_INVALID);
    assert_mentions(&err, "f64 is -0.1");
    assert_int_equal(qr_gguf_get_bool(gguf, "u8", true, &flag, &err), QR_ERR_INVALID);
    assert_mentions(&err, "u8 must be true or false");
    assert_int_equal(qr_gguf_get_string(gguf, "strings", &text, &err), QR_ERR_INVALID);
    assert_mentions(&err, "strings must be a string");
    qr_gguf_close(&file);
}

static const struct qr_tensor_entry *find_tensor(const struct qr_gguf *gguf, const char *name)
{
    for (size_t i = 0; i < gguf->tensors.count; i++)
        if (strcmp(gguf->tensors.entries[i].name, name) == 0)
            return &gguf->tensors.entries[i];
    return NULL;
}

static void tensors_point_to_their_data(void **state)
{
    (void)state;
    struct qr_gguf_file file;

    open_seed("tensors", &file);
    assert_int_equal(file.gguf.tensors.count, 11);
    const struct qr_tensor_entry *f32 = find_tensor(&file.gguf, "f32");
    assert_int_equal(f32->tensor.n_dims, 2);
    assert_int_equal(f32->tensor.dims[0], 2); /* in the file the other way round */
    assert_int_equal(f32->tensor.dims[1], 3);
    for (int i = 0; i < 6; i++)
        assert_true(((const float *)f32->tensor.data)[i] == (float)i);
    const struct qr_tensor_entry *q4_k = find_tensor(&file.gguf, "q4_k");
    assert_int_equal(q4_k->tensor.dtype, QR_DTYPE_Q4_K);
    assert_int_equal(q4_k->tensor.dims[1], 256);
    assert_int_equal(q4_k->end - q4_k->begin, 2 * 144);
    const struct qr_tensor_entry *q3_k = find_tensor(&file.gguf, "q3_k");
    assert_false(q3_k->is_readable); /* it may be there, and is not computed with */
    assert_string_equal(q3_k->dtype_name, "Q3_K");
    assert_null(find_tensor(&file.gguf, "q9_k"));
    qr_gguf_close(&file);
}

static void real_files_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint64_t n_tokens;
        size_t n_tensors;
    } files[] = {
        {"models/stories260k/stories260K.gguf", 512, 48},
        {"tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf", 32000, 0},
        {"tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf", 50257, 0},
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[QR_TEST_PATH_MAX];
        struct qr_gguf_file file;
        if (!qr_testdata(files[i].path, path))
            return;
        assert_int_equal(qr_gguf_open(path, &file, NULL), QR_OK);
        const struct qr_gguf_value *tokens =
            qr_gguf_get_array(&file.gguf, "tokenizer.ggml.tokens", QR_GGUF_STRING);
        assert_non_null(tokens);
        assert_int_equal(tokens->count, files[i].n_tokens);
        assert_int_equal(file.gguf.tensors.count, files[i].n_tensors);
        qr_gguf_close(&file);
    }
}

/* ---- files that lie ---- */

static void assert_refused(const void *bytes, size_t size, enum qr_status status, const char *words)
{
    struct qr_gguf gguf;
    struct qr_error err = {""};
    uint8_t *data = qr_aligned_alloc(QR_ARENA_ENGINE, 32, size + 1);

    assert_non_null(data);
    memcpy(data, bytes, size);
    enum qr_status found = qr_gguf_parse("bad.gguf", data, size, &gguf, &err);
    if (found != status)
        fail_msg("%s instead of %s: %s", qr_status_name(found), qr_status_name(status),
                 err.message);
    assert_mentions(&err, "bad.gguf");
    assert_mentions(&err, words);
    qr_gguf_free(&gguf);
    qr_free(data);
}

static void assert_built_refused(struct gguf_builder *gguf, enum qr_status status,
                                 const char *words)
{
    struct qr_buffer file = {0};

    gguf_build(gguf, &file);
    assert_refused(file.data, file.length, status, words);
    qr_buffer_free(&file);
    gguf_free(gguf);
}

static void other_files_and_versions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum qr_status status;
        const char *words;
    } files[] = {
        {"", 0, QR_ERR_INVALID, "no GGUF file"},
        {"GGU", 3, QR_ERR_INVALID, "no GGUF file"},
        {"GGML\3\0\0\0", 8, QR_ERR_INVALID, "no GGUF file"},
        {"GGUF\3\0", 6, QR_ERR_INVALID, "cut short"},
        {"GGUF\1\0\0\0", 8, QR_ERR_UNSUPPORTED, "version 1; Quire reads 2 and 3"},
        {"GGUF\4\0\0\0", 8, QR_ERR_UNSUPPORTED, "version 4"},
        {"GGUF\0\0\0\3", 8, QR_ERR_UNSUPPORTED, "big-endian"},
        {"GGUF\3\0\0\0\0\0\0\0", 12, QR_ERR_INVALID, "cut short"},
        {"GGUF\3\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0\0\0\0\0", 24, QR_ERR_INVALID,
         "18446744073709551615 tensors"},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 24, QR_ERR_INVALID,
         "18446744073709551615 metadata values"},
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        assert_refused(files[i].bytes, files[i].size, files[i].status, files[i].words);
}

static void version_2_is_read(void **state)
{
    (void)state;
    struct gguf_builder gguf = {.version = 2};
    struct qr_buffer file = {0};
    struct qr_gguf parsed;

    gguf_add_u32(&gguf, "answer", 42);
    gguf_build(&gguf, &file);
    assert_int_equal(qr_gguf_parse("v2", (const uint8_t *)file.data, file.length, &parsed, NULL),
                     QR_OK);
    assert_int_equal(int_of(&parsed, "answer"), 42);
    qr_gguf_free(&parsed);
    qr_buffer_free(&file);
    gguf_free(&gguf);
}

static void metadata_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    const uint64_t huge = UINT64_MAX / 2;
    struct gguf_builder gguf = {0};

    gguf_add_u32(&gguf, "", 1);
    assert_built_refused(&gguf, QR_ERR_INVALID, "0 bytes; it must have 1 to");
    gguf_add_u32(&gguf, "a", 1);
    gguf_add_string(&gguf, "b", "");
    gguf_add_u32(&gguf, "a", 2);
    assert_built_refused(&gguf, QR_ERR_INVALID, "key a stands in it twice");
    gguf_add_int(&gguf, "a", (enum qr_gguf_type)13, 0);
    assert_built_refused(&gguf, QR_ERR_UNSUPPORTED, "a: value type 13");
    gguf_add_array(&gguf, "a", QR_GGUF_ARRAY, 1, "\0\0\0\0", 4);
    assert_built_refused(&gguf, QR_ERR_UNSUPPORTED, "a: an array of arrays");
    gguf_add_array(&gguf, "a", QR_GGUF_UINT64, huge, "", 0);
    assert_built_refused(&gguf, QR_ERR_INVALID, "beyond the end");
    gguf_add_array(&gguf, "a", QR_GGUF_STRING, huge, "", 0);
    assert_built_refused(&gguf, QR_ERR_INVALID, "beyond the end");
    gguf_add_array(&gguf, "a", QR_GGUF_STRING, 1, &huge, sizeof(huge));
    assert_built_refused(&gguf, QR_ERR_INVALID, "a string at byte");
    gguf_add_u32(&gguf, "general.alignment", 48);
    assert_built_refused(&gguf, QR_ERR_INVALID, "general.alignment is 48; it must be a power");
    gguf_add_u32(&gguf, "general.alignment", 0);
    assert_built_refused(&gguf, QR_ERR_INVALID, "general.alignment is 0");
}

static void tensors_that_lie_are_refused(void **state)
{
    (void)state;
    static const int64_t two[] = {2, 3};
    static const int64_t none[] = {0};
    static const int64_t huge[] = {INT64_MAX, INT64_MAX};
    static const int64_t rows[] = {4, 48};
    static const int64_t five[] = {1, 1, 1, 1, 1};
    static const uint8_t data[24] = {1};
    static const struct {
        const char *name;
        int n_dims;
        const int64_t *dims;
        uint32_t type;
        uint64_t offset;
        enum qr_status status;
        const char *words;
    } bad[] = {
        {"", 2, two, 0, 0, QR_ERR_INVALID, "name before byte"},
        {"t", 0, two, 0, 0, QR_ERR_INVALID, "t: it has 0 dimensions"},
        {"t", 5, five, 0, 0, QR_ERR_INVALID, "t: it has 5 dimensions"},
        {"t", 1, none, 0, 0, QR_ERR_INVALID, "t: dimension 0 makes it empty"},
        {"t", 2, huge, 0, 0, QR_ERR_INVALID, "t: dimension 9223372036854775807"},
        {"t", 1, huge, 28, 0, QR_ERR_INVALID, "t: it is too large"},
        {"t", 2, two, 4, 0, QR_ERR_UNSUPPORTED, "t: ggml type 4 is unknown"},
        {"t", 2, rows, 2, 0, QR_ERR_INVALID, "t: rows of 48 elements are no whole Q4_0 blocks"},
        {"t", 2, two, 0, 4, QR_ERR_INVALID, "t: offset 4 is no multiple"},
        {"t", 2, two, 0, UINT64_MAX - 31, QR_ERR_INVALID, "t: offset 18446744073709551584"},
        {"t", 2, two, 0, 32, QR_ERR_INVALID, "t: bytes 32 to 56 do not lie within the 24"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct gguf_builder gguf = {0};
        gguf_add_entry(&gguf, bad[i].name, bad[i].type, bad[i].n_dims, bad[i].dims, bad[i].offset);
        assert_int_equal(qr_buffer_append(&gguf.data, data, sizeof(data)), QR_OK);
        assert_built_refused(&gguf, bad[i].status, bad[i].words);
    }
}

static void tensors_that_overlap_are_refused(void **state)
{
    (void)state;
    static const int64_t dims[] = {2, 8};
    static const float data[16] = {0};
    struct gguf_builder gguf = {0};

    gguf_add_tensor(&gguf, "a", 0, 2, dims, data, sizeof(data));
    gguf_add_entry(&gguf, "b", 0, 1, dims, 32);
    assert_built_refused(&gguf, QR_ERR_INVALID, "tensor b overlaps tensor a");
}

/* A good file, cut at every byte. */
static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    static const int64_t dims[] = {2, 3};
    static const float data[6] = {1.0f};
    static const char *const words[] = {"one", "two"};
    struct gguf_builder gguf = {.alignment = 8};
    struct qr_buffer file = {0};
    struct qr_gguf parsed;

    gguf_add_string(&gguf, "general.architecture", "llama");
    gguf_add_strings(&gguf, "words", 2, words);
    gguf_add_tensor(&gguf, "t", 0, 2, dims, data, sizeof(data));
    gguf_build(&gguf, &file);
    assert_int_equal(qr_gguf_parse("whole", (const uint8_t *)file.data, file.length, &parsed, NULL),
                     QR_OK);
    qr_gguf_free(&parsed);
    for (size_t size = 0; size < file.length; size++)
        assert_refused(file.data, size, QR_ERR_INVALID, "bad.gguf");
    qr_buffer_free(&file);
    gguf_free(&gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_of_the_package_is_read),
        cmocka_unit_test(arrays_are_read_item_by_item),
        cmocka_unit_test(values_of_another_kind_are_refused_by_name),
        cmocka_unit_test(tensors_point_to_their_data),
        cmocka_unit_test(real_files_are_read),
        cmocka_unit_test(other_files_and_versions_are_refused),
        cmocka_unit_test(version_2_is_read),
        cmocka_unit_test(metadata_that_contradicts_itself_is_refused),
        cmocka_unit_test(tensors_that_lie_are_refused),
        cmocka_unit_test(tensors_that_overlap_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
