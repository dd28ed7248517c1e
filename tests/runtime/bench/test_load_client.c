/* test_load_client.c - the load generator against a server in the same process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "runtime/bench/load_client.h"
#include "runtime/server/server.h"
#include "tests/support/temp_dir.h"
#include "tests/support/testdata.h"

/* Outputs so long that the first is not written before the other requests have come. */
enum { N_REQUESTS = 12, N_OUTPUT = 240 };

static const int32_t prompt[] = {1, 403, 407, 261, 378}; /* "Once upon a time" */

static struct qr_temp_dir dir;
static char model_path[QR_TEST_PATH_MAX];
static struct qr_engine *engine; /* NULL: no test data */
static struct qr_server *server;

/* One request runs and one may wait: the others are told to come again. */
static int open_server(void **state)
{
    struct qr_engine_config config;
    struct qr_server_config server_config;
    struct qr_error err = {""};
    char listen[QR_TEMP_PATH_MAX + 16];

    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        return 0;
    qr_temp_dir_make(&dir);
    snprintf(listen, sizeof(listen), "unix:%s/socket", dir.path);
    qr_engine_config_default(&config);
    config.model_path = model_path;
    config.kv_pages = 64;
    config.n_threads = 1;
    config.max_running = 1;
    config.max_queue = 1;
    if (qr_engine_create(&config, &engine, &err) != QR_OK)
        fail_msg("%s", err.message);
    qr_server_config_default(&server_config);
    server_config.listen = listen;
    server_config.engine = engine;
    if (qr_server_create(&server_config, &server, &err) != QR_OK)
        fail_msg("%s", err.message);
    return 0;
}

static int close_server(void **state)
{
    (void)state;
    if (engine == NULL)
        return 0;
    qr_server_stop(server);
    qr_engine_destroy(engine);
    qr_server_destroy(server);
    qr_temp_dir_remove(&dir);
    return 0;
}

static void count_stats(void *arg, int64_t now_ns, const Quire__V1__GetStatsResponse *stats)
{
    assert_true(now_ns > 0);
    assert_int_equal(stats->kv->pages, 64);
    ++*(int32_t *)arg;
}

static struct qr_load_client *connect_client(int64_t timeout_ns, int32_t *n_stats)
{
    struct qr_load_client *client;
    struct qr_load_options options = {
        .addr = qr_server_address(server),
        .n_connections = 3,
        .stats_interval_ns = QR_NS_PER_SEC / 200,
        .timeout_ns = timeout_ns,
        .on_stats = count_stats,
        .arg = n_stats,
    };
    struct qr_error err = {""};

    if (qr_load_client_create(&options, &client, &err) != QR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(qr_load_client_model(client)->vocab_size, 512);
    return client;
}

static void add(struct qr_load_client *client, int64_t at_ns, uint64_t seed, int32_t n_output)
{
    struct qr_request *request = qr_request_create();

    assert_non_null(request);
    assert_int_equal(qr_request_set_prompt(request, prompt, sizeof(prompt) / sizeof(prompt[0])),
                     QR_OK);
    request->max_tokens = n_output;
    request->ignore_eos = true;
    request->sampling.seed = seed;
    assert_int_equal(qr_load_client_add(client, at_ns, request), QR_OK);
    qr_request_destroy(request);
}

/* All at one time, two seeds: each comes through in the end, and the tokens are the seed's. */
static void test_refused_requests_come_again(void **state)
{
    struct qr_error err = {""};
    int32_t n_stats = 0, n_refused = 0;
    int64_t start_ns;

    (void)state;
    if (engine == NULL)
        skip();
    struct qr_load_client *client = connect_client(60 * QR_NS_PER_SEC, &n_stats);
    for (int32_t i = 0; i < N_REQUESTS; i++)
        add(client, 0, (uint64_t)i % 2, N_OUTPUT);
    if (qr_load_client_run(client, &start_ns, &err) != QR_OK)
        fail_msg("%s", err.message);
    assert_true(n_stats >= 2);
    assert_int_equal(qr_load_client_count(client), N_REQUESTS);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        const struct qr_load_result *result = qr_load_client_result(client, i);
        if (result->code != 0)
            fail_msg("request %d: %s", i, result->error);
        assert_int_equal(result->n_tokens, N_OUTPUT);
        assert_int_equal(result->usage.n_output_tokens, N_OUTPUT);
        assert_true(result->hash == qr_load_client_result(client, i % 2)->hash);
        assert_int_equal(result->due_ns, start_ns); /* when it was first due */
        assert_true(result->sent_ns >= start_ns && result->first_ns >= result->sent_ns);
        assert_true(result->last_ns >= result->first_ns && result->end_ns >= result->last_ns);
        n_refused += result->n_refused;
    }
    assert_true(n_refused > 0);
    assert_true(qr_load_client_result(client, 0)->hash != qr_load_client_result(client, 1)->hash);
    qr_load_client_destroy(client);
}

/* Open loop: a request waits for its time and for nobody's answer. */
static void test_requests_wait_for_their_time(void **state)
{
    const int64_t times_ns[] = {40000000, 0, 20000000};
    struct qr_error err = {""};
    int32_t n_stats = 0;
    int64_t start_ns;

    (void)state;
    if (engine == NULL)
        skip();
    struct qr_load_client *client = connect_client(60 * QR_NS_PER_SEC, &n_stats);
    for (int i = 0; i < 3; i++)
        add(client, times_ns[i], 1, 1);
    if (qr_load_client_run(client, &start_ns, &err) != QR_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < 3; i++) {
        const struct qr_load_result *result = qr_load_client_result(client, i);
        assert_int_equal(result->due_ns, start_ns + times_ns[i]);
        assert_true(result->sent_ns >= result->due_ns);
    }
    qr_load_client_destroy(client);
}

static void test_a_run_that_takes_too_long_is_ended(void **state)
{
    struct qr_error err = {""};
    int32_t n_stats = 0;
    int64_t start_ns;

    (void)state;
    if (engine == NULL)
        skip();
    struct qr_load_client *client = connect_client(QR_NS_PER_SEC / 50, &n_stats);
    add(client, 0, 1, 480);
    add(client, 0, 1, 480);
    assert_int_equal(qr_load_client_run(client, &start_ns, &err), QR_ERR_IO);
    assert_non_null(strstr(err.message, "did not end within"));
    assert_int_not_equal(qr_load_client_result(client, 0)->code, 0);
    qr_load_client_destroy(client);
}

static void test_nobody_answers(void **state)
{
    struct qr_load_options options = {.addr = "unix:/nonexistent/socket", .n_connections = 1};
    struct qr_load_client *client;
    struct qr_error err = {""};

    (void)state;
    assert_int_equal(qr_load_client_create(&options, &client, &err), QR_ERR_IO);
    assert_null(client);
    assert_non_null(strstr(err.message, "/nonexistent/socket"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_requests_come_again),
        cmocka_unit_test(test_requests_wait_for_their_time),
        cmocka_unit_test(test_a_run_that_takes_too_long_is_ended),
        cmocka_unit_test(test_nobody_answers),
    };

    return cmocka_run_group_tests(tests, open_server, close_server);
}
