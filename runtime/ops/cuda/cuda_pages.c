/*
 * cuda_pages.c - whole KV pages: copied on the device, and moved to and from the host.
 *
 * A move runs on a stream of its own, beside the computing. It waits for the page copies that the
 * engine enqueued before it handed over the move; everything else was waited for by end_step.
 * Pages pass through pinned memory, several at a time, because copies from and to other memory
 * are slow and not asynchronous.
 */
#include <string.h>

#include "runtime/ops/cuda/cuda_device_internal.h"

enum { BOUNCE_BYTES = 8 << 20, MAX_BOUNCE = 32 };

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

/* Pages that fit into the bounce buffer, to the host memory `to`. */
static bool read_some(struct qr_cuda_device *cuda, qr_cu_address pool, size_t page_bytes, int32_t n,
                      const int32_t *ids, void *const *to)
{
    struct qr_cuda_pages *pages = &cuda->pages;
    const struct qr_cu_driver *driver = cuda->cuda.driver;

    for (int32_t i = 0; i < n; i++) {
        qr_cu_address from = pool + (size_t)ids[i] * page_bytes;
        if (driver->memcpy_dtoh_async(pages->bounce + (size_t)i * page_bytes, from, page_bytes,
                                      pages->stream) != QR_CU_OK)
            return false;
    }
    if (driver->stream_synchronize(pages->stream) != QR_CU_OK)
        return false;
    for (int32_t i = 0; i < n; i++)
        memcpy(to[i], pages->bounce + (size_t)i * page_bytes, page_bytes);
    return true;
}

static bool write_some(struct qr_cuda_device *cuda, qr_cu_address pool, size_t page_bytes,
                       int32_t n, const int32_t *ids, const void *const *from)
{
    struct qr_cuda_pages *pages = &cuda->pages;
    const struct qr_cu_driver *driver = cuda->cuda.driver;

    for (int32_t i = 0; i < n; i++) {
        unsigned char *bounce = pages->bounce + (size_t)i * page_bytes;
        memcpy(bounce, from[i], page_bytes);
        if (driver->memcpy_htod_async(pool + (size_t)ids[i] * page_bytes, bounce, page_bytes,
                                      pages->stream) != QR_CU_OK)
            return false;
    }
    return driver->stream_synchronize(pages->stream) == QR_CU_OK;
}

/* Pages `ids` to the host memory `to`, or where that is NULL from the host memory `from`. */
static bool move_pages(struct qr_cuda_device *cuda, qr_cu_address pool, size_t page_bytes,
                       int32_t n, const int32_t *ids, void *const *to, const void *const *from)
{
    int32_t at_a_time = cuda->pages.n_bounce;

    pthread_mutex_lock(&cuda->pages.mutex);
    bool ok = begin_move(cuda);
    for (int32_t i = 0; i < n && ok; i += at_a_time) {
        int32_t some = n - i < at_a_time ? n - i : at_a_time;
        ok = to != NULL ? read_some(cuda, pool, page_bytes, some, ids + i, to + i)
                        : write_some(cuda, pool, page_bytes, some, ids + i, from + i);
    }
    pthread_mutex_unlock(&cuda->pages.mutex);
    return ok;
}

bool qr_cuda_read_pages(struct qr_device *dev, const void *kv_pool, size_t page_bytes, int32_t n,
                        const int32_t *pages, void *const *to)
{
    return move_pages(qr_cuda_device_of(dev), qr_cuda_address(kv_pool), page_bytes, n, pages, to,
                      NULL);
}

bool qr_cuda_write_pages(struct qr_device *dev, void *kv_pool, size_t page_bytes, int32_t n,
                         const int32_t *pages, const void *const *from)
{
    return move_pages(qr_cuda_device_of(dev), qr_cuda_address(kv_pool), page_bytes, n, pages, NULL,
                      from);
}
