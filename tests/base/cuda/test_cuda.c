#include "base/cuda/cuda.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "tests/base/cuda/scale_kernel.h"
#include "tests/support/cuda_platform.h"

enum { N = 300, INVALID_CONTEXT = 201, CAPTURE_UNSUPPORTED = 900 };

/* A device, the kernel, and N floats on the device that are 1. */
struct fixture {
    struct qr_cuda cuda;
    struct qr_cuda_kernel scale;
    qr_cu_address x;
    float *host; /* pinned, [N] */
};

static void set_up(struct fixture *f)
{
    struct qr_error err = {0};
    assert_int_equal(qr_cuda_open(qr_test_cuda_platform(), 0, &f->cuda, &err), QR_OK);
    assert_int_equal(qr_cuda_find_kernel(&f->cuda, "qr_test_scale", 128, 0, &f->scale, &err),
                     QR_OK);
    f->x = qr_cuda_alloc(&f->cuda, N * sizeof(float));
    f->host = qr_cuda_host_alloc(&f->cuda, N * sizeof(float));
    assert_true(f->x != 0 && f->host != NULL);
    for (int i = 0; i < N; i++)
        f->host[i] = 1.0f;
    qr_cuda_copy_to_device(&f->cuda, "ones", f->x, f->host, N * sizeof(float));
    qr_cuda_synchronize(&f->cuda);
    assert_int_equal(qr_cuda_take_failure(&f->cuda, &err), QR_OK);
}

static void tear_down(struct fixture *f)
{
    qr_cuda_free(&f->cuda, f->x);
    qr_cuda_host_free(&f->cuda, f->host);
    assert_int_equal(qr_emulator_bytes_in_use(), 0);
    qr_cuda_close(&f->cuda);
}

static void scale_by(struct fixture *f, float factor)
{
    const struct qr_test_scale_params params = {(float *)f->x, factor, N};
    qr_cuda_launch(&f->cuda, &f->scale, 3, 1, &params);
}

static void expect_all(struct fixture *f, float value)
{
    struct qr_error err = {0};
    qr_cuda_copy_to_host(&f->cuda, "x", f->host, f->x, N * sizeof(float));
    qr_cuda_synchronize(&f->cuda);
    assert_int_equal(qr_cuda_take_failure(&f->cuda, &err), QR_OK);
    for (int i = 0; i < N; i++)
        assert_true(f->host[i] == value);
}

/* Each test starts with the usual settings and no faults. */
static int default_settings(void **state)
{
    (void)state;
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);
    qr_emulator_heal();
    return 0;
}

static void a_kernel_runs_by_its_name(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    if (!qr_test_cuda_is_real()) {
        assert_int_equal(f.cuda.properties.capability, 90);
        assert_int_equal(f.cuda.properties.max_shared, 227 << 10);
    }
    assert_true(f.scale.blocks_per_sm > 0);
    scale_by(&f, 3.0f);
    scale_by(&f, 0.5f);
    expect_all(&f, 1.5f);
    qr_cuda_zero(&f.cuda, "x", f.x, N * sizeof(float));
    expect_all(&f, 0.0f);
    tear_down(&f);
}

static void what_cannot_be_opened_is_said(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip(); /* faults to order and settings: the emulator's alone */
    struct qr_cuda cuda;
    struct qr_error err = {0};
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    const struct qr_cu_platform *platform = qr_cu_platform_emulated();

    assert_int_equal(qr_cuda_open(platform, 1, &cuda, &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "device 1"));

    struct qr_cu_platform without_kernels = *platform;
    without_kernels.n_images = 0;
    assert_int_equal(qr_cuda_open(&without_kernels, 0, &cuda, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no CUDA kernels"));

    settings.capability = 75;
    qr_emulator_set(&settings);
    assert_int_equal(qr_cuda_open(platform, 0, &cuda, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "7.5"));

    settings.n_devices = 0;
    qr_emulator_set(&settings);
    assert_int_equal(qr_cuda_count(platform, NULL), 0);
    assert_int_equal(qr_cuda_open(platform, 0, &cuda, &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "CUDA_ERROR_NO_DEVICE"));
    qr_cuda_close(&cuda);
}

static void a_kernel_that_does_not_fit_is_named(void **state)
{
    (void)state;
    struct fixture f;
    struct qr_cuda_kernel kernel;
    struct qr_error err = {0};
    set_up(&f);
    assert_int_equal(qr_cuda_find_kernel(&f.cuda, "qr_no_such", 128, 0, &kernel, &err),
                     QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "qr_no_such"));
    assert_int_equal(qr_cuda_find_kernel(&f.cuda, "qr_test_scale", 128, 300000, &kernel, &err),
                     QR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "300000 bytes"));
    assert_int_equal(qr_cuda_find_kernel(&f.cuda, "qr_test_scale", 256, 0, &kernel, &err),
                     QR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "256 threads"));
    tear_down(&f);
}

static void the_first_failure_is_kept_and_later_work_skipped(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip(); /* faults to order and settings: the emulator's alone */
    struct fixture f;
    struct qr_error err = {0};
    set_up(&f);
    qr_emulator_fail_copy(1, QR_CU_OUT_OF_MEMORY);
    int64_t n_launches = qr_emulator_count_launches("qr_test_scale");
    qr_cuda_copy_to_device(&f.cuda, "block tables", f.x, f.host, 64);
    scale_by(&f, 2.0f);
    qr_cuda_zero(&f.cuda, "x", f.x, 64);
    (void)qr_cuda_check(&f.cuda, QR_CU_ILLEGAL_ADDRESS, "a second failure");
    assert_int_equal(qr_emulator_count_launches("qr_test_scale"), n_launches);
    assert_int_equal(qr_cuda_take_failure(&f.cuda, &err), QR_ERR_NOMEM);
    assert_non_null(strstr(err.message, "block tables"));
    assert_non_null(strstr(err.message, "64 bytes"));
    assert_non_null(strstr(err.message, "CUDA_ERROR_OUT_OF_MEMORY"));

    scale_by(&f, 2.0f); /* the latch is open again */
    assert_int_equal(qr_emulator_count_launches("qr_test_scale"), n_launches + 1);
    expect_all(&f, 2.0f);
    tear_down(&f);
}

static void a_lost_device_fails_everything(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip(); /* faults to order and settings: the emulator's alone */
    struct fixture f;
    struct qr_error err = {0};
    set_up(&f);
    qr_emulator_fail_launch("qr_test_scale", 2, QR_CU_ILLEGAL_ADDRESS);
    scale_by(&f, 2.0f);
    scale_by(&f, 2.0f);
    qr_cuda_synchronize(&f.cuda);
    assert_int_equal(qr_cuda_take_failure(&f.cuda, &err), QR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "CUDA_ERROR_ILLEGAL_ADDRESS"));
    scale_by(&f, 2.0f);
    assert_int_equal(qr_cuda_take_failure(&f.cuda, &err), QR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "qr_test_scale, 3 x 1 blocks"));
    assert_true(qr_cuda_alloc(&f.cuda, 16) == 0);
    qr_emulator_heal();
    tear_down(&f);
}

static void memory_can_run_out(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip(); /* faults to order and settings: the emulator's alone */
    struct fixture f;
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    settings.device_bytes = 1 << 20;
    qr_emulator_set(&settings);
    set_up(&f);
    assert_int_equal(f.cuda.properties.total_bytes, 1 << 20);
    assert_int_equal(qr_cuda_free_bytes(&f.cuda), (1 << 20) - N * (int)sizeof(float));
    assert_true(qr_cuda_alloc(&f.cuda, 1 << 20) == 0);
    qr_emulator_fail_allocation(2);
    void *pinned = qr_cuda_host_alloc(&f.cuda, 16);
    assert_non_null(pinned);
    assert_null(qr_cuda_host_alloc(&f.cuda, 16));
    qr_cuda_host_free(&f.cuda, pinned);
    qr_cu_address rest = qr_cuda_alloc(&f.cuda, (1 << 20) - 4096);
    assert_true(rest != 0);
    qr_cuda_free(&f.cuda, rest);
    tear_down(&f);
}

static void copies_stay_inside_one_allocation(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip(); /* faults to order and settings: the emulator's alone */
    struct fixture f;
    struct qr_error err = {0};
    set_up(&f);
    qr_cuda_copy_to_device(&f.cuda, "too much", f.x + 4, f.host, N * sizeof(float));
    assert_int_equal(qr_cuda_take_failure(&f.cuda, &err), QR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "CUDA_ERROR_INVALID_VALUE"));
    tear_down(&f);
}

/* ---- a second thread ---- */

static void *copy_from_another_thread(void *argument)
{
    struct fixture *f = argument;
    const struct qr_cu_driver *driver = f->cuda.driver;
    struct qr_error err = {0};
    qr_cu_stream stream;
    if (driver->stream_create(&stream, QR_CU_STREAM_NON_BLOCKING) != INVALID_CONTEXT)
        return "a thread that has not attached itself can use the device";
    if (qr_cuda_attach_thread(&f->cuda, &err) != QR_OK)
        return "a thread cannot attach itself";
    if (driver->stream_create(&stream, QR_CU_STREAM_NON_BLOCKING) != QR_CU_OK ||
        driver->memcpy_dtoh_async(f->host, f->x, N * sizeof(float), stream) != QR_CU_OK ||
        driver->stream_synchronize(stream) != QR_CU_OK ||
        driver->stream_destroy(stream) != QR_CU_OK)
        return "an attached thread cannot copy";
    return NULL;
}

static void a_thread_uses_the_device_once_it_is_attached(void **state)
{
    (void)state;
    struct fixture f;
    pthread_t thread;
    void *complaint;
    set_up(&f);
    scale_by(&f, 7.0f);
    qr_cuda_synchronize(&f.cuda);
    assert_int_equal(pthread_create(&thread, NULL, copy_from_another_thread, &f), 0);
    assert_int_equal(pthread_join(thread, &complaint), 0);
    if (complaint != NULL)
        fail_msg("%s", (const char *)complaint);
    assert_true(f.host[N - 1] == 7.0f);
    tear_down(&f);
}

/* ---- graphs, events ---- */

static void a_graph_replays_what_was_captured(void **state)
{
    (void)state;
    struct fixture f;
    qr_cu_graph graph;
    qr_cu_graph_exec exec;
    set_up(&f);
    const struct qr_cu_driver *driver = f.cuda.driver;
    assert_int_equal(driver->stream_begin_capture(f.cuda.stream, QR_CU_CAPTURE_THREAD_LOCAL), 0);
    scale_by(&f, 2.0f);
    scale_by(&f, 3.0f);
    assert_true(qr_cuda_alloc(&f.cuda, 16) == 0); /* not while a graph is captured */
    assert_int_equal(driver->stream_synchronize(f.cuda.stream), CAPTURE_UNSUPPORTED);
    assert_int_equal(driver->stream_end_capture(f.cuda.stream, &graph), 0);
    assert_int_equal(driver->graph_instantiate(&exec, graph, 0), 0);
    assert_int_equal(driver->graph_destroy(graph), 0);
    expect_all(&f, 1.0f); /* captured work has not run */
    assert_int_equal(driver->graph_launch(exec, f.cuda.stream), 0);
    assert_int_equal(driver->graph_launch(exec, f.cuda.stream), 0);
    expect_all(&f, 36.0f);
    assert_int_equal(driver->graph_exec_destroy(exec), 0);
    tear_down(&f);
}

/* The copy stream waits for the event, or not, before it takes x to the host. */
static float copied_beside(bool waits)
{
    struct fixture f;
    qr_cu_stream stream;
    qr_cu_event event;
    set_up(&f);
    const struct qr_cu_driver *driver = f.cuda.driver;
    assert_int_equal(driver->stream_create(&stream, QR_CU_STREAM_NON_BLOCKING), 0);
    assert_int_equal(driver->event_create(&event, QR_CU_EVENT_DISABLE_TIMING), 0);
    scale_by(&f, 5.0f);
    assert_int_equal(driver->event_record(event, f.cuda.stream), 0);
    if (waits)
        assert_int_equal(driver->stream_wait_event(stream, event, 0), 0);
    assert_int_equal(driver->memcpy_dtoh_async(f.host, f.x, N * sizeof(float), stream), 0);
    assert_int_equal(driver->stream_synchronize(stream), 0);
    float copied = f.host[0];
    qr_cu_result result;
    while ((result = driver->event_query(event)) == QR_CU_NOT_READY)
        ;
    assert_int_equal(result, QR_CU_OK);
    assert_int_equal(driver->event_destroy(event), 0);
    assert_int_equal(driver->stream_destroy(stream), 0);
    tear_down(&f);
    return copied;
}

static void streams_run_late_when_they_are_told_to(void **state)
{
    (void)state;
    if (qr_test_cuda_is_real())
        skip(); /* faults to order and settings: the emulator's alone */
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    settings.late_streams = true;
    qr_emulator_set(&settings);
    assert_true(copied_beside(true) == 5.0f);
    assert_true(copied_beside(false) == 1.0f); /* the missing wait shows */
}

static void events_measure_time(void **state)
{
    (void)state;
    struct fixture f;
    qr_cu_event events[2];
    float ms = -1.0f;
    set_up(&f);
    const struct qr_cu_driver *driver = f.cuda.driver;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(driver->event_create(&events[i], 0), 0);
        assert_int_equal(driver->event_record(events[i], f.cuda.stream), 0);
        scale_by(&f, 1.0f);
    }
    assert_int_equal(driver->event_synchronize(events[1]), 0);
    assert_int_equal(driver->event_elapsed_time(&ms, events[0], events[1]), 0);
    assert_true(ms >= 0.0f);
    for (int i = 0; i < 2; i++)
        assert_int_equal(driver->event_destroy(events[i]), 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_kernel_runs_by_its_name, default_settings),
        cmocka_unit_test_setup(what_cannot_be_opened_is_said, default_settings),
        cmocka_unit_test_setup(a_kernel_that_does_not_fit_is_named, default_settings),
        cmocka_unit_test_setup(the_first_failure_is_kept_and_later_work_skipped, default_settings),
        cmocka_unit_test_setup(a_lost_device_fails_everything, default_settings),
        cmocka_unit_test_setup(memory_can_run_out, default_settings),
        cmocka_unit_test_setup(copies_stay_inside_one_allocation, default_settings),
        cmocka_unit_test_setup(a_thread_uses_the_device_once_it_is_attached, default_settings),
        cmocka_unit_test_setup(a_graph_replays_what_was_captured, default_settings),
        cmocka_unit_test_setup(streams_run_late_when_they_are_told_to, default_settings),
        cmocka_unit_test_setup(events_measure_time, default_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
