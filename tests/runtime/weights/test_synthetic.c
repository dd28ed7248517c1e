/* Models of random weights: the same numbers each time, of the right size, in every dtype. */
#include "runtime/weights/synthetic.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
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

    assert_int_equal(qr_checkpoint_open_synthetic("synthetic:x", QR_DTYPE_BF16, &checkpoint, &err),
                     QR_OK);
    assert_null(qr_checkpoint_find(checkpoint, "w"));
    assert_int_equal(qr_checkpoint_get(checkpoint, "w", 2, matrix, &tensor, &err), QR_OK);
    assert_int_equal(tensor.dtype, QR_DTYPE_BF16);
    assert_int_equal(tensor.dims[1], N_IN);
    assert_int_equal(qr_checkpoint_get(checkpoint, "norm", 1, &vector, &tensor, &err), QR_OK);
    for (int i = 0; i < vector; i++)
        assert_true(element(QR_DTYPE_BF16, tensor.data, i) == 1.0f);
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), N_OUT * N_IN + vector);
    assert_int_equal(qr_checkpoint_n_bytes(checkpoint), 2 * (N_OUT * N_IN + vector));
    qr_checkpoint_close(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_and_wrong_ones_explained),
        cmocka_unit_test(numbers_depend_on_the_name_and_the_place_alone),
        cmocka_unit_test(a_matrix_keeps_the_size_of_what_it_multiplies),
        cmocka_unit_test(a_checkpoint_has_what_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
