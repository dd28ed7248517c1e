/*
 * block_explorer.h - visits every state that a small world can reach.
 *
 * Depth first from the present state; each state is expanded once. The whole world lies
 * in the region of block_heap.h, so that going back to a state is a copy. In every state
 * the world checks itself, and in every state a run of helpful actions must bring it to
 * rest, which shows that progress is possible from there.
 */
#ifndef QUIRE_TESTS_SUPPORT_BLOCK_EXPLORER_H
#define QUIRE_TESTS_SUPPORT_BLOCK_EXPLORER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { BLOCK_EXPLORER_MAX_ACTIONS = 64 };

struct block_action {
    int32_t op; /* a number of the world's own */
    int32_t a;
    int32_t b;
};

struct block_explorer_world {
    void *context;
    const char *const *names; /* of the operations, for the trail */
    /* Writes the actions that are possible, at most BLOCK_EXPLORER_MAX_ACTIONS; how many. */
    int32_t (*list)(void *context, struct block_action *actions);
    void (*apply)(void *context, const struct block_action *action);
    void (*check)(void *context);
    /* Equal for two states only if the same can happen from then on (but for collisions). */
    uint64_t (*fingerprint)(void *context);
    /* The next action towards the end of all sequences; false at rest, which is checked there. */
    bool (*help)(void *context, struct block_action *action);
};

struct block_explorer_limits {
    int64_t max_states;     /* 0: none */
    int32_t max_depth;      /* 0: none; otherwise a state counts anew at each depth */
    int32_t max_help_steps; /* helpful actions that suffice from any state */
};

struct block_explorer_result {
    int64_t n_states;
    int64_t n_transitions;
    int64_t n_help_steps; /* run beside them to show progress */
    int32_t max_depth;    /* of the search */
    int32_t most_help;    /* helpful actions that one state took to known ones or to rest */
    bool is_complete;     /* no limit was met */
};

QR_BEGIN_DECLS

void block_explore(const struct block_explorer_world *world,
                   const struct block_explorer_limits *limits,
                   struct block_explorer_result *result);

/* Whether QUIRE_LONG asks for the worlds that take minutes as well. */
bool block_explorer_is_long(void);
/*
 * Explores a world that is small enough to be explored to its end, and prints what was seen. Fails
 * if the end was not reached, but for a world that `may_stop`, and under a sanitizer, which is so
 * slow that each world is explored in part. QUIRE_DEPTH bounds the depth.
 */
void block_explore_small(const struct block_explorer_world *world, const char *name, bool may_stop);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_BLOCK_EXPLORER_H */
