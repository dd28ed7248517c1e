/*
 * thread_pool.c - see thread_pool.h for the contract.
 *
 * `gate` says whether a run is open and how many workers are inside it. The caller
 * opens it, works along, closes it once the items are handed out and waits until the
 * last worker has left. A worker that wakes late finds the gate closed and goes back
 * to sleep, so a run never waits for a thread that has not begun.
 *
 * Workers sleep on `epoch`, which every run advances; the caller sleeps on `gate`.
 * Both first spin for a moment, where every thread can have a core of its own: the
 * operations of a model follow each other closely, and a sleep costs more than one of
 * the small ones.
 */
#include "base/thread_pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"

enum {
    MAX_THREADS = 1024,
    CACHE_LINE = 64,
    SPIN_NS = 30000,
    SPINS_PER_CLOCK = 16, /* reading the clock costs about as much as a pause or two */
};

#define GATE_OPEN   UINT32_C(0x80000000)
#define GATE_INSIDE UINT32_C(0x7fffffff) /* how many workers are inside */

struct worker {
    struct qr_thread_pool *pool;
    int32_t index; /* in [1, n_threads) */
    pthread_t thread;
};

struct qr_thread_pool {
    int32_t n_threads;
    int32_t n_started; /* workers that are to be joined */
    bool may_spin;
    struct worker *workers; /* [n_threads - 1] */

    /* The run, written before the gate opens. */
    qr_work_fn fn;
    void *arg;
    int64_t n_items;
    int64_t grain;

    alignas(CACHE_LINE) atomic_int_fast64_t next_item;
    alignas(CACHE_LINE) _Atomic uint32_t gate;
    alignas(CACHE_LINE) _Atomic uint32_t epoch;
    _Atomic int32_t n_sleeping; /* workers asleep on epoch, or about to be */
    atomic_bool stop;
};

/* Sleeps unless *word differs from `expected`; may also return for no reason. */
static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* True as soon as *word differs from `value`, false when it did not for SPIN_NS. */
static bool spin_while_equal(_Atomic uint32_t *word, uint32_t value)
{
    int64_t give_up = qr_now_ns() + SPIN_NS;

    do {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return true;
            pause_cpu();
        }
    } while (qr_now_ns() < give_up);
    return false;
}

static void run_pieces(struct qr_thread_pool *pool, int32_t worker)
{
    for (;;) {
        int64_t first =
            atomic_fetch_add_explicit(&pool->next_item, pool->grain, memory_order_relaxed);
        if (first >= pool->n_items)
            return;
        int64_t left = pool->n_items - first;
        pool->fn(pool->arg, first, first + (left < pool->grain ? left : pool->grain), worker);
    }
}

/* Returns the new epoch. */
static uint32_t wait_for_epoch(struct qr_thread_pool *pool, uint32_t seen)
{
    if (!pool->may_spin || !spin_while_equal(&pool->epoch, seen)) {
        /* The caller advances epoch and then reads n_sleeping; here it is the other way
         * round, all sequentially consistent: one of the two sees the other. */
        atomic_fetch_add(&pool->n_sleeping, 1);
        while (atomic_load(&pool->epoch) == seen)
            futex_wait(&pool->epoch, seen);
        atomic_fetch_sub(&pool->n_sleeping, 1);
    }
    return atomic_load(&pool->epoch);
}

static bool enter_gate(struct qr_thread_pool *pool)
{
    uint32_t gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);

    while ((gate & GATE_OPEN) != 0) {
        if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    }
    return false;
}

static void leave_gate(struct qr_thread_pool *pool)
{
    /* The caller can only be waiting at a closed gate, and only for the last to leave. */
    if (atomic_fetch_sub_explicit(&pool->gate, 1, memory_order_release) == 1)
        futex_wake(&pool->gate, 1);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct qr_thread_pool *pool = worker->pool;
    uint32_t seen = 0;
    char name[16];

    snprintf(name, sizeof(name), "quire-work-%d", worker->index);
    pthread_setname_np(pthread_self(), name);
    for (;;) {
        seen = wait_for_epoch(pool, seen);
        if (atomic_load(&pool->stop))
            return NULL;
        if (enter_gate(pool)) {
            run_pieces(pool, worker->index);
            leave_gate(pool);
        }
    }
}

int32_t qr_usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return CPU_COUNT(&set);
    return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Signals are for the threads of the program that asked for the pool, not for workers. */
static enum qr_status start_workers(struct qr_thread_pool *pool)
{
    enum qr_status status = QR_OK;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int32_t i = 0; i < pool->n_threads - 1 && status == QR_OK; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .index = i + 1};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) == 0)
            pool->n_started++;
        else
            status = QR_ERR_NOMEM;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

enum qr_status qr_thread_pool_create(int32_t n_threads, struct qr_thread_pool **out)
{
    struct qr_thread_pool *pool = NULL;

    *out = NULL;
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return QR_ERR_INVALID;

    if ((pool = qr_aligned_alloc(QR_ARENA_ENGINE, CACHE_LINE, sizeof(*pool))) == NULL)
        goto fail;
    *pool = (struct qr_thread_pool){.n_threads = n_threads};
    pool->may_spin = n_threads <= qr_usable_cores();
    pool->workers = qr_calloc(QR_ARENA_ENGINE, (size_t)n_threads, sizeof(*pool->workers));
    if (pool->workers == NULL)
        goto fail;
    if (start_workers(pool) != QR_OK)
        goto fail;

    *out = pool;
    return QR_OK;

fail:
    qr_thread_pool_destroy(pool);
    return QR_ERR_NOMEM;
}

void qr_thread_pool_destroy(struct qr_thread_pool *pool)
{
    if (pool == NULL)
        return;
    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->epoch, 1);
    futex_wake(&pool->epoch, INT_MAX);
    for (int32_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    qr_free(pool->workers);
    qr_free(pool);
}

int32_t qr_thread_pool_size(const struct qr_thread_pool *pool)
{
    return pool->n_threads;
}

static void open_gate(struct qr_thread_pool *pool, int64_t n_pieces)
{
    int64_t helpers = n_pieces - 1;

    atomic_store_explicit(&pool->gate, GATE_OPEN, memory_order_release);
    atomic_fetch_add(&pool->epoch, 1);
    if (atomic_load(&pool->n_sleeping) > 0)
        futex_wake(&pool->epoch, helpers < pool->n_threads ? (int)helpers : pool->n_threads);
}

static void close_gate(struct qr_thread_pool *pool)
{
    uint32_t gate =
        atomic_fetch_and_explicit(&pool->gate, GATE_INSIDE, memory_order_acquire) & GATE_INSIDE;

    while (gate != 0) {
        if (!pool->may_spin || !spin_while_equal(&pool->gate, gate))
            futex_wait(&pool->gate, gate);
        gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
    }
}

void qr_thread_pool_run(struct qr_thread_pool *pool, int64_t n_items, int64_t grain, qr_work_fn fn,
                        void *arg)
{
    QR_ASSERT(grain >= 1);
    QR_ASSERT(atomic_load_explicit(&pool->gate, memory_order_relaxed) == 0);
    if (n_items <= 0)
        return;

    pool->fn = fn;
    pool->arg = arg;
    pool->n_items = n_items;
    pool->grain = grain;
    atomic_store_explicit(&pool->next_item, 0, memory_order_relaxed);
    if (pool->n_threads == 1 || n_items <= grain) {
        run_pieces(pool, 0);
        return;
    }
    open_gate(pool, (n_items - 1) / grain + 1);
    run_pieces(pool, 0);
    close_gate(pool);
}
