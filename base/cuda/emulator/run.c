/* run.c - the registry of kernels, and a launch: its blocks one after another on one or more OS
 * threads; see machine.h. */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cuda/emulator/block.h"

#ifdef QR_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum {
#if defined(QR_EMULATOR_ASAN) || defined(QR_EMULATOR_TSAN)
    STACK_BYTES = 256 << 10,
#else
    STACK_BYTES = 64 << 10,
#endif
    SHARED_ALIGNMENT = 1024,
    SHARED_GUARD = 128, /* bytes behind the block's shared memory that must stay as they are */
    GUARD_BYTE = 0xa5,
    POISON_BYTE = 0xff, /* NaN in F32, BF16, F16 and E4M3 */
    MAX_WORKERS = 16,
};

static struct qr_emulator_kernel *kernels;

void qr_emulator_register(struct qr_emulator_kernel *kernel)
{
    kernel->next = kernels;
    kernels = kernel;
}

const struct qr_emulator_kernel *qr_emulator_find(const char *name)
{
    for (const struct qr_emulator_kernel *kernel = kernels; kernel != NULL; kernel = kernel->next)
        if (strcmp(kernel->name, name) == 0)
            return kernel;
    return NULL;
}

void qr_emulator_die(const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    const struct qr_emulator_block *block = qr_emulator_block;
    if (block == NULL)
        fprintf(stderr, "CUDA emulator: %s\n", message);
    else
        fprintf(stderr, "CUDA emulator: kernel %s, block (%d, %d), thread %d: %s\n",
                block->launch->kernel->name, block->x, block->y,
                qr_emulator_self != NULL ? qr_emulator_self->index : -1, message);
    fflush(stderr);
    abort();
}

static void thread_main(void)
{
    qr_fiber_entered();
    struct qr_emulator_block *block = qr_emulator_block;
    qr_fiber_order_acquire(&block->start_edge);
    block->launch->kernel->run(block->launch->params);
    qr_fiber_order_release(&block->end_edge);
    qr_emulator_end_thread();
}

static void release_block(struct qr_emulator_block *block)
{
    qr_fiber_stacks_destroy(block->stacks, QR_EMULATOR_MAX_THREADS, STACK_BYTES);
    for (int i = 0; block->lanes != NULL && i < QR_EMULATOR_MAX_THREADS; i++) {
        qr_fiber_release(&block->lanes[i].fiber);
        qr_free(block->lanes[i].copies);
        qr_free(block->lanes[i].products);
    }
    qr_fiber_other_destroy(block->bulk_tsan);
    qr_free(block->lanes);
    qr_free(block->warps);
    qr_free(block->ready);
    qr_free(block);
}

static struct qr_emulator_block *create_block(void)
{
    struct qr_emulator_block *block = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*block));
    if (block == NULL)
        return NULL;
    block->stacks = qr_fiber_stacks_create(QR_EMULATOR_MAX_THREADS, STACK_BYTES);
    block->lanes =
        qr_calloc(QR_ARENA_ENGINE, QR_EMULATOR_MAX_THREADS, sizeof(struct qr_emulator_lane));
    block->warps = qr_calloc(QR_ARENA_ENGINE, QR_EMULATOR_MAX_THREADS / QR_EMULATOR_WARP,
                             sizeof(struct qr_emulator_warp));
    block->ready = qr_calloc(QR_ARENA_ENGINE, QR_EMULATOR_MAX_THREADS, sizeof(*block->ready));
    if (block->stacks == NULL || block->lanes == NULL || block->warps == NULL ||
        block->ready == NULL) {
        release_block(block);
        return NULL;
    }
    for (int i = 0; i < QR_EMULATOR_MAX_THREADS; i++) {
        struct qr_emulator_lane *lane = &block->lanes[i];
        lane->self.index = i;
        lane->self.lane = i % QR_EMULATOR_WARP;
        lane->self.warp = i / QR_EMULATOR_WARP;
        lane->fiber.stack = qr_fiber_stack(block->stacks, i, STACK_BYTES);
        lane->fiber.stack_size = STACK_BYTES;
    }
    block->bulk_tsan = qr_fiber_other_create();
    return block;
}

/* Kept between launches, also those of other OS threads: making one takes as long as many a
 * launch, under ThreadSanitizer far longer. */
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static struct qr_emulator_block *idle;

static struct qr_emulator_block *take_block(void)
{
    pthread_mutex_lock(&idle_lock);
    struct qr_emulator_block *block = idle;
    if (block != NULL)
        idle = block->next_idle;
    pthread_mutex_unlock(&idle_lock);
    if (block == NULL)
        block = create_block();
    if (block == NULL)
        qr_emulator_die("no memory for the threads of a block");
    return block;
}

static void put_block(struct qr_emulator_block *block)
{
    pthread_mutex_lock(&idle_lock);
    block->next_idle = idle;
    idle = block;
    pthread_mutex_unlock(&idle_lock);
}

__attribute__((destructor)) static void release_idle_blocks(void)
{
    while (idle != NULL) {
        struct qr_emulator_block *block = idle;
        idle = block->next_idle;
        release_block(block);
    }
}

static void reset_block(struct qr_emulator_block *block, unsigned char *shared)
{
    for (int i = 0; i < block->n_lanes; i++) {
        struct qr_emulator_lane *lane = &block->lanes[i];
        lane->self.block_x = block->x;
        lane->self.block_y = block->y;
        lane->self.grid_x = (int)block->launch->grid_x;
        lane->self.shared = shared;
        lane->waits_at = NULL;
        lane->done = false;
        lane->open_group = 0;
        lane->n_copies = 0;
        lane->shared_unfenced = false;
        qr_fiber_prepare(&lane->fiber, thread_main);
    }
    for (int i = 0; i < block->n_lanes / QR_EMULATOR_WARP; i++) {
        block->warps[i].n_arrived = 0;
        block->warps[i].waiters = (struct qr_emulator_waiters){NULL, NULL};
    }
    memset(block->barriers, 0, sizeof(block->barriers));
    block->n_mbarriers = 0;
    block->n_bulk = 0;
    block->waited_for_previous = false;
    block->early_waiters = (struct qr_emulator_waiters){NULL, NULL};
}

static void check_block_end(const struct qr_emulator_block *block, const unsigned char *shared)
{
    if (block->n_bulk > 0)
        qr_emulator_die("the block ends with %d bulk copies in flight", block->n_bulk);
    if (block->launch->early && !block->waited_for_previous)
        qr_emulator_die("launched early, but qr_wait_for_previous_kernel is never called");
#ifndef QR_EMULATOR_ASAN
    for (int i = 0; i < SHARED_GUARD; i++)
        if (shared[block->launch->shared_bytes + (size_t)i] != GUARD_BYTE)
            qr_emulator_die("wrote %d bytes past the block's %u bytes of shared memory", i,
                            block->launch->shared_bytes);
#else
    (void)shared;
#endif
}

static void run_block(struct qr_emulator_block *block, uint64_t number, unsigned char *shared)
{
    const struct qr_emulator_launch *launch = block->launch;
    block->x = (int)(number % launch->grid_x);
    block->y = (int)(number / launch->grid_x);
    block->random = (block->settings.seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (number + 1);
    memset(shared, POISON_BYTE, launch->shared_bytes);
    reset_block(block, shared);
    qr_fiber_order_release(&block->start_edge);
    qr_emulator_run_threads(block);
    qr_fiber_order_acquire(&block->end_edge); /* the next block uses the same shared memory */
    check_block_end(block, shared);
}

/* ---- a launch ---- */

struct run {
    const struct qr_emulator_launch *launch;
    struct qr_emulator_settings settings;
    struct qr_emulator_previous previous;
    _Atomic uint64_t next; /* block, counted in the order of the schedule */
};

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The i-th of n blocks to start. */
static uint64_t block_in_order(uint64_t seed, uint64_t i, uint64_t n)
{
    if (seed == 0)
        return i;
    if (seed == 1)
        return n - 1 - i;
    uint64_t step = seed * 7 % n + 1;
    while (greatest_common_divisor(step, n) != 1)
        step++;
    return (i * step + seed) % n;
}

/* What is allocated for n_bytes of shared memory. */
static size_t shared_room(uint32_t n_bytes)
{
    return ((size_t)n_bytes + SHARED_GUARD + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT *
           SHARED_ALIGNMENT;
}

static unsigned char *create_shared(uint32_t n_bytes)
{
    size_t total = shared_room(n_bytes);
    unsigned char *shared = qr_aligned_alloc(QR_ARENA_ENGINE, SHARED_ALIGNMENT, total);
    if (shared == NULL)
        qr_emulator_die("no memory for shared memory");
    memset(shared + n_bytes, GUARD_BYTE, total - n_bytes);
#ifdef QR_EMULATOR_ASAN
    ASAN_POISON_MEMORY_REGION(shared + n_bytes, total - n_bytes);
#endif
    return shared;
}

static void destroy_shared(unsigned char *shared, uint32_t n_bytes)
{
#ifdef QR_EMULATOR_ASAN
    ASAN_UNPOISON_MEMORY_REGION(shared + n_bytes, shared_room(n_bytes) - n_bytes);
#else
    (void)n_bytes;
#endif
    qr_free(shared);
}

static void *work(void *argument)
{
    struct run *run = argument;
    struct qr_emulator_block *block = take_block();
    block->launch = run->launch;
    block->previous = &run->previous;
    block->settings = run->settings;
    block->n_lanes = (int)run->launch->block_size;
    qr_fiber_of_thread(&block->thread);
    unsigned char *shared = create_shared(run->launch->shared_bytes);
    qr_emulator_block = block;

    uint64_t n_blocks = (uint64_t)run->launch->grid_x * run->launch->grid_y;
    uint64_t i;
    while ((i = atomic_fetch_add(&run->next, 1)) < n_blocks)
        run_block(block, block_in_order(run->settings.seed, i, n_blocks), shared);

    qr_emulator_block = NULL;
    destroy_shared(shared, run->launch->shared_bytes);
    put_block(block);
    return NULL;
}

void qr_emulator_run(const struct qr_emulator_launch *launch)
{
    struct run run = {.launch = launch,
                      .settings = qr_emulator_get_settings(),
                      .previous = {.launch = launch->previous, .lock = PTHREAD_MUTEX_INITIALIZER}};
    uint64_t n_blocks = (uint64_t)launch->grid_x * launch->grid_y;
    int n_workers = run.settings.n_workers < MAX_WORKERS ? run.settings.n_workers : MAX_WORKERS;
    if ((uint64_t)n_workers > n_blocks)
        n_workers = (int)n_blocks;

    pthread_t workers[MAX_WORKERS];
    for (int i = 1; i < n_workers; i++)
        if (pthread_create(&workers[i], NULL, work, &run) != 0)
            qr_emulator_die("cannot start a thread for %s", launch->kernel->name);
    work(&run);
    for (int i = 1; i < n_workers; i++)
        pthread_join(workers[i], NULL);
}
