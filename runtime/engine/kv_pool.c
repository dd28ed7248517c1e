/* kv_pool.c - see kv_pool.h for the contract. */
#include "runtime/engine/kv_pool.h"

/* Pages for everything that can run, as far as there is room. */
static int64_t default_pages(const struct qr_kv_pool_wish *wish)
{
    int64_t one = ((int64_t)wish->context + wish->page_size - 1) / wish->page_size;
    int64_t wanted = one * wish->max_running;
    int64_t bytes = wish->available > 0 ? wish->available : QR_KV_POOL_DEFAULT_BYTES;
    int64_t within = bytes / wish->page_bytes;

    if (wish->available == 0 && within < one)
        within = one; /* the default is no limit of the machine's */
    return wanted < within ? wanted : within;
}

enum qr_status qr_kv_pool_size(const struct qr_kv_pool_wish *wish, int32_t *n_pages,
                               struct qr_error *err)
{
    int64_t pages = wish->kv_pages;

    if (wish->kv_memory > 0)
        pages = wish->kv_memory / wish->page_bytes;
    else if (pages == 0)
        pages = default_pages(wish);
    pages = pages > INT32_MAX ? INT32_MAX : pages;
    int64_t needed = (pages > 0 ? pages : 1) * wish->page_bytes;
    if (wish->available > 0 && needed > wish->available)
        return qr_fail(
            err, QR_ERR_NOMEM,
            "the KV pool needs %lld bytes, and the device has %lld left for it, %lld too "
            "few; lower --kv-memory, or choose a smaller model or --max-batch-tokens",
            (long long)needed, (long long)wish->available, (long long)(needed - wish->available));
    if (pages < 1)
        return qr_fail(err, QR_ERR_INVALID,
                       "kv_memory holds no page: one page of %d tokens takes %lld bytes",
                       wish->page_size, (long long)wish->page_bytes);
    *n_pages = (int32_t)pages;
    return QR_OK;
}
