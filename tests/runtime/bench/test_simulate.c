/* test_simulate.c - a small simulation: the same in every run, and right where it can be reckoned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "runtime/bench/simulate.h"

static void read_trace(const char *text, int32_t n_requests, struct qr_trace *trace)
{
    const struct qr_trace_options options = {.n_requests = n_requests, .rate = 20, .seed = 3};
    struct qr_error err = {""};

    if (qr_trace_parse("t", text, strlen(text), QR_TRACE_LENGTHS, &options, trace, &err) != QR_OK)
        fail_msg("%s", err.message);
}

static struct qr_simulation simulation_of(const struct qr_trace *trace,
                                          enum qr_discipline discipline, int32_t page_count)
{
    struct qr_simulation simulation = {
        .trace = trace,
        .discipline = discipline,
        .page_size = 16,
        .page_count = page_count,
        .tier_slots = {[QR_TIER_HOST] = 400, [QR_TIER_DISK] = 400},
        .max_running = 32,
        .max_batch_tokens = 256,
        .output_limit = 300,
        .overcommit = 2,
    };

    qr_device_model_default(&simulation.device);
    return simulation;
}

static void simulate(const struct qr_simulation *simulation, struct qr_simulation_result *result)
{
    struct qr_error err = {""};

    if (qr_simulate(simulation, result, &err) != QR_OK)
        fail_msg("%s", err.message);
}

/* One request alone: a prefill, then a step for each token. */
static void test_times_follow_the_model(void **state)
{
    struct qr_trace trace;
    struct qr_simulation_result result;

    (void)state;
    read_trace("h\n100,3\n", 1, &trace);
    struct qr_simulation simulation = simulation_of(&trace, QR_DISCIPLINE_COST, 64);
    simulation.device = (struct qr_device_model){
        .weight_bytes = 1e9,
        .bytes_per_s = 1e12, /* 1 ms for the weights */
        .flops_per_s = 1e12,
        .flops_per_row = 1e8, /* 10 ms for 100 rows, 0.1 ms for one */
        .step_s = 1e-3,
        .link_bytes_per_s = {1e9, 1e9},
    };
    simulate(&simulation, &result);
    assert_true(fabs(result.run.requests[0].ttft_s - 0.011) < 1e-9);
    assert_true(fabs(result.run.requests[0].e2e_s - 0.015) < 1e-9);
    assert_true(fabs(result.run.seconds - 0.015) < 1e-9);
    assert_int_equal(result.run.n_rows, 102);
    assert_int_equal(result.peak_pages, 7);
    qr_simulation_result_free(&result);
    qr_trace_free(&trace);
}

static const char mixed[] = "h\n30,200\n200,100\n60,300\n10,20\n";

static void test_every_discipline_ends_every_request(void **state)
{
    struct qr_trace trace;

    (void)state;
    read_trace(mixed, 200, &trace);
    struct qr_simulation unlimited = simulation_of(&trace, QR_DISCIPLINE_COST, 0);
    struct qr_simulation_result result;
    unlimited.page_count = qr_simulation_all_pages(&unlimited);
    simulate(&unlimited, &result);
    assert_int_equal(result.run.n_swapped + result.run.n_recomputed, 0);
    int32_t demand = result.peak_pages;
    qr_simulation_result_free(&result);
    for (int d = QR_DISCIPLINE_COST; d <= QR_DISCIPLINE_RESERVE; d++) {
        struct qr_simulation simulation = simulation_of(&trace, (enum qr_discipline)d, demand / 4);
        simulate(&simulation, &result);
        for (int32_t i = 0; i < 200; i++) {
            const struct qr_request_result *request = &result.run.requests[i];
            assert_false(request->failed);
            assert_int_equal(request->n_output, trace.requests[i].n_output);
            assert_true(request->ttft_s > 0 && request->e2e_s >= request->ttft_s);
        }
        assert_true(result.run.kv_waste >= 0 && result.run.kv_waste < 0.2);
        assert_true(result.peak_pages <= demand / 4);
        assert_int_equal(result.run.n_swapped > 0, d <= QR_DISCIPLINE_SWAP);
        if (d == QR_DISCIPLINE_RECOMPUTE)
            assert_true(result.run.n_recomputed > 0 && result.run.n_recomputed_rows > 0);
        if (d == QR_DISCIPLINE_RESERVE)
            assert_int_equal(result.run.n_recomputed, 0);
        qr_simulation_result_free(&result);
    }
    qr_trace_free(&trace);
}

static void test_every_run_is_the_same(void **state)
{
    struct qr_trace trace;
    struct qr_simulation_result first, again;

    (void)state;
    read_trace(mixed, 150, &trace);
    struct qr_simulation simulation = simulation_of(&trace, QR_DISCIPLINE_COST, 100);
    simulate(&simulation, &first);
    simulate(&simulation, &again);
    assert_memory_equal(first.run.requests, again.run.requests,
                        150 * sizeof(first.run.requests[0]));
    assert_int_equal(first.n_steps, again.n_steps);
    assert_int_equal(first.run.n_swapped, again.run.n_swapped);
    assert_true(first.run.n_swapped > 0);
    assert_int_equal(first.run.n_pages_out, again.run.n_pages_out);
    assert_true(first.run.kv_waste == again.run.kv_waste);
    qr_simulation_result_free(&first);
    qr_simulation_result_free(&again);
    qr_trace_free(&trace);
}

static void test_a_pool_too_small_is_refused(void **state)
{
    struct qr_trace trace;
    struct qr_simulation_result result;
    struct qr_error err = {""};

    (void)state;
    read_trace(mixed, 20, &trace);
    struct qr_simulation simulation = simulation_of(&trace, QR_DISCIPLINE_COST, 10);
    assert_int_equal(qr_simulate(&simulation, &result, &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "10 KV pages do not hold the longest request"));
    qr_trace_free(&trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_follow_the_model),
        cmocka_unit_test(test_every_discipline_ends_every_request),
        cmocka_unit_test(test_every_run_is_the_same),
        cmocka_unit_test(test_a_pool_too_small_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
