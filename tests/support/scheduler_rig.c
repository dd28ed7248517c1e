/* scheduler_rig.c - see scheduler_rig.h. */
#include "tests/support/scheduler_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

void scheduler_rig_open(struct scheduler_rig *rig, const struct scheduler_rig_config *config)
{
    int32_t page_size = config->page_size > 0 ? config->page_size : 8;
    int32_t pool_tokens = config->page_count * page_size;
    const struct qr_block_manager_config blocks = {
        .page_count = config->page_count,
        .page_size = page_size,
        .max_sequences = config->scheduler.max_running + config->scheduler.max_waiting,
        .max_seq_tokens = config->max_seq_tokens > 0 ? config->max_seq_tokens : pool_tokens,
    };

    *rig = (struct scheduler_rig){0};
    assert_int_equal(qr_block_manager_create(&blocks, &rig->blocks), QR_OK);
    assert_int_equal(qr_scheduler_create(&config->scheduler, rig->blocks, &rig->sched), QR_OK);
}

void scheduler_rig_close(struct scheduler_rig *rig)
{
    struct qr_block_stats stats;

    qr_scheduler_destroy(rig->sched);
    qr_block_manager_stats(rig->blocks, &stats);
    assert_int_equal(stats.free_pages, stats.page_count);
    assert_int_equal(stats.used_slots, 0);
    qr_block_manager_destroy(rig->blocks);
}

static qr_seq_id add(struct scheduler_rig *rig, int32_t n_prompt_tokens, bool all_logits)
{
    const struct qr_seq_params params = {
        .n_prompt_tokens = n_prompt_tokens, .all_logits = all_logits, .arrival_ns = rig->now_ns};
    qr_seq_id id;

    assert_int_equal(qr_scheduler_add(rig->sched, &params, &id), QR_OK);
    return id;
}

qr_seq_id scheduler_rig_add(struct scheduler_rig *rig, int32_t n_prompt_tokens)
{
    return add(rig, n_prompt_tokens, false);
}

qr_seq_id scheduler_rig_add_scored(struct scheduler_rig *rig, int32_t n_prompt_tokens)
{
    return add(rig, n_prompt_tokens, true);
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

const char *scheduler_rig_plan(struct scheduler_rig *rig)
{
    const struct qr_plan *plan = &rig->plan;
    size_t length = 0;
    int32_t n_rows = 0;

    qr_scheduler_plan(rig->sched, rig->now_ns, &rig->plan);
    rig->text[0] = '\0';
    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        write_part(rig, &length, "%d:%d+%d%s", entry->seq, entry->first_position, entry->n_tokens,
                   entry->samples ? "*" : "");
        n_rows += entry->n_tokens;
    }
    for (int32_t i = 0; i < plan->n_preempted; i++)
        write_part(rig, &length, "-%d", plan->preempted[i]);
    for (int32_t i = 0; i < plan->n_admitted; i++)
        write_part(rig, &length, "+%d", plan->admitted[i]);
    assert_int_equal(plan->n_rows, n_rows);
    return rig->text;
}

void scheduler_rig_compute(struct scheduler_rig *rig)
{
    qr_scheduler_complete(rig->sched, &rig->plan);
    for (int32_t i = 0; i < rig->plan.n_entries; i++)
        if (rig->plan.entries[i].samples)
            qr_scheduler_append_token(rig->sched, rig->plan.entries[i].seq);
}

const char *scheduler_rig_step(struct scheduler_rig *rig)
{
    scheduler_rig_plan(rig);
    scheduler_rig_compute(rig);
    return rig->text;
}
