/*
 * report.h - what a benchmark of disciplines measured, as a table, as JSON and as plots.
 *
 * A run is one discipline at one overcommit. Runs of the same discipline and overcommit are
 * repetitions: every figure of the report is the median of theirs. Percentiles are of all
 * requests, by nearest rank; a failed request counts as infinitely late.
 */
#ifndef QUIRE_RUNTIME_BENCH_REPORT_H
#define QUIRE_RUNTIME_BENCH_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum { QR_MAX_RUNS = 32 }; /* of one discipline at one overcommit */

struct qr_request_result {
    double ttft_s; /* from its arrival to its first token */
    double e2e_s;  /* from its arrival to its last token */
    int32_t n_output;
    bool failed;  /* refused, ended by an error or cut short; the times mean nothing */
    bool differs; /* other tokens than the reference run gave */
};

struct qr_run_result {
    const char *discipline; /* its name; constant */
    double overcommit;      /* KV demand / KV memory */
    int32_t kv_pages;
    double seconds; /* from the first arrival to the last end */
    int32_t n_requests;
    const struct qr_request_result *requests; /* borrowed during qr_report_add */
    int64_t n_swapped;                        /* preemptions, by kind */
    int64_t n_recomputed;
    int64_t n_parked;
    int64_t n_rows; /* computed in all */
    int64_t n_recomputed_rows;
    int64_t n_hit_tokens; /* found in the prefix cache, of those looked up */
    int64_t n_lookup_tokens;
    int64_t n_pages_out; /* to lower tiers, and back */
    int64_t n_pages_in;
    double kv_waste; /* allocated slots that hold no token and are not cached / allocated
                        slots, each summed over time */
};

struct qr_report_options {
    const char *title;  /* of the table and the plots; borrowed */
    double ttft_goal_s; /* a request that meets both counts as goodput */
    double tpot_goal_s;
};

struct qr_report;

QR_BEGIN_DECLS

QR_MUST_CHECK enum qr_status qr_report_create(const struct qr_report_options *options,
                                              struct qr_report **out);
void qr_report_destroy(struct qr_report *report); /* accepts NULL */

/* Something to be kept in the JSON beside the figures (trace, command, ...); takes `value` over. */
QR_MUST_CHECK enum qr_status qr_report_note(struct qr_report *report, const char *key,
                                            json_t *value);
/* Notes the time, the commit (which QUIRE_COMMIT names), the processor and the command. */
QR_MUST_CHECK enum qr_status qr_report_note_machine(struct qr_report *report, int argc,
                                                    char *const *argv);
QR_MUST_CHECK enum qr_status qr_report_add(struct qr_report *report,
                                           const struct qr_run_result *run);

void qr_report_print(const struct qr_report *report, FILE *out);
QR_MUST_CHECK enum qr_status qr_report_write_json(const struct qr_report *report, const char *path,
                                                  struct qr_error *err);
/*
 * Writes STEM-NAME.gp, .dat, .png and .svg for each plot: throughput and p99 end-to-end
 * against overcommit, work computed twice, and the distribution of TTFT at the overcommit
 * nearest to 2. Without gnuplot on PATH it writes scripts and data, and says so on stderr.
 */
QR_MUST_CHECK enum qr_status qr_report_plot(const struct qr_report *report, const char *stem,
                                            struct qr_error *err);

/*
 * Notes the machine in `root`, which it takes over (NULL: memory was exhausted), and writes it.
 * Errors name the path.
 */
QR_MUST_CHECK enum qr_status qr_bench_json_write(json_t *root, int argc, char *const *argv,
                                                 const char *path, struct qr_error *err);
/* sorted[count] ascending, count >= 1; per_cent in [0, 100]; by nearest rank. */
double qr_percentile(const double *sorted, int32_t count, double per_cent);
/* Sorts values[count]; the mean of the two in the middle when count is even. count >= 1. */
double qr_median(double *values, int32_t count);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_REPORT_H */
