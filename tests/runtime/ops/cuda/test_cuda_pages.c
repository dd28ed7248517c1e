/* Whole pages of a CUDA device: copied in order, and moved to and from the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "runtime/ops/cuda/cuda_device.h"
#include "tests/support/cuda_platform.h"

enum { N_PAGES = 70, PAGE_SIZE = 16 };

static struct qr_device *open_device(void)
{
    const struct qr_device_config config = {.device = -1};
    const struct qr_device_needs needs = {
        .weight_dtype = QR_DTYPE_BF16,
        .n_weight_bytes = 1024,
        .hidden_size = 64,
        .intermediate_size = 64,
        .vocab_size = 32,
        .n_layers = 2,
        .n_heads = 1,
        .n_kv_heads = 1,
        .head_dim = 64,
        .rope = {.rotary_dim = 64, .theta = 10000.0f, .attention_factor = 1.0f},
        .max_position = 64,
        .page_size = PAGE_SIZE,
        .max_blocks = 4,
        .max_rows = 8,
        .max_logit_rows = 4,
        .max_seqs = 4,
    };
    struct qr_device *dev;
    struct qr_error err = {""};

    if (qr_cuda_device_open(qr_test_cuda_platform(), &config, &dev, &err) != QR_OK ||
        dev->ops->prepare(dev, &needs, &err) != QR_OK)
        fail_msg("%s", err.message);
    return dev;
}

static size_t page_bytes_of(const struct qr_device *dev)
{
    const struct qr_kv_geometry kv = {
        .n_layers = 2, .n_kv_heads = 1, .head_dim = 64, .page_size = PAGE_SIZE};
    return qr_kv_page_bytes(dev, &kv);
}

/* More pages than pass through pinned memory at one time. */
static void pages_come_back_as_they_went(void **state)
{
    (void)state;
    struct qr_device *dev = open_device();
    size_t page_bytes = page_bytes_of(dev);
    void *pool = dev->ops->alloc(dev, N_PAGES * page_bytes, QR_MEMORY_KV);
    unsigned char *out = malloc(N_PAGES * page_bytes), *back = malloc(N_PAGES * page_bytes);
    const void *from[N_PAGES];
    void *to[N_PAGES];
    int32_t pages[N_PAGES];

    assert_non_null(pool);
    assert_non_null(out);
    assert_non_null(back);
    for (size_t i = 0; i < N_PAGES * page_bytes; i++)
        out[i] = (unsigned char)(i * 31 + i / page_bytes);
    for (int32_t i = 0; i < N_PAGES; i++) {
        pages[i] = (i * 3 + 1) % N_PAGES;
        from[i] = out + (size_t)i * page_bytes;
        to[i] = back + (size_t)i * page_bytes;
    }
    /* Three moves each time; the ways take turns, then the faster one goes on. */
    for (int turn = 0; turn < 6; turn++) {
        memset(back, 0xff, N_PAGES * page_bytes);
        assert_true(dev->ops->write_pages(dev, pool, page_bytes, N_PAGES, pages, from));
        assert_true(dev->ops->read_pages(dev, pool, page_bytes, N_PAGES, pages, to));
        assert_memory_equal(out, back, N_PAGES * page_bytes);
        for (size_t i = 0; i < N_PAGES * page_bytes; i++)
            out[i] = (unsigned char)(out[i] * 5 + 1);
    }
    for (int32_t i = 0; i < N_PAGES; i++) /* what the pool holds */
        memcpy(out + (size_t)i * page_bytes, back + (size_t)i * page_bytes, page_bytes);

    dev->ops->copy_page(dev, pool, page_bytes, pages[0], pages[1]);
    dev->ops->copy_page(dev, pool, page_bytes, pages[1], pages[2]); /* what came from page 0 */
    assert_true(dev->ops->read_pages(dev, pool, page_bytes, 3, pages, to));
    assert_memory_equal(to[1], out, page_bytes);
    assert_memory_equal(to[2], out, page_bytes);
    free(out);
    free(back);
    dev->ops->free(dev, pool);
    qr_device_close(dev);
}

/* Some pages lie in memory that is pinned, one across its end, the others elsewhere. */
static void pinned_memory_is_reached_directly(void **state)
{
    (void)state;
    enum { N = 12, SYSTEM_PAGE = 4096 };
    struct qr_device *dev = open_device();
    size_t page_bytes = page_bytes_of(dev);
    size_t n_bytes = (N * page_bytes + SYSTEM_PAGE - 1) / SYSTEM_PAGE * SYSTEM_PAGE;
    void *pool = dev->ops->alloc(dev, N * page_bytes, QR_MEMORY_KV);
    unsigned char *memory = aligned_alloc(SYSTEM_PAGE, n_bytes);
    unsigned char *expected = malloc(N * page_bytes);
    int32_t pages[N];
    void *to[N];
    const void *from[N];

    assert_true(memory != NULL && expected != NULL && page_bytes % 64 == 0);
    assert_true(dev->ops->pin_memory(dev, memory, SYSTEM_PAGE));
    assert_true(dev->ops->pin_memory(dev, memory + SYSTEM_PAGE, SYSTEM_PAGE));
    for (int32_t i = 0; i < N; i++) {
        pages[i] = (i * 5 + 2) % N;
        from[i] = to[i] = memory + (size_t)i * page_bytes;
    }
    for (int turn = 0; turn < 10; turn++) { /* by both ways */
        for (size_t i = 0; i < N * page_bytes; i++)
            expected[i] = memory[i] = (unsigned char)(i * 13 + i / page_bytes + (size_t)turn);
        assert_true(dev->ops->write_pages(dev, pool, page_bytes, N, pages, from));
        memset(memory, 0xff, n_bytes);
        assert_true(dev->ops->read_pages(dev, pool, page_bytes, N, pages, to));
        assert_memory_equal(memory, expected, N * page_bytes);
        if (turn == 6)
            dev->ops->unpin_memory(dev, memory);
    }
    dev->ops->unpin_memory(dev, memory + SYSTEM_PAGE);
    free(memory);
    free(expected);
    dev->ops->free(dev, pool);
    qr_device_close(dev);
}

static void a_copy_that_fails_is_said(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        return;
    struct qr_device *dev = open_device();
    size_t page_bytes = page_bytes_of(dev);
    void *pool = dev->ops->alloc(dev, 2 * page_bytes, QR_MEMORY_KV);
    void *page = calloc(1, page_bytes);

    assert_non_null(page);
    qr_emulator_fail_copy(1, QR_CU_ILLEGAL_ADDRESS);
    assert_false(dev->ops->read_pages(dev, pool, page_bytes, 1, (const int32_t[]){0}, &page));
    qr_emulator_heal();
    qr_emulator_fail_copy(1, QR_CU_ILLEGAL_ADDRESS);
    assert_false(dev->ops->write_pages(dev, pool, page_bytes, 1, (const int32_t[]){0},
                                       (const void *const[]){page}));
    qr_emulator_heal();
    assert_true(dev->ops->read_pages(dev, pool, page_bytes, 1, (const int32_t[]){0}, &page));
    free(page);
    dev->ops->free(dev, pool);
    qr_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_back_as_they_went),
        cmocka_unit_test(pinned_memory_is_reached_directly),
        cmocka_unit_test(a_copy_that_fails_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
