/*
 * scheduler_rig.h - a scheduler with its block manager, driven without a model, and
 * plans as short texts to compare.
 */
#ifndef QUIRE_TESTS_SUPPORT_SCHEDULER_RIG_H
#define QUIRE_TESTS_SUPPORT_SCHEDULER_RIG_H

#include "scheduler/scheduler.h"

struct scheduler_rig {
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    struct qr_plan plan; /* the last one */
    int64_t now_ns;
    char text[1024]; /* of the last plan */
};

struct scheduler_rig_config {
    int32_t page_count;
    int32_t page_size;      /* 0: 8 */
    int32_t max_seq_tokens; /* 0: what the pool holds */
    struct qr_scheduler_config scheduler;
};

QR_BEGIN_DECLS

/* Failures are those of cmocka's assertions. */
void scheduler_rig_open(struct scheduler_rig *rig, const struct scheduler_rig_config *config);
/* Removes nothing: checks that with the scheduler all pages are back, then frees. */
void scheduler_rig_close(struct scheduler_rig *rig);

qr_seq_id scheduler_rig_add(struct scheduler_rig *rig, int32_t n_prompt_tokens);
qr_seq_id scheduler_rig_add_scored(struct scheduler_rig *rig, int32_t n_prompt_tokens);

/*
 * Plans and returns the plan as text, parts separated by blanks: "seq:position+rows" an
 * entry, with a "*" when it samples; then "-seq" for each preempted and "+seq" for each
 * admitted sequence.
 */
const char *scheduler_rig_plan(struct scheduler_rig *rig);
/* Completes the last plan and appends a token wherever it samples. */
void scheduler_rig_compute(struct scheduler_rig *rig);
/* Both; returns the plan's text. */
const char *scheduler_rig_step(struct scheduler_rig *rig);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_SCHEDULER_RIG_H */
