/* engine_gate.c - see engine_gate.h. */
#include "tests/support/engine_gate.h"

static void before_plan(void *arg, struct qr_scheduler *sched, struct qr_generation *const *by_slot,
                        int32_t n_slots)
{
    struct engine_gate *gate = arg;

    pthread_mutex_lock(&gate->lock);
    while (!gate->is_open)
        pthread_cond_wait(&gate->opened, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
    if (gate->inner.before_plan != NULL)
        gate->inner.before_plan(gate->inner.arg, sched, by_slot, n_slots);
}

void engine_gate_close(struct engine_gate *gate, struct qr_engine *engine,
                       const struct qr_engine_hook *inner)
{
    *gate = (struct engine_gate){.is_open = false};
    if (inner != NULL)
        gate->inner = *inner;
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->opened, NULL);
    const struct qr_engine_hook hook = {
        .before_plan = before_plan, .arg = gate, .plans_ahead = gate->inner.plans_ahead};
    qr_engine_set_hook(engine, &hook);
}

void engine_gate_open(struct engine_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->is_open = true;
    pthread_cond_signal(&gate->opened);
    pthread_mutex_unlock(&gate->lock);
}

void engine_gate_destroy(struct engine_gate *gate)
{
    pthread_cond_destroy(&gate->opened);
    pthread_mutex_destroy(&gate->lock);
}
