/*
 * step_plan.c - the plan of a step: made for it, or while the step before it was computed.
 *
 * The second needs no time of the device. It was made as if every sequence went on; when the tokens
 * are there, entries of sequences that have ended are left out. If something else has happened that
 * a plan should know, an arrival above all, another is made, after what the first one wants
 * copied and moved has been begun.
 */
#include "base/clock.h"
#include "runtime/engine/engine_internal.h"

static void note_planned(struct qr_engine *engine, const struct qr_plan *plan, int64_t now_ns)
{
    for (int32_t i = 0; i < plan->n_admitted; i++) {
        struct qr_group *group = engine->by_slot[plan->admitted[i]]->group;
        if (group->first_plan_ns == 0)
            group->first_plan_ns = now_ns;
        qr_engine_leave_queue(engine, group);
    }
    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_generation *seq = engine->by_slot[plan->entries[i].seq];
        int32_t n_pages = qr_block_manager_held_pages(engine->blocks, seq->slot);
        if (n_pages > seq->group->usage.n_pages)
            seq->group->usage.n_pages = n_pages;
    }
    struct qr_block_stats stats;
    qr_block_manager_stats(engine->blocks, &stats);
    if (stats.used_pages > engine->counters.kv_peak_pages)
        engine->counters.kv_peak_pages = stats.used_pages;
}

static void make_plan(struct qr_engine *engine, struct qr_plan *plan)
{
    int64_t now = qr_now_ns();

    qr_engine_swap_poll(engine);
    if (engine->hook.before_plan != NULL)
        engine->hook.before_plan(engine->hook.arg, engine->sched, engine->by_slot, engine->n_slots);
    qr_scheduler_plan(engine->sched, now, plan);
    note_planned(engine, plan, now);
}

/* Makes it the step's plan, with the entries whose sequences are still there. */
static void take_entries(struct qr_engine *engine, const struct qr_plan *plan)
{
    struct qr_engine_step *step = &engine->step;

    step->plan = *plan;
    step->n_entries = step->n_rows = 0;
    for (int32_t i = 0; i < plan->n_entries; i++) {
        if (engine->by_slot[plan->entries[i].seq] == NULL)
            continue;
        step->entries[step->n_entries++] = plan->entries[i];
        step->n_rows += plan->entries[i].n_tokens;
    }
}

void qr_engine_take_plan(struct qr_engine *engine)
{
    struct qr_engine_ahead *ahead = &engine->ahead;
    struct qr_plan plan;

    if (ahead->is_made) {
        ahead->is_made = false;
        qr_engine_move_pages(engine, &ahead->plan);
        if (!ahead->is_stale) {
            take_entries(engine, &ahead->plan);
            if (engine->step.n_entries > 0) {
                engine->counters.n_planned_ahead++;
                return;
            }
        }
    }
    make_plan(engine, &plan);
    take_entries(engine, &plan);
    qr_engine_move_pages(engine, &plan);
}

/* Whether a sequence of the step becomes several, or others, by what its rows say. */
static bool step_forks(const struct qr_engine *engine)
{
    for (int32_t i = 0; i < engine->step.n_entries; i++) {
        const struct qr_plan_entry *entry = &engine->step.entries[i];
        const struct qr_group *group = engine->by_slot[entry->seq]->group;
        if (entry->samples && group->width > 1 && !group->forked)
            return true;
    }
    return false;
}

void qr_engine_plan_ahead(struct qr_engine *engine)
{
    struct qr_engine_ahead *ahead = &engine->ahead;

    if (!engine->dev->computes_beside && !engine->hook.plans_ahead)
        return;
    qr_engine_tell(engine);
    if (qr_block_manager_has_window(engine->blocks) || step_forks(engine))
        return;
    qr_scheduler_launch(engine->sched, &engine->step.plan);
    make_plan(engine, &ahead->plan);
    ahead->is_made = true;
    ahead->is_stale = false;
}
