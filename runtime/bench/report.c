/* report.c - figures of runs and their medians; see report.h for the contract. */
#include "runtime/bench/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/assert.h"
#include "runtime/bench/report_internal.h"

const struct qr_figure_info qr_figures[QR_FIGURE_COUNT] = {
    [QR_FIGURE_TOKENS_PER_S] = {"output_tokens_per_s", "output", "tok/s", 1, false},
    [QR_FIGURE_REQUESTS_PER_S] = {"requests_per_s", "done", "req/s", 2, false},
    [QR_FIGURE_GOODPUT] = {"goodput_requests_per_s", "goodput", "req/s", 2, false},
    [QR_FIGURE_TTFT_P50] = {"ttft_p50_s", "TTFT", "p50 s", 3, false},
    [QR_FIGURE_TTFT_P90] = {"ttft_p90_s", "TTFT", "p90 s", 3, false},
    [QR_FIGURE_TTFT_P99] = {"ttft_p99_s", "TTFT", "p99 s", 3, false},
    [QR_FIGURE_TPOT_P50] = {"tpot_p50_s", "TPOT", "p50 s", 4, false},
    [QR_FIGURE_TPOT_P90] = {"tpot_p90_s", "TPOT", "p90 s", 4, false},
    [QR_FIGURE_TPOT_P99] = {"tpot_p99_s", "TPOT", "p99 s", 4, false},
    [QR_FIGURE_E2E_P50] = {"e2e_p50_s", "E2E", "p50 s", 2, false},
    [QR_FIGURE_E2E_P90] = {"e2e_p90_s", "E2E", "p90 s", 2, false},
    [QR_FIGURE_E2E_P99] = {"e2e_p99_s", "E2E", "p99 s", 2, false},
    [QR_FIGURE_SWAPPED] = {"preemptions_swapped", "swap", "times", 0, false},
    [QR_FIGURE_RECOMPUTED] = {"preemptions_recomputed", "recomp", "times", 0, false},
    [QR_FIGURE_PARKED] = {"preemptions_parked", "parked", "times", 0, false},
    [QR_FIGURE_TWICE] = {"rows_computed_twice", "twice", "% rows", 2, true},
    [QR_FIGURE_WASTE] = {"kv_waste", "waste", "% KV", 2, true},
    [QR_FIGURE_HITS] = {"prefix_hits", "hits", "% tok", 1, true},
    [QR_FIGURE_PAGES_OUT] = {"pages_out", "out", "pages", 0, false},
    [QR_FIGURE_PAGES_IN] = {"pages_in", "in", "pages", 0, false},
    [QR_FIGURE_FAILED] = {"requests_failed", "failed", "req", 0, false},
    [QR_FIGURE_DIFFERENT] = {"requests_different", "differ", "req", 0, false},
    [QR_FIGURE_SECONDS] = {"seconds", "took", "s", 1, false},
};

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

double qr_percentile(const double *sorted, int32_t count, double per_cent)
{
    QR_ASSERT(count >= 1 && per_cent >= 0 && per_cent <= 100);
    int32_t rank = (int32_t)ceil(per_cent / 100 * count);
    return sorted[rank > 0 ? rank - 1 : 0];
}

double qr_median(double *values, int32_t count)
{
    QR_ASSERT(count >= 1);
    qsort(values, (size_t)count, sizeof(values[0]), compare_doubles);
    double upper = values[count / 2];
    /* Equal ones are not added: infinity less infinity is no number. */
    return count % 2 == 1 || values[count / 2 - 1] == upper
               ? upper
               : values[count / 2 - 1] + (upper - values[count / 2 - 1]) / 2;
}

enum qr_status qr_report_create(const struct qr_report_options *options, struct qr_report **out)
{
    struct qr_report *report = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*report));

    *out = NULL;
    if (report == NULL)
        return QR_ERR_NOMEM;
    report->options = *options;
    report->notes = json_object();
    if (report->notes == NULL) {
        qr_free(report);
        return QR_ERR_NOMEM;
    }
    *out = report;
    return QR_OK;
}

void qr_report_destroy(struct qr_report *report)
{
    if (report == NULL)
        return;
    qr_free(report->groups);
    json_decref(report->notes);
    qr_free(report);
}

enum qr_status qr_report_note(struct qr_report *report, const char *key, json_t *value)
{
    return json_object_set_new(report->notes, key, value) == 0 ? QR_OK : QR_ERR_NOMEM;
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

/* The time between two tokens of a request; NAN where it has but one. */
static double tpot_of(const struct qr_request_result *request)
{
    if (request->failed)
        return INFINITY;
    return request->n_output > 1
               ? (request->e2e_s - request->ttft_s) / (double)(request->n_output - 1)
               : NAN;
}

static void count_requests(const struct qr_report_options *options, const struct qr_run_result *run,
                           struct qr_run_figures *figures)
{
    double n_tokens = 0, n_done = 0, n_good = 0, n_different = 0;

    for (int32_t i = 0; i < run->n_requests; i++) {
        const struct qr_request_result *request = &run->requests[i];
        n_different += request->differs;
        if (request->failed)
            continue;
        double tpot = tpot_of(request);
        n_tokens += request->n_output;
        n_done++;
        n_good += request->ttft_s <= options->ttft_goal_s &&
                  (isnan(tpot) || tpot <= options->tpot_goal_s);
    }
    figures->value[QR_FIGURE_TOKENS_PER_S] = ratio(n_tokens, run->seconds);
    figures->value[QR_FIGURE_REQUESTS_PER_S] = ratio(n_done, run->seconds);
    figures->value[QR_FIGURE_GOODPUT] = ratio(n_good, run->seconds);
    figures->value[QR_FIGURE_FAILED] = run->n_requests - n_done;
    figures->value[QR_FIGURE_DIFFERENT] = n_different;
}

/* p50, p90 and p99 of `values`, which are sorted by it. */
static void set_percentiles(double *values, int32_t count, double *figures)
{
    static const double per_cents[] = {50, 90, 99};

    qsort(values, (size_t)count, sizeof(values[0]), compare_doubles);
    for (int i = 0; i < 3; i++)
        figures[i] = count > 0 ? qr_percentile(values, count, per_cents[i]) : NAN;
}

static void set_times(const struct qr_run_result *run, double *values,
                      struct qr_run_figures *figures)
{
    int32_t n_tpot = 0;

    for (int32_t i = 0; i < run->n_requests; i++) {
        double tpot = tpot_of(&run->requests[i]);
        if (!isnan(tpot))
            values[n_tpot++] = tpot;
    }
    set_percentiles(values, n_tpot, &figures->value[QR_FIGURE_TPOT_P50]);
    for (int32_t i = 0; i < run->n_requests; i++)
        values[i] = run->requests[i].failed ? INFINITY : run->requests[i].e2e_s;
    set_percentiles(values, run->n_requests, &figures->value[QR_FIGURE_E2E_P50]);
    for (int32_t i = 0; i < run->n_requests; i++)
        values[i] = run->requests[i].failed ? INFINITY : run->requests[i].ttft_s;
    set_percentiles(values, run->n_requests, &figures->value[QR_FIGURE_TTFT_P50]);
    for (int32_t i = 0; i < QR_TTFT_POINTS; i++)
        figures->ttft_s[i] = qr_percentile(values, run->n_requests, i);
}

static void set_counters(const struct qr_run_result *run, struct qr_run_figures *figures)
{
    double *value = figures->value;

    value[QR_FIGURE_SWAPPED] = (double)run->n_swapped;
    value[QR_FIGURE_RECOMPUTED] = (double)run->n_recomputed;
    value[QR_FIGURE_PARKED] = (double)run->n_parked;
    value[QR_FIGURE_TWICE] = ratio((double)run->n_recomputed_rows, (double)run->n_rows);
    value[QR_FIGURE_WASTE] = run->kv_waste;
    value[QR_FIGURE_HITS] = ratio((double)run->n_hit_tokens, (double)run->n_lookup_tokens);
    value[QR_FIGURE_PAGES_OUT] = (double)run->n_pages_out;
    value[QR_FIGURE_PAGES_IN] = (double)run->n_pages_in;
    value[QR_FIGURE_SECONDS] = run->seconds;
}

/* The group that the run belongs to, a new one if it is the first; NULL without memory. */
static struct qr_report_group *group_of(struct qr_report *report, const struct qr_run_result *run)
{
    for (int32_t i = 0; i < report->n_groups; i++) {
        if (strcmp(report->groups[i].discipline, run->discipline) == 0 &&
            report->groups[i].overcommit == run->overcommit)
            return &report->groups[i];
    }
    struct qr_report_group *groups = qr_array_grow(
        QR_ARENA_REQUEST, report->groups, report->n_groups, &report->capacity, sizeof(*groups));
    if (groups == NULL)
        return NULL;
    report->groups = groups;
    groups[report->n_groups] = (struct qr_report_group){
        .discipline = run->discipline,
        .overcommit = run->overcommit,
        .kv_pages = run->kv_pages,
        .n_requests = run->n_requests,
    };
    return &groups[report->n_groups++];
}

enum qr_status qr_report_add(struct qr_report *report, const struct qr_run_result *run)
{
    QR_ASSERT(run->n_requests >= 1);
    struct qr_report_group *group = group_of(report, run);
    if (group == NULL)
        return QR_ERR_NOMEM;
    QR_ASSERT(group->n_runs < QR_MAX_RUNS);
    double *values = qr_malloc(QR_ARENA_REQUEST, sizeof(*values) * (size_t)run->n_requests);
    if (values == NULL)
        return QR_ERR_NOMEM;
    struct qr_run_figures *figures = &group->runs[group->n_runs++];
    count_requests(&report->options, run, figures);
    set_times(run, values, figures);
    set_counters(run, figures);
    qr_free(values);
    return QR_OK;
}

/* The median over the runs of the value that stands at `first` in the first of them. */
static double median_of_runs(const struct qr_report_group *group, const double *first)
{
    double values[QR_MAX_RUNS];

    for (int32_t i = 0; i < group->n_runs; i++)
        memcpy(&values[i], (const char *)first + (size_t)i * sizeof(group->runs[0]),
               sizeof(values[0]));
    return qr_median(values, group->n_runs);
}

double qr_group_figure(const struct qr_report_group *group, enum qr_figure figure)
{
    return median_of_runs(group, &group->runs[0].value[figure]);
}

double qr_group_ttft(const struct qr_report_group *group, int32_t per_cent)
{
    return median_of_runs(group, &group->runs[0].ttft_s[per_cent]);
}
