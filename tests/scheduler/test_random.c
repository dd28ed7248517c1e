/*
 * Random operations on scheduler and block manager, checked after each one against an
 * independent model: the exact plan, every page's owner, every figure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/scheduler_model.h"
#include "tests/support/scheduler_rig.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

struct walk {
    struct scheduler_rig rig;
    struct scheduler_model model;
    int32_t n_slots;
    uint64_t rng;
    bool is_planned; /* a plan waits to be completed */
    int64_t n_plans;
    int64_t n_finished;
    int64_t n_removed_in_flight;
    int32_t target[MODEL_MAX_SLOTS]; /* known tokens with which a sequence ends */
};

/* splitmix64: fixed seeds give the same walk on every machine. */
static uint64_t next_random(uint64_t *rng)
{
    uint64_t z = (*rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In [0, bound). */
static int32_t below(struct walk *walk, int32_t bound)
{
    return (int32_t)(next_random(&walk->rng) % (uint64_t)bound);
}

/* Every page has one owner, the owner that the model says; tables, figures and states agree. */
static void check_pages(struct walk *walk)
{
    struct qr_block_manager *blocks = walk->rig.blocks;
    bool is_owned[256] = {false};
    struct qr_block_stats stats;
    int32_t n_owned = 0;
    int64_t n_reserved = 0;

    for (int32_t id = 0; id < walk->n_slots; id++) {
        const struct model_seq *seq = &walk->model.seqs[id];
        const int32_t *table = qr_block_manager_block_table(blocks, id);
        int32_t n_blocks = qr_block_manager_n_blocks(blocks, id);
        assert_int_equal(n_blocks, model_n_pages(&walk->model, seq));
        for (int32_t i = 0; i < n_blocks; i++) {
            assert_in_range(table[i], 0, walk->model.page_count - 1);
            assert_false(is_owned[table[i]]);
            is_owned[table[i]] = true;
        }
        n_owned += n_blocks;
        n_reserved += seq->in_use && seq->running ? seq->n_reserved : 0;
    }
    qr_block_manager_stats(blocks, &stats);
    assert_int_equal(stats.used_pages, n_owned);
    assert_int_equal(stats.used_pages + stats.free_pages, walk->model.page_count);
    assert_int_equal(stats.used_slots, n_reserved);
    assert_int_equal(stats.wasted_slots, n_owned * walk->model.page_size - n_reserved);
}

static void check_sequences(struct walk *walk)
{
    struct qr_scheduler_stats stats;
    struct qr_scheduler_stats expected = {.n_preemptions = walk->model.n_preemptions,
                                          .n_recomputed_tokens = walk->model.n_recomputed_tokens};

    for (int32_t id = 0; id < walk->n_slots; id++) {
        const struct model_seq *seq = &walk->model.seqs[id];
        if (!seq->in_use)
            continue;
        int32_t n_computed = qr_scheduler_n_computed(walk->rig.sched, id);
        assert_int_equal(n_computed, seq->n_computed);
        assert_true(n_computed <= seq->n_known);
        assert_int_equal(qr_scheduler_state(walk->rig.sched, id),
                         seq->running ? QR_SEQ_RUNNING : QR_SEQ_WAITING);
        expected.n_running += seq->running;
        expected.n_waiting += !seq->running;
        expected.n_paused += seq->paused;
    }
    qr_scheduler_get_stats(walk->rig.sched, &stats);
    assert_int_equal(stats.n_running, expected.n_running);
    assert_int_equal(stats.n_waiting, expected.n_waiting);
    assert_int_equal(stats.n_paused, expected.n_paused);
    assert_int_equal(stats.n_preemptions, expected.n_preemptions);
    assert_int_equal(stats.n_recomputed_tokens, expected.n_recomputed_tokens);
    assert_true(stats.n_running <= walk->model.config.max_running);
}

static void check_same_plan(const struct qr_plan *plan, const struct qr_plan *expected)
{
    assert_int_equal(plan->n_rows, expected->n_rows);
    assert_int_equal(plan->n_entries, expected->n_entries);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        assert_int_equal(plan->entries[i].seq, expected->entries[i].seq);
        assert_int_equal(plan->entries[i].first_position, expected->entries[i].first_position);
        assert_int_equal(plan->entries[i].n_tokens, expected->entries[i].n_tokens);
        assert_int_equal(plan->entries[i].samples, expected->entries[i].samples);
    }
    assert_int_equal(plan->n_preempted, expected->n_preempted);
    for (int32_t i = 0; i < plan->n_preempted; i++)
        assert_int_equal(plan->preempted[i], expected->preempted[i]);
    assert_int_equal(plan->n_admitted, expected->n_admitted);
    for (int32_t i = 0; i < plan->n_admitted; i++)
        assert_int_equal(plan->admitted[i], expected->admitted[i]);
}

/* What holds for every plan, whatever the model thinks. */
static void check_promises(struct walk *walk)
{
    const struct qr_plan *plan = &walk->rig.plan;
    const struct scheduler_model *model = &walk->model;
    qr_seq_id oldest = model_oldest(model, true);
    bool oldest_has_rows = oldest < 0;

    assert_true(plan->n_rows <= model->config.max_batch_tokens);
    assert_true(model->n_logit_rows <= model->config.max_logit_rows);
    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        int32_t end = entry->first_position + entry->n_tokens;
        assert_true(entry->n_tokens > 0 && end <= model->seqs[entry->seq].n_known);
        assert_true(qr_block_manager_n_blocks(walk->rig.blocks, entry->seq) * model->page_size >=
                    end);
        oldest_has_rows = oldest_has_rows || entry->seq == oldest;
    }
    assert_true(oldest_has_rows);
    for (int32_t id = 0; id < walk->n_slots; id++) { /* decodes are never stalled */
        const struct model_seq *seq = &model->seqs[id];
        if (seq->in_use && seq->running && model_can_run(seq) &&
            seq->n_known - seq->n_computed == 1)
            assert_int_equal(seq->n_planned, 1);
    }
    if (plan->n_entries == 0) { /* then nothing can run */
        assert_int_equal(oldest, -1);
        assert_int_equal(model_queue_head(model), -1);
    }
}

static void do_add(struct walk *walk)
{
    int32_t max = walk->model.max_seq_tokens;
    int32_t n_prompt = below(walk, 4) > 0 ? 1 + below(walk, max / 4) : below(walk, max + 2);
    const struct qr_seq_params params = {.n_prompt_tokens = n_prompt,
                                         .all_logits = below(walk, 5) == 0};
    enum qr_status expected = model_add_status(&walk->model, n_prompt);
    qr_seq_id id;

    assert_int_equal(qr_scheduler_add(walk->rig.sched, &params, &id), expected);
    if (expected != QR_OK) {
        assert_int_equal(id, -1);
        return;
    }
    assert_in_range(id, 0, walk->n_slots - 1);
    assert_false(walk->model.seqs[id].in_use);
    model_add(&walk->model, id, n_prompt, params.all_logits);
    walk->target[id] = n_prompt + below(walk, max - n_prompt + 1);
}

static void do_remove(struct walk *walk, qr_seq_id id)
{
    walk->n_removed_in_flight += walk->model.seqs[id].n_planned > 0;
    qr_scheduler_remove(walk->rig.sched, id);
    model_remove(&walk->model, id);
}

static void do_pause(struct walk *walk, qr_seq_id id, bool paused)
{
    qr_scheduler_set_paused(walk->rig.sched, id, paused);
    walk->model.seqs[id].paused = paused;
}

/* The token of a sequence whose tokens are all computed: it grows, or it has ended. */
static void do_token(struct walk *walk, qr_seq_id id)
{
    struct model_seq *seq = &walk->model.seqs[id];

    if (!seq->in_use || !seq->running || seq->n_computed < seq->n_known)
        return;
    if (seq->n_known >= walk->target[id]) {
        walk->n_finished++;
        do_remove(walk, id);
    } else {
        qr_scheduler_append_token(walk->rig.sched, id);
        seq->n_known++;
    }
}

static void do_plan(struct walk *walk)
{
    scheduler_rig_plan(&walk->rig);
    model_plan(&walk->model);
    check_same_plan(&walk->rig.plan, &walk->model.plan);
    check_promises(walk);
    walk->is_planned = walk->rig.plan.n_entries > 0;
    walk->n_plans++;
}

/* Some tokens come late (one in `late`): their sequences stay without work until do_token. */
static void do_complete(struct walk *walk, int32_t late)
{
    qr_scheduler_complete(walk->rig.sched, &walk->rig.plan);
    model_complete(&walk->model);
    for (int32_t i = 0; i < walk->rig.plan.n_entries; i++)
        if (late == 0 || below(walk, late) > 0)
            do_token(walk, walk->rig.plan.entries[i].seq);
    walk->is_planned = false;
}

static void do_random(struct walk *walk)
{
    qr_seq_id id = below(walk, walk->n_slots);
    bool in_use = walk->model.seqs[id].in_use;
    int32_t dice = below(walk, 100);

    if (dice < 15)
        do_add(walk);
    else if (dice < 17 && in_use)
        do_remove(walk, id);
    else if (dice < 21 && in_use)
        do_pause(walk, id, true);
    else if (dice < 33 && in_use)
        do_pause(walk, id, false);
    else if (dice < 40)
        do_token(walk, id);
    else if (!walk->is_planned || dice < 42) /* below 42: the old plan is dropped */
        do_plan(walk);
    else
        do_complete(walk, 20);
    check_pages(walk);
    check_sequences(walk);
}

/* Without new arrivals and pauses everything ends; each step brings the oldest forward. */
static void run_to_the_end(struct walk *walk)
{
    int64_t n_steps = 0;

    for (qr_seq_id id = 0; id < walk->n_slots; id++)
        if (walk->model.seqs[id].in_use)
            do_pause(walk, id, false);
    if (walk->is_planned)
        do_complete(walk, 0);
    for (qr_seq_id id = 0; id < walk->n_slots; id++)
        do_token(walk, id);
    for (do_plan(walk); walk->rig.plan.n_entries > 0; do_plan(walk)) {
        do_complete(walk, 0);
        check_pages(walk);
        check_sequences(walk);
        assert_true(++n_steps < (int64_t)walk->n_slots * walk->model.max_seq_tokens * 2);
    }
    for (qr_seq_id id = 0; id < walk->n_slots; id++)
        assert_false(walk->model.seqs[id].in_use);
    assert_int_equal(qr_block_manager_free_pages(walk->rig.blocks), walk->model.page_count);
}

static void random_walks_agree_with_the_model(void **state)
{
    (void)state;
    enum { N_OPERATIONS = 36000 };
    static const struct scheduler_rig_config configs[] = {
        /* pages, page size, longest; rows, running, waiting, logit rows, chunk */
        {8, 8, 64, {4, 3, 4, 3, 0}},       /* as small as it may be */
        {8, 8, 61, {16, 4, 8, 6, 0}},      /* a sequence can take all pages */
        {24, 8, 64, {32, 8, 16, 16, 5}},   /* some eight prompts fit, in small chunks */
        {200, 16, 200, {64, 8, 8, 64, 0}}, /* pages for all */
        {5, 16, 80, {100, 16, 4, 16, 0}},  /* far more places than pages */
        {16, 8, 32, {1, 1, 4, 1, 0}},      /* one at a time, a row at a time */
    };

    for (size_t i = 0; i < N_ELEMENTS(configs); i++) {
        struct walk walk = {.rng = 1000 + i,
                            .n_slots =
                                configs[i].scheduler.max_running + configs[i].scheduler.max_waiting,
                            .model = {.config = configs[i].scheduler,
                                      .page_count = configs[i].page_count,
                                      .page_size = configs[i].page_size,
                                      .max_seq_tokens = configs[i].max_seq_tokens}};
        scheduler_rig_open(&walk.rig, &configs[i]);
        for (int32_t n = 0; n < N_OPERATIONS; n++)
            do_random(&walk);
        run_to_the_end(&walk);
        scheduler_rig_close(&walk.rig);
        printf("walk %zu: %lld plans, %lld admitted, %lld finished, %lld preempted "
               "(%lld paused, %lld by itself), %lld removed in flight\n",
               i, (long long)walk.n_plans, (long long)walk.model.n_admitted,
               (long long)walk.n_finished, (long long)walk.model.n_preemptions,
               (long long)walk.model.n_paused_preemptions, (long long)walk.model.n_self_preemptions,
               (long long)walk.n_removed_in_flight);
        assert_true(walk.n_finished > 0 && walk.n_removed_in_flight > 0);
        assert_true(walk.model.n_paused_preemptions > 0 || i == 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_walks_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
