/* kv_pool.h - how many pages the KV pool has, from what was asked for and what the device has. */
#ifndef QUIRE_RUNTIME_ENGINE_KV_POOL_H
#define QUIRE_RUNTIME_ENGINE_KV_POOL_H

#include <stdint.h>

#include "base/status.h"

/* Without a wish: the most that the pool takes on a device that does not say what it has, unless
 * one sequence alone needs more. */
enum { QR_KV_POOL_DEFAULT_BYTES = 512 << 20 };

struct qr_kv_pool_wish {
    int64_t kv_memory;   /* bytes; 0: kv_pages decides */
    int32_t kv_pages;    /* 0 too: enough for everything that can run, as far as there is room */
    int64_t page_bytes;  /* of one page, all layers */
    int32_t page_size;   /* tokens */
    int32_t context;     /* tokens whose KV the longest sequence holds at one time */
    int32_t max_running; /* sequences */
    int64_t available;   /* bytes that the device has for the pool; 0: it does not say */
};

QR_BEGIN_DECLS

/*
 * QR_ERR_INVALID: what was asked for holds no page. QR_ERR_NOMEM: the device has not that much;
 * err says how much is missing.
 */
QR_MUST_CHECK enum qr_status qr_kv_pool_size(const struct qr_kv_pool_wish *wish, int32_t *n_pages,
                                             struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_KV_POOL_H */
