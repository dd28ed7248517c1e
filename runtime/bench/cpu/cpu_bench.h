/*
 * cpu_bench.h - what a model reaches on the processor, against what the machine's memory and
 * arithmetic allow: `quire bench cpu`.
 *
 * The model runs in this process without a scheduler or sampling, in steps of the shapes that a
 * server has. The limit of a case is the longer of two times: that of reading once what it must
 * read (weights, KV) at the bandwidth that the threads have, and that of its multiplications at the
 * peak of the weights' numbers (machine_probe.h). Peaks are probed before and after all cases,
 * reading before and after each, since where a virtual machine's processors are placed may change
 * meanwhile; the better of two probes counts.
 */
#ifndef QUIRE_RUNTIME_BENCH_CPU_CPU_BENCH_H
#define QUIRE_RUNTIME_BENCH_CPU_CPU_BENCH_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/bench/cpu/machine_probe.h"
#include "runtime/bench/report.h"
#include "runtime/models/model.h"

enum { QR_CPU_BENCH_MAX_BATCHES = 16, QR_CPU_BENCH_MAX_CASES = QR_CPU_BENCH_MAX_BATCHES + 2 };

struct qr_cpu_bench_config {
    const char *model; /* as qr_model_open takes it */
    const char *isa;
    int32_t n_threads; /* at least 1 */
    enum qr_kv_dtype kv_dtype;
    enum qr_quantize quantize;
    const char *weights_cache; /* folder; NULL: none */
    int32_t n_runs;            /* of each case, 1 to QR_MAX_RUNS */
    int32_t prompt;            /* rows of the prefill, in one step; 0: none */
    int32_t context;           /* tokens before the decodes */
    int32_t n_steps;           /* decode steps of a run */
    int32_t n_batches;         /* decodes of so many sequences each, after `context` */
    int32_t batches[QR_CPU_BENCH_MAX_BATCHES];
    int32_t long_context; /* one more decode; 0: none */
    int32_t long_batch;
    int64_t probe_bytes; /* of memory that the probe reads */
};

struct qr_cpu_case {
    char name[64];
    bool is_prefill;
    int32_t batch;           /* sequences */
    int32_t context;         /* tokens that they hold before a run */
    int32_t n_steps;         /* of a run */
    int32_t n_rows;          /* of one sequence in a step */
    double tokens;           /* of a run */
    double bytes;            /* that a run must read at least; 0: not known */
    double flops;            /* that it must compute at least; 0: not known */
    int32_t n_runs;          /* measured; 0: the case was skipped */
    double read_bytes_per_s; /* the better of the probes before and after it */
    double seconds[QR_MAX_RUNS];
    double median_s;
    char skipped[128]; /* why */
};

struct qr_cpu_memory { /* bytes */
    int64_t resident;  /* after the last case */
    int64_t peak;      /* since before the model was opened; 0: not known */
    int64_t weights;
    int64_t kv; /* all of the pool, which the largest case fills */
};

struct qr_cpu_bench {
    struct qr_cpu_bench_config config;
    struct qr_device *dev;
    struct qr_model *model;
    struct qr_kv_geometry kv;
    void *kv_pool;
    int32_t n_pages;
    int32_t max_rows;
    double open_s; /* of the device and the model */
    struct qr_cpu_memory memory;
    struct qr_machine_limits before, after;
    int32_t n_cases;
    struct qr_cpu_case cases[QR_CPU_BENCH_MAX_CASES];
};

/* What a case is held to. */
struct qr_cpu_limit {
    double read_s;                      /* 0: not known */
    double compute_s;                   /* 0: not known */
    const struct qr_machine_peak *peak; /* that compute_s is of; NULL: not known */
    double seconds;                     /* the longer of the two; 0: not known */
};

QR_BEGIN_DECLS

/* Probes, opens the model, runs all cases, probes again. *bench is to be closed in any case. */
QR_MUST_CHECK enum qr_status qr_cpu_bench_run(struct qr_cpu_bench *bench,
                                              const struct qr_cpu_bench_config *config,
                                              struct qr_error *err);
void qr_cpu_bench_close(struct qr_cpu_bench *bench);

/* limits: whose peaks count. */
struct qr_cpu_limit qr_cpu_bench_limit(const struct qr_machine_limits *limits,
                                       enum qr_dtype weight_dtype, const struct qr_cpu_case *of);
void qr_cpu_bench_print(const struct qr_cpu_bench *bench, FILE *out);
/* The caller's reference; NULL: memory was exhausted. */
json_t *qr_cpu_bench_json(const struct qr_cpu_bench *bench);

/* ---- cpu_cases.c ---- */

/* What is to be measured, of the model that is open, into bench->cases, and how many KV pages that
 * takes. Cases that the model or this machine cannot have say why. */
void qr_cpu_bench_plan(struct qr_cpu_bench *bench);
/* Measures one that is not skipped. */
QR_MUST_CHECK enum qr_status qr_cpu_bench_run_case(struct qr_cpu_bench *bench,
                                                   struct qr_cpu_case *of, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CPU_CPU_BENCH_H */
