/* engine_runs.c - see engine_runs.h for the contract. */
#include "tests/support/engine_runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "tests/support/engine_gate.h"
#include "tests/support/testdata.h"

struct qr_engine_config qr_run_config(const char *model_path)
{
    struct qr_engine_config config;

    qr_engine_config_default(&config);
    config.max_stall_ms = 0; /* plans are not to depend on how fast the machine is */
    config.model_path = model_path;
    config.n_threads = 1;
    return config;
}

struct qr_engine *qr_run_engine(const struct qr_engine_config *config)
{
    struct qr_engine *engine;
    struct qr_error err;

    if (qr_engine_create(config, &engine, &err) != QR_OK)
        fail_msg("%s", err.message);
    return engine;
}

struct qr_request *qr_run_request(const int32_t *ids, size_t n, int32_t max_tokens)
{
    struct qr_request *request = qr_request_create();

    assert_non_null(request);
    assert_int_equal(qr_request_set_prompt(request, ids, n), QR_OK);
    request->sampling.temperature = 0;
    request->max_tokens = max_tokens;
    return request;
}

struct qr_stream *qr_run_submit(struct qr_engine *engine, struct qr_waiter *waiter,
                                struct qr_request *request, struct qr_run *run)
{
    struct qr_stream *stream;
    const char *field;
    int64_t retry_after_ns;
    struct qr_error err;

    for (int32_t i = 0; i < request->n; i++)
        run[i] = (struct qr_run){.n_outputs = request->n, .text.arena = QR_ARENA_REQUEST};
    if (qr_engine_submit(engine, request, &waiter->group, run, &stream, &field, &retry_after_ns,
                         &err) != QR_OK)
        fail_msg("%s", err.message);
    return stream;
}

static void add_event(struct qr_run *run, const struct qr_token_event *event)
{
    const struct qr_sampled *sampled = &event->sampled;

    if (event->is_prompt) {
        run->scores[run->n_scored++] = sampled->logprob;
        return;
    }
    run->ids[run->n_tokens] = sampled->token_id;
    run->logprobs[run->n_tokens] = sampled->logprob;
    if (sampled->n_top == 2)
        run->top[run->n_tokens] = sampled->top[1];
    run->n_tokens++;
}

static void add_chunk(struct qr_run *run, const struct qr_stream_chunk *chunk)
{
    assert_false(run->finished);
    assert_true(qr_utf8_is_valid(chunk->text, chunk->n_text_bytes));
    assert_int_equal(qr_buffer_append(&run->text, chunk->text, chunk->n_text_bytes), QR_OK);
    for (int32_t i = 0; i < chunk->n_tokens; i++)
        add_event(run, &chunk->tokens[i]);
    if (chunk->finish != NULL) {
        run->finish = *chunk->finish;
        run->finished = true;
    }
}

static bool all_finished(const struct qr_run *first)
{
    for (int32_t i = 0; i < first->n_outputs; i++) {
        if (!first[i].finished)
            return false;
    }
    return true;
}

void qr_run_collect(struct qr_stream *stream)
{
    struct qr_run *run = qr_stream_owner(stream);
    struct qr_stream_chunk chunk;

    for (qr_stream_take(stream, &chunk); !qr_stream_chunk_is_empty(&chunk);
         qr_stream_take(stream, &chunk)) {
        assert_true(chunk.output < run->n_outputs);
        add_chunk(&run[chunk.output], &chunk);
        assert_int_equal(chunk.last, all_finished(run));
        if (chunk.last)
            return;
    }
}

static void collect(void *arg, struct qr_stream *stream)
{
    (void)arg;
    qr_run_collect(stream);
}

void qr_run_wait(struct qr_waiter *waiter, struct qr_run *runs, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        while (!all_finished(&runs[i]))
            qr_waiter_wait(waiter, collect, NULL);
    }
}

/* gate: NULL, or what is opened once all are sent. */
static void run_gated(struct qr_engine *engine, struct engine_gate *gate,
                      struct qr_request **requests, struct qr_run *runs, int32_t n)
{
    struct qr_waiter waiter;
    struct qr_stream **streams = qr_calloc(QR_ARENA_REQUEST, (size_t)n, sizeof(struct qr_stream *));

    assert_non_null(streams);
    qr_waiter_init(&waiter);
    for (int32_t i = 0; i < n; i++)
        streams[i] = qr_run_submit(engine, &waiter, requests[i], &runs[i]);
    if (gate != NULL)
        engine_gate_open(gate);
    qr_run_wait(&waiter, runs, n);
    for (int32_t i = 0; i < n; i++)
        qr_stream_unref(streams[i]);
    qr_waiter_destroy(&waiter);
    qr_free(streams);
}

void qr_run_all(struct qr_engine *engine, struct qr_request **requests, struct qr_run *runs,
                int32_t n)
{
    run_gated(engine, NULL, requests, runs, n);
}

void qr_run_outputs(struct qr_engine *engine, struct qr_request *request, struct qr_run *runs)
{
    struct qr_waiter waiter;

    qr_waiter_init(&waiter);
    struct qr_stream *stream = qr_run_submit(engine, &waiter, request, runs);
    qr_run_wait(&waiter, runs, 1);
    qr_stream_unref(stream);
    qr_waiter_destroy(&waiter);
}

void qr_run_assert_same(const struct qr_run *a, const struct qr_run *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->n_scored, b->n_scored);
    assert_int_equal(a->finish.reason, b->finish.reason);
    assert_int_equal(a->text.length, b->text.length);
    assert_memory_equal(a->ids, b->ids, (size_t)a->n_tokens * sizeof(*a->ids));
    for (int32_t i = 0; i < a->n_tokens; i++) {
        assert_true(a->logprobs[i] == b->logprobs[i]);
        assert_int_equal(a->top[i].token_id, b->top[i].token_id);
        assert_true(a->top[i].logprob == b->top[i].logprob);
    }
    for (int32_t i = 0; i < a->n_scored; i++)
        assert_true(a->scores[i] == b->scores[i]);
    if (a->text.length > 0)
        assert_memory_equal(a->text.data, b->text.data, a->text.length);
}

void qr_run_free(struct qr_run *runs, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        qr_buffer_free(&runs[i].text);
}

static struct qr_run *make_runs(int32_t n)
{
    struct qr_run *runs = qr_calloc(QR_ARENA_REQUEST, (size_t)n, sizeof(*runs));
    assert_non_null(runs);
    return runs;
}

struct qr_run *qr_run_each_alone(const struct qr_engine_config *config, qr_run_make_fn make,
                                 int32_t n)
{
    struct qr_engine *engine = qr_run_engine(config);
    struct qr_run *runs = make_runs(n);

    for (int32_t i = 0; i < n; i++) {
        struct qr_request *request = make(i);
        qr_run_all(engine, &request, &runs[i], 1);
    }
    qr_engine_destroy(engine);
    return runs;
}

struct qr_engine_stats qr_run_together(const struct qr_engine_config *config,
                                       const struct qr_engine_hook *hook, qr_run_make_fn make,
                                       int32_t n, const struct qr_run *alone)
{
    struct qr_engine *engine = qr_run_engine(config);
    struct qr_run *runs = make_runs(n);
    struct qr_request **requests = qr_calloc(QR_ARENA_REQUEST, (size_t)n, sizeof(*requests));
    struct qr_engine_stats stats;
    struct engine_gate gate;

    assert_non_null(requests);
    engine_gate_close(&gate, engine, hook);
    for (int32_t i = 0; i < n; i++)
        requests[i] = make(i);
    run_gated(engine, &gate, requests, runs, n);
    for (int32_t i = 0; i < n; i++)
        qr_run_assert_same(&runs[i], &alone[i]);
    qr_run_assert_pool_whole(engine);
    qr_engine_get_stats(engine, &stats);
    qr_run_free_all(runs, n);
    qr_free(requests);
    qr_engine_destroy(engine);
    engine_gate_destroy(&gate);
    return stats;
}

void qr_run_free_all(struct qr_run *runs, int32_t n)
{
    if (runs != NULL)
        qr_run_free(runs, n);
    qr_free(runs);
}

size_t qr_run_story(int32_t *ids, size_t max)
{
    json_t *root = qr_testdata_json("models/stories260k/reference.json");
    json_t *story = json_object_get(json_object_get(root, "full_context_greedy"), "ids");
    size_t n = 0;

    ids[n++] = 1; /* BOS */
    for (size_t i = 0; i < json_array_size(story) && n < max; i++)
        ids[n++] = (int32_t)json_integer_value(json_array_get(story, i));
    json_decref(root);
    return n;
}

void qr_run_assert_pool_whole(struct qr_engine *engine)
{
    struct qr_engine_stats stats;

    for (int i = 0; i < 1000; i++) { /* the figures are those of the last step: wait for them */
        qr_engine_get_stats(engine, &stats);
        if (qr_engine_is_idle(engine) && stats.kv_used_pages == 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    assert_true(qr_engine_is_idle(engine));
    assert_int_equal(stats.kv_used_pages, 0);
    assert_int_equal(stats.kv_used_slots, 0);
    assert_int_equal(stats.kv_wasted_slots, 0);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.n_waiting, 0);
}
