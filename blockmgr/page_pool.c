/*
 * page_pool.c - see page_pool.h for the contract.
 *
 * free_ids[0 .. free_count) is a stack, so the most recently released page
 * is reused first. ref_count[id] == 0 exactly when id is on that stack.
 */
#include "blockmgr/page_pool.h"

#include "base/alloc.h"
#include "base/assert.h"

struct qr_page_pool {
    int32_t page_count;
    int32_t free_count;
    qr_page_id *free_ids;
    int32_t *ref_count;
};

enum qr_status qr_page_pool_create(const struct qr_page_pool_config *config,
                                   struct qr_page_pool **out)
{
    struct qr_page_pool *pool = NULL;

    *out = NULL;
    if (config->page_count <= 0 || config->page_size <= 0)
        return QR_ERR_INVALID;

    size_t n = (size_t)config->page_count;
    if ((pool = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*pool))) == NULL)
        goto fail;
    if ((pool->free_ids = qr_calloc_huge(QR_ARENA_ENGINE, n, sizeof(*pool->free_ids))) == NULL)
        goto fail;
    if ((pool->ref_count = qr_calloc_huge(QR_ARENA_ENGINE, n, sizeof(*pool->ref_count))) == NULL)
        goto fail;

    pool->page_count = pool->free_count = config->page_count;
    for (int32_t i = 0; i < pool->page_count; i++)
        pool->free_ids[i] = pool->page_count - 1 - i; /* page 0 is taken first */

    *out = pool;
    return QR_OK;

fail:
    qr_page_pool_destroy(pool);
    return QR_ERR_NOMEM;
}

void qr_page_pool_destroy(struct qr_page_pool *pool)
{
    if (pool == NULL)
        return;
    qr_free(pool->ref_count);
    qr_free(pool->free_ids);
    qr_free(pool);
}

enum { TAKEN_AHEAD = 4 };

/* Pages are mostly taken several at a time: the count of a later one is fetched now. */
static void prefetch_free(const struct qr_page_pool *pool)
{
    if (pool->free_count >= TAKEN_AHEAD)
        __builtin_prefetch(&pool->ref_count[pool->free_ids[pool->free_count - TAKEN_AHEAD]], 1);
}

enum qr_status qr_page_pool_take(struct qr_page_pool *pool, int32_t count, qr_page_id *ids)
{
    QR_ASSERT(count >= 0);
    if (count > pool->free_count)
        return QR_ERR_NO_PAGES;
    for (int32_t i = 0; i < count; i++) {
        ids[i] = pool->free_ids[--pool->free_count];
        prefetch_free(pool);
        QR_ASSERT(pool->ref_count[ids[i]] == 0);
        pool->ref_count[ids[i]] = 1;
    }
    return QR_OK;
}

void qr_page_pool_ref(struct qr_page_pool *pool, qr_page_id id)
{
    QR_ASSERT(qr_page_pool_ref_count(pool, id) > 0);
    pool->ref_count[id]++;
}

void qr_page_pool_unref(struct qr_page_pool *pool, qr_page_id id)
{
    QR_ASSERT(qr_page_pool_ref_count(pool, id) > 0);
    if (--pool->ref_count[id] == 0)
        pool->free_ids[pool->free_count++] = id;
}

int32_t qr_page_pool_free_count(const struct qr_page_pool *pool)
{
    return pool->free_count;
}

int32_t qr_page_pool_page_count(const struct qr_page_pool *pool)
{
    return pool->page_count;
}

int32_t qr_page_pool_ref_count(const struct qr_page_pool *pool, qr_page_id id)
{
    QR_ASSERT(id >= 0 && id < pool->page_count);
    return pool->ref_count[id];
}
