/*
 * machine.h - what kernels that g++ compiled call (through primitives.h), and what the emulated
 * driver calls to run them.
 *
 * Kernels are C++ and instrumented by the sanitizers; everything behind these functions is C, and
 * not instrumented by ThreadSanitizer, which so sees the kernels' accesses and the order that
 * the primitives give, and nothing of the emulator's own state.
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_MACHINE_H
#define QUIRE_BASE_CUDA_EMULATOR_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    QR_EMULATOR_WARP = 32,
    QR_EMULATOR_MAX_THREADS = 1024, /* of a block */
    QR_EMULATOR_SLOT_WORDS = 10,    /* what a lane passes to the others */
};

/* One kernel of the build; lives as long as the process. */
struct qr_emulator_kernel {
    const char *name;
    size_t params_bytes;
    int max_threads; /* the launch bounds */
    int min_blocks;
    void (*run)(const void *params); /* one thread of it */
    void (*clear_padding)(void *params);
    struct qr_emulator_kernel *next;
};

struct qr_emulator_launch {
    const struct qr_emulator_kernel *kernel;
    const void *params; /* [kernel->params_bytes] */
    uint32_t grid_x, grid_y;
    uint32_t block_size;
    uint32_t shared_bytes;
    bool early; /* may start before the launch ahead of it has ended */
    /* early: that launch, where it has not run yet: it does when nothing else can go on */
    const struct qr_emulator_launch *previous;
};

/* The thread that runs; the first part of what the emulator knows about it. */
struct qr_emulator_thread {
    int index; /* in the block */
    int lane;
    int warp;
    int block_x;
    int block_y;
    int grid_x;
    unsigned char *shared; /* of the block */
};

/* Warp functions: lanes that meet must have called the same. */
enum qr_emulator_warp_function {
    QR_EMULATOR_SYNC_WARP,
    QR_EMULATOR_SHUFFLE,
    QR_EMULATOR_BALLOT,
    QR_EMULATOR_LOAD_MATRIX,
    QR_EMULATOR_TRANSPOSE,
    QR_EMULATOR_MMA_BF16,
    QR_EMULATOR_MMA_F16,
    QR_EMULATOR_WGMMA_BF16,
    QR_EMULATOR_WGMMA_F16,
};

struct qr_emulator_slots {
    uint32_t word[QR_EMULATOR_WARP][QR_EMULATOR_SLOT_WORDS];
};

QR_BEGIN_DECLS

/* Set while a kernel runs on this OS thread. */
extern __thread struct qr_emulator_thread *qr_emulator_self;

void qr_emulator_register(struct qr_emulator_kernel *kernel);
const struct qr_emulator_kernel *qr_emulator_find(const char *name); /* NULL: none */
/* Runs all blocks. The launch is within the limits of the device. */
void qr_emulator_run(const struct qr_emulator_launch *launch);

/* Ends the process: the message, the kernel, the block, the thread. */
__attribute__((noreturn, cold)) void qr_emulator_die(const char *format, ...) QR_PRINTF(1, 2);

void qr_emulator_sync_block(void);
void qr_emulator_sync_some(int id, int n_threads);
void qr_emulator_fence(void);
/*
 * Every lane passes n_words; returns what all passed, valid until the second next call. For a
 * product, words 0-3 are A, 4-5 B, 6-9 C, and C holds the sums afterwards.
 */
const struct qr_emulator_slots *qr_emulator_exchange(enum qr_emulator_warp_function function,
                                                     const uint32_t *words, int n_words);

/* Address of a 16-byte access of global or shared memory. */
void qr_emulator_check_aligned(const void *p, const char *function);
/* n_bytes at p lie in the block's shared memory and are aligned to `alignment`. */
void qr_emulator_check_shared(const void *p, size_t n_bytes, size_t alignment,
                              const char *function);
/* Memory that is not shared memory. */
void qr_emulator_check_global(const void *p, const char *function);

void qr_emulator_copy_async(void *shared, const void *global, bool ok);
void qr_emulator_copy_async_commit(void);
void qr_emulator_copy_async_wait(int n_pending);

void qr_emulator_mbarrier_init(uint64_t *barrier, int n_arrivals);
void qr_emulator_mbarrier_init_fence(void);
void qr_emulator_mbarrier_arrive(uint64_t *barrier, int n_bytes);
void qr_emulator_mbarrier_wait(uint64_t *barrier, int parity);
void qr_emulator_bulk_copy(void *shared, const void *global, int n_bytes, uint64_t *barrier);

/* c [32] of this thread: NaN until the wait that ends the product. a [4]. */
void qr_emulator_wgmma(enum qr_emulator_warp_function function, float *c, const uint32_t *a,
                       uint64_t b, bool rows_are_k, bool adds);
void qr_emulator_wgmma_fence(void);
void qr_emulator_wgmma_fence_shared(void);
void qr_emulator_wgmma_commit(void);
void qr_emulator_wgmma_wait(int n_pending);
void qr_emulator_wgmma_settle(const float *c); /* no product of them is in flight */

void qr_emulator_wait_for_previous_kernel(void);

/* Copies as the thread that runs: the only part here that ThreadSanitizer sees (memory_move.c). */
void qr_emulator_move(void *to, const void *from, size_t n_bytes);
void qr_emulator_zero(void *to, size_t n_bytes);

QR_END_DECLS

#endif /* QUIRE_BASE_CUDA_EMULATOR_MACHINE_H */
