/* test_cpu_device.c - the CPU's table of ops: opening, RoPE, and the row-moving ops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/ops.h"

static struct qr_device *open_device(const char *isa, int32_t n_threads)
{
    struct qr_device_config config = {.n_threads = n_threads, .isa = isa};
    struct qr_device *dev = NULL;
    struct qr_error err = {""};

    if (qr_device_open("cpu", &config, &dev, &err) != QR_OK)
        fail_msg("%s", err.message);
    return dev;
}

static void open_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    struct qr_device_config config = {.n_threads = 1, .isa = "neon"};
    struct qr_device *dev;
    struct qr_error err = {""};

    assert_int_equal(qr_device_open("cpu", &config, &dev, &err), QR_ERR_INVALID);
    assert_null(dev);
    assert_non_null(strstr(err.message, "\"neon\""));
    config.isa = NULL;
    assert_int_not_equal(qr_device_open("abacus", &config, &dev, &err), QR_OK);
    assert_null(dev);
    assert_non_null(strstr(err.message, "abacus"));
    if (!qr_isa_supported(QR_ISA_AVX512)) {
        config.isa = "avx512";
        assert_int_equal(qr_device_open("cpu", &config, &dev, &err), QR_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "avx512"));
    }
    config.isa = NULL;
    assert_int_equal(qr_device_open("auto", &config, &dev, &err), QR_OK);
    qr_device_close(dev);
    qr_device_close(NULL);
}

static void memory_comes_zeroed(void **state)
{
    (void)state;
    struct qr_device *dev = open_device("auto", 1);
    unsigned char *bytes = dev->ops->alloc(dev, 100000);

    assert_non_null(bytes);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(bytes[i], 0);
    dev->ops->free(dev, bytes);
    qr_device_close(dev);
}

static void rope_turns_pairs_by_their_angle(void **state)
{
    (void)state;
    enum { N_ROWS = 5, N_HEADS = 3, HEAD_DIM = 10, HALF = HEAD_DIM / 2, MAX_POSITION = 5000 };
    static const int32_t positions[N_ROWS] = {0, 1, 77, 4999, 1234};
    const double theta = 10000.0;
    struct qr_device *dev = open_device("auto", 2);
    struct qr_batch batch = {.n_rows = N_ROWS, .positions = positions};
    float x[N_ROWS][N_HEADS][HEAD_DIM];
    float before[N_ROWS][N_HEADS][HEAD_DIM];
    float *values = (float *)before;

    for (int i = 0; i < N_ROWS * N_HEADS * HEAD_DIM; i++)
        values[i] = sinf((float)(7 * i + 1));
    memcpy(x, before, sizeof(x));
    assert_int_equal(dev->ops->prepare_rope(dev, HEAD_DIM, (float)theta, MAX_POSITION), QR_OK);
    dev->ops->begin_step(dev, &batch);
    dev->ops->rope(dev, x, N_HEADS, HEAD_DIM);
    assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);

    assert_memory_equal(x[0], before[0], sizeof(x[0])); /* position 0 turns nothing */
    for (int r = 0; r < N_ROWS; r++) {
        for (int h = 0; h < N_HEADS; h++) {
            for (int i = 0; i < HALF; i++) {
                double angle = positions[r] * pow(theta, -2.0 * i / HEAD_DIM);
                double a = (double)before[r][h][i];
                double b = (double)before[r][h][i + HALF];
                double low = a * cos(angle) - b * sin(angle);
                double high = b * cos(angle) + a * sin(angle);
                assert_true(fabs((double)x[r][h][i] - low) < 4e-7);
                assert_true(fabs((double)x[r][h][i + HALF] - high) < 4e-7);
            }
        }
    }
    qr_device_close(dev);
}

static void rows_are_embedded_added_and_gathered(void **state)
{
    (void)state;
    static const uint16_t table[4][3] = {{0x3F80, 0x4000, 0x4040}, /* BF16: 1, 2, 3 */
                                         {0x4080, 0x40A0, 0x40C0}, /* 4, 5, 6 */
                                         {0x40E0, 0x4100, 0x4110}, /* 7, 8, 9 */
                                         {0xBF80, 0xC000, 0xC040}};
    static const int32_t ids[3] = {3, 0, 2};
    static const int32_t logit_rows[2] = {0, 2};
    const struct qr_tensor tensor = {
        .dtype = QR_DTYPE_BF16, .n_dims = 2, .dims = {4, 3}, .data = table};
    const struct qr_batch batch = {
        .n_rows = 3, .token_ids = ids, .n_logit_rows = 2, .logit_rows = logit_rows};
    struct qr_device *dev = open_device("auto", 2);
    float x[3][3];
    float gathered[2][3];
    float host[2][3];

    dev->ops->begin_step(dev, &batch);
    dev->ops->embed(dev, &tensor, x);
    dev->ops->add(dev, x, x, 3, 3);
    dev->ops->gather_logit_rows(dev, x, 3, gathered);
    dev->ops->read_logits(dev, gathered, 3, host[0]);
    assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);
    const float wanted[2][3] = {{-2.0f, -4.0f, -6.0f}, {14.0f, 16.0f, 18.0f}};
    assert_memory_equal(host, wanted, sizeof(wanted));
    qr_device_close(dev);
}

static void pages_are_copied_read_and_written_whole(void **state)
{
    (void)state;
    enum { PAGE_BYTES = 24, N_PAGES = 4 };
    struct qr_device *dev = open_device("auto", 1);
    char pool[N_PAGES][PAGE_BYTES];
    char page[PAGE_BYTES];

    for (int i = 0; i < N_PAGES; i++)
        memset(pool[i], 'a' + i, PAGE_BYTES);
    dev->ops->copy_page(dev, pool, PAGE_BYTES, 1, 3);
    dev->ops->copy_page(dev, pool, PAGE_BYTES, 3, 0); /* in order: what came from page 1 */
    dev->ops->read_page(dev, pool, PAGE_BYTES, 0, page);
    assert_memory_equal(page, "bbbbbbbbbbbbbbbbbbbbbbbb", PAGE_BYTES);
    memset(page, 'x', PAGE_BYTES);
    dev->ops->write_page(dev, pool, PAGE_BYTES, 2, page);
    assert_memory_equal(pool[1], "bbbbbbbbbbbbbbbbbbbbbbbb", PAGE_BYTES);
    assert_memory_equal(pool[2], "xxxxxxxxxxxxxxxxxxxxxxxx", PAGE_BYTES);
    assert_memory_equal(pool[3], "bbbbbbbbbbbbbbbbbbbbbbbb", PAGE_BYTES);
    qr_device_close(dev);
}

static void matmul_does_not_depend_on_the_threads(void **state)
{
    (void)state;
    enum { N_IN = 50, N_OUT = 131, N_ROWS = 9 };
    static float weight[N_OUT * N_IN];
    static float x[N_ROWS * N_IN];
    static float wanted[N_ROWS * N_OUT];
    static float found[N_ROWS * N_OUT];
    const struct qr_tensor tensor = {
        .dtype = QR_DTYPE_F32, .n_dims = 2, .dims = {N_OUT, N_IN}, .data = weight};
    const struct qr_batch batch = {.n_rows = N_ROWS};

    for (int i = 0; i < N_OUT * N_IN; i++)
        weight[i] = sinf((float)i);
    for (int i = 0; i < N_ROWS * N_IN; i++)
        x[i] = cosf((float)i);
    for (int32_t n_threads = 1; n_threads <= 5; n_threads++) {
        struct qr_device *dev = open_device("auto", n_threads);
        memset(found, 0xFF, sizeof(found));
        dev->ops->begin_step(dev, &batch);
        dev->ops->matmul(dev, &tensor, x, N_ROWS, found);
        assert_int_equal(dev->ops->end_step(dev, NULL), QR_OK);
        if (n_threads == 1)
            memcpy(wanted, found, sizeof(wanted));
        assert_memory_equal(found, wanted, sizeof(wanted));
        qr_device_close(dev);
    }
    assert_true(wanted[0] != 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_refuses_what_it_does_not_know),
        cmocka_unit_test(memory_comes_zeroed),
        cmocka_unit_test(rope_turns_pairs_by_their_angle),
        cmocka_unit_test(rows_are_embedded_added_and_gathered),
        cmocka_unit_test(pages_are_copied_read_and_written_whole),
        cmocka_unit_test(matmul_does_not_depend_on_the_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
