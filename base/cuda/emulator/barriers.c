/* barriers.c - barriers of a block, meetings of a warp, and the products that a warp computes
 * together; see machine.h. */
#include "base/cuda/emulator/block.h"

#include "base/dtype.h"

/* ---- barriers of a block ---- */

static void arrive(int id, int n_threads, const char *what)
{
    struct qr_emulator_block *block = qr_emulator_block;
    struct qr_emulator_barrier *barrier = &block->barriers[id];
    if (barrier->n_arrived > 0 && barrier->n_expected != n_threads)
        qr_emulator_die("barrier %d of %d threads; others wait at it for %d", id, n_threads,
                        barrier->n_expected);
    qr_fiber_order_release(&barrier->edge);
    barrier->n_expected = n_threads;
    if (++barrier->n_arrived == n_threads) {
        barrier->n_arrived = 0;
        qr_emulator_wake(block, &barrier->waiters);
        qr_emulator_maybe_yield();
    } else {
        qr_emulator_wait_in(&barrier->waiters, what, id);
    }
    qr_fiber_order_acquire(&barrier->edge);
}

void qr_emulator_sync_block(void)
{
    arrive(0, qr_emulator_block->n_lanes, "qr_sync_block");
}

void qr_emulator_sync_some(int id, int n_threads)
{
    if (id < 1 || id >= QR_EMULATOR_BARRIERS)
        qr_emulator_die("qr_sync_some: barrier %d is not in [1, 15]", id);
    if (n_threads < QR_EMULATOR_WARP || n_threads % QR_EMULATOR_WARP != 0 ||
        n_threads > qr_emulator_block->n_lanes)
        qr_emulator_die("qr_sync_some: %d threads, in a block of %d, in warps of 32", n_threads,
                        qr_emulator_block->n_lanes);
    arrive(id, n_threads, "qr_sync_some");
}

void qr_emulator_fence(void)
{
    static char edge; /* all fences are ordered: both sides of an exchange need one */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    qr_fiber_order_acquire(&edge);
    qr_fiber_order_release(&edge);
    if (qr_emulator_block != NULL)
        qr_emulator_maybe_yield();
}

void qr_emulator_wait_for_previous_kernel(void)
{
    struct qr_emulator_block *block = qr_emulator_block;
    block->waited_for_previous = true;
    if (block->previous->launch == NULL)
        return;
    if (!atomic_load(&block->previous->done))
        qr_emulator_wait_in(&block->early_waiters, "qr_wait_for_previous_kernel", 0);
    qr_fiber_order_acquire(&block->previous->edge);
}

/* ---- a warp ---- */

static const char *function_name(enum qr_emulator_warp_function function)
{
    static const char *const names[] = {
        [QR_EMULATOR_SYNC_WARP] = "qr_sync_warp",
        [QR_EMULATOR_SHUFFLE] = "qr_shuffle",
        [QR_EMULATOR_BALLOT] = "qr_ballot",
        [QR_EMULATOR_LOAD_MATRIX] = "qr_load_matrix_x4",
        [QR_EMULATOR_TRANSPOSE] = "qr_transpose_8x8",
        [QR_EMULATOR_MMA_BF16] = "qr_mma (bf16)",
        [QR_EMULATOR_MMA_F16] = "qr_mma (f16)",
        [QR_EMULATOR_WGMMA_BF16] = "qr_wgmma (bf16)",
        [QR_EMULATOR_WGMMA_F16] = "qr_wgmma (f16)",
    };
    return names[function];
}

typedef float row_of_8 __attribute__((vector_size(32)));

static float element(enum qr_emulator_warp_function function, uint32_t pair, int half)
{
    uint16_t bits = (uint16_t)(half == 0 ? pair : pair >> 16);
    return function == QR_EMULATOR_MMA_BF16 ? qr_bf16_to_f32(bits) : qr_f16_to_f32(bits);
}

/*
 * C += A B, from the fragments that primitives.cuh draws. Products are exact; sums go in F32 by
 * ascending k, starting from C. (A GPU adds the products of a step at once, with its own rounding.)
 */
static void multiply(enum qr_emulator_warp_function function, struct qr_emulator_slots *slots)
{
    float a[16][16];
    row_of_8 b[16], c[16];
    for (int lane = 0; lane < QR_EMULATOR_WARP; lane++) {
        const uint32_t *word = slots->word[lane];
        int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 4; i++)
                a[g + 8 * (i % 2)][2 * t + half + 8 * (i / 2)] = element(function, word[i], half);
            for (int i = 0; i < 2; i++)
                b[2 * t + half + 8 * i][g] = element(function, word[4 + i], half);
            for (int i = 0; i < 2; i++)
                __builtin_memcpy((float *)&c[g + 8 * i] + 2 * t + half, &word[6 + 2 * i + half], 4);
        }
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            c[row] += a[row][k] * b[k];
    for (int lane = 0; lane < QR_EMULATOR_WARP; lane++) {
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            __builtin_memcpy(&slots->word[lane][6 + i],
                             (const float *)&c[g + 8 * (i / 2)] + 2 * t + i % 2, 4);
    }
}

const struct qr_emulator_slots *qr_emulator_exchange(enum qr_emulator_warp_function function,
                                                     const uint32_t *words, int n_words)
{
    struct qr_emulator_block *block = qr_emulator_block;
    struct qr_emulator_warp *warp = &block->warps[qr_emulator_self->warp];
    struct qr_emulator_slots *slots = &warp->slots[warp->round % 2];
    if (warp->n_arrived > 0 && warp->function != function)
        qr_emulator_die("lanes of a warp meet in different functions: %s, others wait in %s",
                        function_name(function), function_name(warp->function));
    warp->function = function;
    for (int i = 0; i < n_words; i++)
        slots->word[qr_emulator_self->lane][i] = words[i];
    /* Only the warp's barrier orders memory; the other functions pass values. */
    bool orders = function == QR_EMULATOR_SYNC_WARP;
    if (orders)
        qr_fiber_order_release(&warp->edge);
    if (++warp->n_arrived == QR_EMULATOR_WARP) {
        if (function == QR_EMULATOR_MMA_BF16 || function == QR_EMULATOR_MMA_F16)
            multiply(function, slots);
        warp->n_arrived = 0;
        warp->round++;
        qr_emulator_wake(block, &warp->waiters);
        qr_emulator_maybe_yield();
    } else {
        qr_emulator_wait_in(&warp->waiters, function_name(function), qr_emulator_self->warp);
    }
    if (orders)
        qr_fiber_order_acquire(&warp->edge);
    return slots;
}
