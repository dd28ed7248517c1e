/*
 * schedule.c - which thread of a block runs next.
 *
 * Ready threads are a ring. Seed 0 takes the oldest, 1 the newest, any other one at random. When
 * nothing is ready but bulk copies are in flight, one of them lands; when there is none either, the
 * launch ahead of one that has started early runs, if threads wait for it; else they wait for each
 * other for ever.
 */
#include <stdio.h>

#include "base/cuda/emulator/block.h"

__thread struct qr_emulator_thread *qr_emulator_self;
__thread struct qr_emulator_block *qr_emulator_block;

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016. */
int qr_emulator_random(struct qr_emulator_block *block, int n)
{
    block->random ^= block->random >> 12;
    block->random ^= block->random << 25;
    block->random ^= block->random >> 27;
    return (int)((block->random * UINT64_C(0x2545f4914f6cdd1d) >> 33) % (uint64_t)n);
}

static struct qr_emulator_lane **ready_slot(struct qr_emulator_block *block, int i)
{
    return &block->ready[(block->first_ready + i) % QR_EMULATOR_MAX_THREADS];
}

static void make_ready(struct qr_emulator_block *block, struct qr_emulator_lane *lane)
{
    lane->waits_at = NULL;
    *ready_slot(block, block->n_ready++) = lane;
}

static struct qr_emulator_lane *take_ready(struct qr_emulator_block *block)
{
    struct qr_emulator_lane *lane;
    int last = --block->n_ready;
    if (block->settings.seed == 0) {
        lane = *ready_slot(block, 0);
        block->first_ready = (block->first_ready + 1) % QR_EMULATOR_MAX_THREADS;
        return lane;
    }
    int chosen = block->settings.seed == 1 ? last : qr_emulator_random(block, last + 1);
    lane = *ready_slot(block, chosen);
    *ready_slot(block, chosen) = *ready_slot(block, last);
    return lane;
}

static int next_to_land(struct qr_emulator_block *block)
{
    if (block->settings.seed == 0)
        return 0;
    return block->settings.seed == 1 ? block->n_bulk - 1 : qr_emulator_random(block, block->n_bulk);
}

/* Where threads stand, the first of each place. */
static void describe_waiters(const struct qr_emulator_block *block, char *text, size_t size)
{
    enum { MAX_PLACES = 6 };
    size_t used = 0;
    int n_places = 0;
    text[0] = '\0';
    for (int i = 0; i < block->n_lanes && n_places < MAX_PLACES; i++) {
        const struct qr_emulator_lane *lane = &block->lanes[i], *before = lane - 1;
        if (lane->done || (i > 0 && !before->done && before->waits_at == lane->waits_at &&
                           before->waits_for == lane->waits_for))
            continue;
        int n = snprintf(text + used, size - used, "; from thread %d on: %s %d", i, lane->waits_at,
                         lane->waits_for);
        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
        n_places++;
    }
}

/* On an OS thread of its own, as it needs a stack and a block for itself. */
static void *run_launch(void *launch)
{
    qr_emulator_run(launch);
    return NULL;
}

/* Runs the launch ahead, unless another block has; its waiters go on. */
static void run_previous(struct qr_emulator_block *block)
{
    struct qr_emulator_previous *previous = block->previous;
    pthread_mutex_lock(&previous->lock);
    if (!atomic_load(&previous->done)) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run_launch, (void *)(uintptr_t)previous->launch) != 0 ||
            pthread_join(thread, NULL) != 0)
            qr_emulator_die("cannot start a thread for %s", previous->launch->kernel->name);
        qr_fiber_order_release(&previous->edge);
        atomic_store(&previous->done, true);
    }
    pthread_mutex_unlock(&previous->lock);
    qr_emulator_wake(block, &block->early_waiters);
}

/* The thread to run next; NULL when all have ended. */
static struct qr_emulator_lane *choose(struct qr_emulator_block *block)
{
    if (block->n_bulk > 0 && block->settings.async == QR_EMULATOR_RANDOM &&
        qr_emulator_random(block, 4) == 0)
        qr_emulator_land_bulk(block, next_to_land(block));
    while (block->n_ready == 0) {
        if (block->n_live == 0)
            return NULL;
        if (block->n_bulk == 0 && block->early_waiters.first != NULL) {
            run_previous(block);
            continue;
        }
        if (block->n_bulk == 0) {
            char waiters[512];
            describe_waiters(block, waiters, sizeof(waiters));
            qr_emulator_die("deadlock: %d threads wait for what never comes%s", block->n_live,
                            waiters);
        }
        qr_emulator_land_bulk(block, next_to_land(block));
    }
    return take_ready(block);
}

/* Lets the chosen thread run instead of the running one, which waits or is ready itself. */
static void give_way(struct qr_emulator_block *block)
{
    struct qr_emulator_lane *self = qr_emulator_running();
    struct qr_emulator_lane *next = choose(block);
    if (next == self)
        return;
    qr_emulator_self = &next->self;
    qr_fiber_switch(&self->fiber, &next->fiber);
}

void qr_emulator_wait_in(struct qr_emulator_waiters *list, const char *what, int which)
{
    struct qr_emulator_lane *self = qr_emulator_running();
    self->waits_at = what;
    self->waits_for = which;
    self->next_waiter = NULL;
    if (list->first == NULL)
        list->first = self;
    else
        list->last->next_waiter = self;
    list->last = self;
    give_way(qr_emulator_block);
}

void qr_emulator_wake(struct qr_emulator_block *block, struct qr_emulator_waiters *list)
{
    for (struct qr_emulator_lane *lane = list->first; lane != NULL; lane = lane->next_waiter)
        make_ready(block, lane);
    *list = (struct qr_emulator_waiters){NULL, NULL};
}

void qr_emulator_maybe_yield(void)
{
    struct qr_emulator_block *block = qr_emulator_block;
    if (block->settings.seed < 2 || qr_emulator_random(block, 2) == 0)
        return;
    make_ready(block, qr_emulator_running());
    give_way(block);
}

void qr_emulator_end_thread(void)
{
    struct qr_emulator_block *block = qr_emulator_block;
    struct qr_emulator_lane *self = qr_emulator_running();
    qr_emulator_check_thread_end(self);
    qr_emulator_check_products_end(self);
    self->done = true;
    block->n_live--;
    struct qr_emulator_lane *next = choose(block);
    qr_emulator_self = next != NULL ? &next->self : NULL;
    qr_fiber_leave(&self->fiber, next != NULL ? &next->fiber : &block->thread);
    __builtin_unreachable();
}

void qr_emulator_run_threads(struct qr_emulator_block *block)
{
    block->first_ready = 0;
    block->n_ready = 0;
    block->n_live = block->n_lanes;
    for (int i = 0; i < block->n_lanes; i++)
        make_ready(block, &block->lanes[i]);
    struct qr_emulator_lane *first = take_ready(block);
    qr_emulator_self = &first->self;
    qr_fiber_switch(&block->thread, &first->fiber);
    qr_emulator_self = NULL;
}
