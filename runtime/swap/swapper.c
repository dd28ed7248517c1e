/* swapper.c - see swapper.h for the contract; the work is done in mover.c. */
#include "runtime/swap/swapper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/swap/swapper_internal.h"

enum {
    LEAST_PINNED = 1 << 28, /* bytes at a time, some 50 ms */
    MAX_PINNED_PIECES = 32,
    HOST_ALIGNMENT = 64,   /* a cache line */
    PAGES_TO_MEASURE = 8,  /* at once, so that a disk shows what it can */
    ROUNDS_TO_MEASURE = 2, /* the first one touches memory for the first time */
};

#define MAX_PAGE_BYTES ((size_t)1 << 30)

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static enum qr_status check_config(const struct qr_swapper_config *config, struct qr_error *err)
{
    bool any_slots = false;

    if (config->page_bytes < 1 || config->page_bytes > MAX_PAGE_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "swap: page_bytes is %zu, must be in [1, %zu]",
                       config->page_bytes, MAX_PAGE_BYTES);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        if (config->tier_slots[tier] < 0)
            return qr_fail(err, QR_ERR_INVALID, "swap: tier %d has %d slots", tier,
                           config->tier_slots[tier]);
        any_slots |= config->tier_slots[tier] > 0;
    }
    if (!any_slots)
        return qr_fail(err, QR_ERR_INVALID, "swap: no tier has slots");
    if (config->max_transfers < 1)
        return qr_fail(err, QR_ERR_INVALID, "swap: max_transfers is %d, must be at least 1",
                       config->max_transfers);
    if (config->tier_slots[QR_TIER_DISK] > 0 && config->dir == NULL)
        return qr_fail(err, QR_ERR_INVALID, "swap: the disk tier needs a folder");
    return QR_OK;
}

/* ---- create ---- */

static bool make_queue(struct qr_id_queue *queue, int32_t capacity)
{
    queue->capacity = capacity;
    queue->ids = qr_calloc(QR_ARENA_ENGINE, (size_t)capacity, sizeof(*queue->ids));
    return queue->ids != NULL;
}

static enum qr_status make_tables(struct qr_swapper *swapper)
{
    int32_t n = swapper->config.max_transfers;

    swapper->jobs = qr_calloc(QR_ARENA_ENGINE, (size_t)n, sizeof(*swapper->jobs));
    swapper->id_busy = qr_calloc(QR_ARENA_ENGINE, (size_t)n, sizeof(*swapper->id_busy));
    bool made = swapper->jobs != NULL && swapper->id_busy != NULL &&
                make_queue(&swapper->submitted, n) && make_queue(&swapper->reported, n) &&
                make_queue(&swapper->ended, n);
    for (int i = 0; i < QR_TIER_COUNT && made; i++) {
        struct qr_swap_tier *tier = &swapper->tiers[i];
        tier->n_slots = swapper->config.tier_slots[i];
        size_t n_slots = (size_t)tier->n_slots;
        tier->slots = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*tier->slots));
        tier->checksums = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*tier->checksums));
        made =
            tier->slots != NULL && tier->checksums != NULL && make_queue(&swapper->waiting[i], n);
    }
    return made ? QR_OK : QR_ERR_NOMEM;
}

/* Bytes that programs can still take without swapping others out; SIZE_MAX: not known. */
static size_t available_memory(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    unsigned long long kib = SIZE_MAX / 1024;
    char line[128];

    if (file == NULL)
        return SIZE_MAX;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    }
    fclose(file);
    return (size_t)kib * 1024;
}

/*
 * The system gives memory when it is first touched, and ends the process when there is none
 * left then: whether it is enough is asked here.
 */
static enum qr_status make_host_tier(struct qr_swapper *swapper, struct qr_error *err)
{
    size_t n_bytes, n_slots = (size_t)swapper->tiers[QR_TIER_HOST].n_slots;

    swapper->host_stride = round_up(swapper->config.page_bytes, HOST_ALIGNMENT);
    if (n_slots == 0)
        return QR_OK;
    n_bytes = round_up(n_slots * swapper->host_stride, QR_SWAP_ALIGNMENT); /* below 2^62 */
    size_t available = available_memory();
    if (n_bytes <= available)
        swapper->host = qr_aligned_alloc(QR_ARENA_ENGINE, QR_HUGE_PAGE_BYTES, n_bytes);
    if (swapper->host != NULL) {
        swapper->host_bytes = n_bytes;
        swapper->host_piece = round_up(n_bytes / MAX_PINNED_PIECES, QR_HUGE_PAGE_BYTES);
        if (swapper->host_piece < LEAST_PINNED)
            swapper->host_piece = LEAST_PINNED;
        /* Where the system has no huge pages to give, small ones do. */
        (void)madvise(swapper->host, n_bytes, MADV_HUGEPAGE);
        return QR_OK;
    }
    const double mib = 1024.0 * 1024.0;
    return qr_fail(err, QR_ERR_NOMEM,
                   "swap memory: %.1f MiB wanted (%zu pages of %zu bytes), %.1f MiB available; "
                   "want less",
                   (double)n_bytes / mib, n_slots, swapper->config.page_bytes,
                   (double)available / mib);
}

static int32_t disk_depth(const struct qr_swapper_config *config)
{
    int32_t n_slots = config->tier_slots[QR_TIER_DISK];
    int32_t depth = config->max_transfers < n_slots ? config->max_transfers : n_slots;
    return depth < QR_SWAP_DISK_DEPTH ? depth : QR_SWAP_DISK_DEPTH;
}

static enum qr_status make_disk_tier(struct qr_swapper *swapper, const char *dir,
                                     struct qr_error *err)
{
    const struct qr_swapper_config *config = &swapper->config;
    int32_t n_slots = config->tier_slots[QR_TIER_DISK];

    swapper->disk_stride = round_up(config->page_bytes, QR_SWAP_ALIGNMENT);
    if (n_slots == 0)
        return QR_OK;
    if ((swapper->dir = qr_strdup(QR_ARENA_ENGINE, dir)) == NULL)
        return QR_ERR_NOMEM;
    QR_TRY(qr_swap_file_open(&swapper->file, swapper->dir, (int64_t)swapper->disk_stride, n_slots,
                             err));
    swapper->stats.disk_direct = swapper->file.direct;

    size_t n_bytes = (size_t)disk_depth(config) * swapper->disk_stride;
    swapper->buffers = qr_aligned_alloc(QR_ARENA_ENGINE, QR_SWAP_ALIGNMENT, n_bytes);
    if (swapper->buffers == NULL)
        return QR_ERR_NOMEM;
    memset(swapper->buffers, 0, n_bytes); /* the end of a slot is written too */
    swapper->n_buffers = disk_depth(config);
    while (swapper->n_free_buffers < swapper->n_buffers) {
        swapper->free_buffers[swapper->n_free_buffers] = swapper->n_free_buffers;
        swapper->n_free_buffers++;
    }
    return qr_swap_io_create(swapper->file.fd, swapper->wake_fd, swapper->n_buffers, &swapper->io);
}

/* ---- the first figures ---- */

/* Moves device page 0 to or from the first `count` slots. False when a transfer failed. */
static bool move_first_pages(struct qr_swapper *swapper, enum qr_tier tier, bool out, int32_t count)
{
    struct qr_transfer_result results[PAGES_TO_MEASURE];
    bool ok = true;

    for (int32_t i = 0; i < count; i++) {
        struct qr_transfer transfer = {.id = i, .tier = tier, .out = out, .page = 0, .slot = i};
        qr_swapper_submit(swapper, &transfer, 1);
    }
    for (int32_t n_ended = 0; n_ended < count;) {
        if (!qr_swapper_move(swapper))
            qr_swapper_sleep(swapper);
        int32_t n = qr_swapper_poll(swapper, results, PAGES_TO_MEASURE);
        for (int32_t i = 0; i < n; i++)
            ok &= results[i].ok;
        n_ended += n;
    }
    return ok;
}

/* Without it, the first choice between swapping and computing again would be a guess. */
static enum qr_status measure_tier(struct qr_swapper *swapper, enum qr_tier tier,
                                   struct qr_error *err)
{
    struct qr_swap_tier *self = &swapper->tiers[tier];
    int32_t count = self->n_slots < PAGES_TO_MEASURE ? self->n_slots : PAGES_TO_MEASURE;
    if (count > swapper->config.max_transfers)
        count = swapper->config.max_transfers;

    for (int round = 0; round < ROUNDS_TO_MEASURE; round++) {
        swapper->stats.out[tier] = swapper->stats.in[tier] = (struct qr_swap_flow){0};
        if (!move_first_pages(swapper, tier, true, count) ||
            !move_first_pages(swapper, tier, false, count))
            return qr_fail(err, QR_ERR_IO,
                           "swap: pages written to '%s' do not come back (see the log); name "
                           "another folder",
                           tier == QR_TIER_DISK ? swapper->dir : "host memory");
    }
    swapper->stats.out[tier] = (struct qr_swap_flow){.page_ns = swapper->stats.out[tier].page_ns};
    swapper->stats.in[tier] = (struct qr_swap_flow){.page_ns = swapper->stats.in[tier].page_ns};
    memset(self->slots, 0, (size_t)self->n_slots * sizeof(*self->slots));
    return QR_OK;
}

/* Signals are for the threads of the program that asked for the swapper. */
static enum qr_status start_thread(struct qr_swapper *swapper)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    swapper->thread_runs = pthread_create(&swapper->thread, NULL, qr_swapper_main, swapper) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return swapper->thread_runs ? QR_OK : QR_ERR_NOMEM;
}

static enum qr_status open_tiers(struct qr_swapper *swapper, const char *dir, struct qr_error *err)
{
    QR_TRY(make_tables(swapper));
    if ((swapper->wake_fd = eventfd(0, EFD_CLOEXEC)) < 0)
        return qr_fail(err, QR_ERR_IO, "swap: eventfd: %s", strerror(errno));
    QR_TRY(make_host_tier(swapper, err));
    QR_TRY(make_disk_tier(swapper, dir, err));
    for (int tier = 0; tier < QR_TIER_COUNT; tier++)
        QR_TRY(measure_tier(swapper, (enum qr_tier)tier, err));
    return QR_OK;
}

enum qr_status qr_swapper_create(const struct qr_swapper_config *config, struct qr_swapper **out,
                                 struct qr_error *err)
{
    struct qr_error ignored;
    if (err == NULL)
        err = &ignored;
    err->message[0] = '\0';

    *out = NULL;
    QR_TRY(check_config(config, err));
    struct qr_swapper *swapper = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*swapper));
    if (swapper == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for a swapper");
    swapper->config = *config;
    swapper->config.dir = NULL;    /* the caller's; swapper->dir is a copy */
    swapper->config.notify = NULL; /* until the thread starts */
    swapper->wake_fd = -1;
    swapper->file.fd = -1;
    pthread_mutex_init(&swapper->mutex, NULL);

    enum qr_status status = open_tiers(swapper, config->dir, err);
    if (status == QR_OK) {
        swapper->config.notify = config->notify;
        status = start_thread(swapper);
    }
    if (status != QR_OK) {
        if (err->message[0] == '\0')
            qr_fail(err, status, "swap: out of memory or threads");
        qr_swapper_destroy(swapper);
        return status;
    }
    *out = swapper;
    return QR_OK;
}

/* After the thread has ended. */
static void unpin_all(struct qr_swapper *swapper)
{
    const struct qr_page_access *device = &swapper->config.device;

    for (size_t at = 0; at < swapper->host_pinned; at += swapper->host_piece)
        device->unpin(device->arg, swapper->host + at);
    if (swapper->buffers_pinned)
        device->unpin(device->arg, swapper->buffers);
}

void qr_swapper_destroy(struct qr_swapper *swapper)
{
    if (swapper == NULL)
        return;
    if (swapper->thread_runs) {
        pthread_mutex_lock(&swapper->mutex);
        swapper->stop = true;
        pthread_mutex_unlock(&swapper->mutex);
        qr_swapper_wake(swapper);
        pthread_join(swapper->thread, NULL);
    }
    unpin_all(swapper);
    qr_swap_io_destroy(swapper->io);
    qr_swap_file_close(&swapper->file);
    if (swapper->wake_fd >= 0)
        close(swapper->wake_fd);
    for (int i = 0; i < QR_TIER_COUNT; i++) {
        qr_free(swapper->tiers[i].slots);
        qr_free(swapper->tiers[i].checksums);
        qr_free(swapper->waiting[i].ids);
    }
    qr_free(swapper->submitted.ids);
    qr_free(swapper->reported.ids);
    qr_free(swapper->ended.ids);
    qr_free(swapper->jobs);
    qr_free(swapper->id_busy);
    qr_free(swapper->host);
    qr_free(swapper->buffers);
    qr_free(swapper->dir);
    pthread_mutex_destroy(&swapper->mutex);
    qr_free(swapper);
}

/* ---- the engine's side ---- */

static void claim(struct qr_swapper *swapper, const struct qr_transfer *transfer)
{
    QR_ASSERT(transfer->id >= 0 && transfer->id < swapper->config.max_transfers);
    QR_ASSERT(!swapper->id_busy[transfer->id]);
    struct qr_swap_tier *tier = &swapper->tiers[transfer->tier];
    QR_ASSERT(transfer->slot >= 0 && transfer->slot < tier->n_slots);
    struct qr_swap_slot *slot = &tier->slots[transfer->slot];
    QR_ASSERT(!slot->busy);
    QR_ASSERT(transfer->out || slot->filled);

    swapper->id_busy[transfer->id] = true;
    slot->busy = true;
    if (transfer->out)
        slot->filled = false;
    swapper->jobs[transfer->id].transfer = *transfer;
}

void qr_swapper_submit(struct qr_swapper *swapper, const struct qr_transfer *transfers,
                       int32_t count)
{
    if (count == 0)
        return;
    for (int32_t i = 0; i < count; i++)
        claim(swapper, &transfers[i]);
    pthread_mutex_lock(&swapper->mutex);
    for (int32_t i = 0; i < count; i++)
        qr_id_queue_push(&swapper->submitted, transfers[i].id);
    pthread_mutex_unlock(&swapper->mutex);
    qr_swapper_wake(swapper);
}

static void settle(struct qr_swapper *swapper, int32_t id)
{
    const struct qr_swap_job *job = &swapper->jobs[id];
    struct qr_swap_slot *slot = &swapper->tiers[job->transfer.tier].slots[job->transfer.slot];

    slot->busy = false;
    if (job->transfer.out)
        slot->filled = job->error == 0;
    swapper->id_busy[id] = false;
}

int32_t qr_swapper_poll(struct qr_swapper *swapper, struct qr_transfer_result *results, int32_t max)
{
    int32_t n = 0;

    pthread_mutex_lock(&swapper->mutex);
    while (n < max && swapper->reported.count > 0) {
        int32_t id = qr_id_queue_pop(&swapper->reported);
        results[n++] = (struct qr_transfer_result){.id = id, .ok = swapper->jobs[id].error == 0};
    }
    pthread_mutex_unlock(&swapper->mutex);
    for (int32_t i = 0; i < n; i++)
        settle(swapper, results[i].id);
    return n;
}

void qr_swapper_get_stats(struct qr_swapper *swapper, struct qr_swapper_stats *stats)
{
    pthread_mutex_lock(&swapper->mutex);
    *stats = swapper->stats;
    pthread_mutex_unlock(&swapper->mutex);
}
