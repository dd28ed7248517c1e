/*
 * test_cpu_formats.c - weights in formats of 8 bits and less, on the CPU. Those that no kernel
 * reads: products, logits and embeddings are those of the same numbers as F32, bit for bit. Those
 * that are packed: embeddings are, products are about those, and the same whatever rows and
 * threads.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/cpu/packed.h"
#include "runtime/ops/ops.h"

enum { N_IN = 512, N_OUT = 139, MAX_ROWS = 5 };

static float scales[N_OUT * 4];

/* A matrix, and the same as F32. */
struct pair {
    struct qr_tensor stored;
    struct qr_tensor widened;
};

static void make_pair(enum qr_dtype dtype, int32_t scale_rows, int32_t scale_columns,
                      struct pair *pair)
{
    size_t n_bytes = qr_dtype_row_bytes(dtype, N_IN) * N_OUT;
    uint8_t *data = malloc(n_bytes);
    float *widened = malloc(sizeof(float) * N_IN * N_OUT);
    uint32_t seed = 3;

    assert_true(data != NULL && widened != NULL);
    for (size_t i = 0; i < n_bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (uint8_t)(seed >> 24 & 0xBF); /* finite scales, and codes that are no NaN */
    }
    pair->stored = (struct qr_tensor){.dtype = dtype,
                                      .n_dims = 2,
                                      .dims = {N_OUT, N_IN},
                                      .data = data,
                                      .scales = scale_rows > 0 ? scales : NULL,
                                      .scale_rows = scale_rows,
                                      .scale_columns = scale_columns};
    qr_tensor_widen_rows(&pair->stored, 0, N_OUT, widened);
    pair->widened = (struct qr_tensor){
        .dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {N_OUT, N_IN}, .data = widened};
}

static void free_pair(struct pair *pair)
{
    free((void *)(uintptr_t)pair->stored.data);
    free((void *)(uintptr_t)pair->widened.data);
}

/* What each op makes of a weight. */
struct results {
    float product[MAX_ROWS * N_OUT];
    float logits[MAX_ROWS * N_OUT];
    float embedded[MAX_ROWS * N_IN];
};

static void run_ops(struct qr_device *dev, struct qr_tensor *weight, int32_t n_rows,
                    struct results *out)
{
    static const int32_t ids[MAX_ROWS] = {7, 0, N_OUT - 1, 7, 33};
    const struct qr_batch batch = {.n_rows = n_rows, .token_ids = ids};
    struct qr_linear map = {.weight = *weight};
    const struct qr_linear *maps[] = {&map};
    void *outs[] = {out->product};
    float x[MAX_ROWS * N_IN];
    struct qr_error err = {""};

    for (int i = 0; i < MAX_ROWS * N_IN; i++)
        x[i] = (float)((i * 37) % 101 - 50) / 32.0f;
    assert_int_equal(dev->ops->load_weight(dev, &map.weight, &err), QR_OK);
    assert_int_equal(map.weight.is_packed, qr_packs(weight->dtype));
    assert_true(dev->ops->begin_step(dev, &batch));
    dev->ops->matmul(dev, 1, maps, x, n_rows, outs);
    dev->ops->logits(dev, &map.weight, 0.0f, x, n_rows, out->logits);
    dev->ops->embed(dev, &map.weight, 1.0f, out->embedded);
    assert_int_equal(dev->ops->end_step(dev, &err), QR_OK);
}

/* Activations are rounded by less than a 250th of the largest of 32, each its own way. */
static void check_about(const float *found, const float *wanted, int32_t n)
{
    double difference = 0.0;
    double size = 0.0;

    for (int32_t i = 0; i < n; i++) {
        difference += fabs((double)found[i] - (double)wanted[i]);
        size += fabs((double)wanted[i]);
    }
    assert_true(size > 0.0 && difference < size / 50);
}

static void check_pair(struct pair *pair, const char *isa, int32_t n_threads)
{
    const struct qr_device_config config = {.n_threads = n_threads, .isa = isa};
    const struct qr_device_needs needs = {.max_rows = MAX_ROWS, .hidden_size = N_IN};
    static struct results found, wanted;
    struct qr_device *dev = NULL;
    struct qr_error err = {""};

    assert_int_equal(qr_device_open("cpu", &config, &dev, &err), QR_OK);
    assert_int_equal(dev->ops->prepare(dev, &needs, &err), QR_OK);
    for (int32_t n_rows = 1; n_rows <= MAX_ROWS; n_rows += 2) {
        memset(&found, 0, sizeof(found));
        memset(&wanted, 0, sizeof(wanted));
        run_ops(dev, &pair->stored, n_rows, &found);
        run_ops(dev, &pair->widened, n_rows, &wanted);
        assert_memory_equal(found.embedded, wanted.embedded, sizeof(found.embedded));
        if (qr_packs(pair->stored.dtype))
            check_about(found.product, wanted.product, n_rows * N_OUT);
        else
            assert_memory_equal(found.product, wanted.product, sizeof(found.product));
        assert_memory_equal(found.product, found.logits, sizeof(found.product));
        assert_true(found.product[0] != 0.0f);
    }
    qr_device_close(dev);
}

static void every_format_is_computed_as_its_numbers(void **state)
{
    (void)state;
    static const int32_t scalings[][2] = {
        {N_OUT, N_IN}, {1, N_IN}, {128, 128}, {0, 0} /* no scales */
    };

    for (int i = 0; i < N_OUT * 4; i++)
        scales[i] = 0.125f * (float)(i % 13 + 1);
    for (int dtype = QR_DTYPE_E4M3; dtype < QR_DTYPE_END; dtype++) {
        bool is_scaled = dtype == QR_DTYPE_E4M3 || dtype == QR_DTYPE_INT8;
        for (int s = is_scaled ? 0 : 3; s < 4; s++) {
            struct pair pair;
            make_pair((enum qr_dtype)dtype, scalings[s][0], scalings[s][1], &pair);
            check_pair(&pair, "auto", 1);
            check_pair(&pair, "scalar", 3);
            free_pair(&pair);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_is_computed_as_its_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
