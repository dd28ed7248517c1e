/*
 * The shipped scheduler and block manager in worlds so small that every state they can
 * reach is visited: a few pages and slots, three sequences that share beginnings, and
 * every order of arrival, plan, completion, token, fork, finish, cancellation, pause,
 * preemption of each kind, and transfers that end well or fail. In each state counts,
 * tables, index and contents of the pages are checked, and that all that is there comes to
 * its end once readers read and transfers end.
 *
 * QUIRE_LONG=1 in the environment visits larger worlds, which takes minutes; QUIRE_DEPTH=N
 * goes no further than N actions, which finds the shortest way to a failure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/support/block_explorer.h"
#include "tests/support/block_heap.h"
#include "tests/support/block_trail.h"
#include "tests/support/scheduler_index.h"
#include "tests/support/scheduler_world.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

enum {
    MAX_KINDS = 3,
};

/* What may happen beside arrivals, plans, tokens, cancellations and the ends of transfers. */
enum {
    PAUSES = 1,
    DROPS_PLANS = 2,
    CLOSES_TIER = 4,
    SWAPS = 8, /* forced preemptions */
    RECOMPUTES = 16,
    PARKS = 32,
    LAUNCHES = 64, /* the next plan is made while rows are computed */
};

struct small_world {
    const char *name;
    struct scheduler_world_config world;
    int32_t n_kinds;
    struct scheduler_world_request kinds[MAX_KINDS];
    int32_t n_arrivals;
    int32_t n_failures; /* of transfers */
    int32_t n_tenants;
    int32_t allowed;
    bool loads_are_dear; /* computing costs less than loading */
    bool long_only;
};

struct exploration {
    const struct small_world *small;
    struct scheduler_world *world;
    int32_t n_arrivals_left;
    int32_t n_failures_left;
    bool is_tier_closed;
};

enum op {
    OP_ARRIVE,
    OP_PLAN,
    OP_LAUNCH,
    OP_COMPLETE,
    OP_TOKEN,
    OP_FORK,
    OP_REMOVE,
    OP_PAUSE,
    OP_RESUME,
    OP_PREEMPT,
    OP_END,
    OP_CLOSE_TIER,
};

static const char *const op_names[] = {"arrive", "plan",    "launch", "complete",
                                       "token",  "fork",    "remove", "pause",
                                       "resume", "preempt", "end",    "close_tier"};

static bool allows(const struct exploration *e, int32_t what)
{
    return (e->small->allowed & what) != 0;
}

static int32_t list_preemptions(const struct exploration *e, qr_seq_id id,
                                struct block_action *actions)
{
    struct qr_seq_info info;
    int32_t n = 0;

    qr_scheduler_get_info(e->world->sched, id, &info);
    if (e->world->is_planned || info.state == QR_SEQ_WAITING)
        return 0;
    if (allows(e, SWAPS))
        actions[n++] = (struct block_action){OP_PREEMPT, id, QR_RELEASE_SWAPPED};
    if (allows(e, RECOMPUTES))
        actions[n++] = (struct block_action){OP_PREEMPT, id, QR_RELEASE_RESUMES};
    if (allows(e, PARKS))
        actions[n++] = (struct block_action){OP_PREEMPT, id, QR_RELEASE_PARKED};
    return n;
}

static int32_t list_of_sequence(const struct exploration *e, qr_seq_id id,
                                struct block_action *actions)
{
    const struct scheduler_world_seq *seq = &e->world->seqs[id];
    int32_t n = 0;

    if (!seq->in_use)
        return 0;
    actions[n++] = (struct block_action){OP_REMOVE, id, 0};
    if (seq->awaits_token)
        actions[n++] = (struct block_action){OP_TOKEN, id, 0};
    if (scheduler_world_can_fork(e->world, id))
        actions[n++] = (struct block_action){OP_FORK, id, 0};
    if (seq->paused)
        actions[n++] = (struct block_action){OP_RESUME, id, 0};
    else if (allows(e, PAUSES))
        actions[n++] = (struct block_action){OP_PAUSE, id, 0};
    return n + list_preemptions(e, id, actions + n);
}

static int32_t list(void *context, struct block_action *actions)
{
    const struct exploration *e = context;
    const struct scheduler_world *world = e->world;
    int32_t n = 0;

    for (int32_t i = 0; e->n_arrivals_left > 0 && i < e->small->n_kinds; i++)
        actions[n++] = (struct block_action){OP_ARRIVE, i, 0};
    bool may_run = world->is_planned && !scheduler_world_token_is_due(world);
    if (may_run && !world->is_launched && allows(e, LAUNCHES))
        actions[n++] = (struct block_action){OP_LAUNCH, 0, 0};
    if (may_run || world->is_launched)
        actions[n++] = (struct block_action){OP_COMPLETE, 0, 0};
    if (world->is_launched ? !world->is_ahead : !world->is_planned || allows(e, DROPS_PLANS))
        actions[n++] = (struct block_action){OP_PLAN, 0, 0};
    for (qr_seq_id id = 0; id < world->n_slots; id++)
        n += list_of_sequence(e, id, actions + n);
    for (int32_t id = 0; id < world->config.blocks.max_transfers; id++) {
        if (!block_shadow_is_under_way(world->shadow, id))
            continue;
        actions[n++] = (struct block_action){OP_END, id, 1};
        if (e->n_failures_left > 0)
            actions[n++] = (struct block_action){OP_END, id, 0};
    }
    if (allows(e, CLOSES_TIER) && !e->is_tier_closed)
        actions[n++] = (struct block_action){OP_CLOSE_TIER, QR_TIER_HOST, 0};
    BLOCK_TRAIL_CHECK(n <= BLOCK_EXPLORER_MAX_ACTIONS);
    return n;
}

static void arrive(struct exploration *e, int32_t kind)
{
    qr_seq_id id;
    enum qr_status st = scheduler_world_add(e->world, &e->small->kinds[kind], &id);

    BLOCK_TRAIL_CHECK(st == QR_OK || st == QR_ERR_QUEUE_FULL);
    e->n_arrivals_left -= st == QR_OK;
}

static void end_transfer(struct exploration *e, int32_t id, bool ok)
{
    e->n_failures_left -= !ok;
    scheduler_world_end_transfer(e->world, id, ok);
}

static void close_tier(struct exploration *e, int32_t tier)
{
    e->is_tier_closed = true;
    qr_scheduler_close_tier(e->world->sched, (enum qr_tier)tier);
}

static void apply(void *context, const struct block_action *action)
{
    struct exploration *e = context;
    int32_t a = action->a;

    switch ((enum op)action->op) {
    case OP_ARRIVE:
        arrive(e, a);
        break;
    case OP_PLAN:
        scheduler_world_plan(e->world);
        break;
    case OP_LAUNCH:
        scheduler_world_launch(e->world);
        break;
    case OP_COMPLETE:
        scheduler_world_complete(e->world);
        break;
    case OP_TOKEN:
        scheduler_world_token(e->world, a);
        break;
    case OP_FORK: /* continues differently from its parent */
        scheduler_world_fork(e->world, a, e->world->seqs[a].request.branch ^ 1);
        break;
    case OP_REMOVE:
        scheduler_world_remove(e->world, a);
        break;
    case OP_PAUSE:
    case OP_RESUME:
        scheduler_world_pause(e->world, a, action->op == OP_PAUSE);
        break;
    case OP_PREEMPT:
        scheduler_world_preempt(e->world, a, (enum qr_release)action->b);
        break;
    case OP_END:
        end_transfer(e, a, action->b);
        break;
    case OP_CLOSE_TIER:
        close_tier(e, a);
        break;
    }
}

static void check(void *context)
{
    const struct exploration *e = context;
    scheduler_world_check(e->world, true);
}

static uint64_t fingerprint(void *context)
{
    const struct exploration *e = context;
    uint64_t hash = scheduler_index_fingerprint(e->world, e->small->n_tenants);
    uint64_t left = (uint64_t)e->n_arrivals_left | (uint64_t)e->n_failures_left << 4 |
                    (uint64_t)e->is_tier_closed << 8;

    return block_shadow_next_key(hash, (int32_t)left);
}

/* Transfers end, readers read, rows are computed, tokens come; in this order. */
static bool help(void *context, struct block_action *action)
{
    const struct exploration *e = context;
    const struct scheduler_world *world = e->world;
    bool is_empty = true;

    for (int32_t id = 0; id < world->config.blocks.max_transfers; id++) {
        if (block_shadow_is_under_way(world->shadow, id)) {
            *action = (struct block_action){OP_END, id, 1};
            return true;
        }
    }
    *action = (struct block_action){world->is_planned || world->is_launched ? OP_COMPLETE : OP_PLAN,
                                    0, 0};
    if (world->is_launched)
        return true;
    for (qr_seq_id id = 0; id < world->n_slots; id++) {
        const struct scheduler_world_seq *seq = &world->seqs[id];
        if (!seq->in_use)
            continue;
        is_empty = false;
        if (seq->paused || (seq->awaits_token && (!world->is_planned || seq->token_ahead))) {
            *action = (struct block_action){seq->paused ? OP_RESUME : OP_TOKEN, id, 0};
            return true;
        }
    }
    if (is_empty && !world->is_planned && !qr_scheduler_transfers_pending(world->sched)) {
        scheduler_world_check_rest(world);
        return false;
    }
    return true;
}

#define TWO_AT_A_TIME                                                                  \
    {                                                                                  \
        .max_batch_tokens = 8, .max_running = 2, .max_waiting = 2, .max_logit_rows = 2 \
    }

static const struct small_world small_worlds[] = {
    {.name = "three alike, recomputed",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = RECOMPUTES},
    {.name = "two salts, pauses",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 2,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9},
               {.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9, .salt = 1}},
     .n_arrivals = 2,
     .n_tenants = 1,
     .allowed = RECOMPUTES | PAUSES},
    {.name = "two tiers, a transfer that fails",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 17,
                          .tier_slots = {2, 1},
                          .max_transfers = 2,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 15, .n_prompt = 15, .n_target = 17, .max_tokens = 17}},
     .n_arrivals = 2,
     .n_failures = 1,
     .n_tenants = 1,
     .allowed = SWAPS},
    {.name = "three without a prefix cache",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 17,
                          .tier_slots = {1, 0},
                          .max_transfers = 1,
                          .prefix_cache = false},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 15, .n_prompt = 15, .n_target = 17, .max_tokens = 17}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = SWAPS},
    {.name = "a pool for one, recomputation only",
     .world =
         {.blocks = {.page_count = 3, .page_size = 8, .max_seq_tokens = 17, .prefix_cache = true},
          .scheduler = {.max_batch_tokens = 8,
                        .max_running = 2,
                        .max_waiting = 2,
                        .max_logit_rows = 2,
                        .discipline = QR_DISCIPLINE_RECOMPUTE}},
     .n_kinds = 1,
     .kinds = {{.cut = 15, .n_prompt = 15, .n_target = 17, .max_tokens = 17}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = DROPS_PLANS},
    {.name = "scored and dropped plans",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 2,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9},
               {.cut = 7, .n_prompt = 7, .n_target = 8, .max_tokens = 9, .all_logits = true}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = DROPS_PLANS},
    {.name = "launched, two tiers, a transfer that fails",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 17,
                          .tier_slots = {1, 0},
                          .max_transfers = 1,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 15, .n_prompt = 15, .n_target = 16, .max_tokens = 17}},
     .n_arrivals = 2,
     .n_failures = 1,
     .n_tenants = 1,
     .allowed = SWAPS | LAUNCHES},
    {.name = "launched, forks and dropped plans",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 8, .max_tokens = 9, .width = 2}},
     .n_arrivals = 1,
     .n_tenants = 1,
     .allowed = LAUNCHES | DROPS_PLANS},
    {.name = "launched, three alike, recomputed",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 8, .max_tokens = 9}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = LAUNCHES | RECOMPUTES},
    {.name = "forks",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 8, .max_tokens = 9, .width = 2}},
     .n_arrivals = 1,
     .n_tenants = 1,
     .allowed = DROPS_PLANS},
    {.name = "a window, a pool for less than a sequence",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 33,
                          .window = 4,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 31, .n_prompt = 31, .n_target = 33, .max_tokens = 33}},
     .n_arrivals = 2,
     .n_tenants = 1,
     .allowed = RECOMPUTES},
    {.name = "a window, host memory, a transfer that fails",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 26,
                          .tier_slots = {1, 0},
                          .max_transfers = 1,
                          .window = 4,
                          .prefix_cache = false},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 24, .n_prompt = 24, .n_target = 25, .max_tokens = 26}},
     .n_arrivals = 2,
     .n_failures = 1,
     .n_tenants = 1,
     .allowed = SWAPS},
    {.name = "a window, forks",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 25,
                          .window = 4,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 23, .n_prompt = 23, .n_target = 24, .max_tokens = 25, .width = 2}},
     .n_arrivals = 1,
     .n_tenants = 1,
     .allowed = RECOMPUTES},
    {.name = "forks, host memory",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 9,
                          .tier_slots = {1, 0},
                          .max_transfers = 1,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9, .width = 2}},
     .n_arrivals = 1,
     .n_failures = 1,
     .n_tenants = 1,
     .allowed = SWAPS,
     .long_only = true},
    {.name = "parted prompts",
     .world =
         {.blocks = {.page_count = 4, .page_size = 8, .max_seq_tokens = 9, .prefix_cache = true},
          .scheduler = TWO_AT_A_TIME},
     .n_kinds = 2,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9},
               {.cut = 5, .branch = 1, .n_prompt = 7, .n_target = 9, .max_tokens = 9}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = RECOMPUTES,
     .long_only = true},
    {.name = "two tiers, three sequences, a failure",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 9,
                          .tier_slots = {1, 1},
                          .max_transfers = 1,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9}},
     .n_arrivals = 3,
     .n_failures = 1,
     .n_tenants = 1,
     .allowed = SWAPS,
     .long_only = true},
    {.name = "two tiers, pauses, a tier that closes",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 9,
                          .tier_slots = {1, 1},
                          .max_transfers = 2,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 1,
     .kinds = {{.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9}},
     .n_arrivals = 2,
     .n_failures = 1,
     .n_tenants = 1,
     .allowed = SWAPS | PAUSES | CLOSES_TIER,
     .long_only = true},
    {.name = "priorities",
     .world = {.blocks = {.page_count = 4,
                          .page_size = 8,
                          .max_seq_tokens = 17,
                          .tier_slots = {1, 0},
                          .max_transfers = 1,
                          .prefix_cache = true},
               .scheduler = TWO_AT_A_TIME},
     .n_kinds = 2,
     .kinds = {{.cut = 15, .n_prompt = 15, .n_target = 17, .max_tokens = 17},
               {.cut = 7, .n_prompt = 7, .n_target = 9, .max_tokens = 9, .priority = 1}},
     .n_arrivals = 3,
     .n_tenants = 1,
     .allowed = SWAPS,
     .long_only = true},
};

static void explore(const struct small_world *small)
{
    static const struct qr_block_costs costs[] = {{{10, 20}, {10, 20}, 100, 1},
                                                  {{1000, 2000}, {1000, 2000}, 1, 0}};

    block_heap_open_region((size_t)1 << 24);
    struct exploration *e = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*e));
    assert_non_null(e);
    *e = (struct exploration){.small = small,
                              .world = scheduler_world_create(&small->world),
                              .n_arrivals_left = small->n_arrivals,
                              .n_failures_left = small->n_failures};
    qr_scheduler_set_costs(e->world->sched, &costs[small->loads_are_dear]);
    const struct block_explorer_world world = {.context = e,
                                               .names = op_names,
                                               .list = list,
                                               .apply = apply,
                                               .check = check,
                                               .fingerprint = fingerprint,
                                               .help = help};
    block_explore_small(&world, small->name, small->long_only);
    scheduler_world_destroy(e->world);
    qr_free(e);
    block_heap_close_region();
}

static void every_state_of_small_worlds_is_right(void **state)
{
    (void)state;

    for (size_t i = 0; i < N_ELEMENTS(small_worlds); i++)
        if (block_explorer_is_long() || !small_worlds[i].long_only)
            explore(&small_worlds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_of_small_worlds_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
