/* report_internal.h - the figures of a report; private to report*.c. */
#ifndef QUIRE_RUNTIME_BENCH_REPORT_INTERNAL_H
#define QUIRE_RUNTIME_BENCH_REPORT_INTERNAL_H

#include "runtime/bench/report.h"

enum qr_figure {
    QR_FIGURE_TOKENS_PER_S,
    QR_FIGURE_REQUESTS_PER_S,
    QR_FIGURE_GOODPUT,
    QR_FIGURE_TTFT_P50,
    QR_FIGURE_TTFT_P90,
    QR_FIGURE_TTFT_P99,
    QR_FIGURE_TPOT_P50,
    QR_FIGURE_TPOT_P90,
    QR_FIGURE_TPOT_P99,
    QR_FIGURE_E2E_P50,
    QR_FIGURE_E2E_P90,
    QR_FIGURE_E2E_P99,
    QR_FIGURE_SWAPPED,
    QR_FIGURE_RECOMPUTED,
    QR_FIGURE_PARKED,
    QR_FIGURE_TWICE,
    QR_FIGURE_WASTE,
    QR_FIGURE_HITS,
    QR_FIGURE_PAGES_OUT,
    QR_FIGURE_PAGES_IN,
    QR_FIGURE_FAILED,
    QR_FIGURE_DIFFERENT,
    QR_FIGURE_SECONDS,
    QR_FIGURE_COUNT,
};

enum { QR_TTFT_POINTS = 101 }; /* percentiles 0 to 100, for the plot of the distribution */

struct qr_figure_info {
    const char *key;     /* in JSON; ends with the unit where there is one */
    const char *heading; /* in the table, at most one line each for name and unit */
    const char *unit;
    int decimals;
    bool is_share; /* kept as a fraction, shown in per cent */
};

/* A figure that does not exist is NAN, and one that failures made so is INFINITY. */
struct qr_run_figures {
    double value[QR_FIGURE_COUNT];
    double ttft_s[QR_TTFT_POINTS];
};

/* The runs of one discipline at one overcommit. */
struct qr_report_group {
    const char *discipline;
    double overcommit;
    int32_t kv_pages; /* of the first run */
    int32_t n_requests;
    int32_t n_runs;
    struct qr_run_figures runs[QR_MAX_RUNS];
};

struct qr_report {
    struct qr_report_options options;
    struct qr_report_group *groups; /* in the order in which they came */
    int32_t n_groups;
    int32_t capacity;
    json_t *notes;
};

extern const struct qr_figure_info qr_figures[QR_FIGURE_COUNT];

QR_BEGIN_DECLS

double qr_group_figure(const struct qr_report_group *group, enum qr_figure figure);
/* The median over the runs of one percentile of TTFT. */
double qr_group_ttft(const struct qr_report_group *group, int32_t per_cent);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_REPORT_INTERNAL_H */
