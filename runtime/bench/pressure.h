/*
 * pressure.h - disciplines beside each other on the real server, at several sizes of its KV
 * pool: the work of `quire bench pressure`.
 *
 * A first run with plenty of pages shows how many are in use at one time (the demand) and
 * gives the output ids that all others must give. Then, for each overcommit, every
 * discipline runs in turn, and so again for each repetition: what disturbs the machine for a
 * while disturbs all of them.
 */
#ifndef QUIRE_RUNTIME_BENCH_PRESSURE_H
#define QUIRE_RUNTIME_BENCH_PRESSURE_H

#include <stdio.h>

#include "runtime/bench/pressure_run.h"

enum { QR_PRESSURE_MAX_STEPS = 16 };

struct qr_pressure_config {
    struct qr_pressure_load load;
    struct qr_pressure_server server; /* without kv_pages and discipline */
    int32_t n_runs;                   /* of each discipline at each overcommit */
    int32_t n_overcommits;
    double overcommits[QR_PRESSURE_MAX_STEPS];
    int32_t n_disciplines;
    enum qr_discipline disciplines[QR_PRESSURE_MAX_STEPS];
    FILE *progress; /* a line for each run; NULL: none */
};

/* Beside the report. */
struct qr_pressure_summary {
    int32_t demand_pages; /* in use at one time, at most, when there are plenty */
    int32_t n_runs;
    int32_t n_failed;    /* requests of all runs */
    int32_t n_different; /* requests whose output was not that of the first run */
    int32_t n_refused;
    char first_error[160];
};

QR_BEGIN_DECLS

/* Adds every run to `report`. */
QR_MUST_CHECK enum qr_status qr_pressure(const struct qr_pressure_config *config,
                                         struct qr_report *report,
                                         struct qr_pressure_summary *summary, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_PRESSURE_H */
