/*
 * report_plot.c - a report as plots: gnuplot scripts with their data, and what gnuplot makes
 * of them.
 */
#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "runtime/bench/report_internal.h"

extern char **environ;

enum { MAX_SERIES = 16, TTFT_OVERCOMMIT = 2 };

/* A discipline against overcommit. */
struct figure_plot {
    const char *name;
    const char *title;
    const char *y_label;
    enum qr_figure figure;
    double scale;
};

static const struct figure_plot figure_plots[] = {
    {"throughput", "Throughput", "output tokens a second", QR_FIGURE_TOKENS_PER_S, 1},
    {"e2e-p99", "p99 of the time from arrival to the last token", "seconds", QR_FIGURE_E2E_P99, 1},
    {"twice", "Work computed twice", "% of all rows", QR_FIGURE_TWICE, 100},
};

static const char ttft_name[] = "ttft";

/* Each discipline has its colour and mark in all plots; they differ in grey, too. */
static const struct {
    const char *discipline;
    const char *line;
    const char *mark; /* where the curve has any */
} styles[] = {
    {"cost", "lc rgb '#0b5fa5' lw 3", "pt 7 ps 1.2"},
    {"swap", "lc rgb '#1b9e77' lw 2 dt 2", "pt 5 ps 0.7"},
    {"recompute", "lc rgb '#d95f02' lw 2", "pt 9 ps 1.3"},
    {"reserve", "lc rgb '#6b6b6b' lw 2 dt 4", "pt 13 ps 1.3"},
};

static enum qr_status append_style(const char *discipline, bool has_marks, struct qr_buffer *script)
{
    for (size_t i = 0; i < sizeof(styles) / sizeof(styles[0]); i++) {
        if (strcmp(styles[i].discipline, discipline) == 0)
            return qr_buffer_printf(script, "%s %s", styles[i].line,
                                    has_marks ? styles[i].mark : "");
    }
    return qr_buffer_printf(script, "lw 2");
}

/* Disciplines in the order in which they came; returns their number. */
static int32_t disciplines_of(const struct qr_report *report, const char *names[MAX_SERIES])
{
    int32_t count = 0;

    for (int32_t g = 0; g < report->n_groups; g++) {
        int32_t i = 0;
        while (i < count && strcmp(names[i], report->groups[g].discipline) != 0)
            i++;
        if (i == count && count < MAX_SERIES)
            names[count++] = report->groups[g].discipline;
    }
    return count;
}

static enum qr_status append_number(struct qr_buffer *data, double x, double y)
{
    /* What failures made infinite is left out of the line. */
    return isfinite(y) ? qr_buffer_printf(data, "%g %g\n", x, y)
                       : qr_buffer_printf(data, "%g NaN\n", x);
}

/* One block of lines for each discipline, as gnuplot's `index` counts them. */
static enum qr_status figure_data(const struct qr_report *report, const struct figure_plot *plot,
                                  struct qr_buffer *data)
{
    const char *names[MAX_SERIES];
    int32_t n_names = disciplines_of(report, names);

    for (int32_t i = 0; i < n_names; i++) {
        QR_TRY(qr_buffer_printf(data, "%s# %s: overcommit, %s\n", i > 0 ? "\n\n" : "", names[i],
                                plot->y_label));
        for (int32_t g = 0; g < report->n_groups; g++) {
            const struct qr_report_group *group = &report->groups[g];
            if (strcmp(group->discipline, names[i]) == 0)
                QR_TRY(append_number(data, group->overcommit,
                                     qr_group_figure(group, plot->figure) * plot->scale));
        }
    }
    return QR_OK;
}

/* The overcommit nearest to TTFT_OVERCOMMIT that the report has. */
static double ttft_overcommit(const struct qr_report *report)
{
    double nearest = report->groups[0].overcommit;

    for (int32_t g = 1; g < report->n_groups; g++) {
        double other = report->groups[g].overcommit;
        if (fabs(other - TTFT_OVERCOMMIT) < fabs(nearest - TTFT_OVERCOMMIT))
            nearest = other;
    }
    return nearest;
}

static enum qr_status ttft_data(const struct qr_report *report, struct qr_buffer *data)
{
    const char *names[MAX_SERIES];
    int32_t n_names = disciplines_of(report, names);

    for (int32_t i = 0; i < n_names; i++) {
        QR_TRY(qr_buffer_printf(data, "%s# %s: TTFT in seconds, %% of requests\n",
                                i > 0 ? "\n\n" : "", names[i]));
        for (int32_t g = 0; g < report->n_groups; g++) {
            const struct qr_report_group *group = &report->groups[g];
            if (strcmp(group->discipline, names[i]) != 0 ||
                group->overcommit != ttft_overcommit(report))
                continue;
            for (int32_t p = 0; p < QR_TTFT_POINTS; p++) {
                double seconds = qr_group_ttft(group, p);
                if (isfinite(seconds))
                    QR_TRY(qr_buffer_printf(data, "%g %d\n", seconds, p));
            }
        }
    }
    return QR_OK;
}

/* What both kinds of plot have in common; the file names stand beside the script. */
static enum qr_status append_curves(const struct qr_report *report, const char *stem,
                                    const char *name, bool has_marks, struct qr_buffer *script)
{
    const char *names[MAX_SERIES];
    int32_t n_names = disciplines_of(report, names);

    QR_TRY(qr_buffer_printf(script, "set output '%s-%s.svg'\nplot", stem, name));
    for (int32_t i = 0; i < n_names; i++) {
        QR_TRY(qr_buffer_printf(script, "%s '%s-%s.dat' index %d title '%s' with %s ",
                                i > 0 ? ", \\\n   " : "", stem, name, i, names[i],
                                has_marks ? "linespoints" : "lines"));
        QR_TRY(append_style(names[i], has_marks, script));
    }
    return qr_buffer_printf(script,
                            "\nset terminal pngcairo size 900,560 font 'sans,12' enhanced\n"
                            "set output '%s-%s.png'\nreplot\n",
                            stem, name);
}

static enum qr_status append_head(const struct qr_report *report, const char *title,
                                  const char *x_label, const char *y_label,
                                  struct qr_buffer *script)
{
    return qr_buffer_printf(script,
                            "set terminal svg size 900,560 font 'sans,14' background '#ffffff'\n"
                            "set title \"%s\\n%s\" noenhanced\nset xlabel '%s'\nset ylabel '%s'\n"
                            "set grid lt 1 lc rgb '#dddddd'\nset border 3\nset tics nomirror\nset "
                            "key outside right top\n",
                            title, report->options.title, x_label, y_label);
}

static enum qr_status figure_script(const struct qr_report *report, const struct figure_plot *plot,
                                    const char *stem, struct qr_buffer *script)
{
    QR_TRY(append_head(report, plot->title, "overcommit (KV demand / KV memory)", plot->y_label,
                       script));
    QR_TRY(qr_buffer_printf(script, "set yrange [0:*]\nset offsets graph 0.02, graph 0.02\n"));
    return append_curves(report, stem, plot->name, true, script);
}

static enum qr_status ttft_script(const struct qr_report *report, const char *stem,
                                  struct qr_buffer *script)
{
    char title[96];

    snprintf(title, sizeof(title), "Time to the first token, at %gx overcommit",
             ttft_overcommit(report));
    QR_TRY(append_head(report, title, "seconds from arrival to the first token",
                       "% of requests that have it by then", script));
    QR_TRY(qr_buffer_printf(script, "set logscale x\nset yrange [0:100]\n"));
    return append_curves(report, stem, ttft_name, false, script);
}

static enum qr_status write_file(const char *stem, const char *name, const char *suffix,
                                 const struct qr_buffer *text, struct qr_error *err)
{
    struct qr_buffer path = {.arena = QR_ARENA_REQUEST};

    QR_TRY(qr_buffer_printf(&path, "%s-%s.%s", stem, name, suffix));
    FILE *file = fopen(path.data, "w");
    bool good = file != NULL && fwrite(text->data, 1, text->length, file) == text->length;
    if (file != NULL)
        good = fclose(file) == 0 && good;
    enum qr_status status =
        good ? QR_OK
             : qr_fail(err, QR_ERR_IO, "%s: cannot be written: %s", path.data, strerror(errno));
    qr_buffer_free(&path);
    return status;
}

/* QR_ERR_NOT_FOUND: there is no gnuplot. */
static enum qr_status run_gnuplot(const char *stem, const char *name, struct qr_error *err)
{
    struct qr_buffer path = {.arena = QR_ARENA_REQUEST};
    pid_t child;
    int how;

    QR_TRY(qr_buffer_printf(&path, "%s-%s.gp", stem, name));
    char *argv[] = {(char *)"gnuplot", path.data, NULL};
    int failed = posix_spawnp(&child, argv[0], NULL, NULL, argv, environ);
    enum qr_status status = QR_OK;
    if (failed != 0)
        status = qr_fail(err, failed == ENOENT ? QR_ERR_NOT_FOUND : QR_ERR_IO,
                         "gnuplot cannot be started: %s", strerror(failed));
    else if (waitpid(child, &how, 0) != child || how != 0)
        status = qr_fail(err, QR_ERR_IO, "gnuplot failed on %s", path.data);
    qr_buffer_free(&path);
    return status;
}

static enum qr_status write_plot(const struct qr_report *report, const struct figure_plot *plot,
                                 const char *stem, struct qr_error *err)
{
    struct qr_buffer data = {.arena = QR_ARENA_REQUEST};
    struct qr_buffer script = {.arena = QR_ARENA_REQUEST};
    const char *name = plot != NULL ? plot->name : ttft_name;
    enum qr_status status;

    status = plot != NULL ? figure_data(report, plot, &data) : ttft_data(report, &data);
    if (status == QR_OK)
        status = plot != NULL ? figure_script(report, plot, stem, &script)
                              : ttft_script(report, stem, &script);
    if (status == QR_OK)
        status = write_file(stem, name, "dat", &data, err);
    if (status == QR_OK)
        status = write_file(stem, name, "gp", &script, err);
    if (status == QR_OK)
        status = run_gnuplot(stem, name, err);
    qr_buffer_free(&data);
    qr_buffer_free(&script);
    return status;
}

enum qr_status qr_report_plot(const struct qr_report *report, const char *stem,
                              struct qr_error *err)
{
    const int n_plots = sizeof(figure_plots) / sizeof(figure_plots[0]);
    bool misses_gnuplot = false;

    for (int i = 0; i <= n_plots && report->n_groups > 0; i++) {
        enum qr_status status =
            write_plot(report, i < n_plots ? &figure_plots[i] : NULL, stem, err);
        if (status == QR_ERR_NOT_FOUND)
            misses_gnuplot = true;
        else if (status != QR_OK)
            return status;
    }
    if (misses_gnuplot)
        fprintf(stderr,
                "%s-*.gp and .dat are written, and no pictures: there is no gnuplot "
                "(Debian package gnuplot-nox)\n",
                stem);
    return QR_OK;
}
