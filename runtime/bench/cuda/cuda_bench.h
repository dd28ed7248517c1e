/*
 * cuda_bench.h - what Quire's kernels, a step and swapping reach on a CUDA device, against the
 * least time that the device's memory allows: `quire bench cuda`.
 *
 * The floor of a case is the bytes that it must move over the bandwidth of a kernel that only
 * reads, measured in the same process. Every result is checked against a computation in double
 * precision after it was timed, in memory that held NaN before.
 */
#ifndef QUIRE_RUNTIME_BENCH_CUDA_CUDA_BENCH_H
#define QUIRE_RUNTIME_BENCH_CUDA_CUDA_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cuda/cuda.h"
#include "base/status.h"
#include "runtime/bench/cuda/timing.h"

/* Bits of what is to be measured. */
enum {
    QR_BENCH_DEVICE = 1, /* nothing: only that there is one */
    QR_BENCH_BANDWIDTH = 2,
    QR_BENCH_ATTENTION = 4,
    QR_BENCH_MATMUL = 8,
    QR_BENCH_STEP = 16,
    QR_BENCH_SWAP = 32,
};

struct qr_cuda_bench_config {
    const struct qr_cu_platform *platform;
    int32_t device;      /* its number */
    uint32_t what;       /* QR_BENCH_* */
    bool smoke;          /* tiny sizes: do all kernels run, and are the results right */
    const char *model;   /* of the step: synthetic:CONFIG.json */
    const char *backend; /* of the step's engine */
};

/* One measured case. What does not apply is 0. */
struct qr_cuda_figure {
    char group[16]; /* "attention" */
    char name[64];
    struct qr_times times;
    double bytes;       /* that must be moved, at least */
    double flops;       /* that must be done */
    double floor_s;     /* bytes over the bandwidth that limits this case */
    double read_s;      /* a kernel that only reads as many bytes, interleaved with this one */
    double plan_s;      /* of the host, for one step */
    double tokens;      /* of one call; tokens / times.median are tokens a second */
    double target;      /* wanted fraction of the floor */
    double target_s;    /* wanted time */
    bool checked;       /* the result was compared */
    double error;       /* |out - reference| / |reference| */
    double error_bound; /* above it, or NaN, the result is wrong */
    char note[96];
};

struct qr_cuda_bench {
    const struct qr_cuda_bench_config *config; /* borrowed */
    struct qr_cuda cuda;
    double read_rate;               /* bytes a second of a kernel that only reads */
    struct qr_cuda_figure *figures; /* [n_figures] */
    int32_t n_figures;
    int32_t capacity;
    struct qr_cuda_kernel read_bytes;
    qr_cu_address read_sums; /* of qr_read_bytes */
};

QR_BEGIN_DECLS

/* QR_ERR_NOT_FOUND and others of qr_cuda_open: there is no device, err says why. */
QR_MUST_CHECK enum qr_status qr_cuda_bench_open(struct qr_cuda_bench *bench,
                                                const struct qr_cuda_bench_config *config,
                                                struct qr_error *err);
void qr_cuda_bench_close(struct qr_cuda_bench *bench);
/* Measures what config->what names. Groups that fail leave their figures out; the first failure
 * is returned at the end. */
QR_MUST_CHECK enum qr_status qr_cuda_bench_run(struct qr_cuda_bench *bench, struct qr_error *err);
/* How many results were wrong. */
int32_t qr_cuda_bench_n_wrong(const struct qr_cuda_bench *bench);
void qr_cuda_bench_print(const struct qr_cuda_bench *bench, FILE *out);
/* Device and figures; the caller's reference. */
json_t *qr_cuda_bench_json(const struct qr_cuda_bench *bench);

/* ---- for the groups ---- */

/* Keeps a copy. */
QR_MUST_CHECK enum qr_status qr_cuda_bench_add(struct qr_cuda_bench *bench,
                                               const struct qr_cuda_figure *figure,
                                               struct qr_error *err);
/* Calls of a graph, and replays. */
int32_t qr_cuda_bench_n_calls(const struct qr_cuda_bench *bench, int32_t at_least);
int32_t qr_cuda_bench_n_replays(const struct qr_cuda_bench *bench);
/* Buffers that the calls of a graph take in turn must be so large together that none is cached. */
int64_t qr_cuda_bench_uncached_bytes(const struct qr_cuda_bench *bench);
/* Enqueues the kernel that only reads; n_bytes is rounded down to 16. */
void qr_cuda_bench_read(struct qr_cuda_bench *bench, qr_cu_address from, int64_t n_bytes);
/* Device memory; QR_ERR_NOMEM says for what, and how much. */
QR_MUST_CHECK enum qr_status qr_cuda_bench_alloc(struct qr_cuda_bench *bench, const char *what,
                                                 int64_t n_bytes, qr_cu_address *out,
                                                 struct qr_error *err);

QR_MUST_CHECK enum qr_status qr_bench_bandwidth(struct qr_cuda_bench *bench, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_bench_attention(struct qr_cuda_bench *bench, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_bench_matmul(struct qr_cuda_bench *bench, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_bench_step(struct qr_cuda_bench *bench, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_bench_swap(struct qr_cuda_bench *bench, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CUDA_CUDA_BENCH_H */
