/*
 * preempt.c - who gives way when pages run out, and whether by swap or by recomputation.
 *
 * A victim always has a higher rank than the sequence that needs the room, with the
 * exceptions of qr_preempt_last. Of those, the one whose eviction costs least for each
 * page that it frees; the cost is the cheaper of swapping (its pages that have no copy
 * yet out, all of them in again) and of computing it again, by the figures of
 * qr_scheduler_set_costs. One that was just admitted is spared, so that nobody is moved
 * in and out without getting further in between.
 */
#include <math.h>

#include "base/assert.h"
#include "scheduler/force.h"
#include "scheduler/recorder.h"
#include "scheduler/state.h"

enum {
    SPARED_ROWS = 32,     /* rows that an admission is good for before it may be taken back */
    MAX_CANDIDATES = 128, /* weighed for one preemption, those of highest rank */
    TOKENS_AHEAD = 8,     /* what is swapped out ahead of need */
};

static bool may_swap(const struct qr_scheduler *sched, const struct qr_release_estimate *estimate)
{
    enum qr_discipline discipline = sched->config.discipline;

    if (discipline == QR_DISCIPLINE_SWAP)
        return estimate->swap_ns < INFINITY;
    return discipline == QR_DISCIPLINE_COST && estimate->swap_ns < estimate->recompute_ns;
}

static enum qr_release way_of(const struct qr_scheduler *sched,
                              const struct qr_release_estimate *estimate)
{
    if (may_swap(sched, estimate))
        return QR_RELEASE_SWAPPED;
    /* vLLM keeps no pages back for a preempted sequence: they are cached like any other. */
    return sched->config.discipline == QR_DISCIPLINE_RECOMPUTE ? QR_RELEASE_FINISHED
                                                               : QR_RELEASE_RESUMES;
}

static void count(struct qr_scheduler *sched, struct qr_sequence *seq, enum qr_release how)
{
    switch (how) {
    case QR_RELEASE_SWAPPED:
        seq->n_swapped++;
        sched->counters.n_swapped++;
        break;
    case QR_RELEASE_PARKED:
        seq->n_parked++;
        sched->counters.n_parked++;
        break;
    case QR_RELEASE_FINISHED:
    case QR_RELEASE_RESUMES:
        seq->n_recomputed++;
        sched->counters.n_recomputed++;
        break;
    }
}

/* Back to the queue, without pages. */
static void give_up_pages(struct qr_scheduler *sched, qr_seq_id id, enum qr_release how)
{
    struct qr_sequence *seq = &sched->seqs[id];

    QR_ASSERT(seq->state != QR_SEQ_WAITING && seq->n_planned == 0);
    qr_order_charge_pages(sched, seq,
                          -qr_block_manager_held_pages(sched->blocks, id) -
                              qr_block_manager_promised_pages(sched->blocks, id));
    /* What is still being loaded is not computed: the loaded beginning is found again. */
    int32_t n_done = seq->state == QR_SEQ_LOADING ? 0 : qr_rows_done(seq);
    qr_block_manager_release(sched->blocks, id, n_done, how);
    qr_seq_list_unlink(&sched->running, sched->seqs, id);
    qr_seq_list_insert(&sched->waiting, sched->seqs, id);
    seq->n_computed = seq->n_under_way = 0; /* what is under way goes where nobody looks */
    seq->state = QR_SEQ_WAITING;
}

static void preempt_estimated(struct qr_scheduler *sched, qr_seq_id id, enum qr_release how,
                              qr_seq_id for_seq, const struct qr_release_estimate *estimate)
{
    sched->preempted[sched->n_preempted++] = (struct qr_preemption){
        .seq = id,
        .how = how,
        .for_seq = for_seq,
        .n_pages = estimate->n_freed,
        .swap_ns = estimate->swap_ns,
        .recompute_ns = estimate->recompute_ns,
    };
    count(sched, &sched->seqs[id], how);
    give_up_pages(sched, id, how);
}

static void estimate_of(const struct qr_scheduler *sched, qr_seq_id id,
                        struct qr_release_estimate *estimate)
{
    qr_block_manager_estimate(sched->blocks, id, qr_rows_done(&sched->seqs[id]), estimate);
}

void qr_preempt(struct qr_scheduler *sched, qr_seq_id id, enum qr_release how, qr_seq_id for_seq)
{
    struct qr_release_estimate estimate;

    estimate_of(sched, id, &estimate);
    preempt_estimated(sched, id, how, for_seq, &estimate);
}

/* As the discipline says. */
static void preempt_its_way(struct qr_scheduler *sched, qr_seq_id id, qr_seq_id for_seq)
{
    struct qr_release_estimate estimate;

    estimate_of(sched, id, &estimate);
    preempt_estimated(sched, id, way_of(sched, &estimate), for_seq, &estimate);
}

static bool is_spared(const struct qr_scheduler *sched, const struct qr_sequence *seq)
{
    return seq->n_planned > 0 || (qr_weighs_costs(sched) && !seq->awaits_token &&
                                  seq->n_computed - seq->n_at_admission < SPARED_ROWS);
}

/* Of the running sequences after `id`, the one that costs least for each page it frees. */
static qr_seq_id cheapest_after(const struct qr_scheduler *sched, qr_seq_id id, bool lower_priority)
{
    double least = INFINITY;
    qr_seq_id victim = QR_SEQ_NONE;
    qr_seq_id other = sched->running.tail;

    for (int32_t n = 0; n < MAX_CANDIDATES && other != QR_SEQ_NONE && other != id; n++) {
        const struct qr_sequence *seq = &sched->seqs[other];
        struct qr_release_estimate estimate;
        qr_seq_id candidate = other;
        other = seq->prev;
        if (!qr_seq_is_senior(&sched->seqs[id], seq))
            break;
        if (is_spared(sched, seq) || (lower_priority && seq->priority >= sched->seqs[id].priority))
            continue;
        estimate_of(sched, candidate, &estimate);
        double cost = may_swap(sched, &estimate) ? estimate.swap_ns : estimate.recompute_ns;
        if (estimate.n_freed > 0 && cost / estimate.n_freed < least) {
            least = cost / estimate.n_freed;
            victim = candidate;
        }
    }
    return victim;
}

/* The last admitted, if it comes after `id`. */
static qr_seq_id last_after(const struct qr_scheduler *sched, qr_seq_id id, bool lower_priority)
{
    qr_seq_id last = sched->running.tail;

    if (last == QR_SEQ_NONE || last == id ||
        !qr_seq_is_senior(&sched->seqs[id], &sched->seqs[last]))
        return QR_SEQ_NONE;
    if (lower_priority && sched->seqs[last].priority >= sched->seqs[id].priority)
        return QR_SEQ_NONE;
    return is_spared(sched, &sched->seqs[last]) ? QR_SEQ_NONE : last;
}

bool qr_preempt_for(struct qr_scheduler *sched, qr_seq_id id, bool lower_priority)
{
    qr_seq_id victim = qr_weighs_costs(sched) ? cheapest_after(sched, id, lower_priority)
                                              : last_after(sched, id, lower_priority);

    if (victim == QR_SEQ_NONE)
        return false;
    preempt_its_way(sched, victim, id);
    return true;
}

void qr_preempt_self(struct qr_scheduler *sched, qr_seq_id id)
{
    preempt_its_way(sched, id, id);
}

bool qr_preempt_last(struct qr_scheduler *sched, qr_seq_id id)
{
    qr_seq_id last = sched->running.tail;

    while (last != QR_SEQ_NONE && (last == id || sched->seqs[last].n_planned > 0))
        last = sched->seqs[last].prev;
    if (last == QR_SEQ_NONE)
        return false;
    preempt_its_way(sched, last, id);
    return true;
}

bool qr_preempt_in_tenant(struct qr_scheduler *sched, qr_seq_id id)
{
    qr_seq_id other = sched->running.tail;

    while (
        other != QR_SEQ_NONE && other != id &&
        (sched->seqs[other].tenant != sched->seqs[id].tenant || sched->seqs[other].n_planned > 0))
        other = sched->seqs[other].prev;
    if (other == QR_SEQ_NONE || other == id)
        return false;
    preempt_its_way(sched, other, id);
    return true;
}

/* Pages that the running decodes will want within the next tokens; *first is the first of them. */
static int32_t pages_wanted(const struct qr_scheduler *sched, qr_seq_id *first)
{
    int32_t n_wanted = 0;

    *first = QR_SEQ_NONE;
    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next) {
        const struct qr_sequence *seq = &sched->seqs[id];
        if (!qr_can_run(seq) || qr_rows_left(seq) != 1)
            continue;
        int32_t end = seq->n_known + TOKENS_AHEAD;
        end = end < seq->max_tokens ? end : seq->max_tokens;
        int32_t n = qr_block_manager_pages_needed(sched->blocks, id, seq->n_computed, end);
        if (n > 0 && *first == QR_SEQ_NONE)
            *first = id;
        n_wanted += n;
    }
    return n_wanted;
}

static int32_t pages_to_come(const struct qr_scheduler *sched)
{
    return qr_block_manager_available_pages(sched->blocks) +
           qr_block_manager_leaving_pages(sched->blocks);
}

void qr_preempt_ahead(struct qr_scheduler *sched)
{
    qr_seq_id first;

    while (qr_weighs_costs(sched) && pages_wanted(sched, &first) > pages_to_come(sched)) {
        struct qr_release_estimate estimate;
        qr_seq_id victim = cheapest_after(sched, first, false);
        if (victim == QR_SEQ_NONE)
            return;
        estimate_of(sched, victim, &estimate);
        if (!may_swap(sched, &estimate))
            return; /* recomputation needs no time ahead */
        preempt_estimated(sched, victim, QR_RELEASE_SWAPPED, first, &estimate);
    }
}

void qr_scheduler_force_preempt(struct qr_scheduler *sched, qr_seq_id id, enum qr_release how)
{
    struct qr_sequence *seq = &sched->seqs[id];

    QR_ASSERT(id >= 0 && id < sched->n_slots && seq->in_use);
    qr_recorder_note_forced(sched->recorder, id, how);
    if (seq->state == QR_SEQ_WAITING)
        return;
    seq->n_planned = 0; /* of a plan that was never completed */
    count(sched, seq, how);
    give_up_pages(sched, id, how);
}
