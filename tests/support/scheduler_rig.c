/* scheduler_rig.c - see scheduler_rig.h. */
#include "tests/support/scheduler_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/block_trail.h"

void scheduler_rig_open(struct scheduler_rig *rig, const struct scheduler_rig_config *config)
{
    int32_t page_size = config->page_size > 0 ? config->page_size : 8;
    int32_t pool_tokens = config->page_count * page_size;
    const struct scheduler_world_config world = {
        .blocks = {.page_count = config->page_count,
                   .page_size = page_size,
                   .max_seq_tokens =
                       config->max_seq_tokens > 0 ? config->max_seq_tokens : pool_tokens,
                   .tier_slots = {config->host_slots, 0},
                   .max_transfers = config->host_slots > 0 ? 4 : 0,
                   .window = config->window,
                   .prefix_cache = config->prefix_cache},
        .scheduler = config->scheduler,
    };

    block_trail_start();
    *rig = (struct scheduler_rig){.world = scheduler_world_create(&world)};
    rig->sched = rig->world->sched;
    rig->blocks = rig->world->blocks;
}

void scheduler_rig_close(struct scheduler_rig *rig)
{
    struct scheduler_world *world = rig->world;

    for (qr_seq_id id = 0; id < world->n_slots; id++)
        if (world->seqs[id].in_use)
            scheduler_world_remove(world, id);
    while (qr_scheduler_transfers_pending(rig->sched)) {
        scheduler_rig_plan(rig);
        scheduler_rig_end_transfers(rig, true);
    }
    scheduler_world_check_rest(world);
    scheduler_world_destroy(world);
}

qr_seq_id scheduler_rig_add_request(struct scheduler_rig *rig,
                                    const struct scheduler_world_request *request)
{
    struct scheduler_world_request full = *request;
    qr_seq_id id;

    if (full.max_tokens == 0)
        full.max_tokens = rig->world->config.blocks.max_seq_tokens;
    full.n_target = full.max_tokens + 1; /* the test removes it */
    if (full.document == 0)
        full.document = 100 + rig->n_added;
    if (full.cut == 0)
        full.cut = full.n_prompt;
    full.branch = rig->n_added++;
    assert_int_equal(scheduler_world_add(rig->world, &full, &id), QR_OK);
    return id;
}

qr_seq_id scheduler_rig_add(struct scheduler_rig *rig, int32_t n_prompt_tokens)
{
    return scheduler_rig_add_request(
        rig, &(struct scheduler_world_request){.n_prompt = n_prompt_tokens});
}

qr_seq_id scheduler_rig_add_scored(struct scheduler_rig *rig, int32_t n_prompt_tokens)
{
    return scheduler_rig_add_request(
        rig, &(struct scheduler_world_request){.n_prompt = n_prompt_tokens, .all_logits = true});
}

static void write_part(struct scheduler_rig *rig, size_t *length, const char *fmt, ...)
    QR_PRINTF(3, 4);

static void write_part(struct scheduler_rig *rig, size_t *length, const char *fmt, ...)
{
    va_list args;

    if (*length > 0)
        rig->text[(*length)++] = ' ';
    va_start(args, fmt);
    *length += (size_t)vsnprintf(rig->text + *length, sizeof(rig->text) - *length, fmt, args);
    va_end(args);
    assert_true(*length + 1 < sizeof(rig->text));
}

static char preemption_mark(enum qr_release how)
{
    if (how == QR_RELEASE_SWAPPED)
        return '~';
    return how == QR_RELEASE_PARKED ? '=' : '-';
}

static void write_moves(struct scheduler_rig *rig, size_t *length)
{
    const struct qr_plan *plan = &rig->world->plan;
    int32_t n_out = 0;

    for (int32_t i = 0; i < plan->n_transfers; i++)
        n_out += plan->transfers[i].out;
    if (n_out > 0)
        write_part(rig, length, ">%d", n_out);
    if (plan->n_transfers > n_out)
        write_part(rig, length, "<%d", plan->n_transfers - n_out);
    if (plan->n_copies > 0)
        write_part(rig, length, "#%d", plan->n_copies);
}

const char *scheduler_rig_plan(struct scheduler_rig *rig)
{
    const struct qr_plan *plan = &rig->world->plan;
    size_t length = 0;

    scheduler_world_plan(rig->world);
    scheduler_world_check(rig->world, true);
    rig->text[0] = '\0';
    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        write_part(rig, &length, "%d:%d+%d%s", entry->seq, entry->first_position, entry->n_tokens,
                   entry->samples ? "*" : "");
    }
    for (int32_t i = 0; i < plan->n_preempted; i++)
        write_part(rig, &length, "%c%d", preemption_mark(plan->preempted[i].how),
                   plan->preempted[i].seq);
    for (int32_t i = 0; i < plan->n_admitted; i++)
        write_part(rig, &length, "+%d", plan->admitted[i]);
    write_moves(rig, &length);
    return rig->text;
}

void scheduler_rig_compute(struct scheduler_rig *rig)
{
    struct scheduler_world *world = rig->world;

    scheduler_world_complete(world);
    for (int32_t i = 0; i < world->plan.n_entries; i++) {
        qr_seq_id id = world->plan.entries[i].seq;
        const struct scheduler_world_seq *seq = &world->seqs[id];
        if (seq->in_use && seq->awaits_token && seq->n_known < seq->request.max_tokens)
            scheduler_world_token(world, id);
    }
    scheduler_world_check(world, true);
}

const char *scheduler_rig_step(struct scheduler_rig *rig)
{
    scheduler_rig_plan(rig);
    scheduler_rig_compute(rig);
    return rig->text;
}

void scheduler_rig_end_transfers(struct scheduler_rig *rig, bool ok)
{
    for (int32_t id = 0; id < rig->world->config.blocks.max_transfers; id++)
        if (block_shadow_is_under_way(rig->world->shadow, id))
            scheduler_world_end_transfer(rig->world, id, ok);
}

struct qr_seq_info scheduler_rig_info(const struct scheduler_rig *rig, qr_seq_id id)
{
    struct qr_seq_info info;

    qr_scheduler_get_info(rig->sched, id, &info);
    return info;
}

int32_t scheduler_rig_available(const struct scheduler_rig *rig)
{
    return qr_block_manager_available_pages(rig->blocks);
}
