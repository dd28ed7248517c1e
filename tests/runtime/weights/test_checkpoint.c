/* test_checkpoint.c - good checkpoints, and every way in which one can lie. */
#include "runtime/weights/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/weights/safetensors.h"
#include "tests/support/temp_dir.h"
#include "tests/support/testdata.h"

enum { FILE_MAX = 4096 };

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

struct file_image {
    _Alignas(8) uint8_t bytes[FILE_MAX];
    size_t size;
};

/* A file with this header (padded with spaces to 8 bytes, as writers do) and this much data. */
static void make_file(struct file_image *file, const char *header, size_t data_bytes)
{
    size_t length = (strlen(header) + 7) / 8 * 8;

    file->size = 8 + length + data_bytes;
    assert_true(file->size <= FILE_MAX);
    memset(file->bytes, 0, sizeof(file->bytes));
    file->bytes[0] = (uint8_t)length;
    file->bytes[1] = (uint8_t)(length >> 8);
    memset(file->bytes + 8, ' ', length);
    memcpy(file->bytes + 8, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        file->bytes[8 + length + i] = (uint8_t)(i + 1);
}

static void assert_mentions(const struct qr_error *err, const char *words)
{
    if (strstr(err->message, words) == NULL)
        fail_msg("\"%s\" does not mention \"%s\"", err->message, words);
}

static void assert_parse_fails(const struct file_image *file, enum qr_status status,
                               const char *words)
{
    struct qr_tensor_list list = {0};
    struct qr_error err = {""};

    enum qr_status found =
        qr_safetensors_parse("bad.safetensors", file->bytes, file->size, &list, &err);
    if (found != status)
        fail_msg("%s instead of %s: %s", qr_status_name(found), qr_status_name(status),
                 err.message);
    assert_mentions(&err, "bad.safetensors");
    assert_mentions(&err, words);
    qr_tensor_list_free(&list);
}

static void tensors_point_into_the_data(void **state)
{
    (void)state;
    struct file_image file;
    struct qr_tensor_list list = {0};
    struct qr_error err = {""};

    make_file(&file,
              "{\"__metadata__\":{\"format\":\"pt\"},"
              "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
              "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
              "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[20,20]},"
              "\"one\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[20,22]},"
              "\"mask\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[22,25]}}",
              25);
    assert_int_equal(qr_safetensors_parse("f", file.bytes, file.size, &list, &err), QR_OK);
    assert_int_equal(list.count, 5);
    const uint8_t *data = file.bytes + file.size - 25;
    assert_string_equal(list.entries[0].name, "a");
    assert_ptr_equal(list.entries[0].tensor.data, data);
    assert_string_equal(list.entries[1].name, "b");
    assert_ptr_equal(list.entries[1].tensor.data, data + 8);
    assert_int_equal(list.entries[1].tensor.dtype, QR_DTYPE_BF16);
    assert_int_equal(list.entries[1].tensor.n_dims, 2);
    assert_int_equal(list.entries[1].tensor.dims[1], 3);
    assert_false(list.entries[4].is_readable); /* allowed to be there, not to be computed with */
    assert_string_equal(list.entries[4].dtype_name, "BOOL");
    qr_tensor_list_free(&list);
}

static void a_lying_header_length_is_refused(void **state)
{
    (void)state;
    struct file_image file;

    make_file(&file, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    file.size = 0;
    assert_parse_fails(&file, QR_ERR_INVALID, "0 bytes are too few");
    file.size = 7;
    assert_parse_fails(&file, QR_ERR_INVALID, "7 bytes are too few");
    file.size = 40; /* cut within the header */
    assert_parse_fails(&file, QR_ERR_INVALID, "beyond the file's 40 bytes");
    file.size = 80;
    memset(file.bytes, 0xFF, 8); /* 2^64 - 1: length + 8 would wrap */
    assert_parse_fails(&file, QR_ERR_INVALID, "header length 18446744073709551615");
    memset(file.bytes, 0, 8);
    assert_parse_fails(&file, QR_ERR_INVALID, "JSON");
}

static void headers_that_are_no_object_of_tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        const char *words;
    } bad[] = {
        {"", "JSON"},
        {"{\"a\":", "JSON"},
        {"{\"a\":1} trailing", "JSON"},
        {"\xFF\xFE{}", "JSON"},
        {"[1,2]", "no JSON object"},
        {"{}", "no tensor"},
        {"{\"__metadata__\":{}}", "no tensor"},
        {"{\"a\":7}", "tensor a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         "duplicate"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct file_image file;
        make_file(&file, bad[i].header, 0);
        assert_parse_fails(&file, QR_ERR_INVALID, bad[i].words);
    }
}

static void entries_that_do_not_add_up_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *entry; /* of tensor t, in a file of 16 bytes of data */
        enum qr_status status;
        const char *words;
    } bad[] = {
        {"\"shape\":[4],\"data_offsets\":[0,16]", QR_ERR_INVALID, "dtype"},
        {"\"dtype\":32,\"shape\":[4],\"data_offsets\":[0,16]", QR_ERR_INVALID, "dtype"},
        {"\"dtype\":\"F128\",\"shape\":[1],\"data_offsets\":[0,16]", QR_ERR_UNSUPPORTED, "F128"},
        {"\"dtype\":\"F32\",\"data_offsets\":[0,16]", QR_ERR_INVALID, "shape"},
        {"\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]", QR_ERR_INVALID, "shape"},
        {"\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]", QR_ERR_INVALID, "dimension 0"},
        {"\"dtype\":\"F32\",\"shape\":[2,2.0],\"data_offsets\":[0,16]", QR_ERR_INVALID,
         "dimension 1"},
        {"\"dtype\":\"F32\",\"shape\":[1,1,1,1,4],\"data_offsets\":[0,16]", QR_ERR_UNSUPPORTED,
         "5 dimensions"},
        {"\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,16]",
         QR_ERR_INVALID, "too large"},
        {"\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,16]",
         QR_ERR_INVALID, "JSON"},
        {"\"dtype\":\"F32\",\"shape\":[4]", QR_ERR_INVALID, "data_offsets"},
        {"\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,8,16]", QR_ERR_INVALID,
         "data_offsets"},
        {"\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[\"0\",16]", QR_ERR_INVALID,
         "data_offsets"},
        {"\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]", QR_ERR_INVALID,
         "[16, 0] do not lie"},
        {"\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]", QR_ERR_INVALID,
         "[-16, 0] do not lie"},
        {"\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]", QR_ERR_INVALID, "[0, 20]"},
        {"\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,32]", QR_ERR_INVALID, "[16, 32]"},
        {"\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]", QR_ERR_INVALID, "make 12"},
        {"\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,16]", QR_ERR_INVALID, "make 8"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct file_image file;
        char header[512];
        snprintf(header, sizeof(header), "{\"t\":{%s}}", bad[i].entry);
        make_file(&file, header, 16);
        assert_parse_fails(&file, bad[i].status, bad[i].words);
    }
}

static void overlaps_holes_and_odd_places_are_refused(void **state)
{
    (void)state;
    struct file_image file;

    make_file(&file,
              "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
              "\"y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
              12);
    assert_parse_fails(&file, QR_ERR_INVALID, "y overlaps tensor x");
    make_file(&file,
              "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
              "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
              12);
    assert_parse_fails(&file, QR_ERR_INVALID, "from byte 4 on");
    make_file(&file, "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8);
    assert_parse_fails(&file, QR_ERR_INVALID, "from byte 4 on");
    make_file(&file,
              "{\"odd\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
              "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]}}",
              7);
    assert_parse_fails(&file, QR_ERR_UNSUPPORTED, "not aligned");
}

/* What opening the directory says. */
static void assert_open_fails(const struct qr_temp_dir *dir, enum qr_status status,
                              const char *words)
{
    struct qr_checkpoint *checkpoint = (struct qr_checkpoint *)dir; /* must become NULL */
    struct qr_error err = {""};

    enum qr_status found = qr_checkpoint_open(dir->path, &checkpoint, &err);
    if (found != status)
        fail_msg("%s instead of %s: %s", qr_status_name(found), qr_status_name(status),
                 err.message);
    assert_null(checkpoint);
    assert_mentions(&err, words);
}

static void write_tensor(const struct qr_temp_dir *dir, const char *file_name, const char *tensor)
{
    struct file_image file;
    char header[256];

    snprintf(header, sizeof(header),
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", tensor);
    make_file(&file, header, 8);
    qr_temp_dir_write(dir, file_name, file.bytes, file.size);
}

static void write_index(const struct qr_temp_dir *dir, const char *json)
{
    qr_temp_dir_write(dir, INDEX, json, strlen(json));
}

static void an_index_is_checked_against_its_files(void **state)
{
    (void)state;
    struct qr_temp_dir dir;

    qr_temp_dir_make(&dir);
    assert_open_fails(&dir, QR_ERR_NOT_FOUND, SINGLE);
    write_tensor(&dir, "1.safetensors", "a");
    write_tensor(&dir, "2.safetensors", "b");

    write_index(&dir, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}");
    assert_open_fails(&dir, QR_ERR_NOT_FOUND, "3.safetensors");
    write_index(&dir, "{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "tensor c is not in 2.safetensors");
    write_index(&dir, "{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "as the index says");
    write_index(&dir, "{\"weight_map\":{\"a\":\"../1.safetensors\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "../1.safetensors");
    write_index(&dir, "{\"weight_map\":{\"a\":\"/etc/passwd\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "/etc/passwd");
    write_index(&dir, "{\"weight_map\":{\"a\":\"..\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "\"..\"");
    write_index(&dir, "{\"weight_map\":{\"a\":\"\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "tensor a");
    write_index(&dir, "{\"weight_map\":{\"a\":5}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "tensor a");
    write_index(&dir, "{\"weight_map\":[]}");
    assert_open_fails(&dir, QR_ERR_INVALID, "weight_map");
    write_index(&dir, "{\"metadata\":{}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "weight_map");
    write_index(&dir, "not json");
    assert_open_fails(&dir, QR_ERR_INVALID, INDEX);
    write_index(&dir, "");
    assert_open_fails(&dir, QR_ERR_INVALID, INDEX);
    write_tensor(&dir, "2.safetensors", "a");
    write_index(&dir, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}");
    assert_open_fails(&dir, QR_ERR_INVALID, "tensor a stands in both");
    qr_temp_dir_remove(&dir);
}

static void get_says_what_it_found_instead(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    struct qr_checkpoint *checkpoint;
    struct qr_tensor tensor;
    struct qr_error err = {""};
    const int64_t right[1] = {2};
    const int64_t wrong[2] = {3, 4};

    qr_temp_dir_make(&dir);
    write_tensor(&dir, SINGLE, "norm");
    assert_int_equal(qr_checkpoint_open(dir.path, &checkpoint, &err), QR_OK);
    assert_int_equal(qr_checkpoint_get(checkpoint, "norm", 1, right, &tensor, &err), QR_OK);
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), 2);
    assert_int_equal(qr_checkpoint_n_bytes(checkpoint), 8);
    assert_null(qr_checkpoint_find(checkpoint, "nor"));
    assert_int_equal(qr_checkpoint_get(checkpoint, "norm", 2, wrong, &tensor, &err),
                     QR_ERR_INVALID);
    assert_mentions(&err, "has shape [2], but config.json makes it [3, 4]");
    assert_int_equal(qr_checkpoint_get(checkpoint, "gate", 2, wrong, &tensor, &err),
                     QR_ERR_NOT_FOUND);
    assert_mentions(&err, "tensor gate is missing");
    qr_checkpoint_close(checkpoint);
    qr_checkpoint_close(NULL);
    qr_temp_dir_remove(&dir);
}

static void real_checkpoints_hold_the_same_tensors(void **state)
{
    (void)state;
    static const char *const dirs[] = {"models/stories260k/hf",
                                       "models/stories260k/hf-bf16-sharded"};

    for (int i = 0; i < 2; i++) {
        char path[QR_TEST_PATH_MAX];
        struct qr_checkpoint *checkpoint;
        struct qr_error err = {""};
        if (!qr_testdata(dirs[i], path))
            return;
        assert_int_equal(qr_checkpoint_open(path, &checkpoint, &err), QR_OK);
        const struct qr_tensor *tensor =
            qr_checkpoint_find(checkpoint, "model.layers.4.mlp.down_proj.weight");
        assert_non_null(tensor);
        assert_int_equal(tensor->dims[0], 64);
        assert_int_equal(tensor->dims[1], 172);
        assert_int_equal(tensor->dtype, i == 0 ? QR_DTYPE_F32 : QR_DTYPE_BF16);
        assert_int_equal(qr_checkpoint_n_parameters(checkpoint), 260032);
        qr_checkpoint_close(checkpoint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_point_into_the_data),
        cmocka_unit_test(a_lying_header_length_is_refused),
        cmocka_unit_test(headers_that_are_no_object_of_tensors_are_refused),
        cmocka_unit_test(entries_that_do_not_add_up_are_refused),
        cmocka_unit_test(overlaps_holes_and_odd_places_are_refused),
        cmocka_unit_test(an_index_is_checked_against_its_files),
        cmocka_unit_test(get_says_what_it_found_instead),
        cmocka_unit_test(real_checkpoints_hold_the_same_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
