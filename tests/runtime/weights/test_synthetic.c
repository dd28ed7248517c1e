/* Models of random weights: the same numbers each time, of the right size, in every dtype. */
#include "runtime/weights/synthetic.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sampling/philox.h"
#include "runtime/weights/checkpoint.h"

enum { N_OUT = 48, N_IN = 300 };

static const int64_t matrix[2] = {N_OUT, N_IN};

static float element(enum qr_dtype dtype, const void *data, int64_t i)
{
    if (dtype == QR_DTYPE_F32)
        return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return dtype == QR_DTYPE_BF16 ? qr_bf16_to_f32(bits) : qr_f16_to_f32(bits);
}

static void names_are_read_and_wrong_ones_explained(void **state)
{
    (void)state;
    struct qr_synthetic_spec spec;
    struct qr_error err = {""};

    assert_false(qr_is_synthetic("models/synthetic"));
    assert_true(qr_is_synthetic("synthetic:a.json"));
    assert_int_equal(qr_synthetic_parse("synthetic:a/b.json", &spec, &err), QR_OK);
    assert_string_equal(spec.config_path, "a/b.json");
    assert_int_equal(qr_synthetic_dtype(&spec, "float16"), QR_DTYPE_F16);
    assert_int_equal(qr_synthetic_dtype(&spec, ""), QR_DTYPE_BF16);
    assert_int_equal(qr_synthetic_parse("synthetic:b.json,f32", &spec, &err), QR_OK);
    assert_string_equal(spec.config_path, "b.json");
    assert_int_equal(qr_synthetic_dtype(&spec, "float16"), QR_DTYPE_F32);
    assert_int_equal(qr_synthetic_parse("synthetic:", &spec, &err), QR_ERR_INVALID);
    assert_int_equal(qr_synthetic_parse("synthetic:,f32", &spec, &err), QR_ERR_INVALID);
    assert_int_equal(qr_synthetic_parse("synthetic:b.json,q3", &spec, &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "not \"q3\""));
}

static void numbers_depend_on_the_name_and_the_place_alone(void **state)
{
    (void)state;
    static float a[N_OUT * N_IN];
    static float b[N_OUT * N_IN];
    static uint16_t half[N_OUT * N_IN];

    qr_synthetic_fill("a", 2, matrix, QR_DTYPE_F32, a);
    qr_synthetic_fill("b", 2, matrix, QR_DTYPE_F32, b);
    assert_memory_not_equal(a, b, sizeof(a));
    qr_synthetic_fill("a", 2, matrix, QR_DTYPE_F32, b);
    assert_memory_equal(a, b, sizeof(a));
    qr_synthetic_fill("a", 2, matrix, QR_DTYPE_F16, half);
    for (int i = 0; i < N_OUT * N_IN; i++)
        assert_int_equal(half[i], qr_f32_to_f16(a[i]));
}

static void a_matrix_keeps_the_size_of_what_it_multiplies(void **state)
{
    (void)state;
    for (int d = 0; d < QR_DTYPE_COUNT; d++) {
        static float data[N_OUT * N_IN];
        double sum = 0;
        double squares = 0;
        qr_synthetic_fill("w", 2, matrix, (enum qr_dtype)d, data);
        for (int i = 0; i < N_OUT * N_IN; i++) {
            double value = (double)element((enum qr_dtype)d, data, i);
            assert_true(fabs(value) <= sqrt(3.0 / N_IN) * 1.0001);
            sum += value;
            squares += value * value;
        }
        /* Both within four standard deviations of what uniform numbers would give. */
        double n = N_OUT * N_IN;
        assert_true(fabs(sum / n) < 4 * sqrt(1.0 / N_IN / n));
        assert_true(fabs(squares / n * N_IN - 1) < 4 * sqrt(0.8 / n) + 0.004); /* BF16 cuts off */
    }
}

static void a_checkpoint_has_what_is_asked_for(void **state)
{
    (void)state;
    const int64_t vector = 7;
    struct qr_checkpoint *checkpoint;
    struct qr_tensor tensor;
    struct qr_error err = {""};

    assert_int_equal(
        qr_checkpoint_open_synthetic("synthetic:x", QR_DTYPE_BF16, false, &checkpoint, &err),
        QR_OK);
    assert_null(qr_checkpoint_find(checkpoint, "w"));
    assert_int_equal(qr_checkpoint_get(checkpoint, "w", 2, matrix, &tensor, &err), QR_OK);
    assert_int_equal(tensor.dtype, QR_DTYPE_BF16);
    assert_int_equal(tensor.dims[1], N_IN);
    assert_non_null(tensor.data);
    assert_false(tensor.synthetic);
    assert_int_equal(qr_checkpoint_dtype(checkpoint), QR_DTYPE_BF16);
    assert_int_equal(qr_checkpoint_get(checkpoint, "norm", 1, &vector, &tensor, &err), QR_OK);
    for (int i = 0; i < vector; i++)
        assert_true(element(QR_DTYPE_BF16, tensor.data, i) == 1.0f);
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), N_OUT * N_IN + vector);
    assert_int_equal(qr_checkpoint_n_bytes(checkpoint), 2 * (N_OUT * N_IN + vector));
    qr_checkpoint_close(checkpoint);
}

/* One element by its definition in synthetic.h. */
static float element_of(uint64_t key, float bound, int64_t i)
{
    if (bound == 0.0f)
        return 1.0f;
    int64_t j = i - i % 4;
    const struct qr_philox_block counter = {{(uint32_t)j, (uint32_t)(j >> 32), 0, 0}};
    struct qr_philox_block block = qr_philox(counter, key);
    return ((float)(block.word[i % 4] >> 8) * 0x1p-23f - 1.0f) * bound;
}

/* What a device is told to fill is what the host would have filled. */
static void a_device_can_fill_in_the_same_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t n_dims;
        int64_t dims[2];
    } tensors[] = {{"w", 2, {N_OUT, N_IN}}, {"odd", 2, {3, 7}}, {"norm", 1, {13, 0}}};

    for (int d = 0; d < QR_DTYPE_COUNT; d++) {
        enum qr_dtype dtype = (enum qr_dtype)d;
        struct qr_checkpoint *host;
        struct qr_checkpoint *device;
        struct qr_error err = {""};
        static float filled[N_OUT * N_IN];
        assert_int_equal(qr_checkpoint_open_synthetic("x", dtype, false, &host, &err), QR_OK);
        assert_int_equal(qr_checkpoint_open_synthetic("x", dtype, true, &device, &err), QR_OK);
        for (size_t t = 0; t < sizeof(tensors) / sizeof(tensors[0]); t++) {
            int32_t n_dims = tensors[t].n_dims;
            int64_t n = tensors[t].dims[0] * (n_dims == 2 ? tensors[t].dims[1] : 1);
            struct qr_tensor a, b;
            assert_int_equal(
                qr_checkpoint_get(host, tensors[t].name, n_dims, tensors[t].dims, &a, &err), QR_OK);
            assert_int_equal(
                qr_checkpoint_get(device, tensors[t].name, n_dims, tensors[t].dims, &b, &err),
                QR_OK);
            assert_null(b.data);
            assert_true(b.synthetic);
            assert_int_equal(b.dtype, dtype);
            assert_memory_equal(b.dims, a.dims, sizeof(a.dims));
            qr_synthetic_fill_elements(b.synthetic_key, b.synthetic_bound, dtype, n, filled);
            assert_memory_equal(filled, a.data, (size_t)n * qr_dtype_size(dtype));
            for (int64_t i = 0; i < n && dtype == QR_DTYPE_F32; i++)
                assert_true(filled[i] == element_of(b.synthetic_key, b.synthetic_bound, i));
        }
        assert_int_equal(qr_checkpoint_n_bytes(device), qr_checkpoint_n_bytes(host));
        assert_int_equal(qr_checkpoint_n_parameters(device), qr_checkpoint_n_parameters(host));
        qr_checkpoint_close(host);
        qr_checkpoint_close(device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_and_wrong_ones_explained),
        cmocka_unit_test(numbers_depend_on_the_name_and_the_place_alone),
        cmocka_unit_test(a_matrix_keeps_the_size_of_what_it_multiplies),
        cmocka_unit_test(a_checkpoint_has_what_is_asked_for),
        cmocka_unit_test(a_device_can_fill_in_the_same_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
