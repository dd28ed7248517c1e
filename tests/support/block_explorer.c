/* block_explorer.c - see block_explorer.h. */
#include "tests/support/block_explorer.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/block_heap.h"
#include "tests/support/block_trail.h"

/* Fingerprints in a hash table with open addressing; 0 marks an empty place. */
struct fingerprints {
    uint64_t *places;
    int64_t capacity; /* a power of two */
    int64_t count;
};

/* A state on the way from the first to the present one. */
struct frame {
    unsigned char *bytes;
    struct block_action actions[BLOCK_EXPLORER_MAX_ACTIONS];
    int32_t n_actions;
    int32_t next;
};

struct explorer {
    const struct block_explorer_world *world;
    const struct block_explorer_limits *limits;
    struct block_explorer_result *result;
    struct fingerprints visited;
    struct fingerprints progressing; /* states known to come to rest */
    struct frame **frames;           /* [frames_capacity], made when a depth is first reached */
    int32_t frames_capacity;
    uint64_t *run; /* [max_help_steps]: states of the present run of helpful actions */
    size_t n_bytes;
};

static void *make(size_t count, size_t size)
{
    void *block = calloc(count, size);
    assert_non_null(block);
    return block;
}

static uint64_t *find_place(const struct fingerprints *set, uint64_t fingerprint)
{
    uint64_t at = fingerprint & (uint64_t)(set->capacity - 1);
    while (set->places[at] != 0 && set->places[at] != fingerprint)
        at = (at + 1) & (uint64_t)(set->capacity - 1);
    return &set->places[at];
}

/* False if it was there. */
static bool insert(struct fingerprints *set, uint64_t fingerprint)
{
    fingerprint += fingerprint == 0;
    if (2 * (set->count + 1) > set->capacity) {
        struct fingerprints larger = {.capacity = set->capacity > 0 ? 2 * set->capacity : 1 << 16,
                                      .count = set->count};
        larger.places = make((size_t)larger.capacity, sizeof(uint64_t));
        for (int64_t i = 0; i < set->capacity; i++)
            if (set->places[i] != 0)
                *find_place(&larger, set->places[i]) = set->places[i];
        free(set->places);
        *set = larger;
    }
    uint64_t *place = find_place(set, fingerprint);
    if (*place == fingerprint)
        return false;
    *place = fingerprint;
    set->count++;
    return true;
}

static struct frame *frame_at(struct explorer *explorer, int32_t depth)
{
    if (depth >= explorer->frames_capacity) {
        int32_t capacity = 2 * explorer->frames_capacity + 64;
        explorer->frames = realloc(explorer->frames, (size_t)capacity * sizeof(struct frame *));
        assert_non_null(explorer->frames);
        for (int32_t i = explorer->frames_capacity; i < capacity; i++)
            explorer->frames[i] = NULL;
        explorer->frames_capacity = capacity;
    }
    struct frame **frame = &explorer->frames[depth];
    if (*frame == NULL) {
        *frame = make(1, sizeof(**frame));
        (*frame)->bytes = make(1, explorer->n_bytes);
    }
    return *frame;
}

static void apply(struct explorer *explorer, const struct block_action *action)
{
    block_trail_add(explorer->world->names[action->op], action->a, action->b);
    explorer->world->apply(explorer->world->context, action);
}

/* In the present run of helpful actions, which would then go round for ever. */
static bool was_in_this_run(const struct explorer *explorer, int32_t n_steps, uint64_t fingerprint)
{
    for (int32_t i = 0; i < n_steps; i++)
        if (explorer->run[i] == fingerprint)
            return true;
    return false;
}

/* From the present state, which is lost, to rest or to a state that is known to come to it. */
static void check_progress(struct explorer *explorer, uint64_t fingerprint)
{
    const struct block_explorer_world *world = explorer->world;
    int64_t length = block_trail_length();
    struct block_action action;
    int32_t n_steps = 0;

    while (insert(&explorer->progressing, fingerprint) && world->help(world->context, &action)) {
        if (n_steps == 0)
            block_trail_add("HELP", 0, 0);
        explorer->run[n_steps++] = fingerprint;
        if (n_steps == explorer->limits->max_help_steps)
            block_trail_fail("no end in sight after %d helpful actions", n_steps);
        apply(explorer, &action);
        world->check(world->context);
        fingerprint = world->fingerprint(world->context);
        if (was_in_this_run(explorer, n_steps, fingerprint))
            block_trail_fail("%d helpful actions led back to the same state", n_steps);
    }
    block_trail_cut(length);
    explorer->result->n_help_steps += n_steps;
    if (n_steps > explorer->result->most_help)
        explorer->result->most_help = n_steps;
}

/* Opens a frame for the present state unless it was visited. */
static bool enter(struct explorer *explorer, int32_t depth)
{
    const struct block_explorer_world *world = explorer->world;
    uint64_t fingerprint = world->fingerprint(world->context);

    /* With a bound, a state must not be lost because it was met deeper before. */
    if (explorer->limits->max_depth > 0 && depth > explorer->limits->max_depth)
        return false;
    uint64_t place = fingerprint + (explorer->limits->max_depth > 0 ? (uint64_t)depth : 0);
    if (!insert(&explorer->visited, place))
        return false;
    world->check(world->context);
    struct frame *frame = frame_at(explorer, depth);
    frame->n_actions = world->list(world->context, frame->actions);
    frame->next = 0;
    block_heap_save(frame->bytes);
    check_progress(explorer, fingerprint);
    explorer->result->n_states++;
    if (depth > explorer->result->max_depth)
        explorer->result->max_depth = depth;
    return true;
}

static bool may_go_on(const struct explorer *explorer)
{
    return explorer->limits->max_states == 0 ||
           explorer->result->n_states < explorer->limits->max_states;
}

static void search(struct explorer *explorer)
{
    int32_t depth = 0;

    enter(explorer, 0);
    while (depth >= 0 && may_go_on(explorer)) {
        struct frame *frame = explorer->frames[depth];
        if (frame->next == frame->n_actions) {
            depth--;
            continue;
        }
        block_heap_restore(frame->bytes);
        block_trail_cut(depth);
        apply(explorer, &frame->actions[frame->next++]);
        explorer->result->n_transitions++;
        depth += enter(explorer, depth + 1);
    }
    explorer->result->is_complete = depth < 0;
}

void block_explore(const struct block_explorer_world *world,
                   const struct block_explorer_limits *limits, struct block_explorer_result *result)
{
    struct explorer explorer = {
        .world = world, .limits = limits, .result = result, .n_bytes = block_heap_region_bytes()};

    *result = (struct block_explorer_result){0};
    explorer.run = make((size_t)limits->max_help_steps, sizeof(*explorer.run));
    block_trail_start();
    search(&explorer);
    block_heap_restore(explorer.frames[0]->bytes);
    for (int32_t i = 0; i < explorer.frames_capacity; i++) {
        if (explorer.frames[i] != NULL)
            free(explorer.frames[i]->bytes);
        free(explorer.frames[i]);
    }
    free(explorer.frames);
    free(explorer.run);
    free(explorer.visited.places);
    free(explorer.progressing.places);
}

enum { MAX_SMALL_STATES = 20 * 1000 * 1000, MAX_SLOW_STATES = 8000, MAX_HELP_STEPS = 400 };

bool block_explorer_is_long(void)
{
    return getenv("QUIRE_LONG") != NULL;
}

static int64_t most_states(void)
{
#ifdef QUIRE_JEMALLOC
    return MAX_SMALL_STATES;
#else
    return block_explorer_is_long() ? MAX_SMALL_STATES : MAX_SLOW_STATES;
#endif
}

void block_explore_small(const struct block_explorer_world *world, const char *name, bool may_stop)
{
    const char *depth = getenv("QUIRE_DEPTH");
    const struct block_explorer_limits limits = {.max_help_steps = MAX_HELP_STEPS,
                                                 .max_states = most_states(),
                                                 .max_depth = depth != NULL ? atoi(depth) : 0};
    struct block_explorer_result result;
    int64_t start_ns = qr_now_ns();

    block_explore(world, &limits, &result);
    printf("%s: %" PRId64 " states, %" PRId64 " transitions, depth %d, %d helpful actions at most, "
           "%.1f s\n",
           name, result.n_states, result.n_transitions, result.max_depth, result.most_help,
           (double)(qr_now_ns() - start_ns) / QR_NS_PER_SEC);
    fflush(stdout);
    assert_true(result.is_complete || may_stop || most_states() < MAX_SMALL_STATES);
}
