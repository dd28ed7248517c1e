/*
 * Random operations on scheduler and block manager, with the shadow memory as the oracle
 * of every row that is computed: all disciplines, shared prompts, forks, pauses, cancelled
 * and scored requests, priorities, tenants with quotas, forced preemptions, transfers that
 * end in any order, fail or find their bytes spoilt, tiers that close.
 *
 * 10 million operations; fewer under a sanitizer, unless QUIRE_LONG is set.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/block_trail.h"
#include "tests/support/scheduler_world.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

struct random_world {
    const char *name;
    struct scheduler_world_config world;
    int32_t n_documents;
    int32_t n_tenants;
    int32_t quota_pages; /* of every tenant but the first; 0: none */
    int32_t weight;      /* how many of a hundred operations are done in this world */
    int32_t late;        /* percent of the tokens that come later than their step */
    bool closes_tier;    /* host memory, after half of the operations */
    enum qr_discipline discipline;
};

struct walk {
    const struct random_world *kind;
    struct scheduler_world *world;
    uint64_t rng;
    int64_t n_operations;
    int64_t n_forks;
    int64_t n_failed;
    int64_t n_launched;
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

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static void add(struct walk *walk)
{
    int32_t longest = walk->kind->world.blocks.max_seq_tokens;
    int32_t n_prompt = 1 + below(walk, below(walk, 4) > 0 ? longest / 3 : longest);
    int32_t n_target = n_prompt + below(walk, min_i32(longest - n_prompt, 40) + 1);
    int32_t max_running = walk->kind->world.scheduler.max_running;
    struct scheduler_world_request request = {
        .document = below(walk, walk->kind->n_documents),
        .cut = below(walk, 3) > 0 ? longest : below(walk, n_prompt + 1),
        .branch = below(walk, 6),
        .n_prompt = n_prompt,
        .n_target = n_target,
        .max_tokens = min_i32(longest, n_target + below(walk, 20)),
        .salt = below(walk, 8) == 0,
        .width = below(walk, 4) == 0 ? 1 + below(walk, min_i32(max_running, 4)) : 1,
        .priority = below(walk, 3) == 0 ? below(walk, 5) - 2 : 0,
        .tenant = below(walk, walk->kind->n_tenants),
        .first_token_ns = below(walk, 4) == 0 ? 1000 * (1 + below(walk, 100)) : 0,
        .all_logits = below(walk, 10) == 0};
    qr_seq_id id;
    enum qr_status st = scheduler_world_add(walk->world, &request, &id);

    block_trail_add("add", id, n_prompt);
    BLOCK_TRAIL_CHECK(st == QR_OK || st == QR_ERR_QUEUE_FULL ||
                      (st == QR_ERR_UNSUPPORTED && walk->kind->quota_pages > 0));
}

static void fork_off(struct walk *walk, qr_seq_id id)
{
    if (!scheduler_world_can_fork(walk->world, id))
        return;
    block_trail_add("fork", id, 0);
    scheduler_world_fork(walk->world, id, 10 + below(walk, 1000));
    walk->n_forks++;
}

static void plan(struct walk *walk)
{
    block_trail_add("plan", 0, 0);
    scheduler_world_plan(walk->world);
}

/* Tokens that rows of the plan are for. */
static void give_due_tokens(struct walk *walk)
{
    struct scheduler_world *world = walk->world;

    for (int32_t i = 0; world->is_planned && i < world->plan.n_entries; i++) {
        qr_seq_id id = world->plan.entries[i].seq;
        if (world->steps[i].serial < 0 || !world->seqs[id].token_ahead)
            continue;
        block_trail_add("due token", id, 0);
        scheduler_world_token(world, id);
    }
}

static void launch(struct walk *walk)
{
    give_due_tokens(walk);
    block_trail_add("launch", walk->world->plan.n_entries, walk->world->plan.n_rows);
    scheduler_world_launch(walk->world);
    walk->n_launched++;
}

static void complete(struct walk *walk)
{
    struct scheduler_world *world = walk->world;
    struct qr_plan completed = world->is_launched ? world->launched : world->plan;

    if (!world->is_launched)
        give_due_tokens(walk);
    block_trail_add("complete", completed.n_entries, completed.n_rows);
    scheduler_world_complete(world);
    for (int32_t i = 0; i < completed.n_entries; i++) {
        qr_seq_id id = completed.entries[i].seq;
        const struct scheduler_world_seq *seq = &world->seqs[id];
        if (!seq->in_use || !seq->awaits_token)
            continue;
        if (below(walk, 3) == 0)
            fork_off(walk, id);
        if (below(walk, 100) >= walk->kind->late) {
            block_trail_add("token", id, 0);
            scheduler_world_token(world, id);
        }
    }
}

static void end_transfer(struct walk *walk)
{
    struct scheduler_world *world = walk->world;
    int32_t n = world->config.blocks.max_transfers;

    if (block_shadow_n_under_way(world->shadow) == 0)
        return;
    int32_t id = below(walk, n);
    while (!block_shadow_is_under_way(world->shadow, id))
        id = (id + 1) % n;
    bool ok = block_shadow_can_succeed(world->shadow, id) && below(walk, 25) > 0;
    block_trail_add("end", id, ok);
    scheduler_world_end_transfer(world, id, ok);
    walk->n_failed += !ok;
}

static void change_costs(struct walk *walk)
{
    struct qr_block_costs costs;

    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        costs.page_out_ns[tier] = 1 + below(walk, 4000);
        costs.page_in_ns[tier] = 1 + below(walk, 4000);
    }
    costs.row_ns = 1 + below(walk, 400);
    costs.row_position_ns = below(walk, 10);
    qr_scheduler_set_costs(walk->world->sched, &costs);
}

static void spoil(struct walk *walk)
{
    enum qr_tier tier = (enum qr_tier)below(walk, QR_TIER_COUNT);
    int32_t n_slots = walk->world->config.blocks.tier_slots[tier];

    if (n_slots > 0)
        block_shadow_spoil(walk->world->shadow, tier, below(walk, n_slots));
}

static void change_sequence(struct walk *walk, qr_seq_id id, int32_t dice)
{
    struct scheduler_world *world = walk->world;

    if (!world->seqs[id].in_use)
        return;
    if (dice < 4) {
        block_trail_add("remove", id, 0);
        scheduler_world_remove(world, id);
    } else if (dice < 34) {
        bool paused = below(walk, 4) == 0;
        block_trail_add(paused ? "pause" : "resume", id, 0);
        scheduler_world_pause(world, id, paused);
    } else if (dice < 40) {
        enum qr_release how = (enum qr_release)below(walk, QR_RELEASE_PARKED + 1);
        if (world->is_planned)
            return;
        block_trail_add("preempt", id, (int32_t)how);
        scheduler_world_preempt(world, id, how);
    } else if (dice < 42) {
        block_trail_add("end_forks", id, 0);
        scheduler_world_end_forks(world, id);
    } else if (world->seqs[id].awaits_token) {
        fork_off(walk, id);
        block_trail_add("token", id, 0);
        scheduler_world_token(world, id);
    }
}

/* Rows are under way: the next plan is made meanwhile, or it is not. */
static void go_on_beside(struct walk *walk, int32_t dice)
{
    if (!walk->world->is_ahead && dice < 900)
        plan(walk);
    else
        complete(walk);
}

static void operate(struct walk *walk)
{
    int32_t dice = below(walk, 1000);

    walk->n_operations++;
    walk->world->now_ns += below(walk, 200);
    if (dice < 130)
        add(walk);
    else if (dice < 300)
        change_sequence(walk, below(walk, walk->world->n_slots), below(walk, 100));
    else if (dice < 450)
        end_transfer(walk);
    else if (dice < 452)
        change_costs(walk);
    else if (dice < 455)
        spoil(walk);
    else if (walk->world->is_launched)
        go_on_beside(walk, dice);
    else if (!walk->world->is_planned || dice < 470) /* below 470: the old plan is dropped */
        plan(walk);
    else if (dice < 700 && walk->kind->world.blocks.window == 0)
        launch(walk);
    else
        complete(walk);
}

static void give_all_tokens(struct scheduler_world *world)
{
    for (qr_seq_id id = 0; id < world->n_slots; id++)
        if (world->seqs[id].in_use && world->seqs[id].awaits_token)
            scheduler_world_token(world, id);
}

/* All are resumed and nobody arrives: everything ends. */
static void run_to_the_end(struct walk *walk)
{
    struct scheduler_world *world = walk->world;
    int64_t n_left = 0;
    int64_t n_steps = 0;

    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        if (!world->seqs[id].in_use)
            continue;
        n_left++;
        scheduler_world_pause(world, id, false);
    }
    block_trail_add("run_to_the_end", (int32_t)n_left, 0);
    if (world->is_launched)
        scheduler_world_complete(world);
    give_all_tokens(world);
    for (;;) {
        plan(walk);
        if (world->plan.n_entries == 0 && !qr_scheduler_transfers_pending(world->sched))
            break;
        if (world->is_planned)
            scheduler_world_complete(world);
        give_all_tokens(world);
        for (int32_t id = 0; id < world->config.blocks.max_transfers; id++)
            if (block_shadow_is_under_way(world->shadow, id))
                scheduler_world_end_transfer(world, id,
                                             block_shadow_can_succeed(world->shadow, id));
        BLOCK_TRAIL_CHECK(++n_steps < 1000 + n_left * world->config.blocks.max_seq_tokens * 2);
    }
    for (qr_seq_id id = 0; id < world->n_slots; id++)
        BLOCK_TRAIL_CHECK(!world->seqs[id].in_use);
    scheduler_world_check_rest(world);
}

static const struct random_world random_worlds[] = {
    {.name = "by cost, two tiers",
     .world = {.blocks = {.page_count = 24,
                          .page_size = 8,
                          .max_seq_tokens = 120,
                          .tier_slots = {16, 24},
                          .max_transfers = 6,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 48,
                             .max_running = 8,
                             .max_waiting = 12,
                             .max_parked = 4,
                             .max_logit_rows = 16}},
     .weight = 13,
     .n_documents = 3,
     .n_tenants = 1,
     .late = 10},
    {.name = "by cost, tenants with quotas, a tier that closes",
     .world = {.blocks = {.page_count = 20,
                          .page_size = 8,
                          .max_seq_tokens = 80,
                          .tier_slots = {6, 0},
                          .max_transfers = 2,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 24,
                             .max_running = 6,
                             .max_waiting = 10,
                             .max_parked = 2,
                             .max_logit_rows = 8,
                             .max_prefill_chunk = 7}},
     .weight = 13,
     .n_documents = 2,
     .n_tenants = 4,
     .quota_pages = 9,
     .late = 5,
     .closes_tier = true},
    {.name = "by cost, no prefix cache, a pool for one",
     .world = {.blocks = {.page_count = 8,
                          .page_size = 8,
                          .max_seq_tokens = 64,
                          .tier_slots = {3, 5},
                          .max_transfers = 3},
               .scheduler = {.max_batch_tokens = 16,
                             .max_running = 5,
                             .max_waiting = 6,
                             .max_parked = 3,
                             .max_logit_rows = 5}},
     .weight = 13,
     .n_documents = 2,
     .n_tenants = 2,
     .late = 10},
    {.name = "by swap, disk only, priorities",
     .world = {.blocks = {.page_count = 16,
                          .page_size = 8,
                          .max_seq_tokens = 100,
                          .tier_slots = {0, 40},
                          .max_transfers = 4,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 32,
                             .max_running = 6,
                             .max_waiting = 8,
                             .max_parked = 4,
                             .max_logit_rows = 12}},
     .discipline = QR_DISCIPLINE_SWAP,
     .weight = 12,
     .n_documents = 2,
     .n_tenants = 3,
     .late = 5},
    {.name = "recomputation only",
     .world =
         {.blocks = {.page_count = 12, .page_size = 8, .max_seq_tokens = 96, .prefix_cache = true},
          .scheduler =
              {.max_batch_tokens = 20, .max_running = 6, .max_waiting = 8, .max_logit_rows = 6}},
     .discipline = QR_DISCIPLINE_RECOMPUTE,
     .weight = 12,
     .n_documents = 4,
     .n_tenants = 1,
     .late = 5},
    {.name = "the maximum reserved",
     .world = {.blocks = {.page_count = 24,
                          .page_size = 16,
                          .max_seq_tokens = 128,
                          .tier_slots = {4, 4},
                          .max_transfers = 1,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 64,
                             .max_running = 8,
                             .max_waiting = 8,
                             .max_parked = 2,
                             .max_logit_rows = 8}},
     .discipline = QR_DISCIPLINE_RESERVE,
     .weight = 12,
     .n_documents = 2,
     .n_tenants = 1,
     .late = 5},
    {.name = "by cost, two tiers, a window",
     .world = {.blocks = {.page_count = 16,
                          .page_size = 8,
                          .max_seq_tokens = 160,
                          .tier_slots = {10, 16},
                          .max_transfers = 4,
                          .window = 20,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 32,
                             .max_running = 8,
                             .max_waiting = 12,
                             .max_parked = 4,
                             .max_logit_rows = 16,
                             .max_prefill_chunk = 16}},
     .weight = 8,
     .n_documents = 3,
     .n_tenants = 1,
     .late = 10},
    {.name = "by cost, a window, no prefix cache, a pool for one",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 100,
                          .tier_slots = {3, 5},
                          .max_transfers = 3,
                          .window = 5},
               .scheduler = {.max_batch_tokens = 16,
                             .max_running = 5,
                             .max_waiting = 6,
                             .max_parked = 3,
                             .max_logit_rows = 5,
                             .max_prefill_chunk = 7}},
     .weight = 8,
     .n_documents = 2,
     .n_tenants = 2,
     .late = 10},
    {.name = "recomputation only, a window, tenants with quotas",
     .world = {.blocks = {.page_count = 12,
                          .page_size = 8,
                          .max_seq_tokens = 120,
                          .window = 17,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 12,
                             .max_running = 6,
                             .max_waiting = 8,
                             .max_logit_rows = 6}},
     .discipline = QR_DISCIPLINE_RECOMPUTE,
     .weight = 6,
     .n_documents = 2,
     .n_tenants = 3,
     .quota_pages = 6,
     .late = 5},
    {.name = "by cost, many sequences",
     .world = {.blocks = {.page_count = 200,
                          .page_size = 8,
                          .max_seq_tokens = 160,
                          .tier_slots = {100, 200},
                          .max_transfers = 16,
                          .prefix_cache = true},
               .scheduler = {.max_batch_tokens = 256,
                             .max_running = 40,
                             .max_waiting = 60,
                             .max_parked = 20,
                             .max_logit_rows = 64}},
     .weight = 3,
     .n_documents = 6,
     .n_tenants = 3,
     .late = 5},
};

static void walk_at_random(const struct random_world *kind, uint64_t seed, int64_t n_operations)
{
    struct scheduler_world_config config = kind->world;
    struct walk walk = {.kind = kind, .rng = seed};
    struct qr_block_stats blocks;
    struct qr_scheduler_stats stats;
    int64_t start_ns = qr_now_ns();
    int32_t check_every = 1 + kind->world.blocks.page_count / 20; /* a check takes time, too */

    block_trail_start();
    config.scheduler.discipline = kind->discipline;
    walk.world = scheduler_world_create(&config);
    for (int32_t tenant = 1; tenant < kind->n_tenants; tenant++)
        qr_scheduler_set_tenant(walk.world->sched, tenant, tenant, kind->quota_pages);
    change_costs(&walk);
    for (int64_t n = 0; n < n_operations; n++) {
        operate(&walk);
        if (kind->closes_tier && n == n_operations / 2)
            qr_scheduler_close_tier(walk.world->sched, QR_TIER_HOST);
        if (n % check_every == 0)
            scheduler_world_check(walk.world, n % (16 * check_every) == 0);
    }
    run_to_the_end(&walk);
    qr_block_manager_stats(walk.world->blocks, &blocks);
    qr_scheduler_get_stats(walk.world->sched, &stats);
    printf("%s: %" PRId64 " operations, %" PRId64 " plans, %" PRId64 " launched, %" PRId64
           " rows, %" PRId64 " finished, %" PRId64 " forks, %" PRId64 " copies, %" PRId64
           " merged; preempted %" PRId64 " by swap, %" PRId64 " to be recomputed, %" PRId64
           " parked; %" PRId64 " transfers failed, %.1f s\n",
           kind->name, walk.n_operations, walk.world->n_plans, walk.n_launched, walk.world->n_rows,
           walk.world->n_finished, walk.n_forks, blocks.n_copies, blocks.n_merged, stats.n_swapped,
           stats.n_recomputed, stats.n_parked, walk.n_failed,
           (double)(qr_now_ns() - start_ns) / QR_NS_PER_SEC);
    scheduler_world_destroy(walk.world);
}

static int64_t operations_wanted(void)
{
#ifdef QUIRE_JEMALLOC
    return 10 * 1000 * 1000;
#else /* a sanitizer build */
    return getenv("QUIRE_LONG") != NULL ? 10 * 1000 * 1000 : 500 * 1000;
#endif
}

static void random_operations_read_no_kv_but_their_own(void **state)
{
    (void)state;
    int64_t n_done = 0;

    for (size_t i = 0; i < N_ELEMENTS(random_worlds); i++) {
        int64_t n = operations_wanted() / 100 * random_worlds[i].weight;
        walk_at_random(&random_worlds[i], 1000 + i, n);
        n_done += n;
    }
    printf("%" PRId64 " operations\n", n_done);
    assert_int_equal(n_done, operations_wanted());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_read_no_kv_but_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
