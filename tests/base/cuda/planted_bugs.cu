/*
 * planted_bugs.cu - kernels that are wrong on purpose: what the emulator must catch. Never compiled
 * for a GPU.
 */
#include "base/cuda/primitives.cuh"
#include "tests/base/cuda/planted_bugs.h"

struct shared_of_block {
    uint32_t words[512];
    uint64_t barriers[4];
};

QR_DEVICE void set_up_barrier(uint64_t *barrier, int n_arrivals, bool fence)
{
    if (qr_thread_index() == 0) {
        qr_mbarrier_init(barrier, n_arrivals);
        if (fence)
            qr_mbarrier_init_fence();
    }
    qr_sync_block();
}

/* Copies in the background: each thread of a warp 16 bytes, read by the whole warp. */
QR_DEVICE void async_bugs(const qr_planted_params &p, shared_of_block *s)
{
    int i = qr_thread_index();
    if (i < 32) {
        bool misaligned = p.bug == PLANTED_MISALIGNED_ASYNC,
             global = p.bug == PLANTED_ASYNC_TO_GLOBAL;
        void *to = global ? (void *)(p.out + 4 * i) : s->words + 4 * i;
        qr_copy_async(to, p.in + 4 * i + (misaligned ? 1 : 0), true);
        qr_copy_async_commit();
        if (p.bug == PLANTED_ASYNC_WAIT_OFF_BY_ONE)
            qr_copy_async_wait<1>();
        else if (p.bug != PLANTED_ASYNC_IN_FLIGHT)
            qr_copy_async_wait<0>();
    }
    qr_sync_block();
    p.out[i] = s->words[i] + 1;
    if (p.bug == PLANTED_ASYNC_WAIT_OFF_BY_ONE && i < 32)
        qr_copy_async_wait<0>();
}

/* Values pass through shared memory to another thread. */
QR_DEVICE void barrier_bugs(const qr_planted_params &p, shared_of_block *s)
{
    int i = qr_thread_index();
    s->words[i] = p.in[i] + 1;
    switch (p.bug) {
    case PLANTED_NO_SYNC_BLOCK:
        p.out[(i + 64) % 128] = s->words[(i + 64) % 128];
        return;
    case PLANTED_NO_SYNC_WARP:
        p.out[i ^ 1] = s->words[i ^ 1];
        return;
    case PLANTED_DIVERGENT_BARRIER:
        if (i < 64)
            qr_sync_block();
        break;
    case PLANTED_DIVERGENT_WARP:
        if (i % 32 < 16)
            s->words[i] += qr_shuffle_xor(0u, 1);
        break;
    case PLANTED_DIFFERENT_FUNCTIONS:
        if (i % 32 < 16)
            s->words[i] += qr_shuffle_xor(0u, 1);
        else
            s->words[i] += qr_ballot(false);
        break;
    case PLANTED_NAMED_BARRIER_COUNT:
        qr_sync_some(3, i < 32 ? 64 : 128);
        break;
    case PLANTED_NAMED_BARRIER_ID:
        qr_sync_some(16, 128);
        break;
    case PLANTED_UNINITIALISED_SHARED:
        p.out[i] = s->words[i + 128];
        return;
    default:
        break;
    }
    qr_sync_block();
    p.out[(i + 64) % 128] = s->words[(i + 64) % 128];
}

/* Two bulk copies of 256 bytes, on the barrier of each. */
QR_DEVICE void bulk_bugs(const qr_planted_params &p, shared_of_block *s)
{
    int i = qr_thread_index();
    bool fence = p.bug != PLANTED_NO_INIT_FENCE;
    set_up_barrier(s->barriers, p.bug == PLANTED_PARITY_AHEAD ? 1 : 2, fence);
    set_up_barrier(s->barriers + 1, 1, fence);
    if (i == 0) {
        bool misaligned = p.bug == PLANTED_MISALIGNED_BULK;
        int n_bytes = p.bug == PLANTED_BULK_BYTES ? 248 : 256;
        if (p.bug != PLANTED_BULK_NEVER_ANNOUNCED) {
            qr_mbarrier_arrive_expect(s->barriers, 256);
            qr_mbarrier_arrive_expect(s->barriers + 1, 256);
        }
        qr_bulk_copy(s->words, p.in + (misaligned ? 1 : 0), n_bytes, s->barriers);
        qr_bulk_copy(s->words + 64, p.in + 64, 256, s->barriers + 1);
    }
    if (i == 32 && p.bug != PLANTED_PARITY_AHEAD)
        qr_mbarrier_arrive(s->barriers);
    if (p.bug == PLANTED_BULK_IN_FLIGHT)
        return;
    if (p.bug == PLANTED_PARITY_AHEAD) {
        qr_mbarrier_wait(s->barriers, 1); /* of the phase after the first: holds at once */
    } else if (p.bug != PLANTED_NO_MBARRIER_WAIT) {
        qr_mbarrier_wait(s->barriers, 0);
        qr_mbarrier_wait(s->barriers + 1, 0);
    }
    p.out[i] = s->words[i] + 1;
    if (p.bug == PLANTED_PARITY_AHEAD || p.bug == PLANTED_NO_MBARRIER_WAIT) {
        qr_mbarrier_wait(s->barriers, 0);
        qr_mbarrier_wait(s->barriers + 1, 0);
    }
}

QR_DEVICE void mbarrier_bugs(const qr_planted_params &p, shared_of_block *s)
{
    if (p.bug == PLANTED_MBARRIER_NOT_INITIALISED)
        qr_mbarrier_arrive(s->barriers);
    set_up_barrier(s->barriers, 3, true);
    if (p.bug == PLANTED_MBARRIER_TWICE)
        set_up_barrier(s->barriers, 3, true);
    if (p.bug == PLANTED_MBARRIER_OVERWRITTEN && qr_thread_index() == 0)
        s->barriers[0] = 0;
    qr_sync_block();
    if (p.bug == PLANTED_TOO_MANY_ARRIVALS && qr_thread_index() == 0)
        qr_mbarrier_arrive_expect(s->barriers, 16); /* what never lands keeps the phase open */
    qr_mbarrier_arrive(s->barriers);
}

QR_DEVICE void address_bugs(const qr_planted_params &p, shared_of_block *s)
{
    int i = qr_thread_index();
    uint32_t r[4] = {0, 0, 0, 0};
    qr_chunk chunk = {{0, 0, 0, 0}};
    switch (p.bug) {
    case PLANTED_MISALIGNED_LOAD:
        chunk = qr_load_chunk(p.in + 2);
        break;
    case PLANTED_STREAM_FROM_SHARED:
        chunk = qr_load_stream(s->words);
        break;
    case PLANTED_MISALIGNED_ROW:
        qr_load_matrix_x4(r, (unsigned char *)s->words + 8 * (i % 32));
        break;
    case PLANTED_PAST_SHARED:
        if (i == 0)
            ((uint32_t *)s)[PLANTED_SHARED / 4 + 1] = 1;
        break;
    case PLANTED_PAST_GLOBAL:
        if (i == 0)
            p.out[PLANTED_WORDS + 2] = 1;
        break;
    case PLANTED_READ_PAST_GLOBAL:
        r[0] = p.in[PLANTED_WORDS + i / 127];
        break;
    default:
        break;
    }
    p.out[i] = p.in[i] + 1 + (chunk.word[0] & 0) + (r[0] & 0);
}

/* A product of ones and zeros, which cp.async brings. */
QR_DEVICE void wgmma_bugs(const qr_planted_params &p, shared_of_block *s)
{
    int i = qr_thread_index();
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    uint64_t operand = qr_wgmma_operand(s->words);
    float c[32];

    for (int k = 0; k < 32; k++)
        c[k] = 0.0f;
    qr_copy_async(s->words + 4 * i, p.in, false); /* zeros */
    qr_copy_async_commit();
    qr_copy_async_wait<0>();
    if (p.bug != PLANTED_WGMMA_NO_SHARED_FENCE)
        qr_wgmma_fence_shared();
    qr_sync_block();
    if (p.bug != PLANTED_WGMMA_NO_FENCE)
        qr_wgmma_fence();
    if (p.bug == PLANTED_WGMMA_OPERAND)
        operand ^= (uint64_t)1 << 63;
    qr_wgmma<true>(qr_bf16{}, c, ones, operand, true);
    qr_wgmma_commit();
    if (p.bug == PLANTED_WGMMA_OVERWRITTEN)
        s->words[4 * i] = 0x3f803f80u;
    if (p.bug == PLANTED_WGMMA_SETTLED_EARLY)
        qr_wgmma_settle(c);
    if (p.bug == PLANTED_WGMMA_IN_FLIGHT)
        return;
    uint32_t sum = qr_float_bits(c[0]);
    qr_wgmma_wait<0>();
    if (p.bug != PLANTED_WGMMA_NO_WAIT)
        sum = qr_float_bits(c[0]);
    p.out[i] = p.in[i] + 1 + sum;
}

/* Blocks that meet in global memory: the last one to count reads what the others wrote. */
QR_DEVICE void global_bugs(const qr_planted_params &p)
{
    int i = qr_thread_index();
    if (p.bug == PLANTED_RACE_BETWEEN_BLOCKS) {
        p.out[i] = p.in[i] + 1 + (uint32_t)qr_block_index() * 0;
        return;
    }
    if (i != 0)
        return;
    p.out[128 + qr_block_index()] = 1;
    if (p.bug != PLANTED_NO_FENCE)
        qr_fence();
    if (qr_atomic_add(p.counter, 1) == qr_grid_size() - 1) {
        qr_fence();
        for (int k = 0; k < 128; k++)
            p.out[k] = p.in[k] + p.out[128 + k % qr_grid_size()];
    }
}

QR_KERNEL(qr_planted_bug, qr_planted_params, PLANTED_THREADS, 1)
{
    QR_SHARED(shared);
    shared_of_block *s = (shared_of_block *)(void *)shared;
    switch (p.bug) {
    case PLANTED_ASYNC_WAIT_OFF_BY_ONE:
    case PLANTED_ASYNC_IN_FLIGHT:
    case PLANTED_MISALIGNED_ASYNC:
    case PLANTED_ASYNC_TO_GLOBAL:
        async_bugs(p, s);
        return;
    case PLANTED_NO_MBARRIER_WAIT:
    case PLANTED_PARITY_AHEAD:
    case PLANTED_BULK_NEVER_ANNOUNCED:
    case PLANTED_BULK_IN_FLIGHT:
    case PLANTED_NO_INIT_FENCE:
    case PLANTED_MISALIGNED_BULK:
    case PLANTED_BULK_BYTES:
        bulk_bugs(p, s);
        return;
    case PLANTED_TOO_MANY_ARRIVALS:
    case PLANTED_MBARRIER_NOT_INITIALISED:
    case PLANTED_MBARRIER_OVERWRITTEN:
    case PLANTED_MBARRIER_TWICE:
        mbarrier_bugs(p, s);
        return;
    case PLANTED_MISALIGNED_LOAD:
    case PLANTED_STREAM_FROM_SHARED:
    case PLANTED_MISALIGNED_ROW:
    case PLANTED_PAST_SHARED:
    case PLANTED_PAST_GLOBAL:
    case PLANTED_READ_PAST_GLOBAL:
        address_bugs(p, s);
        return;
    case PLANTED_WGMMA_NO_WAIT:
    case PLANTED_WGMMA_OVERWRITTEN:
    case PLANTED_WGMMA_NO_FENCE:
    case PLANTED_WGMMA_NO_SHARED_FENCE:
    case PLANTED_WGMMA_SETTLED_EARLY:
    case PLANTED_WGMMA_OPERAND:
    case PLANTED_WGMMA_IN_FLIGHT:
        wgmma_bugs(p, s);
        return;
    case PLANTED_RACE_BETWEEN_BLOCKS:
    case PLANTED_NO_FENCE:
        global_bugs(p);
        return;
    default:
        barrier_bugs(p, s);
        return;
    }
}

/* The same protocols without a mistake: they must pass everywhere. */
QR_KERNEL(qr_planted_none, qr_planted_params, PLANTED_THREADS, 1)
{
    QR_SHARED(shared);
    shared_of_block *s = (shared_of_block *)(void *)shared;
    if (p.bug == 0)
        async_bugs(p, s);
    else if (p.bug == -1)
        bulk_bugs(p, s);
    else if (p.bug == -2)
        barrier_bugs(p, s);
    else if (p.bug == -4)
        wgmma_bugs(p, s);
    else
        global_bugs(p);
}

/* Counts launches in out. bug: it reads what the launch before wrote ahead of waiting for it. */
QR_KERNEL(qr_planted_early, qr_planted_params, PLANTED_THREADS, 1)
{
    uint32_t *count = p.out + qr_thread_index(), before = 0;
    if (p.bug != 0)
        before = *count;
    qr_wait_for_previous_kernel();
    qr_allow_next_kernel();
    if (p.bug == 0)
        before = *count;
    *count = before + 1;
}
