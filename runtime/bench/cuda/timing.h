/*
 * timing.h - how long work on a CUDA device takes.
 *
 * What is measured is captured in a graph of many calls, so that launching it costs nothing; the
 * graphs of all subjects are replayed in turn, so that what disturbs the device disturbs all of
 * them; each replay is timed by the device's events.
 */
#ifndef QUIRE_RUNTIME_BENCH_CUDA_TIMING_H
#define QUIRE_RUNTIME_BENCH_CUDA_TIMING_H

#include <stdint.h>

#include "base/cuda/cuda.h"
#include "base/status.h"

enum { QR_TIMING_MAX_SUBJECTS = 4, QR_TIMING_MAX_REPLAYS = 64 };

struct qr_timing_subject {
    /* Enqueues call number `call` of the graph on the step's stream: kernels and copies alone. It
     * turns to other buffers with each call, so that none is found in the cache. */
    void (*enqueue)(void *arg, int32_t call);
    void *arg;
    int32_t n_calls; /* in a graph */
};

struct qr_times { /* seconds a call */
    double median;
    double low, high; /* the quartiles */
};

QR_BEGIN_DECLS

/* times[n]. n at most QR_TIMING_MAX_SUBJECTS, n_replays at most QR_TIMING_MAX_REPLAYS. */
QR_MUST_CHECK enum qr_status qr_timing_run(struct qr_cuda *cuda,
                                           const struct qr_timing_subject *subjects, int32_t n,
                                           int32_t n_replays, struct qr_times *times,
                                           struct qr_error *err);
/* The same of one subject that cannot be captured: each replay enqueues all its calls. */
QR_MUST_CHECK enum qr_status qr_timing_run_uncaptured(struct qr_cuda *cuda,
                                                      const struct qr_timing_subject *subject,
                                                      int32_t n_replays, struct qr_times *times,
                                                      struct qr_error *err);
/* Median and quartiles; sorts values[n]. */
struct qr_times qr_timing_summary(double *values, int32_t n);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CUDA_TIMING_H */
