/*
 * simulate.h - the shipped scheduler and block manager on a trace, with a model of the
 * device in place of one, on a virtual clock.
 *
 * A step runs the products with the weights, then attention over each sequence; each of
 * these takes as long as the slower of reading its bytes (the weights once; a sequence's KV)
 * and computing its operations (the roofline, Williams et al., CACM 2009), and the step a
 * fixed time beside them. Transfers run beside the computing: each link (tier and direction)
 * moves one page after another. The same input gives the same result in every run, but for
 * the times that the scheduler itself takes.
 */
#ifndef QUIRE_RUNTIME_BENCH_SIMULATE_H
#define QUIRE_RUNTIME_BENCH_SIMULATE_H

#include "runtime/bench/report.h"
#include "runtime/bench/trace.h"
#include "scheduler/scheduler.h"

struct qr_device_model {
    double weight_bytes;       /* read in every step */
    double kv_bytes_per_token; /* of all layers */
    double bytes_per_s;        /* of the device's memory, as reached */
    double flops_per_s;        /* as reached */
    double flops_per_row;      /* of the products with the weights */
    double flops_per_score;    /* of attention: for each row and token of its context */
    double step_s;             /* what each step takes beside that */
    double link_bytes_per_s[QR_TIER_COUNT]; /* between the device and a tier, each way */
};

struct qr_simulation {
    const struct qr_trace *trace;
    struct qr_device_model device;
    enum qr_discipline discipline;
    int32_t page_size;
    int32_t page_count;
    int32_t tier_slots[QR_TIER_COUNT]; /* for the disciplines that swap */
    int32_t max_running;
    int32_t max_batch_tokens;
    int32_t output_limit; /* what a request asks for, at least: nobody tells the scheduler
                             how long its output will be */
    int32_t context;   /* the model's: no request asks for more, but for its own length; 0: none */
    double overcommit; /* for the report */
};

struct qr_simulation_result {
    struct qr_run_result run; /* its requests belong to the result */
    int32_t peak_pages;       /* held by sequences at one time */
    int64_t n_steps;
    double mean_sequences; /* in a step */
    double idle_s;         /* steps without a row, and waits for an arrival */
    /* CPU time of the thread in the scheduler and the block manager. */
    double cpu_s;
    double plan_p50_ns; /* one call of qr_scheduler_plan */
    double plan_p99_ns;
};

QR_BEGIN_DECLS

/* Those of LLaMA with 8 billion parameters in 16 bits on one large GPU. */
void qr_device_model_default(struct qr_device_model *device);
/* As the scheduler wants them. */
void qr_device_model_costs(const struct qr_device_model *device, int32_t page_size,
                           struct qr_block_costs *costs);
/* "cost", "swap", "recompute" or "reserve". */
const char *qr_discipline_name(enum qr_discipline discipline);

/* Pages that max_running sequences of the trace hold at most, whichever they are. */
int32_t qr_simulation_all_pages(const struct qr_simulation *simulation);
/*
 * QR_ERR_INVALID when page_count cannot hold the longest request. On QR_OK *result is freed
 * by qr_simulation_result_free.
 */
QR_MUST_CHECK enum qr_status qr_simulate(const struct qr_simulation *simulation,
                                         struct qr_simulation_result *result, struct qr_error *err);
void qr_simulation_result_free(struct qr_simulation_result *result);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_SIMULATE_H */
