/*
 * engine_force.h - preempts an engine's sequences though nothing asks for it, from the engine's
 * thread before each plan: what comes out must be the same.
 */
#ifndef QUIRE_TESTS_SUPPORT_ENGINE_FORCE_H
#define QUIRE_TESTS_SUPPORT_ENGINE_FORCE_H

#include <stdint.h>

#include "blockmgr/block_manager.h"
#include "runtime/engine/engine_hooks.h"

enum { ENGINE_FORCE_MAX_SLOTS = 4096 };

enum engine_forcing {
    FORCE_NOBODY,
    FORCE_EVERY_TOKEN, /* each sequence once for each token that it knows */
    FORCE_EVERY_STEP,  /* each after each step that computed more of it than was before */
    FORCE_AT_RANDOM,   /* each in one of eight steps, in a way drawn by chance */
};

struct engine_force {
    enum engine_forcing forcing;
    enum qr_release how; /* unless at random */
    uint64_t random_state;
    int64_t n_forced;
    /* What was preempted last in each slot, and with how many tokens, known or computed: one that
     * is preempted again before it gets further would never end. */
    const struct qr_generation *seqs[ENGINE_FORCE_MAX_SLOTS];
    int32_t n_tokens[ENGINE_FORCE_MAX_SLOTS];
};

QR_BEGIN_DECLS

/* The hook (struct qr_engine_hook) with a struct engine_force as its argument. */
void engine_force_before_plan(void *arg, struct qr_scheduler *sched,
                              struct qr_generation *const *by_slot, int32_t n_slots);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_ENGINE_FORCE_H */
