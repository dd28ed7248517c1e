/* Timing on a device: how often subjects run, in which order, what is reported, and what fails. */
#include "runtime/bench/cuda/timing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/bench/cuda/read_bytes.h"
#include "tests/support/cuda_platform.h"

enum { N_WORDS = 4 * 5000, N_BLOCKS = 3, N_SUMS = N_BLOCKS * QR_READ_BYTES_THREADS / 32 };

struct rig {
    struct qr_cuda cuda;
    struct qr_cuda_kernel read;
    qr_cu_address data, sums;
    int32_t n_enqueued;
};

static void open_rig(struct rig *rig)
{
    struct qr_error err;

    *rig = (struct rig){.n_enqueued = 0};
    if (qr_cuda_open(qr_test_cuda_platform(), 0, &rig->cuda, &err) != QR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(qr_cuda_find_kernel(&rig->cuda, "qr_read_bytes", QR_READ_BYTES_THREADS, 0,
                                         &rig->read, &err),
                     QR_OK);
    rig->data = qr_cuda_alloc(&rig->cuda, N_WORDS * sizeof(uint32_t));
    rig->sums = qr_cuda_alloc(&rig->cuda, N_SUMS * sizeof(uint32_t));
    assert_true(rig->data != 0 && rig->sums != 0);
}

static void close_rig(struct rig *rig)
{
    qr_cuda_free(&rig->cuda, rig->data);
    qr_cuda_free(&rig->cuda, rig->sums);
    qr_cuda_close(&rig->cuda);
}

static void enqueue_read(void *arg, int32_t call)
{
    struct rig *rig = arg;
    const struct qr_read_bytes_params params = {
        .from = (const void *)(uintptr_t)rig->data,
        .n_chunks = N_WORDS / 4,
        .sums = (uint32_t *)(uintptr_t)rig->sums,
    };

    assert_in_range(call, 0, 2);
    rig->n_enqueued++;
    qr_cuda_launch(&rig->cuda, &rig->read, N_BLOCKS, 1, &params);
}

static void fill(struct rig *rig, uint32_t *words)
{
    for (uint32_t i = 0; i < N_WORDS; i++)
        words[i] = i * 2654435761u;
    qr_cuda_copy_to_device(&rig->cuda, "words", rig->data, words, N_WORDS * sizeof(uint32_t));
    qr_cuda_zero(&rig->cuda, "sums", rig->sums, N_SUMS * sizeof(uint32_t));
}

static uint32_t sum_found(struct rig *rig)
{
    uint32_t sums[N_SUMS], sum = 0;
    struct qr_error err;

    qr_cuda_copy_to_host(&rig->cuda, "sums", sums, rig->sums, sizeof(sums));
    qr_cuda_synchronize(&rig->cuda);
    assert_int_equal(qr_cuda_take_failure(&rig->cuda, &err), QR_OK);
    for (int i = 0; i < N_SUMS; i++)
        sum += sums[i];
    return sum;
}

/* Captured once with all its calls; what was captured ran, and read every word once. */
static void a_subject_is_captured_and_replayed(void **state)
{
    (void)state;
    static uint32_t words[N_WORDS];
    struct qr_error err;
    struct qr_times times[2];
    struct rig rig;
    uint32_t expected = 0;

    open_rig(&rig);
    fill(&rig, words);
    for (int i = 0; i < N_WORDS; i++)
        expected += words[i];
    const struct qr_timing_subject subjects[] = {{enqueue_read, &rig, 3}, {enqueue_read, &rig, 1}};
    assert_int_equal(qr_timing_run(&rig.cuda, subjects, 2, 4, times, &err), QR_OK);
    assert_int_equal(rig.n_enqueued, 4);
    assert_int_equal(sum_found(&rig), expected);
    for (int i = 0; i < 2; i++) {
        assert_true(times[i].low > 0 && times[i].low <= times[i].median);
        assert_true(times[i].median <= times[i].high && times[i].high < 100);
    }
    close_rig(&rig);
}

static void without_a_graph_calls_are_enqueued_each_time(void **state)
{
    (void)state;
    static uint32_t words[N_WORDS];
    struct qr_error err;
    struct qr_times times;
    struct rig rig;

    open_rig(&rig);
    fill(&rig, words);
    const struct qr_timing_subject subject = {enqueue_read, &rig, 3};
    assert_int_equal(qr_timing_run_uncaptured(&rig.cuda, &subject, 4, &times, &err), QR_OK);
    assert_int_equal(rig.n_enqueued, 3 * (1 + 4));
    assert_true(times.low > 0 && times.low <= times.median && times.median <= times.high);
    close_rig(&rig);
}

static void enqueue_failure(void *arg, int32_t call)
{
    struct rig *rig = arg;
    qr_cuda_check(&rig->cuda, QR_CU_OUT_OF_MEMORY, "call %d", call);
}

/* What fails while it is captured is said, and the device can be used afterwards. */
static void a_failure_is_reported(void **state)
{
    (void)state;
    static uint32_t words[N_WORDS];
    struct qr_error err = {""};
    struct qr_times times;
    struct rig rig;

    open_rig(&rig);
    const struct qr_timing_subject fails = {enqueue_failure, &rig, 2};
    assert_int_not_equal(qr_timing_run(&rig.cuda, &fails, 1, 2, &times, &err), QR_OK);
    assert_non_null(strstr(err.message, "call 0"));
    fill(&rig, words);
    const struct qr_timing_subject works = {enqueue_read, &rig, 1};
    assert_int_equal(qr_timing_run(&rig.cuda, &works, 1, 2, &times, &err), QR_OK);
    close_rig(&rig);
}

static void the_summary_is_median_and_quartiles(void **state)
{
    (void)state;
    double values[] = {9, 1, 5, 7, 3};
    struct qr_times times = qr_timing_summary(values, 5);

    assert_true(times.median == 5 && times.low == 3 && times.high == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subject_is_captured_and_replayed),
        cmocka_unit_test(without_a_graph_calls_are_enqueued_each_time),
        cmocka_unit_test(a_failure_is_reported),
        cmocka_unit_test(the_summary_is_median_and_quartiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
