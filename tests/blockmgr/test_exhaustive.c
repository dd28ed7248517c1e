/*
 * The shipped block manager in worlds so small that every state they can reach is
 * visited: a few pages and slots, three sequences that share beginnings, and every order
 * of arrival, acquisition, computing, growth, fork, each kind of release, and transfers
 * that start, end well or fail. See block_explorer.h for what is checked in each state.
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
#include "tests/support/block_index.h"
#include "tests/support/block_trail.h"
#include "tests/support/block_world.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

enum {
    MAX_PROMPTS = 3,
    MAX_SEQUENCES = 3,
};

struct prompt {
    int32_t cut; /* tokens of the common document that it begins with */
    int32_t n_tokens;
    int32_t salt;
};

struct small_world {
    const char *name;
    struct qr_block_manager_config blocks;
    bool loads_are_dear; /* computing costs less than loading */
    int32_t n_prompts;
    struct prompt prompts[MAX_PROMPTS];
    int32_t n_arrivals;
    int32_t n_forks;
    int32_t n_failures; /* of transfers */
    int32_t releases;   /* bits of enum qr_release */
    bool closes_tier;
    bool long_only;
};

struct exploration {
    const struct small_world *small;
    struct block_world *world;
    int32_t n_arrivals_left;
    int32_t n_forks_left;
    int32_t n_failures_left;
    bool is_tier_closed;
};

enum op {
    OP_ARRIVE,
    OP_ACQUIRE,
    OP_POLL,
    OP_COMPUTE,
    OP_APPEND,
    OP_FORK,
    OP_RELEASE,
    OP_CLOSE,
    OP_START,
    OP_END,
    OP_CLOSE_TIER,
};

static const char *const op_names[] = {"arrive", "acquire", "poll",      "compute",
                                       "append", "fork",    "release",   "close",
                                       "start",  "end",     "close_tier"};

static bool can_compute(const struct exploration *e, int32_t id)
{
    const struct block_world_seq *seq = &e->world->seqs[id];
    return seq->holds && !seq->is_loading && seq->n_computed < seq->n_known;
}

/* Up to the next page boundary, so that every way to stand in a page is a state. */
static int32_t next_stop(const struct exploration *e, int32_t id)
{
    const struct block_world_seq *seq = &e->world->seqs[id];
    int32_t page_size = e->world->config.page_size;
    int32_t boundary = (seq->n_computed / page_size + 1) * page_size;
    return boundary < seq->n_known ? boundary : seq->n_known;
}

static int32_t closed_slot(const struct exploration *e)
{
    for (int32_t id = 0; id < e->world->config.max_sequences; id++)
        if (!e->world->seqs[id].is_open)
            return id;
    return -1;
}

static bool has_queued(const struct exploration *e)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(e->world->blocks, &stats);
    int32_t n_under_way = block_shadow_n_under_way(e->world->shadow);
    return stats.n_in_transfer > n_under_way && n_under_way < e->world->config.max_transfers;
}

static int32_t list_of_sequence(const struct exploration *e, int32_t id,
                                struct block_action *actions)
{
    const struct block_world_seq *seq = &e->world->seqs[id];
    int32_t n = 0;

    if (!seq->is_open)
        return 0;
    if (!seq->holds) {
        actions[n++] = (struct block_action){OP_ACQUIRE, id, 0};
        actions[n++] = (struct block_action){OP_CLOSE, id, 0};
        return n;
    }
    for (int32_t how = QR_RELEASE_FINISHED; how <= QR_RELEASE_PARKED; how++)
        if ((e->small->releases >> how & 1) != 0)
            actions[n++] = (struct block_action){OP_RELEASE, id, how};
    if (seq->is_loading) {
        actions[n++] = (struct block_action){OP_POLL, id, 0};
        return n;
    }
    if (can_compute(e, id))
        actions[n++] = (struct block_action){OP_COMPUTE, id, 0};
    else if (seq->n_known < e->world->config.max_seq_tokens)
        actions[n++] = (struct block_action){OP_APPEND, id, 0};
    if (e->n_forks_left > 0 && closed_slot(e) >= 0 && seq->n_computed > 0)
        actions[n++] = (struct block_action){OP_FORK, id, closed_slot(e)};
    return n;
}

static int32_t list(void *context, struct block_action *actions)
{
    const struct exploration *e = context;
    int32_t n = 0;

    if (e->n_arrivals_left > 0 && closed_slot(e) >= 0)
        for (int32_t i = 0; i < e->small->n_prompts; i++)
            actions[n++] = (struct block_action){OP_ARRIVE, closed_slot(e), i};
    for (int32_t id = 0; id < e->world->config.max_sequences; id++)
        n += list_of_sequence(e, id, actions + n);
    if (has_queued(e))
        actions[n++] = (struct block_action){OP_START, 0, 0};
    for (int32_t id = 0; id < e->world->config.max_transfers; id++) {
        if (!block_shadow_is_under_way(e->world->shadow, id))
            continue;
        actions[n++] = (struct block_action){OP_END, id, 1};
        if (e->n_failures_left > 0)
            actions[n++] = (struct block_action){OP_END, id, 0};
    }
    if (e->small->closes_tier && !e->is_tier_closed)
        actions[n++] = (struct block_action){OP_CLOSE_TIER, QR_TIER_HOST, 0};
    BLOCK_TRAIL_CHECK(n <= BLOCK_EXPLORER_MAX_ACTIONS);
    return n;
}

static void arrive(struct exploration *e, int32_t id, int32_t prompt)
{
    const struct prompt *p = &e->small->prompts[prompt];

    e->n_arrivals_left--;
    block_world_open(e->world, id, 0, p->cut, prompt, p->n_tokens, p->salt);
}

/* With the page of one token more, as a scheduler does. */
static void acquire(struct exploration *e, int32_t id)
{
    int32_t n_known = e->world->seqs[id].n_known;
    int32_t n_promised = n_known < e->world->config.max_seq_tokens ? n_known + 1 : n_known;

    block_world_acquire(e->world, id, n_promised);
}

static void fork_off(struct exploration *e, int32_t parent, int32_t id)
{
    e->n_forks_left--;
    block_world_fork(e->world, parent, id, 10 + e->n_forks_left);
}

static void end_transfer(struct exploration *e, int32_t id, bool ok)
{
    e->n_failures_left -= !ok;
    block_world_end_transfer(e->world, id, ok);
}

static void close_tier(struct exploration *e, int32_t tier)
{
    e->is_tier_closed = true;
    qr_block_manager_close_tier(e->world->blocks, (enum qr_tier)tier);
}

static void apply(void *context, const struct block_action *action)
{
    struct exploration *e = context;
    int32_t a = action->a;
    int32_t b = action->b;

    switch ((enum op)action->op) {
    case OP_ARRIVE:
        arrive(e, a, b);
        break;
    case OP_ACQUIRE:
        acquire(e, a);
        break;
    case OP_POLL:
        block_world_poll(e->world, a);
        break;
    case OP_COMPUTE:
        block_world_compute(e->world, a, next_stop(e, a));
        break;
    case OP_APPEND:
        block_world_append(e->world, a);
        break;
    case OP_FORK:
        fork_off(e, a, b);
        break;
    case OP_RELEASE:
        block_world_release(e->world, a, (enum qr_release)b);
        break;
    case OP_CLOSE:
        block_world_close(e->world, a);
        break;
    case OP_START:
        block_world_start_transfers(e->world);
        break;
    case OP_END:
        end_transfer(e, a, b);
        break;
    case OP_CLOSE_TIER:
        close_tier(e, a);
        break;
    }
}

static void check(void *context)
{
    const struct exploration *e = context;
    block_world_check(e->world, true);
}

static uint64_t combine(uint64_t hash, uint64_t value)
{
    return block_shadow_next_key(hash ^ value >> 32, (int32_t)value);
}

static uint64_t sequence_fingerprint(const struct block_world_seq *seq)
{
    uint64_t flags = (uint64_t)seq->is_open | (uint64_t)seq->holds << 1 |
                     (uint64_t)seq->is_loading << 2 | (uint64_t)seq->branch << 4 |
                     (uint64_t)seq->n_computed << 16;
    return seq->is_open ? combine(seq->keys[seq->n_known - 1], flags) : 0;
}

/* Sequences in an order of their own fingerprints: which slots they have does not matter. */
static uint64_t fingerprint(void *context)
{
    const struct exploration *e = context;
    uint64_t own[MAX_SEQUENCES];
    int32_t order[MAX_SEQUENCES];
    uint64_t hash = (uint64_t)e->n_arrivals_left | (uint64_t)e->n_forks_left << 4 |
                    (uint64_t)e->n_failures_left << 8 | (uint64_t)e->is_tier_closed << 12;

    for (int32_t id = 0; id < e->world->config.max_sequences; id++) {
        uint64_t value = sequence_fingerprint(&e->world->seqs[id]);
        int32_t at = id;
        for (; at > 0 && own[at - 1] > value; at--) {
            own[at] = own[at - 1];
            order[at] = order[at - 1];
        }
        own[at] = value;
        order[at] = id;
    }
    for (int32_t i = 0; i < e->world->config.max_sequences; i++)
        hash = combine(hash, own[i]);
    return combine(hash, block_index_fingerprint(e->world->blocks, order));
}

/* Nothing is left over when all have gone. */
static void check_rest(const struct exploration *e)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(e->world->blocks, &stats);
    BLOCK_TRAIL_CHECK(stats.used_pages == 0 && stats.used_slots == 0 && stats.n_in_transfer == 0);
    BLOCK_TRAIL_CHECK(qr_block_manager_available_pages(e->world->blocks) == stats.page_count);
    BLOCK_TRAIL_CHECK(qr_block_manager_leaving_pages(e->world->blocks) == 0);
    if (!e->world->config.prefix_cache)
        BLOCK_TRAIL_CHECK(stats.cached_pages == 0 && stats.tier_used[QR_TIER_HOST] == 0 &&
                          stats.tier_used[QR_TIER_DISK] == 0);
}

/* Who goes on while the others stand back: whoever got furthest, whatever its slot. -1: none. */
static int32_t furthest(const struct exploration *e)
{
    int32_t best = -1;

    for (int32_t id = 0; id < e->world->config.max_sequences; id++) {
        const struct block_world_seq *seq = &e->world->seqs[id];
        const struct block_world_seq *other = best < 0 ? NULL : &e->world->seqs[best];
        if (seq->is_open && (other == NULL || seq->holds > other->holds ||
                             (seq->holds == other->holds && seq->n_computed > other->n_computed)))
            best = id;
    }
    return best;
}

/* The next of what brings sequence `id` to its end. */
static void help_sequence(const struct exploration *e, int32_t id, struct block_action *action)
{
    const struct block_world_seq *seq = &e->world->seqs[id];
    bool is_longest = seq->n_known == e->world->config.max_seq_tokens;

    for (int32_t other = 0; other < e->world->config.max_sequences; other++) {
        if (other != id && e->world->seqs[other].holds) {
            *action = (struct block_action){OP_RELEASE, other, QR_RELEASE_RESUMES};
            return;
        }
    }
    if (!seq->holds)
        *action = (struct block_action){is_longest ? OP_CLOSE : OP_ACQUIRE, id, 0};
    else if (seq->is_loading)
        *action = (struct block_action){OP_POLL, id, 0};
    else if (can_compute(e, id))
        *action = (struct block_action){OP_COMPUTE, id, 0};
    else if (!is_longest)
        *action = (struct block_action){OP_APPEND, id, 0};
    else
        *action = (struct block_action){OP_RELEASE, id, QR_RELEASE_FINISHED};
}

static bool help(void *context, struct block_action *action)
{
    const struct exploration *e = context;
    int32_t id = furthest(e);

    for (int32_t i = 0; i < e->world->config.max_transfers; i++) {
        if (block_shadow_is_under_way(e->world->shadow, i)) {
            *action = (struct block_action){OP_END, i, 1};
            return true;
        }
    }
    if (has_queued(e)) {
        *action = (struct block_action){OP_START, 0, 0};
        return true;
    }
    if (id < 0) {
        check_rest(e);
        return false;
    }
    help_sequence(e, id, action);
    return true;
}

enum {
    FINISHES = 1 << QR_RELEASE_FINISHED,
    RESUMES = 1 << QR_RELEASE_RESUMES,
    SWAPS = 1 << QR_RELEASE_SWAPPED,
    PARKS = 1 << QR_RELEASE_PARKED,
};
static const struct small_world small_worlds[] = {
    {.name = "three alike",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 3,
                .max_seq_tokens = 9,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{7, 7, 0}},
     .n_arrivals = 3,
     .releases = FINISHES},
    {.name = "host memory, a transfer that fails",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 10,
                .tier_slots = {1, 0},
                .max_transfers = 1,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{9, 9, 0}},
     .n_arrivals = 2,
     .n_failures = 1,
     .releases = FINISHES | SWAPS},
    {.name = "two tiers, three sequences",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 3,
                .max_seq_tokens = 9,
                .tier_slots = {1, 1},
                .max_transfers = 1,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{9, 9, 0}},
     .n_arrivals = 3,
     .releases = FINISHES | SWAPS},
    {.name = "two tiers, parted prompts, a failure",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 10,
                .tier_slots = {1, 1},
                .max_transfers = 2,
                .prefix_cache = true},
     .n_prompts = 2,
     .prompts = {{9, 9, 0}, {7, 9, 0}},
     .n_arrivals = 2,
     .n_failures = 1,
     .releases = FINISHES | SWAPS,
     .long_only = true},
    {.name = "no prefix cache, three sequences",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 3,
                .max_seq_tokens = 9,
                .tier_slots = {1, 0},
                .max_transfers = 1,
                .prefix_cache = false},
     .n_prompts = 1,
     .prompts = {{9, 9, 0}},
     .n_arrivals = 3,
     .releases = SWAPS},
    {.name = "six pages, two tiers, no prefix cache",
     .blocks = {.page_count = 6,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 9,
                .tier_slots = {1, 1},
                .max_transfers = 1,
                .prefix_cache = false},
     .n_prompts = 1,
     .prompts = {{9, 9, 0}},
     .n_arrivals = 2,
     .releases = SWAPS},
    {.name = "forks",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 3,
                .max_seq_tokens = 9,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{7, 7, 0}},
     .n_arrivals = 1,
     .n_forks = 1,
     .releases = FINISHES},
    {.name = "parted prompts",
     .blocks = {.page_count = 5,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 9,
                .prefix_cache = true},
     .n_prompts = 2,
     .prompts = {{7, 7, 0}, {5, 7, 0}},
     .n_arrivals = 2,
     .releases = FINISHES | RESUMES},
    {.name = "salts",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 9,
                .prefix_cache = true},
     .n_prompts = 2,
     .prompts = {{7, 7, 0}, {7, 7, 1}},
     .n_arrivals = 2,
     .releases = FINISHES | RESUMES},
    {.name = "a tier that closes, loads that are dear",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 9,
                .tier_slots = {1, 1},
                .max_transfers = 2,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{9, 9, 0}},
     .n_arrivals = 2,
     .n_failures = 1,
     .releases = SWAPS,
     .closes_tier = true,
     .loads_are_dear = true},
    {.name = "parked",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 9,
                .tier_slots = {1, 1},
                .max_transfers = 1,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{9, 9, 0}},
     .n_arrivals = 2,
     .releases = FINISHES | PARKS},
    {.name = "a window, a pool for less than a sequence",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 33,
                .window = 4,
                .max_rows = 8,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{31, 31, 0}},
     .n_arrivals = 2,
     .releases = FINISHES | RESUMES},
    {.name = "a window, parted prompts",
     .blocks = {.page_count = 5,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 25,
                .window = 4,
                .max_rows = 8,
                .prefix_cache = true},
     .n_prompts = 2,
     .prompts = {{24, 24, 0}, {12, 24, 0}},
     .n_arrivals = 2,
     .releases = RESUMES},
    {.name = "a window, host memory, a failure",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 25,
                .tier_slots = {1, 0},
                .max_transfers = 1,
                .window = 4,
                .max_rows = 8,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{24, 24, 0}},
     .n_arrivals = 2,
     .n_failures = 1,
     .releases = SWAPS},
    {.name = "a window, forks, no prefix cache",
     .blocks = {.page_count = 5,
                .page_size = 8,
                .max_sequences = 2,
                .max_seq_tokens = 25,
                .window = 4,
                .max_rows = 8,
                .prefix_cache = false},
     .n_prompts = 1,
     .prompts = {{24, 24, 0}},
     .n_arrivals = 1,
     .n_forks = 1,
     .releases = FINISHES | RESUMES},
    {.name = "three forks and releases of all kinds",
     .blocks = {.page_count = 4,
                .page_size = 8,
                .max_sequences = 3,
                .max_seq_tokens = 9,
                .tier_slots = {1, 1},
                .max_transfers = 2,
                .prefix_cache = true},
     .n_prompts = 1,
     .prompts = {{7, 7, 0}},
     .n_arrivals = 2,
     .n_forks = 1,
     .n_failures = 1,
     .releases = FINISHES | RESUMES | SWAPS | PARKS,
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
                              .world = block_world_create(&small->blocks),
                              .n_arrivals_left = small->n_arrivals,
                              .n_forks_left = small->n_forks,
                              .n_failures_left = small->n_failures};
    qr_block_manager_set_costs(e->world->blocks, &costs[small->loads_are_dear]);
    const struct block_explorer_world world = {.context = e,
                                               .names = op_names,
                                               .list = list,
                                               .apply = apply,
                                               .check = check,
                                               .fingerprint = fingerprint,
                                               .help = help};
    block_explore_small(&world, small->name, small->long_only);
    block_world_destroy(e->world);
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
