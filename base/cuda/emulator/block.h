/*
 * block.h - the state of one block that runs, for the files of the emulator that share it.
 *
 * A block belongs to one OS thread. Its threads run one at a time, each until it waits: for a
 * barrier, for its warp, for an mbarrier. Which of the ready threads runs next is the schedule.
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_BLOCK_H
#define QUIRE_BASE_CUDA_EMULATOR_BLOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cuda/emulator/emulator.h"
#include "base/cuda/emulator/fiber.h"
#include "base/cuda/emulator/machine.h"

enum {
    QR_EMULATOR_BARRIERS = 16, /* 0 is the whole block's */
    QR_EMULATOR_MAX_MBARRIERS = 256,
    QR_EMULATOR_MAX_COPIES = 1024, /* in flight, of a thread or of bulk copies of a block */
    QR_EMULATOR_MAX_PRODUCTS = 64, /* of a warpgroup, in flight */
    QR_EMULATOR_MAX_SUMS = 8,      /* that these add to */
    QR_EMULATOR_SUMS = 32,         /* of a thread, of one product */
};

struct qr_emulator_copy {
    void *to;
    const void *from; /* NULL: zeros */
    int n_bytes;
    int group;         /* cp.async: of its thread */
    uint64_t *barrier; /* bulk: where it lands */
};

/* A thread's part of a product of a warpgroup: two rows of it. */
struct qr_emulator_product {
    float a[2][16];
    uint64_t b;
    bool is_bf16;
    bool rows_are_k; /* of B in memory */
    bool adds;
    int sums; /* which */
    int group;
};

struct qr_emulator_sums {
    float *at;   /* of the thread; NULL: free */
    int n_users; /* products in flight */
    float value[QR_EMULATOR_SUMS];
};

/* What a thread knows of its warpgroup's products. */
struct qr_emulator_products {
    int n;
    int n_computed; /* the oldest; their sums are not the thread's yet */
    int open_group;
    bool fenced;
    struct qr_emulator_product product[QR_EMULATOR_MAX_PRODUCTS]; /* oldest first */
    struct qr_emulator_sums sums[QR_EMULATOR_MAX_SUMS];
};

/* A thread, its place in a schedule, and its copies. */
struct qr_emulator_lane {
    struct qr_emulator_thread self; /* first: kernels see it */
    struct qr_fiber fiber;
    struct qr_emulator_lane *next_waiter;
    const char *waits_at; /* NULL while ready or running: what it waits for, and which */
    int waits_for;
    bool done;
    int open_group;                  /* of cp.async copies */
    struct qr_emulator_copy *copies; /* [copy_capacity] in flight, oldest first */
    int n_copies;
    int copy_capacity;
    struct qr_emulator_products *products; /* NULL until the first */
    bool shared_unfenced; /* it wrote shared memory since its last qr_wgmma_fence_shared */
};

struct qr_emulator_waiters {
    struct qr_emulator_lane *first, *last;
};

struct qr_emulator_barrier {
    int n_expected; /* while anybody waits */
    int n_arrived;
    struct qr_emulator_waiters waiters;
    char edge; /* its address stands for the order of memory that the barrier gives */
};

struct qr_emulator_warp {
    enum qr_emulator_warp_function function; /* while a lane waits */
    int n_arrived;
    int round; /* counts the meetings: those of two rounds use different slots */
    struct qr_emulator_waiters waiters;
    struct qr_emulator_slots slots[2];
    char edge;
};

struct qr_emulator_mbarrier {
    uint64_t *at;
    int n_arrivals; /* that end a phase */
    int n_pending;
    int64_t n_bytes; /* awaited; below 0 when copies landed before they were announced */
    int phase;       /* counts from 0 */
    bool fenced;     /* its initialisation */
    struct qr_emulator_lane *owner;
    struct qr_emulator_waiters waiters;
    char edge;
};

/* The launch ahead of one that starts early: it runs when a block can do no more without it. */
struct qr_emulator_previous {
    const struct qr_emulator_launch *launch; /* NULL: it has ended before */
    pthread_mutex_t lock;
    _Atomic bool done;
    char edge; /* from its end to the threads that wait for it */
};

struct qr_emulator_block {
    const struct qr_emulator_launch *launch;
    struct qr_emulator_previous *previous;
    struct qr_emulator_settings settings;
    int x, y;
    uint64_t random;        /* state of the generator */
    struct qr_fiber thread; /* the OS thread's own */
    char *stacks;
    struct qr_emulator_lane *lanes; /* [QR_EMULATOR_MAX_THREADS] */
    struct qr_emulator_warp *warps; /* [QR_EMULATOR_MAX_THREADS / QR_EMULATOR_WARP] */
    int n_lanes;
    int n_live;
    struct qr_emulator_lane **ready; /* ring of [QR_EMULATOR_MAX_THREADS] */
    int first_ready;
    int n_ready;
    struct qr_emulator_barrier barriers[QR_EMULATOR_BARRIERS];
    struct qr_emulator_mbarrier mbarriers[QR_EMULATOR_MAX_MBARRIERS];
    int n_mbarriers;
    struct qr_emulator_copy bulk[QR_EMULATOR_MAX_COPIES]; /* in flight, oldest first */
    int n_bulk;
    void *bulk_tsan; /* to ThreadSanitizer, bulk copies are a thread of their own */
    char bulk_edge;  /* from those who issue bulk copies to that thread */
    char start_edge; /* from the launch to its threads */
    char end_edge;   /* from the threads to what follows the block */
    struct qr_emulator_waiters early_waiters; /* for the launch ahead */
    bool waited_for_previous;
    struct qr_emulator_block *next_idle;
};

/* The block that runs on this OS thread, and its thread that runs. */
extern __thread struct qr_emulator_block *qr_emulator_block;
static inline struct qr_emulator_lane *qr_emulator_running(void)
{
    return (struct qr_emulator_lane *)(void *)qr_emulator_self;
}

/* ---- schedule.c ---- */

/* Below n, by the block's seed. n > 0. */
int qr_emulator_random(struct qr_emulator_block *block, int n);
/* The running thread waits in `list`; returns when something has woken it. */
void qr_emulator_wait_in(struct qr_emulator_waiters *list, const char *what, int which);
/* Makes all waiters ready. */
void qr_emulator_wake(struct qr_emulator_block *block, struct qr_emulator_waiters *list);
/* A point at which a random schedule may let others run first. */
void qr_emulator_maybe_yield(void);
/* Ends the running thread. */
__attribute__((noreturn)) void qr_emulator_end_thread(void);
/* Runs all threads of the block to their end. */
void qr_emulator_run_threads(struct qr_emulator_block *block);

/* ---- wgmma.c ---- */

/* Ends the process when the thread still has products in flight. */
void qr_emulator_check_products_end(const struct qr_emulator_lane *lane);

/* ---- copies.c ---- */

/* Whether what happens in the background is to happen at once. */
bool qr_emulator_lands_at_once(struct qr_emulator_block *block);
void qr_emulator_land_bulk(struct qr_emulator_block *block, int index);
/* Ends the process when the thread still has qr_copy_async in flight. */
void qr_emulator_check_thread_end(const struct qr_emulator_lane *lane);

#endif /* QUIRE_BASE_CUDA_EMULATOR_BLOCK_H */
