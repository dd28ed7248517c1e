/* pressure.c - see pressure.h for the contract. */
#include "runtime/bench/pressure.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "runtime/bench/bench_server.h"

struct pressure {
    const struct qr_pressure_config *config;
    struct qr_report *report;
    struct qr_pressure_summary *summary;
    char folder[QR_BENCH_FOLDER_BYTES]; /* for sockets and logs */
    struct qr_pressure_run first;       /* with plenty of pages */
    struct qr_pressure_run run;         /* the last one */
    json_t *runs;                       /* each in a few figures, for the report */
};

static void say_run(const struct pressure *pressure, const struct qr_pressure_run *run)
{
    const struct qr_run_result *result = &run->result;
    FILE *out = pressure->config->progress;

    if (out == NULL)
        return;
    fprintf(out,
            "%4.2gx %-9s %6d pages %7.2f s %8.0f tokens/s, %.0f a CPU second, running %.1f, KV "
            "used %.0f %%, "
            "%lld swapped, %lld recomputed (%.1f %% of the rows), client late by %.0f ms\n",
            result->overcommit, result->discipline, result->kv_pages, result->seconds,
            (double)run->n_output / result->seconds, (double)run->n_output / run->server_cpu_s,
            run->mean_running, 100 * run->mean_used, (long long)result->n_swapped,
            (long long)result->n_recomputed,
            100 * (double)result->n_recomputed_rows / (double)result->n_rows, 1000 * run->latest_s);
    fflush(out);
}

static void add_to_summary(struct pressure *pressure, const struct qr_pressure_run *run)
{
    struct qr_pressure_summary *summary = pressure->summary;

    summary->n_runs++;
    summary->n_failed += run->n_failed;
    summary->n_refused += run->n_refused;
    if (summary->first_error[0] == '\0')
        memcpy(summary->first_error, run->first_error, sizeof(summary->first_error));
    for (int32_t i = 0; i < run->result.n_requests; i++)
        summary->n_different += run->requests[i].differs;
}

/* Pages for everything at once: nobody has to give way. */
static enum qr_status run_with_plenty(struct pressure *pressure, struct qr_error *err)
{
    struct qr_pressure_server server = pressure->config->server;

    server.kv_pages = 0;
    server.discipline = QR_DISCIPLINE_COST;
    QR_TRY(
        qr_pressure_run(pressure->folder, &server, &pressure->config->load, &pressure->first, err));
    if (pressure->first.n_failed > 0)
        return qr_fail(err, QR_ERR_IO, "with plenty of pages, %s", pressure->first.first_error);
    if (pressure->first.result.n_swapped + pressure->first.result.n_recomputed > 0)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "%d pages are not plenty: some had to give way; choose fewer --max-running",
                       pressure->first.result.kv_pages);
    pressure->summary->demand_pages = pressure->first.peak_pages;
    say_run(pressure, &pressure->first);
    return QR_OK;
}

/* What the report's medians are made of, and what they leave out. */
static enum qr_status keep_run(struct pressure *pressure)
{
    const struct qr_pressure_run *run = &pressure->run;
    const struct qr_run_result *result = &run->result;

    json_t *figures = json_pack(
        "{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "discipline", result->discipline,
        "overcommit", result->overcommit, "seconds", result->seconds, "server_cpu_seconds",
        run->server_cpu_s, "tokens_per_second", (double)run->n_output / result->seconds,
        "tokens_per_cpu_second", (double)run->n_output / run->server_cpu_s, "mean_running",
        run->mean_running, "mean_kv_used", run->mean_used, "swapped", (json_int_t)result->n_swapped,
        "recomputed", (json_int_t)result->n_recomputed, "rows", (json_int_t)result->n_rows);
    return json_array_append_new(pressure->runs, figures) == 0 ? QR_OK : QR_ERR_NOMEM;
}

static void compare_outputs(struct pressure *pressure)
{
    struct qr_pressure_run *run = &pressure->run;

    for (int32_t i = 0; i < run->result.n_requests; i++)
        run->requests[i].differs = run->hashes[i] != pressure->first.hashes[i];
}

static enum qr_status run_once(struct pressure *pressure, double overcommit,
                               enum qr_discipline discipline, struct qr_error *err)
{
    struct qr_pressure_server server = pressure->config->server;

    server.discipline = discipline;
    server.kv_pages = (int32_t)lround(pressure->summary->demand_pages / overcommit);
    QR_TRY(
        qr_pressure_run(pressure->folder, &server, &pressure->config->load, &pressure->run, err));
    pressure->run.result.overcommit = overcommit;
    compare_outputs(pressure);
    add_to_summary(pressure, &pressure->run);
    say_run(pressure, &pressure->run);
    if (keep_run(pressure) != QR_OK ||
        qr_report_add(pressure->report, &pressure->run.result) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for the report");
    return QR_OK;
}

/* Each repetition begins with another discipline: none always runs after the same one. */
static enum qr_status run_all(struct pressure *pressure, struct qr_error *err)
{
    const struct qr_pressure_config *config = pressure->config;
    int32_t n_turns = config->n_runs * config->n_disciplines;

    for (int32_t i = 0; i < config->n_overcommits; i++) {
        for (int32_t n = 0; n < n_turns; n++) {
            int32_t turn = n + n / config->n_disciplines;
            enum qr_discipline discipline = config->disciplines[turn % config->n_disciplines];
            QR_TRY(run_once(pressure, config->overcommits[i], discipline, err));
        }
    }
    return QR_OK;
}

enum qr_status qr_pressure(const struct qr_pressure_config *config, struct qr_report *report,
                           struct qr_pressure_summary *summary, struct qr_error *err)
{
    struct pressure pressure = {
        .config = config, .report = report, .summary = summary, .runs = json_array()};

    *summary = (struct qr_pressure_summary){.n_runs = 0};
    enum qr_status status = qr_bench_folder_make(pressure.folder, err);
    if (status == QR_OK)
        status = run_with_plenty(&pressure, err);
    if (status == QR_OK)
        status = run_all(&pressure, err);
    if (status == QR_OK && qr_report_note(report, "runs", json_incref(pressure.runs)) != QR_OK)
        status = qr_fail(err, QR_ERR_NOMEM, "out of memory for the report");
    json_decref(pressure.runs);
    qr_pressure_run_free(&pressure.first);
    qr_pressure_run_free(&pressure.run);
    qr_bench_folder_remove(pressure.folder);
    return status;
}
