/*
 * copies.c - copies in the background and the barriers they land on; see machine.h.
 *
 * An mbarrier's eight bytes hold a mark and its number, so that a kernel which overwrites it or
 * never initialised it is found out.
 */
#include "base/cuda/emulator/block.h"

#include "base/alloc.h"
#include "base/array.h"

/* ---- addresses ---- */

void qr_emulator_check_aligned(const void *p, const char *function)
{
    if ((uintptr_t)p % 16 != 0)
        qr_emulator_die("%s: address %p is not a multiple of 16", function, p);
}

static bool is_shared(const void *p, size_t n_bytes)
{
    uintptr_t start = (uintptr_t)qr_emulator_self->shared, at = (uintptr_t)p;
    return at >= start && at + n_bytes <= start + qr_emulator_block->launch->shared_bytes;
}

void qr_emulator_check_shared(const void *p, size_t n_bytes, size_t alignment, const char *function)
{
    if ((uintptr_t)p % alignment != 0)
        qr_emulator_die("%s: address %p is not a multiple of %zu", function, p, alignment);
    if (!is_shared(p, n_bytes))
        qr_emulator_die("%s: %zu bytes at %p are not in the block's shared memory (%p, %u bytes)",
                        function, n_bytes, p, (const void *)qr_emulator_self->shared,
                        qr_emulator_block->launch->shared_bytes);
}

void qr_emulator_check_global(const void *p, const char *function)
{
    if (is_shared(p, 1))
        qr_emulator_die("%s: address %p is shared memory", function, p);
}

/* ---- cp.async ---- */

bool qr_emulator_lands_at_once(struct qr_emulator_block *block)
{
    switch (block->settings.async) {
    case QR_EMULATOR_LATE:
        return false;
    case QR_EMULATOR_EARLY:
        return true;
    case QR_EMULATOR_RANDOM:
        break;
    }
    return qr_emulator_random(block, 2) == 0;
}

static void land(const struct qr_emulator_copy *copy)
{
    if (copy->from != NULL)
        qr_emulator_move(copy->to, copy->from, (size_t)copy->n_bytes);
    else
        qr_emulator_zero(copy->to, (size_t)copy->n_bytes);
}

void qr_emulator_copy_async(void *shared, const void *global, bool ok)
{
    qr_emulator_check_shared(shared, 16, 16, "qr_copy_async");
    if (ok) {
        qr_emulator_check_aligned(global, "qr_copy_async");
        qr_emulator_check_global(global, "qr_copy_async");
    }
    struct qr_emulator_lane *self = qr_emulator_running();
    struct qr_emulator_copy copy = {
        .to = shared, .from = ok ? global : NULL, .n_bytes = 16, .group = self->open_group};
    if (qr_emulator_lands_at_once(qr_emulator_block)) {
        land(&copy);
        return;
    }
    if (self->n_copies == QR_EMULATOR_MAX_COPIES)
        qr_emulator_die("qr_copy_async: more than %d copies of one thread in flight",
                        QR_EMULATOR_MAX_COPIES);
    struct qr_emulator_copy *copies = qr_array_grow(QR_ARENA_ENGINE, self->copies, self->n_copies,
                                                    &self->copy_capacity, sizeof(*copies));
    if (copies == NULL)
        qr_emulator_die("qr_copy_async: no memory");
    self->copies = copies;
    copies[self->n_copies++] = copy;
}

void qr_emulator_copy_async_commit(void)
{
    qr_emulator_running()->open_group++;
}

void qr_emulator_copy_async_wait(int n_pending)
{
    struct qr_emulator_lane *self = qr_emulator_running();
    int n_landed = 0;
    self->shared_unfenced = true;
    while (n_landed < self->n_copies && self->copies[n_landed].group < self->open_group - n_pending)
        land(&self->copies[n_landed++]);
    self->n_copies -= n_landed;
    for (int i = 0; i < self->n_copies; i++)
        self->copies[i] = self->copies[n_landed + i];
}

void qr_emulator_check_thread_end(const struct qr_emulator_lane *lane)
{
    if (lane->n_copies > 0)
        qr_emulator_die("the thread ends with %d qr_copy_async in flight", lane->n_copies);
}

/* ---- mbarriers ---- */

static const uint64_t MARK = UINT64_C(0x6d62617272690000); /* the number is in the low 16 bits */
static const uint64_t NUMBER_BITS = 0xffff;

static void check_capability(const char *function)
{
    if (qr_emulator_block->settings.capability < 90)
        qr_emulator_die("%s: a device of compute capability %d.%d has none", function,
                        qr_emulator_block->settings.capability / 10,
                        qr_emulator_block->settings.capability % 10);
}

static struct qr_emulator_mbarrier *find(uint64_t *at, const char *function)
{
    check_capability(function);
    qr_emulator_check_shared(at, sizeof(*at), sizeof(*at), function);
    struct qr_emulator_block *block = qr_emulator_block;
    uint64_t number = *at & NUMBER_BITS;
    if ((*at & ~NUMBER_BITS) != MARK || number >= (uint64_t)block->n_mbarriers ||
        block->mbarriers[number].at != at)
        qr_emulator_die("%s: the mbarrier at %p is not initialised, or was overwritten", function,
                        (void *)at);
    struct qr_emulator_mbarrier *barrier = &block->mbarriers[number];
    if (!barrier->fenced && barrier->owner != qr_emulator_running())
        qr_emulator_die("%s: the mbarrier at %p was initialised without qr_mbarrier_init_fence",
                        function, (void *)at);
    return barrier;
}

void qr_emulator_mbarrier_init(uint64_t *at, int n_arrivals)
{
    enum { MAX_ARRIVALS = (1 << 20) - 1 };
    check_capability("qr_mbarrier_init");
    qr_emulator_check_shared(at, sizeof(*at), sizeof(*at), "qr_mbarrier_init");
    struct qr_emulator_block *block = qr_emulator_block;
    if (n_arrivals < 1 || n_arrivals > MAX_ARRIVALS)
        qr_emulator_die("qr_mbarrier_init: %d arrivals", n_arrivals);
    for (int i = 0; i < block->n_mbarriers; i++)
        if (block->mbarriers[i].at == at)
            qr_emulator_die("qr_mbarrier_init: the mbarrier at %p is initialised twice",
                            (void *)at);
    if (block->n_mbarriers == QR_EMULATOR_MAX_MBARRIERS)
        qr_emulator_die("qr_mbarrier_init: more than %d mbarriers", QR_EMULATOR_MAX_MBARRIERS);
    *at = MARK | (uint64_t)block->n_mbarriers;
    block->mbarriers[block->n_mbarriers++] =
        (struct qr_emulator_mbarrier){.at = at,
                                      .n_arrivals = n_arrivals,
                                      .n_pending = n_arrivals,
                                      .owner = qr_emulator_running()};
}

void qr_emulator_mbarrier_init_fence(void)
{
    struct qr_emulator_block *block = qr_emulator_block;
    for (int i = 0; i < block->n_mbarriers; i++)
        if (block->mbarriers[i].owner == qr_emulator_running())
            block->mbarriers[i].fenced = true;
}

/* A phase ends when all have arrived and all announced bytes have landed. */
static void end_phase_if_complete(struct qr_emulator_mbarrier *barrier)
{
    if (barrier->n_pending > 0 || barrier->n_bytes != 0)
        return;
    barrier->n_pending = barrier->n_arrivals;
    barrier->phase++;
    qr_emulator_wake(qr_emulator_block, &barrier->waiters);
}

void qr_emulator_mbarrier_arrive(uint64_t *at, int n_bytes)
{
    enum { MAX_BYTES = (1 << 20) - 1 }; /* of a phase */
    struct qr_emulator_mbarrier *barrier = find(at, "qr_mbarrier_arrive");
    if (barrier->n_pending == 0)
        qr_emulator_die("qr_mbarrier_arrive: more than %d arrivals in phase %d of the mbarrier at "
                        "%p",
                        barrier->n_arrivals, barrier->phase, (void *)at);
    qr_fiber_order_release(&barrier->edge);
    barrier->n_bytes += n_bytes;
    if (n_bytes < 0 || barrier->n_bytes > MAX_BYTES)
        qr_emulator_die("qr_mbarrier_arrive_expect: %lld bytes in one phase",
                        (long long)barrier->n_bytes);
    barrier->n_pending--;
    end_phase_if_complete(barrier);
    qr_emulator_maybe_yield();
}

void qr_emulator_mbarrier_wait(uint64_t *at, int parity)
{
    struct qr_emulator_mbarrier *barrier = find(at, "qr_mbarrier_wait");
    if (parity != 0 && parity != 1)
        qr_emulator_die("qr_mbarrier_wait: parity %d", parity);
    while (barrier->phase % 2 == parity)
        qr_emulator_wait_in(&barrier->waiters, "qr_mbarrier_wait, barrier",
                            (int)(barrier - qr_emulator_block->mbarriers));
    qr_fiber_order_acquire(&barrier->edge);
}

/* ---- bulk copies ---- */

static void land_now(struct qr_emulator_block *block, const struct qr_emulator_copy *copy)
{
    uint64_t mark = *copy->barrier;
    struct qr_emulator_mbarrier *barrier = &block->mbarriers[mark & NUMBER_BITS];
    if ((mark & ~NUMBER_BITS) != MARK || barrier->at != copy->barrier)
        qr_emulator_die("a bulk copy lands on the mbarrier at %p, which was overwritten",
                        (void *)copy->barrier);
    const struct qr_emulator_lane *self = qr_emulator_running();
    qr_fiber_other_begin(block->bulk_tsan);
    qr_fiber_order_acquire(&block->bulk_edge);
    land(copy);
    qr_fiber_order_release(&barrier->edge);
    qr_fiber_other_end(&self->fiber);
    barrier->n_bytes -= copy->n_bytes;
    end_phase_if_complete(barrier);
}

void qr_emulator_land_bulk(struct qr_emulator_block *block, int index)
{
    struct qr_emulator_copy copy = block->bulk[index];
    block->n_bulk--;
    for (int i = index; i < block->n_bulk; i++)
        block->bulk[i] = block->bulk[i + 1];
    land_now(block, &copy);
}

void qr_emulator_bulk_copy(void *shared, const void *global, int n_bytes, uint64_t *at)
{
    if (n_bytes <= 0 || n_bytes % 16 != 0)
        qr_emulator_die("qr_bulk_copy: %d bytes are not a multiple of 16", n_bytes);
    qr_emulator_check_shared(shared, (size_t)n_bytes, 16, "qr_bulk_copy");
    qr_emulator_check_aligned(global, "qr_bulk_copy");
    qr_emulator_check_global(global, "qr_bulk_copy");
    const struct qr_emulator_mbarrier *barrier = find(at, "qr_bulk_copy");
    if (!barrier->fenced)
        qr_emulator_die("qr_bulk_copy: the mbarrier at %p was initialised without "
                        "qr_mbarrier_init_fence",
                        (void *)at);
    struct qr_emulator_block *block = qr_emulator_block;
    struct qr_emulator_copy copy = {
        .to = shared, .from = global, .n_bytes = n_bytes, .barrier = at};
    qr_fiber_order_release(&block->bulk_edge);
    if (qr_emulator_lands_at_once(block)) {
        land_now(block, &copy);
    } else {
        if (block->n_bulk == QR_EMULATOR_MAX_COPIES)
            qr_emulator_die("qr_bulk_copy: more than %d in flight", QR_EMULATOR_MAX_COPIES);
        block->bulk[block->n_bulk++] = copy;
    }
    qr_emulator_maybe_yield();
}
