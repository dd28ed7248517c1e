/* state.h - what the files of scheduler/ share: the scheduler's own state. Private. */
#ifndef QUIRE_SCHEDULER_STATE_H
#define QUIRE_SCHEDULER_STATE_H

#include "scheduler/sequence.h"

struct qr_scheduler {
    struct qr_scheduler_config config;
    struct qr_block_manager *blocks; /* borrowed */
    int32_t max_seq_tokens;

    struct qr_sequence *seqs; /* [n_slots] */
    qr_seq_id *free_slots;    /* [n_slots]: a stack of n_free_slots */
    int32_t n_slots;
    int32_t n_free_slots;

    struct qr_seq_list running; /* by ticket: oldest first */
    struct qr_seq_list waiting; /* preempted ones by ticket, then new arrivals as they came */
    int32_t n_new;              /* new arrivals in `waiting` */
    int32_t n_paused;
    int64_t next_ticket;
    int64_t now_ns; /* of the last plan */
    int64_t n_preemptions;
    int64_t n_recomputed_tokens;

    /* The current plan. Each array has max_running entries. */
    struct qr_plan_entry *entries;
    qr_seq_id *preempted;
    qr_seq_id *admitted;
    int32_t n_entries;
    int32_t n_rows;
    int32_t n_logit_rows;
    int32_t n_preempted;
    int32_t n_admitted;
};

#endif /* QUIRE_SCHEDULER_STATE_H */
