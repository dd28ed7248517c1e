/* scheduler_index.c - see scheduler_index.h. */
#include "tests/support/scheduler_index.h"

#include "scheduler/state.h"
#include "tests/support/block_index.h"
#include "tests/support/block_trail.h"

enum { MAX_SLOTS = 16 };

static uint64_t combine(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 31;
}

/* Those in use in the order of the lists, then the others: order[n_slots]. */
static int32_t list_in_order(const struct qr_scheduler *sched, int32_t *order)
{
    int32_t n = 0;
    int32_t n_in_use;

    BLOCK_TRAIL_CHECK(sched->n_slots <= MAX_SLOTS);
    for (qr_seq_id id = sched->running.head; id != QR_SEQ_NONE; id = sched->seqs[id].next)
        order[n++] = id;
    for (qr_seq_id id = sched->waiting.head; id != QR_SEQ_NONE; id = sched->seqs[id].next)
        order[n++] = id;
    n_in_use = n;
    for (qr_seq_id id = 0; id < sched->n_slots; id++)
        if (!sched->seqs[id].in_use)
            order[n++] = id;
    BLOCK_TRAIL_CHECK(n == sched->n_slots);
    return n_in_use;
}

/* Groups are named by the first of their members in the order. */
static uint64_t group_name(const struct qr_scheduler *sched, const int32_t *order, int32_t group)
{
    uint64_t name = 0;

    while (sched->seqs[order[name]].group != group)
        name++;
    return name << 8 | (uint64_t)sched->groups[group].n_set_aside << 4 |
           (uint64_t)sched->groups[group].may_fork;
}

static uint64_t add_sequence(uint64_t hash, const struct scheduler_world *world, qr_seq_id id,
                             bool with_rank)
{
    const struct qr_sequence *seq = &world->sched->seqs[id];
    const struct scheduler_world_seq *outside = &world->seqs[id];
    bool all_scored = seq->n_peak >= seq->n_prompt_tokens;

    hash = combine(hash, outside->keys[outside->n_known - 1]);
    hash = combine(
        hash, (uint64_t)seq->state | (uint64_t)seq->paused << 2 | (uint64_t)seq->awaits_token << 3 |
                  (uint64_t)seq->admitted_before << 4 | (uint64_t)seq->all_logits << 5 |
                  (uint64_t)all_scored << 6 | (uint64_t)seq->token_ahead << 7 |
                  (uint64_t)seq->n_computed << 8 | (uint64_t)seq->n_planned << 20 |
                  (uint64_t)seq->n_at_admission << 32 | (uint64_t)outside->request.branch << 44);
    hash = combine(hash, (uint64_t)seq->n_prompt_tokens | (uint64_t)seq->max_tokens << 16 |
                             (uint64_t)outside->request.n_target << 32 |
                             (uint64_t)(seq->priority + QR_MAX_PRIORITY) << 48 |
                             (uint64_t)seq->tenant << 56);
    hash = combine(hash, (uint64_t)seq->n_under_way);
    return with_rank ? combine(hash, (uint64_t)(seq->rank - world->sched->virtual_time)) : hash;
}

/* Rows that wait or are under way, also those of sequences that were removed since. */
static uint64_t add_plan(uint64_t hash, const struct qr_plan *plan,
                         const struct scheduler_world_step *steps, bool is_there)
{
    if (!is_there)
        return combine(hash, 1);
    for (int32_t i = 0; i < plan->n_entries; i++)
        if (steps[i].serial < 0)
            hash = combine(hash, (uint64_t)plan->entries[i].first_position << 16 |
                                     (uint64_t)plan->entries[i].n_tokens);
    return combine(hash, 2);
}

/* Launched rows whose sequence has given way since are written like those of a removed one. */
static uint64_t add_launched(uint64_t hash, const struct scheduler_world *world)
{
    hash = add_plan(hash, &world->launched, world->launched_steps, world->is_launched);
    for (int32_t i = 0; world->is_launched && i < world->launched.n_entries; i++) {
        const struct qr_plan_entry *entry = &world->launched.entries[i];
        if (world->launched_steps[i].serial >= 0)
            hash = combine(hash, (uint64_t)entry->first_position << 16 |
                                     (uint64_t)entry->n_tokens << 1 | (uint64_t)entry->samples);
    }
    return combine(hash, (uint64_t)world->is_ahead);
}

uint64_t scheduler_index_fingerprint(const struct scheduler_world *world, int32_t n_tenants)
{
    const struct qr_scheduler *sched = world->sched;
    int32_t order[MAX_SLOTS];
    int32_t n_in_use = list_in_order(sched, order);
    uint64_t hash = (uint64_t)n_in_use << 32 | (uint64_t)sched->running.count << 1 |
                    (uint64_t)sched->boosted_last;

    for (int32_t i = 0; i < n_in_use; i++) {
        hash = add_sequence(hash, world, order[i], n_tenants > 1);
        hash = combine(hash, group_name(sched, order, sched->seqs[order[i]].group));
    }
    for (int32_t tenant = 0; n_tenants > 1 && tenant < n_tenants; tenant++)
        hash = combine(hash, (uint64_t)(sched->tenants[tenant].finish_tag - sched->virtual_time));
    hash = add_plan(hash, &world->plan, world->steps, world->is_planned);
    hash = add_launched(hash, world);
    return combine(hash, block_index_fingerprint(world->blocks, order));
}
