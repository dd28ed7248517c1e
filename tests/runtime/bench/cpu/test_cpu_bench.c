/* test_cpu_bench.c - `quire bench cpu` in small: its cases, what they are held to, its JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/bench/cpu/cpu_bench.h"

enum { PARAMETERS = 2361408, TABLE = 2048 * 192, KV_ELEMENTS = 2 * 5 * 2 * 32 /* of a token */ };

static struct qr_cpu_bench bench;
static char model_path[1024];

static int open_bench(void **state)
{
    struct qr_cpu_bench_config config = {.model = model_path,
                                         .n_threads = 2,
                                         .n_runs = 3,
                                         .prompt = 8,
                                         .context = 5,
                                         .n_steps = 2,
                                         .n_batches = 2,
                                         .batches = {1, 3},
                                         .long_context = 1023,
                                         .long_batch = 2,
                                         .probe_bytes = 1 << 20};
    struct qr_error err = {""};

    (void)state;
    snprintf(model_path, sizeof(model_path), "%s/models/demo", getenv("QUIRE_SOURCE_DIR"));
    if (qr_cpu_bench_run(&bench, &config, &err) != QR_OK)
        fail_msg("%s", err.message);
    return 0;
}

static int close_bench(void **state)
{
    (void)state;
    qr_cpu_bench_close(&bench);
    return 0;
}

static void all_that_fit_are_measured(void **state)
{
    (void)state;
    assert_int_equal(bench.n_cases, 4);
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(bench.cases[i].n_runs, 3);
        assert_true(bench.cases[i].median_s > 0);
        assert_true(bench.cases[i].read_bytes_per_s > 0);
        assert_string_equal(bench.cases[i].skipped, "");
    }
    assert_int_equal(bench.cases[3].n_runs, 0);
    assert_string_equal(bench.cases[3].skipped, "the model has 1024 positions, this takes 1025");
}

static void a_prefill_costs_a_pass_over_the_weights_for_each_row(void **state)
{
    const struct qr_cpu_case *prefill = &bench.cases[0];
    double kv_size = (double)bench.dev->kv_size;

    (void)state;
    assert_string_equal(prefill->name, "prefill 8");
    assert_true(prefill->tokens == 8);
    assert_true(prefill->bytes == 2.0 * PARAMETERS + 8 * KV_ELEMENTS * kv_size);
    assert_true(prefill->flops ==
                2.0 * 8 * (PARAMETERS - TABLE) + 2.0 * TABLE + 4.0 * 5 * 6 * 32 * 36);
}

static void decodes_read_the_weights_once_a_step_and_each_their_keys(void **state)
{
    const struct qr_cpu_case *decode = &bench.cases[2];
    double kv_size = (double)bench.dev->kv_size;
    double keys = 3 * (6 + 7);

    (void)state;
    assert_string_equal(decode->name, "decode, batch 3, context 5");
    assert_true(decode->tokens == 6);
    assert_true(decode->bytes == 2 * 2.0 * PARAMETERS + keys * KV_ELEMENTS * kv_size);
    assert_true(decode->flops == 2.0 * 6 * PARAMETERS + 4.0 * 5 * 6 * 32 * keys);
}

static void the_limit_is_the_longer_of_reading_and_computing(void **state)
{
    const struct qr_machine_limits limits = {
        .n_peaks = 3,
        .peaks = {{"slow", QR_DTYPE_F32, 10}, {"fast", QR_DTYPE_F32, 20}, {"8", QR_DTYPE_INT8, 40}},
    };
    const struct qr_cpu_case of = {.bytes = 400, .flops = 100, .read_bytes_per_s = 100};

    (void)state;
    struct qr_cpu_limit limit = qr_cpu_bench_limit(&limits, QR_DTYPE_BF16, &of);
    assert_string_equal(limit.peak->name, "fast");
    assert_true(limit.read_s == 4 && limit.compute_s == 5 && limit.seconds == 5);
    limit = qr_cpu_bench_limit(&limits, QR_DTYPE_Q4_K, &of);
    assert_string_equal(limit.peak->name, "8");
    assert_true(limit.read_s == 4 && limit.compute_s == 2.5 && limit.seconds == 4);
}

static void of_two_probes_the_better_figures_count(void **state)
{
    const struct qr_machine_limits before = {.read_one = 3,
                                             .read_all = 5,
                                             .meeting_s = 2,
                                             .n_peaks = 1,
                                             .peaks = {{"a", QR_DTYPE_F32, 7}}};
    const struct qr_machine_limits after = {.read_one = 4,
                                            .read_all = 2,
                                            .meeting_s = 1,
                                            .n_peaks = 1,
                                            .peaks = {{"a", QR_DTYPE_F32, 9}}};
    struct qr_machine_limits best = qr_machine_limits_best(&before, &after);

    (void)state;
    assert_true(best.read_one == 4 && best.read_all == 5 && best.peaks[0].operations_per_s == 9);
    assert_true(qr_machine_bandwidth(&best) == 5 && best.meeting_s == 1);
}

static void the_probe_finds_limits_of_this_machine(void **state)
{
    (void)state;
    assert_true(bench.before.read_one > 0 && bench.after.read_all > 0);
    assert_true(bench.before.meeting_s > 0 && bench.after.meeting_s > 0);
    assert_int_equal(bench.before.n_peaks, bench.after.n_peaks);
    for (int32_t i = 0; i < bench.before.n_peaks; i++)
        assert_true(bench.before.peaks[i].operations_per_s > 0);
}

static void the_json_has_all_figures(void **state)
{
    const char *name, *kind, *skipped;
    json_int_t resident, weights;
    double tokens_per_s, fraction, read_before, open_s;
    json_t *runs;
    json_error_t error;
    json_t *root = qr_cpu_bench_json(&bench);

    (void)state;
    int bad = json_unpack_ex(
        root, &error, 0, "{s:F, s:{s:I, s:I}, s:{s:F}, s:[{s:s, s:s, s:F, s:F, s:o}]}", "open_s",
        &open_s, "memory", "resident_bytes", &resident, "weight_bytes", &weights, "limits_before",
        "read_bytes_per_s", &read_before, "cases", "name", &name, "kind", &kind, "tokens_per_s",
        &tokens_per_s, "fraction_of_limit", &fraction, "seconds", &runs);
    if (bad != 0)
        fail_msg("%s", error.text);
    assert_string_equal(name, "prefill 8");
    assert_string_equal(kind, "prefill");
    assert_int_equal(json_array_size(runs), 3);
    assert_int_equal(weights, 2 * PARAMETERS);
    assert_true(tokens_per_s > 0 && fraction > 0 && read_before > 0 && open_s > 0 && resident > 0);
    json_t *last = json_array_get(json_object_get(root, "cases"), 3);
    assert_int_equal(json_unpack(last, "{s:s}", "skipped", &skipped), 0);
    assert_null(json_object_get(last, "tokens_per_s"));
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_fit_are_measured),
        cmocka_unit_test(a_prefill_costs_a_pass_over_the_weights_for_each_row),
        cmocka_unit_test(decodes_read_the_weights_once_a_step_and_each_their_keys),
        cmocka_unit_test(the_limit_is_the_longer_of_reading_and_computing),
        cmocka_unit_test(of_two_probes_the_better_figures_count),
        cmocka_unit_test(the_probe_finds_limits_of_this_machine),
        cmocka_unit_test(the_json_has_all_figures),
    };
    return cmocka_run_group_tests(tests, open_bench, close_bench);
}
