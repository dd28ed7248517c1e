/*
 * cuda_pages.c - whole KV pages: copied on the device, and moved to and from the host.
 *
 * A move runs on a stream of its own, beside the computing. It waits for the page copies that the
 * engine enqueued before it handed over the move; everything else was waited for by end_step.
 * Pages go from and to memory that was pinned for them, the rest through a bounce buffer, several
 * at a time: copies from and to other memory are slow and not asynchronous. Two ways lead there: a
 * copy for each page, which costs some microseconds to ask for, and a kernel that goes through all
 * pages, which takes multiprocessors from the step. Both are timed as they are used, each way of
 * moving by itself, and the faster one goes on.
 */
#include <string.h>

#include "base/clock.h"
#include "runtime/ops/cuda/cuda_device_internal.h"

enum {
    BOUNCE_BYTES = 8 << 20,
    MAX_BOUNCE = 32,
    TRIALS = 8,                 /* moves, by each way in turn */
    MOVES_BETWEEN_TRIALS = 256, /* of the slower way, then */
};

#define SPEED_WEIGHT 0.25 /* of a move in the moving average */

enum qr_status qr_cuda_pages_open(struct qr_cuda_device *cuda, struct qr_error *err)
{
    struct qr_cuda_pages *pages = &cuda->pages;
    const struct qr_cu_driver *driver = cuda->cuda.driver;
    size_t page_bytes = qr_cuda_kv_page_bytes(&cuda->attention.config.kv, cuda->kv_type);
    size_t n = BOUNCE_BYTES / page_bytes;

    pages->n_bounce = n < 1 ? 1 : n > MAX_BOUNCE ? MAX_BOUNCE : (int32_t)n;
    pages->bounce = qr_cuda_host_alloc(&cuda->cuda, (size_t)pages->n_bounce * page_bytes);
    if (pages->bounce == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no pinned memory for %d pages of %zu bytes",
                       pages->n_bounce, page_bytes);
    if (driver->stream_create(&pages->stream, QR_CU_STREAM_NON_BLOCKING) != QR_CU_OK ||
        driver->event_create(&pages->copies_done, QR_CU_EVENT_DISABLE_TIMING) != QR_CU_OK)
        return qr_fail(err, QR_ERR_DEVICE, "no stream for moving pages");
    return QR_OK;
}

void qr_cuda_pages_close(struct qr_cuda_device *cuda)
{
    struct qr_cuda_pages *pages = &cuda->pages;

    if (pages->copies_done != NULL)
        (void)cuda->cuda.driver->event_destroy(pages->copies_done);
    if (pages->stream != NULL)
        (void)cuda->cuda.driver->stream_destroy(pages->stream);
    qr_cuda_host_free(&cuda->cuda, pages->bounce);
}

void qr_cuda_copy_page(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t from,
                       int32_t to)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_page_copy copy = {from, to};

    (void)page_bytes; /* attention knows its geometry */
    qr_cuda_copy_pages(&cuda->attention, qr_cuda_address(kv_pool), &copy, 1);
    qr_cuda_check(&cuda->cuda,
                  cuda->cuda.driver->event_record(cuda->pages.copies_done, cuda->cuda.stream),
                  "after copying page %d to %d", from, to);
}

/* The calling thread may move pages: the device is its, and earlier page copies come first. */
static bool begin_move(struct qr_cuda_device *cuda)
{
    struct qr_cuda_pages *pages = &cuda->pages;
    struct qr_error err;

    return qr_cuda_attach_thread(&cuda->cuda, &err) == QR_OK &&
           cuda->cuda.driver->stream_wait_event(pages->stream, pages->copies_done, 0) == QR_CU_OK;
}

/* By which way the next pages are moved: each in turn at first, then the faster one, and now and
 * then the other, as machines change. */
static enum qr_cuda_page_way choose_way(const struct qr_cuda_page_speed *speed)
{
    bool kernel_is_faster = speed->page_ns[QR_CUDA_BY_KERNEL] < speed->page_ns[QR_CUDA_BY_COPIES];

    if (speed->n_moves < TRIALS)
        return speed->n_moves % 2 == 0 ? QR_CUDA_BY_COPIES : QR_CUDA_BY_KERNEL;
    if (speed->n_moves % MOVES_BETWEEN_TRIALS == 0)
        kernel_is_faster = !kernel_is_faster;
    return kernel_is_faster ? QR_CUDA_BY_KERNEL : QR_CUDA_BY_COPIES;
}

static void note_speed(struct qr_cuda_page_speed *speed, enum qr_cuda_page_way way, double page_ns)
{
    bool is_first = speed->n_moves++ < QR_CUDA_PAGE_WAYS;

    speed->page_ns[way] += (page_ns - speed->page_ns[way]) * (is_first ? 1 : SPEED_WEIGHT);
}

/* Pages that move together, at most MAX_BOUNCE. */
struct some_pages {
    qr_cu_address pool;
    size_t page_bytes;
    int32_t n;
    const int32_t *ids;     /* [n] */
    void *host[MAX_BOUNCE]; /* [n] pinned: each page's own place, or one of the bounce buffer */
    bool to_host;
};

/* Asked for, not waited for. */
static bool enqueue_copies(struct qr_cuda_device *cuda, const struct some_pages *some)
{
    const struct qr_cu_driver *driver = cuda->cuda.driver;
    qr_cu_stream stream = cuda->pages.stream;
    qr_cu_result result = QR_CU_OK;

    for (int32_t i = 0; i < some->n && result == QR_CU_OK; i++) {
        qr_cu_address page = some->pool + (size_t)some->ids[i] * some->page_bytes;
        result = some->to_host
                     ? driver->memcpy_dtoh_async(some->host[i], page, some->page_bytes, stream)
                     : driver->memcpy_htod_async(page, some->host[i], some->page_bytes, stream);
    }
    return result == QR_CU_OK;
}

static bool enqueue_kernel(struct qr_cuda_device *cuda, const struct some_pages *some)
{
    const struct qr_page_transfer transfer = {.stream = cuda->pages.stream,
                                              .to_host = some->to_host,
                                              .kv_pool = some->pool,
                                              .n_pages = some->n,
                                              .pages = some->ids,
                                              .host = some->host};
    return qr_cuda_transfer_pages(&cuda->attention, &transfer) == QR_CU_OK;
}

/* Between pinned memory and the pool, whichever way is faster. */
static bool move_some(struct qr_cuda_device *cuda, const struct some_pages *some)
{
    struct qr_cuda_page_speed *speed = &cuda->pages.speed[some->to_host];
    enum qr_cuda_page_way way = choose_way(speed);
    int64_t begin_ns = qr_now_ns();

    bool ok = way == QR_CUDA_BY_KERNEL ? enqueue_kernel(cuda, some) : enqueue_copies(cuda, some);
    if (!ok || cuda->cuda.driver->stream_synchronize(cuda->pages.stream) != QR_CU_OK)
        return false;
    note_speed(speed, way, (double)(qr_now_ns() - begin_ns) / some->n);
    return true;
}

static bool is_pinned(const struct qr_cuda_pages *pages, const void *memory, size_t n_bytes)
{
    const unsigned char *at = memory;

    for (int32_t i = 0; i < pages->n_pinned; i++) {
        const struct qr_cuda_pinned *piece = &pages->pinned[i];
        if (at >= piece->memory && at + n_bytes <= piece->memory + piece->n_bytes)
            return true;
    }
    return false;
}

/* The host's side of a move. */
struct host_pages {
    void *const *to;         /* or NULL */
    const void *const *from; /* then */
};

/* Pages [first, first + some->n) of a move, and what is to be copied by the processor. */
static bool move_through(struct qr_cuda_device *cuda, struct some_pages *some,
                         const struct host_pages *host, int32_t first)
{
    const struct qr_cuda_pages *pages = &cuda->pages;
    bool bounces[MAX_BOUNCE];

    for (int32_t i = 0; i < some->n; i++) {
        const void *own = some->to_host ? host->to[first + i] : host->from[first + i];
        bounces[i] = !is_pinned(pages, own, some->page_bytes);
        some->host[i] =
            bounces[i] ? pages->bounce + (size_t)i * some->page_bytes : (void *)(uintptr_t)own;
        if (bounces[i] && !some->to_host)
            memcpy(some->host[i], own, some->page_bytes);
    }
    if (!move_some(cuda, some))
        return false;
    for (int32_t i = 0; i < some->n && some->to_host; i++) {
        if (bounces[i])
            memcpy(host->to[first + i], some->host[i], some->page_bytes);
    }
    return true;
}

static bool move_pages(struct qr_cuda_device *cuda, qr_cu_address pool, size_t page_bytes,
                       int32_t n, const int32_t *ids, const struct host_pages *host)
{
    struct some_pages some = {.pool = pool, .page_bytes = page_bytes, .to_host = host->to != NULL};
    int32_t at_a_time = cuda->pages.n_bounce;

    pthread_mutex_lock(&cuda->pages.mutex);
    bool ok = begin_move(cuda);
    for (int32_t first = 0; first < n && ok; first += at_a_time) {
        some.n = n - first < at_a_time ? n - first : at_a_time;
        some.ids = ids + first;
        ok = move_through(cuda, &some, host, first);
    }
    pthread_mutex_unlock(&cuda->pages.mutex);
    return ok;
}

bool qr_cuda_read_pages(struct qr_device *dev, const void *kv_pool, size_t page_bytes, int32_t n,
                        const int32_t *pages, void *const *to)
{
    const struct host_pages host = {.to = to};

    return move_pages(qr_cuda_device_of(dev), qr_cuda_address(kv_pool), page_bytes, n, pages,
                      &host);
}

bool qr_cuda_write_pages(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t n,
                         const int32_t *pages, const void *const *from)
{
    const struct host_pages host = {.from = from};

    return move_pages(qr_cuda_device_of(dev), qr_cuda_address(kv_pool), page_bytes, n, pages,
                      &host);
}

bool qr_cuda_pin_memory(struct qr_device *dev, void *memory, size_t n_bytes)
{
    const unsigned flags = QR_CU_REGISTER_PORTABLE | QR_CU_REGISTER_DEVICEMAP;
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    struct qr_cuda_pages *pages = &cuda->pages;
    struct qr_error err;

    pthread_mutex_lock(&pages->mutex);
    bool ok = cuda->cuda.properties.reaches_pinned && pages->n_pinned < QR_CUDA_MAX_PINNED &&
              qr_cuda_attach_thread(&cuda->cuda, &err) == QR_OK &&
              cuda->cuda.driver->mem_host_register(memory, n_bytes, flags) == QR_CU_OK;
    if (ok)
        pages->pinned[pages->n_pinned++] =
            (struct qr_cuda_pinned){.memory = memory, .n_bytes = n_bytes};
    pthread_mutex_unlock(&pages->mutex);
    return ok;
}

void qr_cuda_unpin_memory(struct qr_device *dev, void *memory)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    struct qr_cuda_pages *pages = &cuda->pages;
    struct qr_error err;

    pthread_mutex_lock(&pages->mutex);
    for (int32_t i = 0; i < pages->n_pinned; i++) {
        if (pages->pinned[i].memory != memory)
            continue;
        pages->pinned[i] = pages->pinned[--pages->n_pinned];
        if (qr_cuda_attach_thread(&cuda->cuda, &err) == QR_OK)
            (void)cuda->cuda.driver->mem_host_unregister(memory);
        break;
    }
    pthread_mutex_unlock(&pages->mutex);
}
