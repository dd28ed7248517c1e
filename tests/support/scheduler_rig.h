/*
 * scheduler_rig.h - a scheduler with its block manager and the shadow memory, driven
 * without a model, and plans as short texts to compare.
 */
#ifndef QUIRE_TESTS_SUPPORT_SCHEDULER_RIG_H
#define QUIRE_TESTS_SUPPORT_SCHEDULER_RIG_H

#include "tests/support/scheduler_world.h"

struct scheduler_rig {
    struct scheduler_world *world;
    struct qr_scheduler *sched;      /* of the world */
    struct qr_block_manager *blocks; /* of the world */
    int32_t n_added;
    char text[1024]; /* of the last plan */
};

struct scheduler_rig_config {
    int32_t page_count;
    int32_t page_size;      /* 0: 8 */
    int32_t max_seq_tokens; /* 0: what the pool holds */
    int32_t host_slots;     /* 0: no lower tier */
    int32_t window;         /* 0: none */
    bool prefix_cache;
    struct qr_scheduler_config scheduler;
};

QR_BEGIN_DECLS

/* Failures are those of cmocka's assertions. */
void scheduler_rig_open(struct scheduler_rig *rig, const struct scheduler_rig_config *config);
/* Removes what is left, and checks that all pages are back. */
void scheduler_rig_close(struct scheduler_rig *rig);

/*
 * Adds a request that ends with max_tokens known tokens; 0: the longest sequence. Fields
 * of `request` that are 0 have their plain meaning: prompts are all different unless a
 * document is named.
 */
qr_seq_id scheduler_rig_add_request(struct scheduler_rig *rig,
                                    const struct scheduler_world_request *request);
qr_seq_id scheduler_rig_add(struct scheduler_rig *rig, int32_t n_prompt_tokens);
qr_seq_id scheduler_rig_add_scored(struct scheduler_rig *rig, int32_t n_prompt_tokens);

/*
 * Plans and returns the plan as text, parts separated by blanks: "seq:position+rows" an
 * entry, with a "*" when it samples; then for each preempted sequence "-seq" (recomputed),
 * "~seq" (swapped) or "=seq" (parked), "+seq" for each admitted one, ">n" and "<n" for n
 * transfers out and in, "#n" for n copies.
 */
const char *scheduler_rig_plan(struct scheduler_rig *rig);
/* Completes the last plan and appends a token wherever it samples. */
void scheduler_rig_compute(struct scheduler_rig *rig);
/* Both; returns the plan's text. */
const char *scheduler_rig_step(struct scheduler_rig *rig);
/* Ends all transfers that are under way. */
void scheduler_rig_end_transfers(struct scheduler_rig *rig, bool ok);

struct qr_seq_info scheduler_rig_info(const struct scheduler_rig *rig, qr_seq_id id);
int32_t scheduler_rig_available(const struct scheduler_rig *rig);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_SCHEDULER_RIG_H */
