/* How requests begin and end: stops, limits, cancelling, deadlines, slow readers, a full queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/engine_runs.h"
#include "tests/support/testdata.h"

static char model_path[QR_TEST_PATH_MAX];
static struct qr_engine *engine; /* NULL: no test data */
static struct qr_run run;

static struct qr_engine_config small_config(void)
{
    struct qr_engine_config config = qr_run_config(model_path);

    config.kv_pages = 64;
    config.max_running = 4;
    config.max_queue = 8;
    return config;
}

static int open_engine(void **state)
{
    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        return 0;
    struct qr_engine_config config = small_config();
    engine = qr_run_engine(&config);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    qr_engine_destroy(engine);
    return 0;
}

static struct qr_request *story(int32_t max_tokens)
{
    struct qr_request *request = qr_run_request((const int32_t[]){1}, 1, max_tokens);
    request->ignore_eos = true;
    return request;
}

static void run_one(struct qr_request *request)
{
    qr_run_all(engine, &request, &run, 1);
    qr_run_assert_pool_whole(engine);
}

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void ignore_news(void *arg, struct qr_stream *stream)
{
    (void)arg;
    (void)stream;
}

static void a_stop_string_ends_the_text_before_it(void **state)
{
    (void)state;
    struct qr_error err;
    if (engine == NULL)
        return;
    struct qr_request *request = story(100);
    /* "Once upon a time, there was a little girl named Lily. She loved ..." */
    assert_int_equal(qr_request_add_stop_string(request, "zebra", &err), QR_OK);
    assert_int_equal(qr_request_add_stop_string(request, "l named L", &err), QR_OK);
    run_one(request);
    assert_int_equal(run.finish.reason, QR_FINISH_STOP);
    assert_int_equal(run.finish.stop_string, 1);
    assert_string_equal(run.text.data, "Once upon a time, there was a little gir");
    assert_true(run.n_tokens < 100);
    qr_run_free(&run, 1);

    request = story(100);
    request->include_stop = true;
    assert_int_equal(qr_request_add_stop_string(request, "l named L", &err), QR_OK);
    run_one(request);
    assert_string_equal(run.text.data, "Once upon a time, there was a little girl named L");
    qr_run_free(&run, 1);
}

static void held_text_comes_out_when_no_stop_string_does(void **state)
{
    (void)state;
    struct qr_error err;
    if (engine == NULL)
        return;
    struct qr_request *request = story(10);
    run_one(request);
    struct qr_run plain = run;

    request = story(10);
    char prefix[64]; /* the end of the text begins a stop string that never comes whole */
    snprintf(prefix, sizeof(prefix), "%sXYZ", plain.text.data + plain.text.length - 3);
    assert_int_equal(qr_request_add_stop_string(request, prefix, &err), QR_OK);
    run_one(request);
    assert_int_equal(run.finish.reason, QR_FINISH_LENGTH);
    assert_string_equal(run.text.data, plain.text.data);
    qr_run_free(&run, 1);
    qr_run_free(&plain, 1);
}

static void stop_tokens_and_min_tokens(void **state)
{
    (void)state;
    struct qr_error err;
    if (engine == NULL)
        return;
    run_one(story(30));
    struct qr_run plain = run;
    int32_t third = plain.ids[2];

    struct qr_request *request = story(30);
    assert_int_equal(qr_request_add_stop_token(request, third, &err), QR_OK);
    run_one(request);
    assert_int_equal(run.n_tokens, 3);
    assert_int_equal(run.finish.reason, QR_FINISH_STOP);
    assert_int_equal(run.finish.stop_token_id, third);
    qr_run_free(&run, 1);

    request = story(30);
    assert_int_equal(qr_request_add_stop_token(request, third, &err), QR_OK);
    request->min_tokens = 20;
    run_one(request);
    assert_true(run.n_tokens >= 20);
    for (int32_t i = 0; i < 20; i++)
        assert_int_not_equal(run.ids[i], third);
    qr_run_free(&run, 1);
    qr_run_free(&plain, 1);
}

static void one_token_and_a_full_context(void **state)
{
    (void)state;
    if (engine == NULL)
        return;
    run_one(story(1));
    assert_int_equal(run.n_tokens, 1);
    assert_int_equal(run.finish.reason, QR_FINISH_LENGTH);
    assert_int_equal(run.finish.usage.n_prompt_tokens, 1);
    assert_int_equal(run.finish.usage.n_output_tokens, 1);
    assert_int_equal(run.finish.usage.n_pages, 1);
    qr_run_free(&run, 1);
    run_one(story(100000)); /* more than the context: it ends when that is full */
    assert_int_equal(run.n_tokens, 511);
    assert_int_equal(run.finish.reason, QR_FINISH_LENGTH);
    qr_run_free(&run, 1);
}

static void a_cancelled_sequence_gives_its_pages_back(void **state)
{
    (void)state;
    struct qr_waiter waiter;
    if (engine == NULL)
        return;
    qr_waiter_init(&waiter);
    struct qr_stream *stream = qr_run_submit(engine, &waiter, story(500), &run);
    qr_waiter_wait(&waiter, ignore_news, NULL);
    qr_stream_cancel(stream);
    qr_run_wait(&waiter, &run, 1);
    assert_int_equal(run.finish.reason, QR_FINISH_CANCELLED);
    assert_true(run.n_tokens < 500);
    qr_run_assert_pool_whole(engine);
    qr_stream_unref(stream);
    qr_waiter_destroy(&waiter);
    qr_run_free(&run, 1);
}

static void a_slow_reader_pauses_its_sequence_and_loses_nothing(void **state)
{
    (void)state;
    struct qr_waiter waiter;
    struct qr_engine_stats stats;
    if (engine == NULL)
        return;
    run_one(story(400));
    struct qr_run plain = run;

    qr_waiter_init(&waiter);
    struct qr_stream *stream = qr_run_submit(engine, &waiter, story(400), &run);
    do { /* nobody reads: the ring fills, the sequence is parked and the engine goes to sleep */
        sleep_ms(5);
        qr_engine_get_stats(engine, &stats);
    } while (stats.n_paused == 0 || stats.n_running > 0);
    assert_int_equal(stats.kv_used_pages, 0);
    int64_t steps = stats.n_steps;
    sleep_ms(50);
    qr_engine_get_stats(engine, &stats);
    assert_int_equal(stats.n_steps, steps);
    assert_false(qr_engine_is_idle(engine));
    qr_run_wait(&waiter, &run, 1);
    qr_run_assert_same(&run, &plain);
    qr_stream_unref(stream);
    qr_waiter_destroy(&waiter);
    qr_run_assert_pool_whole(engine);
    qr_run_free(&run, 1);
    qr_run_free(&plain, 1);
}

static void a_deadline_ends_even_a_sequence_that_nobody_reads(void **state)
{
    (void)state;
    struct qr_waiter waiter;
    if (engine == NULL)
        return;
    qr_waiter_init(&waiter);
    struct qr_request *request = story(500);
    request->deadline_ns = qr_now_ns() + 100 * 1000000;
    struct qr_stream *stream = qr_run_submit(engine, &waiter, request, &run);
    sleep_ms(150);
    qr_run_assert_pool_whole(engine);
    qr_run_wait(&waiter, &run, 1);
    assert_int_equal(run.finish.reason, QR_FINISH_DEADLINE);
    qr_stream_unref(stream);
    qr_waiter_destroy(&waiter);
    qr_run_free(&run, 1);
}

static void a_full_queue_refuses_and_says_when_to_come_back(void **state)
{
    (void)state;
    enum { MANY = 4 + 8 + 4 };
    struct qr_waiter waiter;
    struct qr_stream *streams[MANY] = {0};
    static struct qr_run runs[MANY];
    struct qr_error err;
    const char *field;
    int64_t retry_after_ns = 0;
    int32_t n_accepted = 0;
    if (engine == NULL)
        return;
    qr_waiter_init(&waiter);
    for (int32_t i = 0; i < MANY; i++) {
        struct qr_request *request = story(500); /* unread, they pause and keep their places */
        runs[n_accepted] = (struct qr_run){.n_outputs = 1, .text.arena = QR_ARENA_REQUEST};
        enum qr_status status =
            qr_engine_submit(engine, request, &waiter.group, &runs[n_accepted],
                             &streams[n_accepted], &field, &retry_after_ns, &err);
        if (status == QR_OK) {
            n_accepted++;
            continue;
        }
        assert_int_equal(status, QR_ERR_QUEUE_FULL);
        assert_true(retry_after_ns >= 100 * 1000000);
        qr_request_destroy(request);
    }
    assert_true(n_accepted >= 8 && n_accepted < MANY);
    qr_run_wait(&waiter, runs, n_accepted);
    for (int32_t i = 0; i < n_accepted; i++) {
        assert_int_equal(runs[i].n_tokens, 500);
        qr_run_assert_same(&runs[i], &runs[0]);
        qr_stream_unref(streams[i]);
    }
    qr_waiter_destroy(&waiter);
    qr_run_free(runs, n_accepted);
    qr_run_assert_pool_whole(engine);
}

static void refuse(struct qr_request *request, const char *expected_field)
{
    struct qr_stream *stream;
    struct qr_wake_group group;
    const char *field;
    int64_t retry_after_ns;
    struct qr_error err;

    assert_int_equal(
        qr_engine_submit(engine, request, &group, NULL, &stream, &field, &retry_after_ns, &err),
        QR_ERR_INVALID);
    assert_string_equal(field, expected_field);
    assert_true(strlen(err.message) > 10);
    assert_null(stream);
    qr_request_destroy(request);
}

static void bad_requests_name_their_field(void **state)
{
    (void)state;
    static int32_t long_prompt[512];
    struct qr_error err;
    if (engine == NULL)
        return;
    refuse(qr_run_request(long_prompt, 0, 5), "prompt");
    refuse(qr_run_request(long_prompt, 512, 5), "prompt");
    refuse(qr_run_request((const int32_t[]){512}, 1, 5), "prompt");
    refuse(qr_run_request((const int32_t[]){-1}, 1, 5), "prompt");
    refuse(qr_run_request((const int32_t[]){1}, 1, -1), "max_tokens");
    struct qr_request *request = story(5);
    request->min_tokens = 6;
    refuse(request, "min_tokens");
    request = story(5);
    request->sampling.temperature = -1;
    refuse(request, "temperature");
    request = story(5);
    request->sampling.top_p = __builtin_nanf("");
    refuse(request, "top_p");
    request = story(5);
    assert_int_equal(qr_request_add_stop_token(request, 512, &err), QR_OK);
    refuse(request, "stop_token_ids");
    request = story(5);
    assert_int_equal(qr_request_add_stop_string(request, "\xff", &err), QR_OK);
    refuse(request, "stop");
    request = story(5);
    assert_int_equal(qr_request_add_stop_string(request, "", &err), QR_ERR_INVALID);
    assert_int_equal(qr_request_add_logit_bias(request, 512, 1, &err), QR_OK);
    refuse(request, "logit_bias");
}

static void an_engine_that_is_destroyed_ends_its_streams(void **state)
{
    (void)state;
    struct qr_waiter waiter;
    if (engine == NULL)
        return;
    struct qr_engine_config config = small_config();
    struct qr_engine *other = qr_run_engine(&config);
    qr_waiter_init(&waiter);
    struct qr_stream *stream = qr_run_submit(other, &waiter, story(500), &run);
    qr_engine_destroy(other);
    qr_run_wait(&waiter, &run, 1);
    assert_true(run.finish.reason == QR_FINISH_SHUTDOWN || run.finish.reason == QR_FINISH_LENGTH);
    qr_stream_cancel(stream); /* harmless now */
    qr_stream_unref(stream);
    qr_waiter_destroy(&waiter);
    qr_run_free(&run, 1);
}

static void bad_settings_are_refused(void **state)
{
    (void)state;
    struct qr_engine *refused;
    struct qr_error err;
    if (engine == NULL)
        return;
    for (int i = 0; i < 5; i++) {
        struct qr_engine_config config = small_config();
        if (i == 0)
            config.page_size = 12;
        if (i == 1)
            config.max_batch_tokens = 3;
        if (i == 2)
            config.model_path = "/no/such/model";
        if (i == 3)
            config.backend = "abacus";
        if (i == 4) {
            config.kv_pages = 0;
            config.kv_memory = 100;
        }
        assert_int_not_equal(qr_engine_create(&config, &refused, &err), QR_OK);
        assert_null(refused);
        assert_true(strlen(err.message) > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(held_text_comes_out_when_no_stop_string_does),
        cmocka_unit_test(stop_tokens_and_min_tokens),
        cmocka_unit_test(one_token_and_a_full_context),
        cmocka_unit_test(a_cancelled_sequence_gives_its_pages_back),
        cmocka_unit_test(a_slow_reader_pauses_its_sequence_and_loses_nothing),
        cmocka_unit_test(a_deadline_ends_even_a_sequence_that_nobody_reads),
        cmocka_unit_test(a_full_queue_refuses_and_says_when_to_come_back),
        cmocka_unit_test(bad_requests_name_their_field),
        cmocka_unit_test(an_engine_that_is_destroyed_ends_its_streams),
        cmocka_unit_test(bad_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
