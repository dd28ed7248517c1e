/* planning.h - how long the scheduler takes for a step in which many sequences decode. */
#ifndef QUIRE_RUNTIME_BENCH_PLANNING_H
#define QUIRE_RUNTIME_BENCH_PLANNING_H

#include <stdint.h>

#include "base/status.h"

/* CPU time of the thread, over steps in which every sequence decodes. */
struct qr_planning_times {
    double plan_p50_ns; /* qr_scheduler_plan */
    double plan_p99_ns;
    double apply_p50_ns; /* complete, and append_token for each */
    int32_t n_steps;
};

QR_BEGIN_DECLS

/* All sequences run at once, each on its own prompt, with memory for all of them. */
QR_MUST_CHECK enum qr_status qr_measure_planning(int32_t n_sequences,
                                                 struct qr_planning_times *times);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_PLANNING_H */
