/*
 * page_pool.h - which KV-cache pages, or slots of a lower tier, are free.
 *
 * A page is an index, never a pointer: the KV bytes belong to the device. Each has one owner, a
 * block; what sequences share are blocks.
 * Host-only. Engine thread only. Nothing allocates after create.
 */
#ifndef QUIRE_BLOCKMGR_PAGE_POOL_H
#define QUIRE_BLOCKMGR_PAGE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef int32_t qr_page_id;

struct qr_page_pool;

QR_BEGIN_DECLS

/* page_count >= 1. On QR_OK the caller owns *out. On error *out is NULL. */
QR_MUST_CHECK enum qr_status qr_page_pool_create(int32_t page_count, struct qr_page_pool **out);
void qr_page_pool_destroy(struct qr_page_pool *pool); /* accepts NULL */

/*
 * Takes `count` pages into ids[]. All or nothing: QR_ERR_NO_PAGES leaves both the pool and ids[]
 * untouched.
 */
QR_MUST_CHECK enum qr_status qr_page_pool_take(struct qr_page_pool *pool, int32_t count,
                                               qr_page_id *ids);
void qr_page_pool_give_back(struct qr_page_pool *pool, qr_page_id id);

int32_t qr_page_pool_free_count(const struct qr_page_pool *pool);
bool qr_page_pool_is_taken(const struct qr_page_pool *pool, qr_page_id id);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_PAGE_POOL_H */
