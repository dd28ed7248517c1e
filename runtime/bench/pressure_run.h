/*
 * pressure_run.h - one run of `quire bench pressure`: a server with one discipline and one
 * size of KV pool, the whole trace over gRPC, and what came of it.
 *
 * A client does not know how long its answer will be: it sends the limit that its service
 * allows (max_tokens). The output ends at the length that the trace has, by a stop token
 * that is banned before (min_tokens) and forced there (logit_bias), which the scheduler
 * cannot see in advance. So every discipline does the same work, and `reserve` promises what
 * it would promise in service.
 */
#ifndef QUIRE_RUNTIME_BENCH_PRESSURE_RUN_H
#define QUIRE_RUNTIME_BENCH_PRESSURE_RUN_H

#include "runtime/bench/load_client.h"
#include "runtime/bench/report.h"
#include "runtime/bench/trace.h"
#include "scheduler/scheduler.h"

struct qr_pressure_load {
    const struct qr_trace *trace; /* no request is longer than the model's context */
    int32_t max_tokens;           /* limit of every request; 0: the trace's longest output */
    float temperature;
    int32_t n_connections;
    int64_t timeout_ns;
};

struct qr_pressure_server {
    const char *model; /* NULL: the demo model */
    int32_t kv_pages;  /* 0: as many as any load of max_running can use */
    int32_t page_size;
    int32_t max_running;
    int32_t max_batch_tokens;
    int32_t n_threads;
    int64_t swap_memory;
    enum qr_discipline discipline;
};

/* Zero-initialise before the first run; freed by qr_pressure_run_free. */
struct qr_pressure_run {
    struct qr_run_result result;        /* result.requests are the following */
    struct qr_request_result *requests; /* [result.n_requests] */
    uint64_t *hashes;                   /* [result.n_requests] of the output ids */
    int32_t peak_pages;                 /* in use at one time */
    double mean_running;                /* sequences */
    double mean_used;                   /* pages in use / pages */
    double server_cpu_s;                /* processor time of the server */
    int64_t n_output;                   /* tokens of all requests */
    int32_t n_refused;                  /* requests told to come again */
    int32_t n_failed;
    double latest_s;       /* how late the client sent, at worst */
    char first_error[160]; /* of a failed request */
};

QR_BEGIN_DECLS

/*
 * `folder` is for the server's socket and log. Requests that fail are no error: they are in
 * the result. result.overcommit and the requests' `differs` are the caller's to fill in.
 */
QR_MUST_CHECK enum qr_status qr_pressure_run(const char *folder,
                                             const struct qr_pressure_server *server,
                                             const struct qr_pressure_load *load,
                                             struct qr_pressure_run *run, struct qr_error *err);
void qr_pressure_run_free(struct qr_pressure_run *run); /* accepts a zeroed one */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_PRESSURE_RUN_H */
