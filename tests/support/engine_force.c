/* engine_force.c - see engine_force.h. */
#include "tests/support/engine_force.h"

#include "runtime/engine/generation.h"
#include "scheduler/force.h"

static uint32_t next_random(struct engine_force *force)
{
    force->random_state =
        force->random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(force->random_state >> 33);
}

static void preempt(struct engine_force *force, struct qr_scheduler *sched, int32_t slot,
                    enum qr_release how)
{
    qr_scheduler_force_preempt(sched, slot, how);
    force->n_forced++;
}

static bool is_due(struct engine_force *force, const struct qr_generation *seq, int32_t slot,
                   int32_t n_computed)
{
    int32_t n_tokens = force->forcing == FORCE_EVERY_STEP ? n_computed : seq->n_tokens;

    if (force->seqs[slot] == seq && n_tokens <= force->n_tokens[slot])
        return false;
    force->seqs[slot] = seq;
    force->n_tokens[slot] = n_tokens;
    return true;
}

void engine_force_before_plan(void *arg, struct qr_scheduler *sched,
                              struct qr_generation *const *by_slot, int32_t n_slots)
{
    static const enum qr_release ways[] = {QR_RELEASE_FINISHED, QR_RELEASE_RESUMES,
                                           QR_RELEASE_SWAPPED, QR_RELEASE_PARKED};
    struct engine_force *force = arg;

    for (int32_t slot = 0; slot < n_slots && slot < ENGINE_FORCE_MAX_SLOTS; slot++) {
        const struct qr_generation *seq = by_slot[slot];
        struct qr_seq_info info;
        if (seq == NULL)
            continue;
        qr_scheduler_get_info(sched, slot, &info);
        if (info.state == QR_SEQ_WAITING)
            continue;
        if (force->forcing == FORCE_AT_RANDOM) {
            uint32_t draw = next_random(force);
            if (draw % 8 == 0)
                preempt(force, sched, slot, ways[draw / 8 % 4]);
        } else if (info.state == QR_SEQ_RUNNING && is_due(force, seq, slot, info.n_computed)) {
            preempt(force, sched, slot, force->how);
        }
    }
}
