/* test_report.c - percentiles, medians and failures, and the files that a report becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/bench/report.h"
#include "tests/support/temp_dir.h"

static void test_percentiles_are_of_nearest_rank(void **state)
{
    const double sorted[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

    (void)state;
    assert_true(qr_percentile(sorted, 10, 0) == 1);
    assert_true(qr_percentile(sorted, 10, 50) == 5);
    assert_true(qr_percentile(sorted, 10, 90) == 9);
    assert_true(qr_percentile(sorted, 10, 91) == 10);
    assert_true(qr_percentile(sorted, 10, 100) == 10);
    assert_true(qr_percentile(sorted, 1, 99) == 1);
}

static void test_medians(void **state)
{
    double odd[] = {3, 1, 2};
    double even[] = {4, 1, 2, 3};
    double late[] = {INFINITY, 1, INFINITY, INFINITY};

    (void)state;
    assert_true(qr_median(odd, 3) == 2);
    assert_true(qr_median(even, 4) == 2.5);
    assert_true(isinf(qr_median(late, 4)));
}

/* Ten requests; the last `n_failed` of them failed. Throughput grows with `seconds` shrinking. */
static void add_run(struct qr_report *report, const char *discipline, double overcommit,
                    double seconds, int n_failed)
{
    struct qr_request_result requests[10];

    for (int i = 0; i < 10; i++)
        requests[i] = (struct qr_request_result){
            .ttft_s = 0.1 * (i + 1),
            .e2e_s = 0.1 * (i + 1) + 1,
            .n_output = 11,
            .failed = i >= 10 - n_failed,
        };
    const struct qr_run_result run = {
        .discipline = discipline,
        .overcommit = overcommit,
        .kv_pages = 7,
        .seconds = seconds,
        .n_requests = 10,
        .requests = requests,
        .n_swapped = 3,
        .n_rows = 200,
        .n_recomputed_rows = 50,
        .n_hit_tokens = 1,
        .n_lookup_tokens = 4,
        .kv_waste = 0.01,
    };
    assert_int_equal(qr_report_add(report, &run), QR_OK);
}

static struct qr_report *create(void)
{
    static const struct qr_report_options options = {"A title", 0.55, 0.2};
    struct qr_report *report;

    assert_int_equal(qr_report_create(&options, &report), QR_OK);
    return report;
}

/* The median of one figure of one group, as the JSON says it. */
static const json_t *median_of(const json_t *root, size_t group, const char *key)
{
    const json_t *result = json_array_get(json_object_get(root, "results"), group);
    const json_t *figure = json_object_get(json_object_get(result, "figures"), key);

    assert_non_null(figure);
    return json_object_get(figure, "median");
}

static void assert_near(const json_t *root, size_t group, const char *key, double value)
{
    double median = json_number_value(median_of(root, group, key));

    if (fabs(median - value) > 1e-5 * fabs(value))
        fail_msg("%s of group %zu is %g, not %g", key, group, median, value);
}

static void test_json_holds_medians_and_counts_failures_as_late(void **state)
{
    struct qr_report *report = create();
    struct qr_temp_dir dir;
    struct qr_error err = {""};
    char path[QR_TEMP_PATH_MAX + 16];
    json_error_t why;

    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(path, sizeof(path), "%s/report.json", dir.path);
    add_run(report, "cost", 2, 10, 0);
    add_run(report, "reserve", 2, 10, 1);
    add_run(report, "cost", 2, 5, 0);
    add_run(report, "cost", 2, 20, 0);
    assert_int_equal(qr_report_note(report, "trace", json_string("t")), QR_OK);
    assert_int_equal(qr_report_write_json(report, path, &err), QR_OK);
    json_t *root = json_load_file(path, 0, &why);
    assert_non_null(root);
    assert_int_equal(json_array_size(json_object_get(root, "results")), 2);
    assert_near(root, 0, "output_tokens_per_s", 11); /* of 5.5, 11 and 22 */
    assert_near(root, 0, "requests_per_s", 1);
    assert_near(root, 0, "goodput_requests_per_s", 0.5); /* five with TTFT up to 0.5 s */
    assert_near(root, 0, "ttft_p50_s", 0.5);
    assert_near(root, 0, "ttft_p99_s", 1);
    assert_near(root, 0, "tpot_p50_s", 0.1);
    assert_near(root, 0, "e2e_p90_s", 1.9);
    assert_near(root, 0, "rows_computed_twice", 0.25);
    assert_near(root, 0, "prefix_hits", 0.25);
    assert_near(root, 0, "kv_waste", 0.01);
    assert_near(root, 1, "requests_failed", 1);
    assert_near(root, 1, "output_tokens_per_s", 9.9);
    assert_near(root, 1, "e2e_p90_s", 1.9);
    assert_true(json_is_null(median_of(root, 1, "e2e_p99_s")));
    json_decref(root);
    qr_temp_dir_remove(&dir);
    qr_report_destroy(report);
}

static void test_table_has_a_line_for_each_group(void **state)
{
    struct qr_report *report = create();
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);

    (void)state;
    add_run(report, "cost", 1, 10, 0);
    add_run(report, "reserve", 1, 10, 10);
    qr_report_print(report, out);
    fclose(out);
    assert_non_null(strstr(text, "A title\ngoodput: TTFT within 0.55 s and TPOT within 0.2 s; 10 "
                                 "requests, median of 1 run\n"));
    assert_non_null(strstr(text, "\ncost         1.00         7      11.0      1.00      0.50 "));
    assert_non_null(strstr(text,
                           "\nreserve      1.00         7       0.0      0.00      0.00       "
                           "inf"));
    free(text);
    qr_report_destroy(report);
}

static void test_errors_name_the_file(void **state)
{
    struct qr_report *report = create();
    struct qr_error err = {""};

    (void)state;
    add_run(report, "cost", 1, 10, 0);
    assert_int_equal(qr_report_write_json(report, "/no/such/folder/r.json", &err), QR_ERR_IO);
    assert_non_null(strstr(err.message, "/no/such/folder/r.json"));
    assert_int_equal(qr_report_plot(report, "/no/such/folder/r", &err), QR_ERR_IO);
    assert_non_null(strstr(err.message, "/no/such/folder/r-throughput.dat"));
    qr_report_destroy(report);
}

/* With gnuplot or without. */
static void test_plots_have_scripts_and_data(void **state)
{
    static const char *const names[] = {"throughput", "e2e-p99", "twice", "ttft"};
    struct qr_report *report = create();
    struct qr_temp_dir dir;
    struct qr_error err = {""};
    char stem[QR_TEMP_PATH_MAX + 16];
    char path[QR_TEMP_PATH_MAX + 64];

    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(stem, sizeof(stem), "%s/plot", dir.path);
    add_run(report, "cost", 1, 10, 0);
    add_run(report, "cost", 2, 20, 0);
    add_run(report, "reserve", 2, 20, 2);
    assert_int_equal(qr_report_plot(report, stem, &err), QR_OK);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s-%s.gp", stem, names[i]);
        assert_int_equal(access(path, R_OK), 0);
        snprintf(path, sizeof(path), "%s-%s.dat", stem, names[i]);
        assert_int_equal(access(path, R_OK), 0);
    }
    qr_temp_dir_remove(&dir);
    qr_report_destroy(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles_are_of_nearest_rank),
        cmocka_unit_test(test_medians),
        cmocka_unit_test(test_json_holds_medians_and_counts_failures_as_late),
        cmocka_unit_test(test_table_has_a_line_for_each_group),
        cmocka_unit_test(test_errors_name_the_file),
        cmocka_unit_test(test_plots_have_scripts_and_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
