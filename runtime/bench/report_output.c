/* report_output.c - a report as a table and as JSON. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "runtime/bench/report_internal.h"

enum { COLUMN = 9, VALUE_TEXT = 32 };

/* The columns of the two halves of the table; a line stays below 140 characters. */
static const enum qr_figure speed_columns[] = {
    QR_FIGURE_TOKENS_PER_S, QR_FIGURE_REQUESTS_PER_S, QR_FIGURE_GOODPUT,  QR_FIGURE_TTFT_P50,
    QR_FIGURE_TTFT_P90,     QR_FIGURE_TTFT_P99,       QR_FIGURE_TPOT_P50, QR_FIGURE_TPOT_P90,
    QR_FIGURE_TPOT_P99,     QR_FIGURE_E2E_P50,        QR_FIGURE_E2E_P90,  QR_FIGURE_E2E_P99,
};
static const enum qr_figure memory_columns[] = {
    QR_FIGURE_SWAPPED, QR_FIGURE_RECOMPUTED, QR_FIGURE_PARKED,    QR_FIGURE_TWICE,
    QR_FIGURE_WASTE,   QR_FIGURE_HITS,       QR_FIGURE_PAGES_OUT, QR_FIGURE_PAGES_IN,
    QR_FIGURE_FAILED,  QR_FIGURE_DIFFERENT,  QR_FIGURE_SECONDS,
};

static const char *value_text(enum qr_figure figure, double value, char text[VALUE_TEXT])
{
    const struct qr_figure_info *info = &qr_figures[figure];

    if (isnan(value))
        snprintf(text, VALUE_TEXT, "-");
    else
        snprintf(text, VALUE_TEXT, "%.*f", info->decimals, info->is_share ? value * 100 : value);
    return text;
}

static void print_half(const struct qr_report *report, FILE *out, const enum qr_figure *columns,
                       int n_columns)
{
    char text[VALUE_TEXT];

    fprintf(out, "\n%-10s %6s %9s", "discipline", "over-", "KV");
    for (int i = 0; i < n_columns; i++)
        fprintf(out, " %*s", COLUMN, qr_figures[columns[i]].heading);
    fprintf(out, "\n%-10s %6s %9s", "", "commit", "pages");
    for (int i = 0; i < n_columns; i++)
        fprintf(out, " %*s", COLUMN, qr_figures[columns[i]].unit);
    fprintf(out, "\n");
    for (int32_t g = 0; g < report->n_groups; g++) {
        const struct qr_report_group *group = &report->groups[g];
        if (g > 0 && group->overcommit != group[-1].overcommit)
            fprintf(out, "\n");
        fprintf(out, "%-10s %6.2f %9d", group->discipline, group->overcommit, group->kv_pages);
        for (int i = 0; i < n_columns; i++)
            fprintf(out, " %*s", COLUMN,
                    value_text(columns[i], qr_group_figure(group, columns[i]), text));
        fprintf(out, "\n");
    }
}

void qr_report_print(const struct qr_report *report, FILE *out)
{
    fprintf(out, "%s\n", report->options.title);
    fprintf(out, "goodput: TTFT within %g s and TPOT within %g s", report->options.ttft_goal_s,
            report->options.tpot_goal_s);
    if (report->n_groups > 0)
        fprintf(out, "; %d requests, median of %d run%s", report->groups[0].n_requests,
                report->groups[0].n_runs, report->groups[0].n_runs == 1 ? "" : "s");
    fprintf(out, "\n");
    print_half(report, out, speed_columns, sizeof(speed_columns) / sizeof(speed_columns[0]));
    print_half(report, out, memory_columns, sizeof(memory_columns) / sizeof(memory_columns[0]));
    fflush(out);
}

/* JSON has no infinity: a percentile that failures made infinite is null. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *figure_json(const struct qr_report_group *group, enum qr_figure figure)
{
    json_t *runs = json_array();

    for (int32_t i = 0; i < group->n_runs; i++)
        json_array_append_new(runs, number(group->runs[i].value[figure]));
    return json_pack("{s:o, s:o}", "median", number(qr_group_figure(group, figure)), "runs", runs);
}

static json_t *group_json(const struct qr_report_group *group)
{
    json_t *figures = json_object();
    json_t *ttft = json_array();

    for (int i = 0; i < QR_FIGURE_COUNT; i++)
        json_object_set_new(figures, qr_figures[i].key, figure_json(group, (enum qr_figure)i));
    for (int32_t i = 0; i < QR_TTFT_POINTS; i++)
        json_array_append_new(ttft, number(qr_group_ttft(group, i)));
    return json_pack("{s:s, s:f, s:i, s:i, s:o, s:o}", "discipline", group->discipline,
                     "overcommit", group->overcommit, "kv_pages", group->kv_pages, "requests",
                     group->n_requests, "figures", figures, "ttft_percentiles_s", ttft);
}

static enum qr_status write_json(const json_t *root, const char *path, struct qr_error *err)
{
    if (json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0)
        return qr_fail(err, QR_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    return QR_OK;
}

enum qr_status qr_report_write_json(const struct qr_report *report, const char *path,
                                    struct qr_error *err)
{
    json_t *results = json_array();
    json_t *root = json_pack("{s:s, s:O, s:f, s:f, s:o}", "title", report->options.title, "notes",
                             report->notes, "ttft_goal_s", report->options.ttft_goal_s,
                             "tpot_goal_s", report->options.tpot_goal_s, "results", results);
    enum qr_status status = QR_OK;

    if (root == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: not enough memory", path);
    for (int32_t i = 0; i < report->n_groups && status == QR_OK; i++) {
        if (json_array_append_new(results, group_json(&report->groups[i])) != 0)
            status = qr_fail(err, QR_ERR_NOMEM, "%s: not enough memory", path);
    }
    if (status == QR_OK)
        status = write_json(root, path, err);
    json_decref(root);
    return status;
}

/* "model name : ..." of the first processor. */
static json_t *processor(void)
{
    char line[256] = "";
    FILE *file = fopen("/proc/cpuinfo", "r");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            fclose(file);
            colon[1 + strcspn(colon + 1, "\n")] = '\0';
            return json_string(colon + 1 + strspn(colon + 1, " "));
        }
    }
    if (file != NULL)
        fclose(file);
    return json_string("unknown");
}

static json_t *command_text(int argc, char *const *argv)
{
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    enum qr_status status = QR_OK;

    for (int i = 0; i < argc && status == QR_OK; i++)
        status = qr_buffer_printf(&text, "%s%s", i > 0 ? " " : "", argv[i]);
    json_t *value = json_string(status == QR_OK && text.data != NULL ? text.data : "");
    qr_buffer_free(&text);
    return value;
}

static enum qr_status note_machine(json_t *object, int argc, char *const *argv)
{
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    const char *commit = getenv("QUIRE_COMMIT");

    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
    bool bad =
        json_object_set_new(object, "date", json_string(date)) != 0 ||
        json_object_set_new(object, "commit", json_string(commit != NULL ? commit : "unknown")) !=
            0 ||
        json_object_set_new(object, "processor", processor()) != 0 ||
        json_object_set_new(object, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN))) != 0 ||
        json_object_set_new(object, "command", command_text(argc, argv)) != 0;
    return bad ? QR_ERR_NOMEM : QR_OK;
}

enum qr_status qr_report_note_machine(struct qr_report *report, int argc, char *const *argv)
{
    return note_machine(report->notes, argc, argv);
}

enum qr_status qr_bench_json_write(json_t *root, int argc, char *const *argv, const char *path,
                                   struct qr_error *err)
{
    enum qr_status status = root != NULL ? note_machine(root, argc, argv) : QR_ERR_NOMEM;

    if (status == QR_OK)
        status = write_json(root, path, err);
    else
        status = qr_fail(err, status, "%s: not enough memory", path);
    json_decref(root);
    return status;
}
