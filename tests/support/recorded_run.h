/*
 * recorded_run.h - a scheduler driven at random through all of its calls, and its
 * recording: what the tests of the replay read.
 */
#ifndef QUIRE_TESTS_SUPPORT_RECORDED_RUN_H
#define QUIRE_TESTS_SUPPORT_RECORDED_RUN_H

#include "base/buffer.h"
#include "scheduler/scheduler.h"

struct recorded_run_config {
    struct qr_block_manager_config blocks; /* max_sequences is filled in */
    struct qr_scheduler_config scheduler;
    uint64_t seed;
    int32_t n_rounds;       /* of calls at random around a plan */
    int32_t failures;       /* of 100 transfers fail */
    bool closes_disk;       /* in the middle of the run */
    bool forces_preemption; /* now and then, by scheduler/force.h */
};

/* What the driver saw. */
struct recorded_run_totals {
    int64_t n_plans;
    int64_t n_rows;
    int64_t n_requests;
    int64_t n_refused;
    int64_t n_forks;
    int64_t n_tokens;
    int64_t n_preempted[QR_RELEASE_PARKED + 1];
    int64_t n_forced;
    int64_t n_out[QR_TIER_COUNT];
    int64_t n_in[QR_TIER_COUNT];
    int64_t n_copied;
    int64_t n_failed;
    int64_t n_launched;
};

/* Appends the recording to `bytes`. Failures are those of cmocka's assertions. */
void recorded_run(const struct recorded_run_config *config, struct qr_buffer *bytes,
                  struct recorded_run_totals *totals);

#endif /* QUIRE_TESTS_SUPPORT_RECORDED_RUN_H */
