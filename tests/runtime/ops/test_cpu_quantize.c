/*
 * test_cpu_quantize.c - what the CPU makes of matrices with --quantize: the tiles of the blocks
 * that base/quantize.h gives, byte for byte; and which matrices it leaves alone, or gives another
 * format.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/dequantize.h"
#include "base/quantize.h"
#include "runtime/ops/cpu/packed.h"
#include "runtime/ops/ops.h"

enum { N_OUT = 37, MAX_IN = 512 };

static const struct {
    enum qr_quantize quantize;
    enum qr_dtype dtype;
} kinds[] = {{QR_QUANTIZE_Q8_0, QR_DTYPE_Q8_0},
             {QR_QUANTIZE_Q4_0, QR_DTYPE_Q4_0},
             {QR_QUANTIZE_Q4_K, QR_DTYPE_Q4_K}};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct qr_device *open_device(enum qr_quantize quantize, const char *isa, int32_t n_threads)
{
    const struct qr_device_config config = {
        .n_threads = n_threads, .isa = isa, .quantize = quantize};
    const struct qr_device_needs needs = {.max_rows = 2, .hidden_size = MAX_IN};
    struct qr_device *dev;
    struct qr_error err = {""};

    if (qr_device_open("cpu", &config, &dev, &err) != QR_OK ||
        dev->ops->prepare(dev, &needs, &err) != QR_OK)
        fail_msg("%s", err.message);
    return dev;
}

/* Numbers of this dtype, [N_OUT][n_in]; for the caller to free(). */
static void *make_numbers(enum qr_dtype dtype, int64_t n_in)
{
    uint8_t *numbers = malloc((size_t)(N_OUT * n_in) * sizeof(float));
    uint32_t seed = 9;

    assert_non_null(numbers);
    for (int64_t i = 0; i < N_OUT * n_in; i++) {
        seed = seed * 1664525u + 1013904223u;
        float value = (float)(int32_t)seed * 0x1p-35f;
        uint16_t half = dtype == QR_DTYPE_F16 ? qr_f32_to_f16(value) : qr_f32_to_bf16(value);
        if (dtype == QR_DTYPE_F32)
            memcpy(numbers + 4 * i, &value, sizeof(value));
        else
            memcpy(numbers + 2 * i, &half, sizeof(half));
    }
    return numbers;
}

static struct qr_tensor matrix_of(enum qr_dtype dtype, int64_t n_in, const void *data)
{
    return (struct qr_tensor){.dtype = dtype, .n_dims = 2, .dims = {N_OUT, n_in}, .data = data};
}

static void check_kind(int kind, enum qr_dtype from, const char *isa, int32_t n_threads)
{
    enum qr_dtype to = kinds[kind].dtype;
    size_t n_bytes = 3 * qr_packed_layout_of(to, MAX_IN).tile_bytes;
    uint8_t *numbers = make_numbers(from, MAX_IN);
    uint8_t *blocks = malloc(qr_dtype_row_bytes(to, N_OUT * MAX_IN));
    struct qr_device *plain = open_device(QR_QUANTIZE_NONE, "auto", 1);
    struct qr_device *dev = open_device(kinds[kind].quantize, isa, n_threads);
    struct qr_error err = {""};

    assert_non_null(blocks);
    qr_quantize_scalar(from, numbers, (int64_t)N_OUT * MAX_IN, to, blocks);
    struct qr_tensor wanted = matrix_of(to, MAX_IN, blocks);
    struct qr_tensor found = matrix_of(from, MAX_IN, numbers);
    assert_int_equal(plain->ops->load_weight(plain, &wanted, &err), QR_OK);
    assert_int_equal(dev->ops->load_weight(dev, &found, &err), QR_OK);
    assert_int_equal(found.dtype, to);
    assert_true(found.is_packed);
    assert_memory_equal(found.data, wanted.data, n_bytes);
    qr_device_close(plain);
    qr_device_close(dev);
    free(blocks);
    free(numbers);
}

static void tiles_are_those_of_the_quantized_blocks(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_KINDS; kind++) {
        for (int from = 0; from < QR_DTYPE_COUNT; from++) {
            check_kind(kind, (enum qr_dtype)from, "auto", 3);
            check_kind(kind, (enum qr_dtype)from, "scalar", 1);
        }
    }
}

static void what_a_matrix_is_for_decides(void **state)
{
    static const struct {
        enum qr_quantize quantize;
        enum qr_tensor_use use;
        enum qr_dtype from;
        int64_t n_in;
        enum qr_dtype to;
    } cases[] = {
        {QR_QUANTIZE_NONE, QR_USE_HEAD, QR_DTYPE_BF16, 512, QR_DTYPE_BF16},
        {QR_QUANTIZE_Q4_0, QR_USE_HEAD, QR_DTYPE_BF16, 512, QR_DTYPE_Q8_0},
        {QR_QUANTIZE_Q4_K, QR_USE_HEAD, QR_DTYPE_F32, 512, QR_DTYPE_Q8_0},
        {QR_QUANTIZE_Q4_0, QR_USE_ROUTER, QR_DTYPE_F32, 512, QR_DTYPE_F32},
        {QR_QUANTIZE_Q4_0, QR_USE_TABLE, QR_DTYPE_F32, 512, QR_DTYPE_F32},
        {QR_QUANTIZE_Q4_K, QR_USE_MULTIPLIED, QR_DTYPE_F16, 288, QR_DTYPE_Q8_0},
        {QR_QUANTIZE_Q4_0, QR_USE_MULTIPLIED, QR_DTYPE_F16, 288, QR_DTYPE_Q4_0},
        {QR_QUANTIZE_Q4_0, QR_USE_MULTIPLIED, QR_DTYPE_F16, 40, QR_DTYPE_F16},
        {QR_QUANTIZE_Q4_K, QR_USE_HEAD, QR_DTYPE_F16, 40, QR_DTYPE_F16},
        {QR_QUANTIZE_Q8_0, QR_USE_MULTIPLIED, QR_DTYPE_Q4_0, 512, QR_DTYPE_Q4_0},
        {QR_QUANTIZE_Q4_0, QR_USE_MULTIPLIED, QR_DTYPE_Q6_K, 512, QR_DTYPE_Q6_K},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qr_device *dev = open_device(cases[i].quantize, "auto", 1);
        enum qr_dtype numbers = cases[i].from < QR_DTYPE_COUNT ? cases[i].from : QR_DTYPE_F32;
        void *data = make_numbers(numbers, cases[i].n_in);
        struct qr_tensor weight = matrix_of(cases[i].from, cases[i].n_in, data);
        struct qr_error err = {""};
        weight.use = cases[i].use;
        assert_int_equal(dev->ops->load_weight(dev, &weight, &err), QR_OK);
        if (weight.dtype != cases[i].to)
            fail_msg("case %zu became %s", i, qr_dtype_name(weight.dtype));
        assert_int_equal(weight.is_packed, cases[i].use != QR_USE_TABLE);
        qr_device_close(dev);
        free(data);
    }
}

static void vectors_stay_as_they_are(void **state)
{
    static const float numbers[64] = {1.0f};
    struct qr_tensor vector = {.dtype = QR_DTYPE_F32, .n_dims = 1, .dims = {64}, .data = numbers};
    struct qr_device *dev = open_device(QR_QUANTIZE_Q8_0, "auto", 1);

    (void)state;
    assert_int_equal(dev->ops->load_weight(dev, &vector, NULL), QR_OK);
    assert_int_equal(vector.dtype, QR_DTYPE_F32);
    assert_memory_equal(vector.data, numbers, sizeof(numbers));
    qr_device_close(dev);
}

/* Sum of the squared errors of a matrix. */
static double squared_error(enum qr_dtype format, const struct qr_tensor *matrix)
{
    int64_t n = matrix->dims[0] * matrix->dims[1];
    uint8_t *blocks = malloc(qr_dtype_row_bytes(format, n));
    float *exact = malloc((size_t)n * sizeof(float));
    float *found = malloc((size_t)n * sizeof(float));
    double sum = 0.0;

    assert_true(blocks != NULL && exact != NULL && found != NULL);
    qr_quantizer_of(qr_isa_best())(matrix->dtype, matrix->data, n, format, blocks);
    qr_dequantize(matrix->dtype, matrix->data, n, exact);
    qr_dequantize(format, blocks, n, found);
    for (int64_t i = 0; i < n; i++)
        sum += ((double)found[i] - (double)exact[i]) * ((double)found[i] - (double)exact[i]);
    free(blocks);
    free(exact);
    free(found);
    return sum;
}

/* As the errors of normal numbers are, in tests/base/test_quantize.c. */
static void real_weights_lose_less_in_q4_k_than_in_q4_0(void **state)
{
    struct qr_checkpoint *checkpoint;
    struct qr_error err = {""};
    char path[1024], name[64];
    int32_t layer = 0;

    (void)state;
    snprintf(path, sizeof(path), "%s/models/demo", getenv("QUIRE_SOURCE_DIR"));
    assert_int_equal(qr_checkpoint_open(path, &checkpoint, &err), QR_OK);
    for (;; layer++) {
        snprintf(name, sizeof(name), "model.layers.%d.mlp.down_proj.weight", layer);
        const struct qr_tensor *matrix = qr_checkpoint_find(checkpoint, name);
        if (matrix == NULL)
            break;
        assert_int_equal(matrix->dims[1] % 256, 0);
        double q4_0 = squared_error(QR_DTYPE_Q4_0, matrix);
        double q4_k = squared_error(QR_DTYPE_Q4_K, matrix);
        print_message("%s: %.3f of the error of Q4_0\n", name, sqrt(q4_k / q4_0));
        assert_true(q4_k < q4_0 * 0.9 * 0.9);
    }
    assert_true(layer > 2);
    qr_checkpoint_close(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_weights_lose_less_in_q4_k_than_in_q4_0),
        cmocka_unit_test(tiles_are_those_of_the_quantized_blocks),
        cmocka_unit_test(what_a_matrix_is_for_decides),
        cmocka_unit_test(vectors_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
