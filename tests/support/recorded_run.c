/* recorded_run.c - see recorded_run.h. */
#include "tests/support/recorded_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "scheduler/force.h"
#include "tests/support/recording.h"

enum {
    N_TENANTS = 3,
    N_DOCUMENTS = 4, /* prompts begin alike in so many ways */
    VOCABULARY = 5000,
    MAX_WIDTH = 4,
};

struct run_seq {
    bool in_use;
    bool awaits_token;
    bool is_paused;
    bool is_planned;
    int32_t group; /* counts requests */
    int32_t n_known;
    int32_t target;  /* known tokens with which it ends */
    int32_t *tokens; /* [max_seq_tokens] */
};

struct run {
    const struct recorded_run_config *config;
    struct recorded_run_totals *totals;
    uint64_t rng;
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    struct qr_recorder *recorder;
    int32_t n_slots;
    struct run_seq *seqs; /* [n_slots] */
    int32_t *n_set_aside; /* [requests] */
    int32_t n_groups;
    int32_t *under_way; /* [max_transfers] ids */
    int32_t n_under_way;
    struct qr_plan plan;
    bool is_open;
    int64_t now_ns;
};

/* splitmix64: fixed seeds give the same run on every machine. */
static int32_t below(struct run *run, int32_t bound)
{
    uint64_t z = (run->rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (int32_t)((z ^ (z >> 31)) % (uint64_t)bound);
}

static void set_costs(struct run *run)
{
    const struct qr_block_costs costs = {
        .page_out_ns = {1000 + below(run, 50000), 20000 + below(run, 500000)},
        .page_in_ns = {1000 + below(run, 50000), 20000 + below(run, 500000)},
        .row_ns = 2000 + below(run, 30000),
        .row_position_ns = below(run, 100) / 7.0,
    };

    qr_scheduler_set_costs(run->sched, &costs);
}

static void open_run(struct run *run, struct qr_buffer *bytes)
{
    const struct recorded_run_config *config = run->config;
    struct qr_block_manager_config blocks = config->blocks;
    const struct qr_record_origin origin = {.version = "test", .start_ns = run->now_ns};
    const struct qr_record_sink sink = recording_sink(bytes);

    blocks.max_sequences = run->n_slots = qr_scheduler_n_slots(&config->scheduler);
    blocks.max_rows = qr_scheduler_max_rows(&config->scheduler);
    assert_int_equal(qr_block_manager_create(&blocks, &run->blocks), QR_OK);
    assert_int_equal(qr_scheduler_create(&config->scheduler, run->blocks, &run->sched), QR_OK);
    assert_int_equal(
        qr_recorder_create(&origin, &blocks, &config->scheduler, &sink, &run->recorder), QR_OK);
    qr_scheduler_set_recorder(run->sched, run->recorder);
    run->seqs = qr_calloc(QR_ARENA_ENGINE, (size_t)run->n_slots, sizeof(*run->seqs));
    run->n_set_aside =
        qr_calloc(QR_ARENA_ENGINE, (size_t)config->n_rounds * 4, sizeof(*run->n_set_aside));
    run->under_way =
        qr_calloc(QR_ARENA_ENGINE, (size_t)blocks.max_transfers, sizeof(*run->under_way));
    assert_true(run->seqs != NULL && run->n_set_aside != NULL && run->under_way != NULL);
    for (int32_t i = 0; i < run->n_slots; i++) {
        run->seqs[i].tokens =
            qr_calloc(QR_ARENA_ENGINE, (size_t)blocks.max_seq_tokens, sizeof(int32_t));
        assert_non_null(run->seqs[i].tokens);
    }
    qr_scheduler_set_tenant(run->sched, 1, 2.5, 0);
    qr_scheduler_set_tenant(run->sched, 2, 1, 1 + config->blocks.page_count * 2 / 3);
    set_costs(run);
}

static void close_run(struct run *run)
{
    qr_recorder_destroy(run->recorder);
    qr_scheduler_destroy(run->sched);
    qr_block_manager_destroy(run->blocks);
    for (int32_t i = 0; i < run->n_slots; i++)
        qr_free(run->seqs[i].tokens);
    qr_free(run->under_way);
    qr_free(run->n_set_aside);
    qr_free(run->seqs);
}

static qr_seq_id free_slot(const struct run *run)
{
    for (qr_seq_id id = 0; id < run->n_slots; id++)
        if (!run->seqs[id].in_use)
            return id;
    return QR_SEQ_NONE;
}

/* The tokens are written where the scheduler will look once it has said which slot it takes. */
static void add_request(struct run *run)
{
    static const char *const names[] = {"first", "", "a name of some length", "\xc3\xa4"};
    int32_t max = run->config->blocks.max_seq_tokens;
    int32_t n_prompt = 1 + below(run, below(run, 3) == 0 ? max : max / 4);
    int32_t document = below(run, N_DOCUMENTS);
    int32_t same = below(run, n_prompt + 1);
    qr_seq_id guess = free_slot(run);
    qr_seq_id id;

    if (guess == QR_SEQ_NONE)
        return;
    int32_t *tokens = qr_calloc(QR_ARENA_ENGINE, (size_t)max, sizeof(*tokens));
    assert_non_null(tokens);
    for (int32_t i = 0; i < n_prompt; i++)
        tokens[i] = i < same ? document * 1000 + i : below(run, VOCABULARY);
    const struct qr_seq_params params = {
        .tokens = tokens,
        .n_prompt_tokens = n_prompt,
        .max_tokens = n_prompt + below(run, max - n_prompt + 1),
        .width = below(run, 3) == 0 ? 1 + below(run, MAX_WIDTH) : 1,
        .all_logits = below(run, 8) == 0,
        .priority = below(run, 4) == 0 ? below(run, 21) - 10 : 0,
        .tenant = below(run, N_TENANTS),
        .arrival_ns = run->now_ns - below(run, 1000000),
        .first_token_ns = below(run, 5) == 0 ? 1000000 * (1 + below(run, 300)) : 0,
        .salt = "salt",
        .n_salt_bytes = (size_t)(below(run, 3) == 0 ? below(run, 5) : 0),
    };
    enum qr_status status = qr_scheduler_add(run->sched, &params, &id);
    run->totals->n_requests += status == QR_OK;
    run->totals->n_refused += status != QR_OK;
    if (status != QR_OK) {
        qr_free(tokens);
        return;
    }
    struct run_seq *seq = &run->seqs[id];
    assert_false(seq->in_use);
    qr_free(seq->tokens);
    *seq = (struct run_seq){.in_use = true,
                            .group = run->n_groups,
                            .n_known = n_prompt,
                            .target = params.max_tokens,
                            .tokens = tokens};
    run->n_set_aside[run->n_groups++] = params.width - 1;
    if (below(run, 2) == 0)
        qr_recorder_note_request(run->recorder, id, names[below(run, 4)]);
}

static void remove_seq(struct run *run, qr_seq_id id)
{
    struct run_seq *seq = &run->seqs[id];
    bool is_last = true;

    qr_scheduler_remove(run->sched, id);
    seq->in_use = seq->is_planned = seq->awaits_token = false;
    for (qr_seq_id other = 0; other < run->n_slots; other++)
        is_last = is_last && !(run->seqs[other].in_use && run->seqs[other].group == seq->group);
    if (!is_last && run->n_set_aside[seq->group] >= 0)
        run->n_set_aside[seq->group]++; /* another may come in its place */
}

static void fork_seq(struct run *run, qr_seq_id parent)
{
    const struct run_seq *from = &run->seqs[parent];
    qr_seq_id slot = free_slot(run);
    int32_t max = run->config->blocks.max_seq_tokens;

    if (!from->awaits_token || run->n_set_aside[from->group] <= 0 || slot == QR_SEQ_NONE)
        return;
    int32_t *tokens = qr_calloc(QR_ARENA_ENGINE, (size_t)max, sizeof(*tokens));
    assert_non_null(tokens);
    memcpy(tokens, from->tokens, (size_t)from->n_known * sizeof(*tokens));
    qr_seq_id id = qr_scheduler_fork(run->sched, parent, tokens);
    struct run_seq *seq = &run->seqs[id];
    assert_false(seq->in_use);
    qr_free(seq->tokens);
    *seq = *from;
    seq->tokens = tokens;
    run->n_set_aside[from->group]--;
    run->totals->n_forks++;
}

static void give_token(struct run *run, qr_seq_id id)
{
    struct run_seq *seq = &run->seqs[id];

    if (seq->n_known == seq->target || below(run, 60) == 0) {
        remove_seq(run, id);
        return;
    }
    seq->tokens[seq->n_known++] = below(run, VOCABULARY);
    seq->awaits_token = false;
    qr_scheduler_append_token(run->sched, id);
    run->totals->n_tokens++;
}

static void make_plan(struct run *run)
{
    struct recorded_run_totals *totals = run->totals;
    const struct qr_plan *plan = &run->plan;

    run->now_ns += 1 + below(run, 20000000);
    for (qr_seq_id id = 0; id < run->n_slots; id++)
        run->seqs[id].is_planned = false;
    qr_scheduler_plan(run->sched, run->now_ns, &run->plan);
    totals->n_plans++;
    totals->n_rows += plan->n_rows;
    totals->n_copied += plan->n_copies;
    for (int32_t i = 0; i < plan->n_entries; i++)
        run->seqs[plan->entries[i].seq].is_planned = true;
    for (int32_t i = 0; i < plan->n_preempted; i++)
        totals->n_preempted[plan->preempted[i].how]++;
    for (int32_t i = 0; i < plan->n_transfers; i++) {
        const struct qr_transfer *transfer = &plan->transfers[i];
        run->under_way[run->n_under_way++] = transfer->id;
        totals->n_out[transfer->tier] += transfer->out;
        totals->n_in[transfer->tier] += !transfer->out;
    }
    run->is_open = true;
}

static void end_transfer(struct run *run)
{
    if (run->n_under_way == 0)
        return;
    int32_t i = below(run, run->n_under_way);
    int32_t id = run->under_way[i];
    bool ok = below(run, 100) >= run->config->failures;
    run->under_way[i] = run->under_way[--run->n_under_way];
    run->totals->n_failed += !ok;
    qr_scheduler_transfer_done(run->sched, id, ok);
}

static void note_computed(struct run *run)
{
    for (int32_t i = 0; i < run->plan.n_entries; i++) {
        struct run_seq *seq = &run->seqs[run->plan.entries[i].seq];
        seq->awaits_token = seq->awaits_token || (seq->is_planned && run->plan.entries[i].samples);
        seq->is_planned = false;
    }
    run->is_open = false;
}

static void complete(struct run *run)
{
    if (!run->is_open)
        return;
    qr_scheduler_complete(run->sched, &run->plan);
    note_computed(run);
}

/* The next plan is made while rows are computed, and waits for their tokens. */
static void plan_beside(struct run *run)
{
    struct qr_plan launched = run->plan;

    if (!run->is_open || launched.n_entries == 0)
        return;
    qr_scheduler_launch(run->sched, &launched);
    note_computed(run);
    make_plan(run);
    qr_scheduler_complete(run->sched, &launched);
    run->totals->n_launched++;
    for (int32_t i = 0; i < launched.n_entries; i++)
        if (run->seqs[launched.entries[i].seq].awaits_token)
            give_token(run, launched.entries[i].seq);
}

/* Forks and tokens of those that wait for them; some wait longer. */
static void sample(struct run *run)
{
    for (int32_t i = 0; i < run->plan.n_entries; i++) {
        qr_seq_id id = run->plan.entries[i].seq;
        if (run->seqs[id].awaits_token && below(run, 3) == 0)
            fork_seq(run, id);
        if (run->seqs[id].awaits_token && below(run, 20) > 0)
            give_token(run, id);
    }
    for (qr_seq_id id = 0; id < run->n_slots; id++)
        if (run->seqs[id].awaits_token && below(run, 2) == 0)
            give_token(run, id);
}

static void change_something(struct run *run)
{
    qr_seq_id id = below(run, run->n_slots);
    struct run_seq *seq = &run->seqs[id];
    int32_t dice = below(run, 100);

    if (dice < 20) {
        add_request(run);
    } else if (dice < 24) {
        set_costs(run);
    } else if (dice < 26 && seq->in_use) {
        remove_seq(run, id);
    } else if (dice < 32 && seq->in_use) {
        seq->is_paused = !seq->is_paused;
        qr_scheduler_set_paused(run->sched, id, seq->is_paused);
    } else if (dice < 34 && seq->in_use) {
        qr_scheduler_end_forks(run->sched, id);
        run->n_set_aside[seq->group] = -1;
    } else if (dice < 37 && seq->in_use && run->config->forces_preemption && !run->is_open) {
        qr_scheduler_force_preempt(run->sched, id, (enum qr_release)below(run, 4));
        seq->is_planned = false;
        run->totals->n_forced++;
    }
}

static void run_round(struct run *run, int32_t round)
{
    for (int32_t n = below(run, 4); n > 0; n--)
        change_something(run);
    for (int32_t n = below(run, 5); n > 0; n--)
        end_transfer(run);
    if (run->config->closes_disk && round == run->config->n_rounds / 2)
        qr_scheduler_close_tier(run->sched, QR_TIER_DISK);
    make_plan(run);
    if (below(run, 3) == 0) /* while the rows are computed */
        change_something(run);
    if (below(run, 50) == 0)
        make_plan(run); /* the first one is dropped */
    for (int32_t n = below(run, 3); n > 0 && run->config->blocks.window == 0; n--)
        plan_beside(run);
    complete(run);
    sample(run);
}

void recorded_run(const struct recorded_run_config *config, struct qr_buffer *bytes,
                  struct recorded_run_totals *totals)
{
    struct run run = {
        .config = config, .totals = totals, .rng = config->seed, .now_ns = INT64_C(1000000000)};

    *totals = (struct recorded_run_totals){0};
    open_run(&run, bytes);
    for (int32_t round = 0; round < config->n_rounds; round++)
        run_round(&run, round);
    close_run(&run);
}
