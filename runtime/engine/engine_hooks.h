/*
 * engine_hooks.h - what tests do to an engine from its own thread, between two steps:
 * for example, make the scheduler preempt somebody (scheduler/force.h).
 */
#ifndef QUIRE_RUNTIME_ENGINE_ENGINE_HOOKS_H
#define QUIRE_RUNTIME_ENGINE_ENGINE_HOOKS_H

#include <stdint.h>

#include "runtime/engine/engine.h"
#include "scheduler/scheduler.h"

struct qr_generation;

struct qr_engine_hook {
    /* Before each plan. by_slot[n_slots]: not NULL where the scheduler has a sequence. */
    void (*before_plan)(void *arg, struct qr_scheduler *sched, struct qr_generation *const *by_slot,
                        int32_t n_slots);
    void *arg;
    bool plans_ahead; /* on the CPU too */
};

QR_BEGIN_DECLS

/* Before the first request. */
void qr_engine_set_hook(struct qr_engine *engine, const struct qr_engine_hook *hook);
/* The swapper that moves the engine's pages; NULL without lower tiers. */
struct qr_swapper *qr_engine_swapper(struct qr_engine *engine);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_ENGINE_HOOKS_H */
