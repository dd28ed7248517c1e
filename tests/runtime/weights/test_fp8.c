/* test_fp8.c - FP8 checkpoints: codes, and scales in each shape that writers give them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "runtime/weights/checkpoint.h"
#include "tests/support/temp_dir.h"

enum { ROWS = 130, COLUMNS = 260, BLOCK_ROWS = 2, BLOCK_COLUMNS = 3 };

/* A directory with the matrix w.weight and its scales, whose header entry is given in parts. */
struct fp8_case {
    const char *name;
    const char *dtype;
    const char *shape;
    size_t n_scales;
};

static uint8_t codes[ROWS][COLUMNS];

static void fill_codes(void)
{
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++)
            codes[r][c] = (uint8_t)((r * 7 + c * 3) % 0x7F | (r + c) % 2 << 7); /* never NaN */
}

static float scale_value(size_t i)
{
    return 0.25f * (float)(i + 1);
}

static void write_case(const struct qr_temp_dir *dir, const struct fp8_case *fp8)
{
    struct qr_buffer file = {0};
    char header[512];
    bool is_bf16 = strcmp(fp8->dtype, "BF16") == 0;
    size_t size = is_bf16 ? 2 : 4;
    size_t scales_end = fp8->n_scales * size;

    int length = snprintf(
        header, sizeof(header),
        "{\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%zu]},"
        "\"w.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}}",
        fp8->name, fp8->dtype, fp8->shape, scales_end, ROWS, COLUMNS, scales_end,
        scales_end + sizeof(codes));
    while (length % 8 != 0)
        header[length++] = ' ';
    uint64_t header_bytes = (uint64_t)length;
    assert_int_equal(qr_buffer_append(&file, &header_bytes, 8), QR_OK);
    assert_int_equal(qr_buffer_append(&file, header, (size_t)length), QR_OK);
    for (size_t i = 0; i < fp8->n_scales; i++) {
        float scale = scale_value(i);
        uint16_t half = qr_f32_to_bf16(scale);
        assert_int_equal(qr_buffer_append(&file, is_bf16 ? (void *)&half : (void *)&scale, size),
                         QR_OK);
    }
    assert_int_equal(qr_buffer_append(&file, codes, sizeof(codes)), QR_OK);
    qr_temp_dir_write(dir, "model.safetensors", file.data, file.length);
    qr_buffer_free(&file);
}

/* Which scale element (r, c) has. */
static size_t scale_index(const struct fp8_case *fp8, int r, int c)
{
    if (fp8->n_scales == 1)
        return 0;
    return fp8->n_scales == ROWS ? (size_t)r : (size_t)(r / 128 * BLOCK_COLUMNS + c / 128);
}

static void check_case(const struct fp8_case *fp8)
{
    const int64_t dims[] = {ROWS, COLUMNS};
    struct qr_temp_dir dir;
    struct qr_checkpoint *checkpoint;
    struct qr_tensor tensor;
    struct qr_error err = {""};
    static float values[ROWS][COLUMNS];
    static float part[30][COLUMNS];

    qr_temp_dir_make(&dir);
    write_case(&dir, fp8);
    assert_int_equal(qr_checkpoint_open(dir.path, &checkpoint, &err), QR_OK);
    if (qr_checkpoint_get(checkpoint, "w.weight", 2, dims, &tensor, &err) != QR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(tensor.dtype, QR_DTYPE_E4M3);
    qr_tensor_widen_rows(&tensor, 0, 3, values[0]); /* in two parts, as a kernel would */
    qr_tensor_widen_rows(&tensor, 3, ROWS - 3, values[3]);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++)
            assert_true(values[r][c] ==
                        qr_e4m3_to_f32(codes[r][c]) * scale_value(scale_index(fp8, r, c)));
    assert_int_equal(
        qr_checkpoint_get_rows(checkpoint, "w.weight", 2, dims, 100, 30, &tensor, &err),
        QR_OK); /* across the border of two blocks */
    qr_tensor_widen_rows(&tensor, 0, 30, part[0]);
    assert_memory_equal(part, values[100], sizeof(part));
    qr_tensor_widen_rows(&tensor, 28, 2, part[0]);
    assert_memory_equal(part, values[128], 2 * sizeof(part[0]));
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), ROWS * COLUMNS);
    qr_checkpoint_close(checkpoint);
    qr_temp_dir_remove(&dir);
}

static void scales_are_found_in_every_shape(void **state)
{
    (void)state;
    static const struct fp8_case cases[] = {
        {"w.weight_scale", "F32", "[]", 1},
        {"w.weight_scale", "F32", "[1]", 1},
        {"w.weight_scale", "BF16", "[1,1]", 1},
        {"w.weight_scale", "F32", "[130]", ROWS},
        {"w.weight_scale", "BF16", "[130,1]", ROWS},
        {"w.weight_scale_inv", "F32", "[2,3]", BLOCK_ROWS * BLOCK_COLUMNS},
        {"w.weight_scale_inv", "BF16", "[2,3]", BLOCK_ROWS * BLOCK_COLUMNS},
    };

    fill_codes();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_case(&cases[i]);
}

static void codes_without_scales_are_the_weights(void **state)
{
    (void)state;
    const struct fp8_case other = {"v.weight_scale", "F32", "[1]", 1};
    const int64_t dims[] = {ROWS, COLUMNS};
    struct qr_temp_dir dir;
    struct qr_checkpoint *checkpoint;
    struct qr_tensor tensor;
    float row[COLUMNS];

    fill_codes();
    qr_temp_dir_make(&dir);
    write_case(&dir, &other);
    assert_int_equal(qr_checkpoint_open(dir.path, &checkpoint, NULL), QR_OK);
    assert_int_equal(qr_checkpoint_get(checkpoint, "w.weight", 2, dims, &tensor, NULL), QR_OK);
    assert_null(tensor.scales);
    qr_tensor_widen_rows(&tensor, 5, 1, row);
    for (int c = 0; c < COLUMNS; c++)
        assert_true(row[c] == qr_e4m3_to_f32(codes[5][c]));
    qr_checkpoint_close(checkpoint);
    qr_temp_dir_remove(&dir);
}

static void scales_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct fp8_case cases[] = {
        {"w.weight_scale", "F32", "[2]", 2},       {"w.weight_scale", "F32", "[130,2]", 260},
        {"w.weight_scale_inv", "F32", "[3,2]", 6}, {"w.weight_scale", "F32", "[1,1,130]", ROWS},
        {"w.weight_scale", "I32", "[130]", ROWS},
    };
    const int64_t dims[] = {ROWS, COLUMNS};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qr_temp_dir dir;
        struct qr_checkpoint *checkpoint;
        struct qr_tensor tensor;
        struct qr_error err = {""};
        qr_temp_dir_make(&dir);
        write_case(&dir, &cases[i]);
        assert_int_equal(qr_checkpoint_open(dir.path, &checkpoint, &err), QR_OK);
        assert_int_equal(qr_checkpoint_get(checkpoint, "w.weight", 2, dims, &tensor, &err),
                         QR_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, cases[i].name));
        qr_checkpoint_close(checkpoint);
        qr_temp_dir_remove(&dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_are_found_in_every_shape),
        cmocka_unit_test(codes_without_scales_are_the_weights),
        cmocka_unit_test(scales_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
