/* state.h - what the files of scheduler/ share: the scheduler's own state. Private. */
#ifndef QUIRE_SCHEDULER_STATE_H
#define QUIRE_SCHEDULER_STATE_H

#include "scheduler/sequence.h"

enum { QR_PLAN_PASSES = 4 }; /* over a plan that remains empty, the first included */

struct qr_tenant {
    double weight;
    int32_t max_pages;   /* 0: no bound */
    int32_t n_pages;     /* held or promised, as of the running plan; 0 without a bound */
    int64_t finish_tag;  /* virtual milli-tokens: where its next arrival starts at the earliest */
    int64_t last_start;  /* start tag of its latest arrival */
    int64_t passed_over; /* the latest scan of the queue in which one of its sequences was */
};

/* Sequences that came from one by forks. */
struct qr_seq_group {
    int32_t n_members;
    int32_t n_set_aside; /* slots for members to come */
    bool may_fork;
};

struct qr_scheduler {
    struct qr_scheduler_config config;
    struct qr_block_manager *blocks; /* borrowed */
    struct qr_recorder *recorder;    /* borrowed; may be NULL */
    int32_t max_seq_tokens;

    struct qr_sequence *seqs;    /* [n_slots] */
    qr_seq_id *free_slots;       /* [n_slots]: a stack of n_free_slots */
    struct qr_seq_group *groups; /* [n_slots] */
    int32_t *free_groups;        /* [n_slots]: a stack of n_free_groups */
    int32_t n_slots;
    int32_t n_free_slots;
    int32_t n_free_groups;
    int32_t n_set_aside; /* of the free slots, over all groups */

    struct qr_seq_list running; /* by rank; loading ones as well */
    struct qr_seq_list waiting; /* by rank: new, preempted and parked ones */
    int32_t n_new;              /* width of new arrivals in `waiting` */
    int32_t n_objectives;       /* new arrivals in `waiting` with a wanted time */
    int32_t n_paused;
    int64_t next_ticket;
    int64_t now_ns; /* of the last plan */

    struct qr_tenant tenants[QR_MAX_TENANTS];
    int32_t n_bounded;      /* tenants with max_pages */
    int64_t n_scans;        /* of the queue, since create */
    int64_t virtual_time;   /* start tag of the latest arrival that was admitted */
    qr_seq_id kept_waiting; /* the head of the queue, which found no room in the last plan */
    bool boosted_last;      /* the last admission went by objective instead of rank */

    struct qr_scheduler_stats counters; /* what counts since create */

    /* The current plan. A sequence that runs can be moved out and in, and again in each
     * further pass: each array has QR_PLAN_PASSES * 2 * n_slots entries. */
    struct qr_plan_entry *entries;
    struct qr_plan_entry *launched; /* of the plan under way, or of the last one; as many */
    int32_t n_launched;
    bool is_launched;
    struct qr_preemption *preempted;
    qr_seq_id *admitted;
    int32_t n_entries;
    int32_t n_rows;
    int32_t n_decodes; /* of them */
    int32_t n_logit_rows;
    int32_t n_preempted;
    int32_t n_admitted;
};

static inline int32_t qr_min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Whether victims are chosen, and admissions held back, by what they cost. */
static inline bool qr_weighs_costs(const struct qr_scheduler *sched)
{
    return sched->config.discipline == QR_DISCIPLINE_COST ||
           sched->config.discipline == QR_DISCIPLINE_SWAP;
}

static inline int32_t qr_rows_left(const struct qr_sequence *seq)
{
    return seq->n_known - seq->n_computed;
}

/* Leading tokens whose KV is in the pages for certain. */
static inline int32_t qr_rows_done(const struct qr_sequence *seq)
{
    return seq->n_computed - seq->n_under_way;
}

/* Holds pages with everything before its next row in them, and has a next row. */
static inline bool qr_can_run(const struct qr_sequence *seq)
{
    return seq->state == QR_SEQ_RUNNING && !seq->awaits_token && qr_rows_left(seq) > 0;
}

QR_BEGIN_DECLS

/* order.c: ranks, fair share, quotas */

/* Gives a new arrival its rank. */
void qr_order_arrive(struct qr_scheduler *sched, struct qr_sequence *seq);
/* A new arrival is admitted: virtual time goes on. */
void qr_order_admit(struct qr_scheduler *sched, const struct qr_sequence *seq);
/* It ends: what it did not use of what it was charged for is given back to its tenant. */
void qr_order_leave(struct qr_scheduler *sched, const struct qr_sequence *seq);
/* Counts anew what tenants hold; before each plan. */
void qr_order_count_pages(struct qr_scheduler *sched);
/* Whether the sequence's tenant may hold n_pages more. */
bool qr_order_has_quota(const struct qr_scheduler *sched, const struct qr_sequence *seq,
                        int32_t n_pages);
void qr_order_charge_pages(struct qr_scheduler *sched, const struct qr_sequence *seq,
                           int32_t n_pages);
/* Who is to be admitted next; `after` of the last candidate that was passed over, or QR_SEQ_NONE.
 */
qr_seq_id qr_order_next(const struct qr_scheduler *sched, qr_seq_id after);
/* The first of its tenant that the running scan of the queue has met? A scan begins by n_scans++.
 */
bool qr_order_is_first_of_tenant(struct qr_scheduler *sched, qr_seq_id id);
/*
 * A new arrival that will miss its wanted time unless it is admitted now, or QR_SEQ_NONE.
 * Only the first of its tenant counts.
 */
qr_seq_id qr_order_urgent(struct qr_scheduler *sched);

/* preempt.c: who gives way, and how */

/* In any state but waiting. */
void qr_preempt(struct qr_scheduler *sched, qr_seq_id id, enum qr_release how, qr_seq_id for_seq);
/*
 * Somebody of higher rank than `id` gives way, chosen and treated as the discipline says;
 * with `lower_priority` only those of lower priority. False: there is nobody.
 */
bool qr_preempt_for(struct qr_scheduler *sched, qr_seq_id id, bool lower_priority);
/* `id` itself gives way. */
void qr_preempt_self(struct qr_scheduler *sched, qr_seq_id id);
/* All else failed: the last that runs, but for `id`, gives way. False: there is nobody. */
bool qr_preempt_last(struct qr_scheduler *sched, qr_seq_id id);
/* Somebody of `id`'s tenant with higher rank gives way. False: there is nobody. */
bool qr_preempt_in_tenant(struct qr_scheduler *sched, qr_seq_id id);
/* Begins to swap out, ahead of need, what the next steps will want. */
void qr_preempt_ahead(struct qr_scheduler *sched);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_STATE_H */
