/*
 * sequence.h - the scheduler's record of one sequence, and ordered lists of them.
 *
 * Private to scheduler/. A list is doubly linked through indices into the array of all
 * records, so that moving a sequence allocates nothing. A sequence is in one list at most.
 */
#ifndef QUIRE_SCHEDULER_SEQUENCE_H
#define QUIRE_SCHEDULER_SEQUENCE_H

#include "scheduler/scheduler.h"

struct qr_sequence {
    const int32_t *tokens; /* borrowed */
    int64_t rank;          /* virtual milli-tokens, fixed at arrival; less is sooner */
    int64_t start_tag;     /* of fair queueing: the rank without priority */
    int64_t ticket;        /* counts arrivals and forks: of equal rank, less is sooner */
    int64_t arrival_ns;
    int64_t first_token_ns; /* wanted, from arrival; 0: none */
    int32_t n_prompt_tokens;
    int32_t max_tokens;
    int32_t n_known;     /* prompt and generated tokens, with the one that token_ahead is about */
    int32_t n_computed;  /* leading tokens whose KV is in the pages, or under way there */
    int32_t n_under_way; /* the last of these: rows launched and not completed */
    int32_t n_peak;      /* leading tokens that were computed at some time */
    int32_t n_planned;   /* rows of the current plan not yet completed */
    int32_t n_at_admission; /* n_computed when it was last admitted */
    int32_t n_cached_prompt_tokens;
    int32_t n_swapped;
    int32_t n_recomputed;
    int32_t n_parked;
    int32_t priority;
    int32_t tenant;
    int32_t group;
    int32_t width;  /* slots that it counts for in the queue of new arrivals */
    qr_seq_id prev; /* neighbours in its list */
    qr_seq_id next;
    enum qr_seq_state state;
    bool all_logits;
    bool paused;
    bool admitted_before;
    bool awaits_token; /* its newest token is computed; the next is not known yet */
    bool token_ahead;  /* the last known token was counted at launch; append_token is still due */
    bool in_use;       /* false: the slot is free */
};

struct qr_seq_list {
    qr_seq_id head;
    qr_seq_id tail;
    int32_t count;
};

QR_BEGIN_DECLS

void qr_seq_list_init(struct qr_seq_list *list);
/* In the order of rank, then of tickets. */
void qr_seq_list_insert(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id);
void qr_seq_list_unlink(struct qr_seq_list *list, struct qr_sequence *seqs, qr_seq_id id);
/* Whether `a` comes before `b`. */
bool qr_seq_is_senior(const struct qr_sequence *a, const struct qr_sequence *b);

QR_END_DECLS

#endif /* QUIRE_SCHEDULER_SEQUENCE_H */
