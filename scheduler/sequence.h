/*
 * sequence.h - the scheduler's record of one sequence, and ordered lists of them.
 *
 * Private to scheduler/. A list is doubly linked through indices into the array of
 * all records, so that moving a sequence allocates nothing. A sequence is in one
 * list at most.
 */
#ifndef QUIRE_SCHEDULER_SEQUENCE_H
#define QUIRE_SCHEDULER_SEQUENCE_H

#include "scheduler/scheduler.h"

#define QR_SEQ_NONE          ((qr_seq_id)-1)
#define QR_TICKET_UNADMITTED INT64_MAX

struct qr_sequence {
    int64_t ticket; /* counts first admissions, kept through preemption: the order of age */
    int64_t arrival_ns;
    int32_t n_prompt_tokens;
    int32_t n_known;    /* prompt and generated tokens */
    int32_t n_computed; /* leading tokens whose KV is in the pages */
    int32_t n_planned;  /* rows of the current plan not yet completed */
    int32_t n_preemptions;
    qr_seq_id prev; /* neighbours in its list */
    qr_seq_id next;
    enum qr_seq_state state;
    bool all_logits;
    bool paused;
    bool in_use; /* false: the slot is free */
};

struct qr_seq_list {
    qr_seq_id head;
    qr_seq_id tail;
    int32_t count;
};

QR_BEGIN_DECLS

void qr_seq_list_init(struct qr_seq_list *list);
/* Before the first member with a greater ticket. */
void qr_seq_list_insert(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id);
void qr_seq_list_append(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id);
void qr_seq_list_unlink(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_SEQUENCE_H */
