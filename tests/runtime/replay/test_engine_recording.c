/*
 * A real engine under memory pressure, recorded: the replay decides as the engine's
 * scheduler did, and the story of a preempted request says what happened to it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mapped_file.h"
#include "runtime/replay/story.h"
#include "tests/support/engine_gate.h"
#include "tests/support/engine_runs.h"
#include "tests/support/temp_dir.h"
#include "tests/support/testdata.h"

enum { N_REQUESTS = 32, MAX_OUTPUTS = 4 };

static char model_path[QR_TEST_PATH_MAX];
static struct qr_temp_dir dir;
static char record_path[QR_TEMP_PATH_MAX + 16];
static struct qr_run runs[N_REQUESTS * MAX_OUTPUTS];

/* Prompts that begin alike; some have several outputs, some are beam searches. */
static struct qr_request *make_request(int32_t i)
{
    int32_t ids[96];
    size_t n = (size_t)(8 + i * 29 % 80);

    ids[0] = 1;
    for (size_t k = 1; k < n; k++)
        ids[k] = (int32_t)(k < 40 ? 300 + k * 7 % 150 : 260 + (k * 13 + (size_t)i) % 200);
    struct qr_request *request = qr_run_request(ids, n, 30 + i % 5 * 20);
    snprintf(request->request_id, sizeof(request->request_id), "request-%d", i);
    request->ignore_eos = i % 5 != 4;
    request->priority = i % 7 == 0 ? 1 : 0;
    if (i % 5 == 4) {
        request->beam.width = 2 + i % 2;
    } else if (i % 4 == 1) {
        qr_sampling_preset("creative", &request->sampling);
        request->n = 1 + i % 3;
    }
    return request;
}

static void run_engine(int32_t kv_pages)
{
    struct qr_engine_config config;
    struct qr_waiter waiter;
    struct qr_stream *streams[N_REQUESTS];
    struct engine_gate gate;

    qr_engine_config_default(&config);
    config.model_path = model_path;
    config.n_threads = 1;
    config.max_context = 256;
    config.kv_pages = kv_pages;
    config.max_running = 16;
    config.swap_memory = 256 << 10;
    config.record = record_path;
    struct qr_engine *engine = qr_run_engine(&config);
    engine_gate_close(&gate, engine, NULL);
    qr_waiter_init(&waiter);
    for (int32_t i = 0; i < N_REQUESTS; i++)
        streams[i] = qr_run_submit(engine, &waiter, make_request(i), &runs[i * MAX_OUTPUTS]);
    engine_gate_open(&gate);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        qr_run_wait(&waiter, &runs[i * MAX_OUTPUTS], 1);
        qr_stream_unref(streams[i]);
    }
    qr_waiter_destroy(&waiter);
    qr_engine_destroy(engine);
    engine_gate_destroy(&gate);
    qr_run_free(runs, N_REQUESTS * MAX_OUTPUTS);
}

static int make_dir(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(record_path, sizeof(record_path), "%s/run.rec", dir.path);
    qr_testdata("models/stories260k/hf", model_path);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    qr_temp_dir_remove(&dir);
    return 0;
}

/* Request `explain` is followed, 0: none; its story is appended to `story`. */
static void replay_file(const struct qr_mapped_file *file, int32_t explain,
                        struct qr_replay_stats *stats, struct qr_buffer *text)
{
    struct qr_record_reader *reader;
    struct qr_replay *replay;
    struct qr_story *story;
    struct qr_record record;
    struct qr_error err = {""};

    assert_int_equal(qr_record_reader_open("run.rec", file->data, file->size, &reader, &err),
                     QR_OK);
    const struct qr_record_header *header = qr_record_reader_header(reader);
    assert_int_equal(qr_replay_create(header, &replay, &err), QR_OK);
    assert_int_equal(qr_story_create(replay, explain, &story), QR_OK);
    do {
        assert_int_equal(qr_record_reader_next(reader, &record, &err), QR_OK);
        assert_int_equal(qr_story_before(story, &record), QR_OK);
        enum qr_status status = qr_replay_apply(replay, &record, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(status, QR_OK);
        assert_int_equal(qr_story_after(story, &record), QR_OK);
        if (qr_replay_difference(replay) != NULL)
            fail_msg("%s", qr_replay_difference(replay));
    } while (record.kind != QR_RECORD_END);
    assert_true(record.end.is_marked);
    assert_int_equal(record.end.reason, QR_RECORD_END_CLOSED);
    qr_replay_get_stats(replay, stats);
    if (explain > 0)
        assert_int_equal(qr_story_write(story, header, text), QR_OK);
    for (int32_t i = 1; i <= stats->n_requests; i++) {
        const struct qr_replay_request *request = qr_replay_request(replay, i);
        assert_non_null(request->name);
        assert_int_equal(strncmp(request->name, "request-", 8), 0);
        assert_true(request->finished != QR_MOMENT_NONE);
    }
    qr_story_destroy(story);
    qr_replay_destroy(replay);
    qr_record_reader_close(reader);
}

static void the_engine_is_replayed_without_a_model(void **state)
{
    (void)state;
    struct qr_mapped_file file;
    struct qr_replay_stats stats;
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    int32_t n_told = 0;

    if (model_path[0] == '\0')
        return;
    run_engine(24);
    assert_int_equal(qr_mapped_file_open(record_path, &file, NULL), QR_OK);
    replay_file(&file, 0, &stats, NULL);
    int64_t n_preempted =
        stats.n_preempted[QR_RELEASE_SWAPPED] + stats.n_preempted[QR_RELEASE_RESUMES];
    printf("%lld steps, %lld requests, %lld forks, %lld preempted, %lld pages out, %zu bytes\n",
           (long long)stats.n_steps, (long long)stats.n_requests, (long long)stats.n_forks,
           (long long)n_preempted, (long long)stats.n_out[QR_TIER_HOST], file.size);
    assert_int_equal(stats.n_requests, N_REQUESTS);
    assert_true(stats.n_forks > 0 && n_preempted > 0);
    for (int32_t i = 1; i <= N_REQUESTS; i++) {
        qr_buffer_clear(&text);
        replay_file(&file, i, &stats, &text);
        assert_non_null(strstr(text.data, "arrives: "));
        assert_non_null(strstr(text.data, "admitted, "));
        assert_non_null(strstr(text.data, "first token\n"));
        assert_non_null(strstr(text.data, "ends with "));
        n_told += strstr(text.data, "preempted by ") != NULL;
    }
    assert_true(n_told > 0);
    qr_buffer_free(&text);
    qr_mapped_file_close(&file);
}

/* Decodes wait for full steps of prompts as long as the scheduler does not know what a row costs.
 */
static void a_row_has_a_price_after_the_first_step(void **state)
{
    (void)state;
    struct qr_mapped_file file;
    struct qr_record_reader *reader;
    struct qr_record record;
    struct qr_error err;
    int32_t n_plans = 0;

    if (model_path[0] == '\0')
        return;
    run_engine(24);
    assert_int_equal(qr_mapped_file_open(record_path, &file, NULL), QR_OK);
    assert_int_equal(qr_record_reader_open("run.rec", file.data, file.size, &reader, &err), QR_OK);
    do {
        assert_int_equal(qr_record_reader_next(reader, &record, &err), QR_OK);
        n_plans += record.kind == QR_RECORD_PLAN;
        assert_int_not_equal(record.kind, QR_RECORD_END);
    } while (record.kind != QR_RECORD_SET_COSTS || record.costs.row_ns == 0);
    assert_int_equal(n_plans, 1);
    qr_record_reader_close(reader);
    qr_mapped_file_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_engine_is_replayed_without_a_model, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_row_has_a_price_after_the_first_step, make_dir,
                                        remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
