/*
 * scheduler_world.h - the shipped scheduler and block manager, with the shadow memory
 * instead of a model: plans are carried out row by row, sequences have tokens and keys.
 *
 * The test says what happens and when; the world checks after each call that what was
 * promised holds, above all that every planned row reads the KV of its own tokens.
 * Everything lies on the heap of block_heap.h. Broken rules end the test (block_trail.h).
 */
#ifndef QUIRE_TESTS_SUPPORT_SCHEDULER_WORLD_H
#define QUIRE_TESTS_SUPPORT_SCHEDULER_WORLD_H

#include "scheduler/scheduler.h"
#include "tests/support/block_shadow.h"

struct scheduler_world_config {
    struct qr_block_manager_config blocks; /* max_sequences and max_rows are filled in */
    struct qr_scheduler_config scheduler;
};

/* A request to come. Token p of the prompt: see block_world_token. */
struct scheduler_world_request {
    int32_t document;
    int32_t cut;
    int32_t branch;
    int32_t n_prompt;
    int32_t n_target; /* known tokens with which it ends, at most max_tokens */
    int32_t max_tokens;
    int32_t salt;  /* in [0, 26): the letter */
    int32_t width; /* 0: 1 */
    int32_t priority;
    int32_t tenant;
    int64_t first_token_ns;
    bool all_logits;
};

struct scheduler_world_seq {
    bool in_use;
    bool paused;
    bool awaits_token; /* sampled; append_token is due */
    bool token_ahead;  /* launch counted its next token, which is not known yet */
    int32_t serial;    /* counts all sequences */
    int32_t group;     /* the serial of the first of its group */
    int32_t n_known;
    struct scheduler_world_request request;
    int32_t *tokens; /* [max_seq_tokens] */
    uint64_t *keys;  /* [max_seq_tokens] of the token and all before it */
};

/* Forks that a group may still make, in the slot of its first sequence's serial. */
struct scheduler_world_group {
    int32_t serial;
    int32_t n_members;
    int32_t n_set_aside;
    bool may_fork;
};

struct scheduler_world_step {
    int32_t serial; /* of the sequence; -1: removed since the plan */
    int32_t *pages; /* [max_blocks]: its block table when it was planned */
};

struct scheduler_world {
    struct scheduler_world_config config;
    int32_t n_slots;
    int32_t max_blocks;
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    struct block_shadow *shadow;
    struct scheduler_world_seq *seqs;     /* [n_slots] */
    struct scheduler_world_seq spare;     /* tokens and keys of the next arrival */
    struct scheduler_world_group *groups; /* [n_slots]; n_members 0: free */
    struct scheduler_world_step *steps;   /* [2 * n_slots], as the plan's entries */
    struct qr_plan plan;
    bool is_planned;                             /* and neither launched nor completed */
    struct scheduler_world_step *launched_steps; /* as steps */
    struct qr_plan launched;
    bool is_launched;
    bool is_ahead; /* the plan was made beside the launched one and is to be carried out */
    int64_t now_ns;
    int32_t n_serials;
    int64_t n_plans;
    int64_t n_rows;
    int64_t n_finished;
    int64_t n_tokens; /* appended */
};

QR_BEGIN_DECLS

struct scheduler_world *scheduler_world_create(const struct scheduler_world_config *config);
/* Removes what is left. Transfers may be under way. */
void scheduler_world_destroy(struct scheduler_world *world);

enum qr_status scheduler_world_add(struct scheduler_world *world,
                                   const struct scheduler_world_request *request, qr_seq_id *out);
/* Whether `fork` is allowed for the sequence now. */
bool scheduler_world_can_fork(const struct scheduler_world *world, qr_seq_id id);
qr_seq_id scheduler_world_fork(struct scheduler_world *world, qr_seq_id parent, int32_t branch);
void scheduler_world_end_forks(struct scheduler_world *world, qr_seq_id id);
void scheduler_world_remove(struct scheduler_world *world, qr_seq_id id);
void scheduler_world_pause(struct scheduler_world *world, qr_seq_id id, bool paused);
/* Not while a plan waits to be completed. */
void scheduler_world_preempt(struct scheduler_world *world, qr_seq_id id, enum qr_release how);
/* The token that the sequence awaits: it grows, or has reached its target and is removed. */
void scheduler_world_token(struct scheduler_world *world, qr_seq_id id);
/* Carries out copies, starts transfers; the rows are computed by complete. Beside a launched plan
 * once, which is carried out when that one is complete. */
void scheduler_world_plan(struct scheduler_world *world);
/* Whether a token is due before the plan can be launched or completed. */
bool scheduler_world_token_is_due(const struct scheduler_world *world);
void scheduler_world_launch(struct scheduler_world *world);
/* Of the launched plan, if there is one. */
void scheduler_world_complete(struct scheduler_world *world);
void scheduler_world_end_transfer(struct scheduler_world *world, int32_t id, bool ok);

/* Figures, states and contents; `deep`: with qr_block_manager_check and the index. */
void scheduler_world_check(const struct scheduler_world *world, bool deep);
/* When no sequence and no transfer is left: no page is lost. */
void scheduler_world_check_rest(const struct scheduler_world *world);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_SCHEDULER_WORLD_H */
