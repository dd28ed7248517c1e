/*
 * machine_probe.h - what a machine's memory and arithmetic allow at the moment: the limits that a
 * benchmark on it is held to. On a shared machine they move, so they are measured beside it.
 */
#ifndef QUIRE_RUNTIME_BENCH_CPU_MACHINE_PROBE_H
#define QUIRE_RUNTIME_BENCH_CPU_MACHINE_PROBE_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

enum { QR_MACHINE_MAX_PEAKS = 8 };

struct qr_machine_peak {
    const char *name;        /* "f32 avx512"; constant */
    enum qr_dtype dtype;     /* of the factors: F32, BF16 or INT8 */
    double operations_per_s; /* multiplications and additions, each counted, of all threads */
};

struct qr_machine_limits {
    int32_t n_threads;
    double read_one;  /* bytes a second that one thread reads */
    double read_all;  /* that n_threads read together */
    double read_mean; /* the same on the average of all passes: what a long read gets */
    double meeting_s; /* that starting all threads and waiting for them takes, seconds: their
                         barrier */
    int32_t n_peaks;
    struct qr_machine_peak peaks[QR_MACHINE_MAX_PEAKS]; /* of what runs here */
};

QR_BEGIN_DECLS

/*
 * Takes a few seconds, and memory_bytes, which should be many times the caches', until it returns.
 * Each figure but read_mean is the best of several passes: other programs can only make one worse.
 */
QR_MUST_CHECK enum qr_status qr_machine_probe(int32_t n_threads, int64_t memory_bytes,
                                              struct qr_machine_limits *out, struct qr_error *err);
/* What is of reading in it, without the peaks: a third of a second. */
QR_MUST_CHECK enum qr_status qr_machine_probe_reading(int32_t n_threads, int64_t memory_bytes,
                                                      struct qr_machine_limits *out,
                                                      struct qr_error *err);
/* The better figure of the two probes, one by one; of the same number of threads. */
struct qr_machine_limits qr_machine_limits_best(const struct qr_machine_limits *a,
                                                const struct qr_machine_limits *b);
/* Bytes a second: the threads together, or one where the others only stand in its way. */
double qr_machine_bandwidth(const struct qr_machine_limits *limits);
/*
 * The highest peak for matrices of this dtype: that of its own numbers, of 8-bit integers for the
 * block formats, else of F32. NULL: none is known.
 */
const struct qr_machine_peak *qr_machine_peak_for(const struct qr_machine_limits *limits,
                                                  enum qr_dtype dtype);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CPU_MACHINE_PROBE_H */
