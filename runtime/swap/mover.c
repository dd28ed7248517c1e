/*
 * mover.c - the swapper's thread: copies pages, takes and compares checksums, drives the
 * disk.
 *
 * Pages for the host tier are copied a few at a time, in one call of the device and so that the
 * disk is not kept waiting. A page for the disk is copied to a bounce buffer and written from
 * there, or read into one and copied from there: the buffer has the alignment that the disk wants,
 * and the device need not be reachable by it.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/swap/swapper_internal.h"

enum {
    HOST_PAGES_AT_A_TIME = 16,
    BYTES_TO_TOUCH = 512 * 1024, /* at a time: less than a millisecond, as a rule */
    FLIPPED_BYTE = 0,            /* by QR_SWAP_FAULT_CORRUPT: every page has it */
};

/* Weight of one page in the moving average: several rounds of what the disk does at once. */
#define PAGE_NS_WEIGHT (1.0 / 64)

static const char *const tier_names[QR_TIER_COUNT] = {"host", "disk"};

void qr_swapper_wake(struct qr_swapper *swapper)
{
    QR_ASSERT(eventfd_write(swapper->wake_fd, 1) == 0);
}

void qr_swapper_sleep(struct qr_swapper *swapper)
{
    eventfd_t count;
    QR_ASSERT(eventfd_read(swapper->wake_fd, &count) == 0 || errno == EINTR);
}

static void flip_bit(char *page)
{
    page[FLIPPED_BYTE] ^= 1;
}

/* Pages on their way between the device and memory, in one call. */
struct page_list {
    int32_t n;
    struct qr_swap_job *jobs[HOST_PAGES_AT_A_TIME];
    qr_page_id pages[HOST_PAGES_AT_A_TIME];
    void *memory[HOST_PAGES_AT_A_TIME];
};

static void add_page(struct page_list *list, struct qr_swap_job *job, void *memory)
{
    list->jobs[list->n] = job;
    list->pages[list->n] = job->transfer.page;
    list->memory[list->n++] = memory;
}

static void fail_pages(const struct page_list *list)
{
    for (int32_t i = 0; i < list->n; i++) {
        list->jobs[i]->error = EIO;
        list->jobs[i]->device_failed = true;
    }
}

/* Leaves pages in memory, and their checksums. */
static void read_device(struct qr_swapper *swapper, const struct page_list *list)
{
    const struct qr_page_access *device = &swapper->config.device;

    if (list->n == 0)
        return;
    if (!device->read(device->arg, list->n, list->pages, list->memory)) {
        fail_pages(list);
        return;
    }
    for (int32_t i = 0; i < list->n; i++) {
        const struct qr_swap_job *job = list->jobs[i];
        swapper->tiers[job->transfer.tier].checksums[job->transfer.slot] =
            XXH3_64bits(list->memory[i], swapper->config.page_bytes);
        if (job->fault == QR_SWAP_FAULT_CORRUPT)
            flip_bit(list->memory[i]);
    }
}

/* Whether a page in memory is the one that went out. */
static bool is_intact(const struct qr_swapper *swapper, struct qr_swap_job *job, char *page)
{
    if (job->fault == QR_SWAP_FAULT_CORRUPT)
        flip_bit(page);
    if (XXH3_64bits(page, swapper->config.page_bytes) ==
        swapper->tiers[job->transfer.tier].checksums[job->transfer.slot])
        return true;
    job->mismatch = true;
    job->error = EBADMSG;
    return false;
}

/* Writes to the device those pages that are what went out. */
static void write_device(struct qr_swapper *swapper, const struct page_list *list)
{
    const struct qr_page_access *device = &swapper->config.device;
    struct page_list intact = {.n = 0};

    for (int32_t i = 0; i < list->n; i++) {
        if (is_intact(swapper, list->jobs[i], list->memory[i]))
            add_page(&intact, list->jobs[i], list->memory[i]);
    }
    if (intact.n > 0 &&
        !device->write(device->arg, intact.n, intact.pages, (const void *const *)intact.memory))
        fail_pages(&intact);
}

/* The first failures, and ever fewer of many: a broken disk must not flood the log. */
static void log_failure(struct qr_swapper *swapper, const struct qr_swap_job *job)
{
    const struct qr_transfer *transfer = &job->transfer;
    int64_t count = ++swapper->n_failures[transfer->tier][transfer->out];

    if ((count & (count - 1)) != 0)
        return;
    qr_log(QR_LOG_WARN, job->mismatch ? "swap_checksum_mismatch" : "swap_transfer_failed",
           "tier=%s direction=%s slot=%d page=%d reason=\"%s\" failures=%lld",
           tier_names[transfer->tier], transfer->out ? "out" : "in", transfer->slot, transfer->page,
           job->mismatch ? "damaged in the tier" : strerror(job->error), (long long)count);
}

static void watch_disk(struct qr_swapper *swapper, int error)
{
    if (error == 0) {
        swapper->n_write_failures = 0;
        return;
    }
    if (++swapper->n_write_failures < QR_SWAP_FAILURES_TO_BREAK || swapper->disk_failed)
        return;
    char quoted[PATH_MAX];
    swapper->disk_failed = true;
    qr_log(QR_LOG_WARN, "swap_disk_failed", "dir=%s reason=\"%s\" failed_writes=%d",
           qr_log_quote(swapper->dir, quoted, sizeof(quoted)), strerror(error),
           swapper->n_write_failures);
}

static void end_job(struct qr_swapper *swapper, int32_t id)
{
    const struct qr_swap_job *job = &swapper->jobs[id];

    if (job->error != 0)
        log_failure(swapper, job);
    if (job->transfer.tier == QR_TIER_DISK && job->transfer.out && !job->device_failed)
        watch_disk(swapper, job->error);
    qr_id_queue_push(&swapper->ended, id);
}

static void delay(const struct qr_swapper *swapper)
{
    if (swapper->delay_ns > 0)
        nanosleep(&(struct timespec){.tv_sec = swapper->delay_ns / QR_NS_PER_SEC,
                                     .tv_nsec = swapper->delay_ns % QR_NS_PER_SEC},
                  NULL);
}

static struct qr_swap_job *begin_job(struct qr_swapper *swapper, int32_t id)
{
    struct qr_swap_job *job = &swapper->jobs[id];

    delay(swapper);
    job->mismatch = false;
    job->device_failed = false;
    job->fault = qr_swapper_next_fault(swapper, job->transfer.tier, job->transfer.out, &job->error);
    return job;
}

/* ---- host memory ---- */

/* Puts a page among those that move, unless a fault was ordered. */
static void list_job(const struct qr_swapper *swapper, struct qr_swap_job *job,
                     struct page_list *out, struct page_list *in)
{
    char *memory = swapper->host + (size_t)job->transfer.slot * swapper->host_stride;

    if (job->fault == QR_SWAP_FAULT_SHORT)
        job->error = EIO;
    if (job->fault == QR_SWAP_FAULT_SHORT || job->fault == QR_SWAP_FAULT_ERROR)
        return;
    job->error = 0;
    add_page(job->transfer.out ? out : in, job, memory);
}

/* Each page is charged with its part of the time that they took together. */
static bool move_host(struct qr_swapper *swapper)
{
    struct qr_id_queue *waiting = &swapper->waiting[QR_TIER_HOST];
    int64_t start_ns = qr_now_ns();
    int32_t ids[HOST_PAGES_AT_A_TIME];
    struct page_list out = {.n = 0}, in = {.n = 0};
    int32_t n = 0;

    while (n < HOST_PAGES_AT_A_TIME && waiting->count > 0) {
        ids[n] = qr_id_queue_pop(waiting);
        list_job(swapper, begin_job(swapper, ids[n++]), &out, &in);
    }
    read_device(swapper, &out);
    write_device(swapper, &in);
    int64_t ns = qr_now_ns() - start_ns;
    for (int32_t i = 0; i < n; i++) {
        swapper->jobs[ids[i]].page_ns = (double)ns / n;
        end_job(swapper, ids[i]);
    }
    return n > 0;
}

/* ---- disk ---- */

static char *buffer_of(const struct qr_swapper *swapper, const struct qr_swap_job *job)
{
    return swapper->buffers + (size_t)job->buffer * swapper->disk_stride;
}

static void begin_disk_job(struct qr_swapper *swapper, int32_t id)
{
    struct qr_swap_job *job = begin_job(swapper, id);

    job->buffer = swapper->free_buffers[--swapper->n_free_buffers];
    if (job->fault == QR_SWAP_FAULT_ERROR || job->fault == QR_SWAP_FAULT_SHORT) {
        bool is_short = job->fault == QR_SWAP_FAULT_SHORT;
        qr_swap_io_pretend(swapper->io, id,
                           is_short ? (int32_t)(swapper->disk_stride / 2) : -job->error);
        return;
    }
    if (job->transfer.out) {
        struct page_list one = {.n = 0};
        add_page(&one, job, buffer_of(swapper, job));
        read_device(swapper, &one);
    }
    if (job->device_failed) {
        qr_swap_io_pretend(swapper->io, id, -job->error); /* the disk is not asked */
        return;
    }
    qr_swap_io_begin(swapper->io, &(struct qr_swap_io_request){
                                      .tag = id,
                                      .write = job->transfer.out,
                                      .data = buffer_of(swapper, job),
                                      .n_bytes = (uint32_t)swapper->disk_stride,
                                      .offset = job->transfer.slot * (int64_t)swapper->disk_stride,
                                  });
}

static bool begin_disk(struct qr_swapper *swapper)
{
    struct qr_id_queue *waiting = &swapper->waiting[QR_TIER_DISK];

    if (waiting->count == 0 || swapper->n_free_buffers == 0)
        return false;
    if (swapper->n_free_buffers == swapper->n_buffers)
        swapper->disk_since_ns = qr_now_ns();
    while (waiting->count > 0 && swapper->n_free_buffers > 0)
        begin_disk_job(swapper, qr_id_queue_pop(waiting));
    qr_swap_io_flush(swapper->io);
    return true;
}

static void finish_disk_job(struct qr_swapper *swapper, const struct qr_swap_io_result *io)
{
    struct qr_swap_job *job = &swapper->jobs[io->tag];

    if (io->result < 0)
        job->error = -io->result;
    else
        job->error = (size_t)io->result == swapper->disk_stride ? 0 : EIO;
    if (job->error == 0 && !job->transfer.out) {
        struct page_list one = {.n = 0};
        add_page(&one, job, buffer_of(swapper, job));
        write_device(swapper, &one);
    }
    swapper->free_buffers[swapper->n_free_buffers++] = job->buffer;
    end_job(swapper, io->tag);
}

/*
 * Pages under way share the disk, so each that ended is charged with its part of the time
 * since the last ones ended: what a page more would cost, not how long it was under way.
 */
static bool finish_disk(struct qr_swapper *swapper)
{
    struct qr_swap_io_result results[QR_SWAP_DISK_DEPTH];
    int32_t n = swapper->io != NULL ? qr_swap_io_reap(swapper->io, results) : 0;

    if (n == 0)
        return false;
    for (int32_t i = 0; i < n; i++)
        finish_disk_job(swapper, &results[i]);
    int64_t now_ns = qr_now_ns();
    for (int32_t i = 0; i < n; i++)
        swapper->jobs[results[i].tag].page_ns = (double)(now_ns - swapper->disk_since_ns) / n;
    swapper->disk_since_ns = now_ns;
    return true;
}

/* ---- the thread ---- */

static void take_submitted(struct qr_swapper *swapper)
{
    pthread_mutex_lock(&swapper->mutex);
    while (swapper->submitted.count > 0) {
        int32_t id = qr_id_queue_pop(&swapper->submitted);
        qr_id_queue_push(&swapper->waiting[swapper->jobs[id].transfer.tier], id);
    }
    swapper->delay_ns = swapper->wanted_delay_ns;
    pthread_mutex_unlock(&swapper->mutex);
}

static void count_job(struct qr_swapper_stats *stats, const struct qr_swap_job *job,
                      size_t page_bytes)
{
    struct qr_swap_flow *flow = &(job->transfer.out ? stats->out : stats->in)[job->transfer.tier];

    if (job->error != 0) {
        flow->n_failed++;
        flow->n_mismatch += job->mismatch;
        return;
    }
    flow->n_pages++;
    flow->n_bytes += (int64_t)page_bytes;
    if (flow->page_ns == 0)
        flow->page_ns = job->page_ns;
    else
        flow->page_ns += (job->page_ns - flow->page_ns) * PAGE_NS_WEIGHT;
}

static bool report(struct qr_swapper *swapper)
{
    pthread_mutex_lock(&swapper->mutex);
    int32_t n = swapper->hold_results ? 0 : swapper->ended.count;
    for (int32_t i = 0; i < n; i++) {
        int32_t id = qr_id_queue_pop(&swapper->ended);
        count_job(&swapper->stats, &swapper->jobs[id], swapper->config.page_bytes);
        qr_id_queue_push(&swapper->reported, id);
    }
    swapper->stats.disk_failed = swapper->disk_failed;
    swapper->stats.disk_uring = swapper->io != NULL && qr_swap_io_uses_uring(swapper->io);
    pthread_mutex_unlock(&swapper->mutex);

    if (n > 0 && swapper->config.notify != NULL)
        swapper->config.notify(swapper->config.notify_arg);
    return n > 0;
}

bool qr_swapper_move(struct qr_swapper *swapper)
{
    take_submitted(swapper);
    bool any = begin_disk(swapper);
    any |= move_host(swapper);
    any |= finish_disk(swapper);
    any |= report(swapper);
    return any;
}

/*
 * The system gives memory page by page when it is first used, which takes several times as
 * long as a copy. The thread sees to that while it has nothing else to do.
 */
static bool touch_host(struct qr_swapper *swapper)
{
    size_t n_bytes = swapper->host_bytes - swapper->host_touched;

    if (n_bytes == 0)
        return false;
    if (n_bytes > BYTES_TO_TOUCH)
        n_bytes = BYTES_TO_TOUCH;
    int rc = madvise(swapper->host + swapper->host_touched, n_bytes, MADV_POPULATE_WRITE);
    /* A kernel before 5.14 cannot: then each page is touched when it is needed. */
    swapper->host_touched = rc == 0 ? swapper->host_touched + n_bytes : swapper->host_bytes;
    return true;
}

/*
 * The device reaches pinned memory without a copy by the processor. Pinning takes long, so it is
 * done piece by piece, of what has been touched, while there is nothing else to do.
 */
static bool pin_host(struct qr_swapper *swapper)
{
    const struct qr_page_access *device = &swapper->config.device;
    size_t n_bytes = swapper->host_touched - swapper->host_pinned;

    if (!swapper->pins || n_bytes == 0)
        return false;
    if (n_bytes > swapper->host_piece)
        n_bytes = swapper->host_piece;
    if (n_bytes < swapper->host_piece && swapper->host_touched < swapper->host_bytes)
        return false;
    swapper->pins = device->pin(device->arg, swapper->host + swapper->host_pinned, n_bytes);
    if (swapper->pins)
        swapper->host_pinned += n_bytes;
    else
        qr_log(QR_LOG_INFO, "swap_memory_not_pinned", "bytes=%zu of=%zu",
               swapper->host_bytes - swapper->host_pinned, swapper->host_bytes);
    return true;
}

static void begin_to_pin(struct qr_swapper *swapper)
{
    const struct qr_page_access *device = &swapper->config.device;

    swapper->pins = device->pin != NULL;
    if (swapper->pins && swapper->n_buffers > 0)
        swapper->buffers_pinned = device->pin(device->arg, swapper->buffers,
                                              (size_t)swapper->n_buffers * swapper->disk_stride);
}

static bool stop_wanted(struct qr_swapper *swapper)
{
    pthread_mutex_lock(&swapper->mutex);
    bool stop = swapper->stop;
    pthread_mutex_unlock(&swapper->mutex);
    return stop;
}

void *qr_swapper_main(void *arg)
{
    struct qr_swapper *swapper = arg;

    pthread_setname_np(pthread_self(), "quire-swap");
    begin_to_pin(swapper);
    while (!stop_wanted(swapper)) {
        if (!qr_swapper_move(swapper) && !touch_host(swapper) && !pin_host(swapper))
            qr_swapper_sleep(swapper);
    }
    /* The buffers are the disk's as long as it works on them. */
    while (swapper->n_free_buffers < swapper->n_buffers) {
        if (!finish_disk(swapper))
            qr_swapper_sleep(swapper);
    }
    return NULL;
}
