/*
 * scheduler.h - which sequences run in the next step, and which token ranges.
 *
 * Pure: its inputs are the calls below and the clock values they carry; its output
 * is a plan. It needs no model, so tests and simulations run the shipped code.
 * Engine thread only. Nothing allocates after create.
 *
 * Continuous batching at the granularity of one step (Orca, Yu et al., OSDI 2022)
 * with chunked prefill (Sarathi-Serve, Agrawal et al., OSDI 2024): every running
 * decode gets its token first, prefill chunks share what is left of
 * max_batch_tokens, oldest first, and new sequences are admitted first come, first
 * served, when their known tokens fit. When a decode finds no page, the last
 * admitted sequence is preempted: its pages go back and it returns to the head of
 * the queue, to be recomputed. The rules in full: docs/scheduling.md.
 *
 * One step: plan, compute the rows, complete, append_token (or remove) for every
 * entry that samples. Add, remove and set_paused are allowed at any time between.
 */
#ifndef QUIRE_SCHEDULER_SCHEDULER_H
#define QUIRE_SCHEDULER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/block_manager.h"

struct qr_scheduler;

/*
 * A slot in [0, max_running + max_waiting); reused after qr_scheduler_remove. That many
 * suffice: a new arrival is admitted only when no sequence that could run waits before
 * it, so running and preempted ones are max_running at most. Only paused sequences that
 * were preempted come on top, and they take their room from new arrivals (see
 * qr_scheduler_add).
 */
typedef int32_t qr_seq_id;

struct qr_scheduler_config {
    int32_t max_batch_tokens;  /* rows of one step, at least max_running */
    int32_t max_running;       /* sequences that hold pages at one time, at least 1 */
    int32_t max_waiting;       /* bound of the queue of new arrivals, at least 1 */
    int32_t max_logit_rows;    /* rows of one step whose logits are wanted, >= max_running */
    int32_t max_prefill_chunk; /* rows of one sequence in one step; 0: what the batch allows */
};

struct qr_seq_params {
    int32_t n_prompt_tokens; /* in [1, max_seq_tokens] */
    bool all_logits;         /* logits of every prompt row are wanted (scoring) */
    int64_t arrival_ns;      /* of the clock that qr_scheduler_plan is given; for the statistics */
};

enum qr_seq_state {
    QR_SEQ_WAITING, /* new, or preempted: holds no pages */
    QR_SEQ_RUNNING, /* holds pages */
};

/* Rows [first_position, first_position + n_tokens) of one sequence run in this step. */
struct qr_plan_entry {
    qr_seq_id seq;
    int32_t first_position;
    int32_t n_tokens;
    bool samples; /* the last row is the newest known token: its logits give the next one */
};

/*
 * Arrays belong to the scheduler and are valid until the next qr_scheduler_plan.
 * Entries: decodes in the order of admission, one row each; then prefill chunks of
 * running sequences in the order of admission; then the sequences admitted in this
 * plan. A sequence has one entry at most. After a preemption the prompt rows of an
 * all_logits sequence are computed, and their logits wanted, anew. Preemptions come
 * before admissions; in rare cases a sequence is in both lists.
 */
struct qr_plan {
    int32_t n_entries;
    int32_t n_rows; /* sum of n_tokens */
    const struct qr_plan_entry *entries;
    int32_t n_preempted;
    const qr_seq_id *preempted; /* lost their pages in this plan */
    int32_t n_admitted;
    const qr_seq_id *admitted; /* left the queue in this plan */
};

struct qr_scheduler_stats {
    int32_t n_running;
    int32_t n_waiting;           /* new and preempted */
    int32_t n_paused;            /* running or waiting */
    int64_t head_wait_ns;        /* age of the first new arrival in the queue at the last plan */
    int64_t n_preemptions;       /* since create */
    int64_t n_recomputed_tokens; /* KV entries thrown away by preemption */
};

QR_BEGIN_DECLS

/*
 * `blocks` is borrowed and must outlive the scheduler, which alone reserves in it.
 * QR_ERR_INVALID: a field is out of range, `blocks` has fewer than max_running +
 * max_waiting slots, or its pool cannot hold one sequence of max_seq_tokens.
 */
QR_MUST_CHECK enum qr_status qr_scheduler_create(const struct qr_scheduler_config *config,
                                                 struct qr_block_manager *blocks,
                                                 struct qr_scheduler **out);
void qr_scheduler_destroy(struct qr_scheduler *sched); /* accepts NULL */

/*
 * QR_ERR_QUEUE_FULL when max_waiting new arrivals wait already, or when all slots are
 * taken, which needs preempted sequences that were paused. QR_ERR_INVALID when the
 * prompt is empty or longer than max_seq_tokens. On error *out is -1.
 */
QR_MUST_CHECK enum qr_status qr_scheduler_add(struct qr_scheduler *sched,
                                              const struct qr_seq_params *params, qr_seq_id *out);
/*
 * Finished, cancelled or expired, in any state: its pages go back, its slot is free.
 * Between plan and complete too: nobody is given those pages before the next plan, so
 * rows already under way may still write to them.
 */
void qr_scheduler_remove(struct qr_scheduler *sched, qr_seq_id seq);
/*
 * A paused sequence keeps its pages but is not planned (its reader is slow). It may be
 * preempted, and is not admitted (again) until it is resumed.
 */
void qr_scheduler_set_paused(struct qr_scheduler *sched, qr_seq_id seq, bool paused);

/*
 * May preempt and admit. n_entries is 0 when nothing can run: every sequence is paused
 * or waits for append_token. A plan that is never completed may be dropped; its rows
 * are planned again.
 */
void qr_scheduler_plan(struct qr_scheduler *sched, int64_t now_ns, struct qr_plan *plan);
/* The planned rows were computed: their KV is in the pages. Once after each non-empty plan. */
void qr_scheduler_complete(struct qr_scheduler *sched, const struct qr_plan *plan);
/*
 * A token was sampled for a sequence whose entry had `samples`: one known token more.
 * After complete, before the next plan, and for fewer than max_seq_tokens known tokens.
 */
void qr_scheduler_append_token(struct qr_scheduler *sched, qr_seq_id seq);

enum qr_seq_state qr_scheduler_state(const struct qr_scheduler *sched, qr_seq_id seq);
int32_t qr_scheduler_n_computed(const struct qr_scheduler *sched, qr_seq_id seq);
int32_t qr_scheduler_n_preemptions(const struct qr_scheduler *sched, qr_seq_id seq);
void qr_scheduler_get_stats(const struct qr_scheduler *sched, struct qr_scheduler_stats *stats);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_SCHEDULER_H */
