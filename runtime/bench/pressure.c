/* pressure.c - see pressure.h for the contract. */
#include "runtime/bench/pressure.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

struct pressure {
    const struct qr_pressure_config *config;
    struct qr_report *report;
    struct qr_pressure_summary *summary;
    char folder[64];              /* for sockets and logs */
    struct qr_pressure_run first; /* with plenty of pages */
    struct qr_pressure_run run;   /* the last one */
};

static void say_run(const struct pressure *pressure, const struct qr_pressure_run *run)
{
    const struct qr_run_result *result = &run->result;
    FILE *out = pressure->config->progress;
    int64_t n_output = 0;

    if (out == NULL)
        return;
    for (int32_t i = 0; i < result->n_requests; i++)
        n_output += result->requests[i].n_output;
    fprintf(out,
            "%4.2gx %-9s %6d pages %7.2f s %8.0f tokens/s, running %.1f, KV used %.0f %%, "
            "%lld swapped, %lld recomputed (%.1f %% of the rows), client late by %.0f ms\n",
            result->overcommit, result->discipline, result->kv_pages, result->seconds,
            (double)n_output / result->seconds, run->mean_running, 100 * run->mean_used,
            (long long)result->n_swapped, (long long)result->n_recomputed,
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
    if (qr_report_add(pressure->report, &pressure->run.result) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for the report");
    return QR_OK;
}

static enum qr_status run_all(struct pressure *pressure, struct qr_error *err)
{
    const struct qr_pressure_config *config = pressure->config;

    for (int32_t i = 0; i < config->n_overcommits; i++) {
        for (int32_t n = 0; n < config->n_runs * config->n_disciplines; n++) {
            enum qr_discipline discipline = config->disciplines[n % config->n_disciplines];
            QR_TRY(run_once(pressure, config->overcommits[i], discipline, err));
        }
    }
    return QR_OK;
}

static void remove_folder(const char *folder)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/server.log", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/socket", folder);
    unlink(path);
    rmdir(folder);
}

enum qr_status qr_pressure(const struct qr_pressure_config *config, struct qr_report *report,
                           struct qr_pressure_summary *summary, struct qr_error *err)
{
    struct pressure pressure = {.config = config,
                                .report = report,
                                .summary = summary,
                                .folder = "/tmp/quire-pressure-XXXXXX"};

    *summary = (struct qr_pressure_summary){.n_runs = 0};
    if (mkdtemp(pressure.folder) == NULL)
        return qr_fail(err, QR_ERR_IO, "%s: %s", pressure.folder, strerror(errno));
    enum qr_status status = run_with_plenty(&pressure, err);
    if (status == QR_OK)
        status = run_all(&pressure, err);
    qr_pressure_run_free(&pressure.first);
    qr_pressure_run_free(&pressure.run);
    remove_folder(pressure.folder);
    return status;
}
