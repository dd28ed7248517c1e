/*
 * page_pool.h - a fixed pool of reference-counted KV-cache pages.
 *
 * A page is an index, never a pointer: the KV bytes belong to the device.
 * Host-only. Engine thread only. Nothing allocates after create.
 */
#ifndef QUIRE_BLOCKMGR_PAGE_POOL_H
#define QUIRE_BLOCKMGR_PAGE_POOL_H

#include <stdint.h>

#include "base/status.h"

typedef int32_t qr_page_id;

struct qr_page_pool;

struct qr_page_pool_config {
    int32_t page_count;
    int32_t page_size; /* tokens per page */
};

QR_BEGIN_DECLS

/* On QR_OK the caller owns *out. On error *out is NULL. */
QR_MUST_CHECK enum qr_status qr_page_pool_create(const struct qr_page_pool_config *config,
                                                 struct qr_page_pool **out);
void qr_page_pool_destroy(struct qr_page_pool *pool); /* accepts NULL */

/*
 * Takes `count` pages, one reference each, into ids[]. All or nothing:
 * QR_ERR_NO_PAGES leaves both the pool and ids[] untouched.
 */
QR_MUST_CHECK enum qr_status qr_page_pool_take(struct qr_page_pool *pool, int32_t count,
                                               qr_page_id *ids);
void qr_page_pool_ref(struct qr_page_pool *pool, qr_page_id id);
void qr_page_pool_unref(struct qr_page_pool *pool, qr_page_id id); /* frees at zero */

int32_t qr_page_pool_free_count(const struct qr_page_pool *pool);
int32_t qr_page_pool_page_count(const struct qr_page_pool *pool);
int32_t qr_page_pool_ref_count(const struct qr_page_pool *pool, qr_page_id id); /* 0: free */

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_PAGE_POOL_H */
