/*
 * page_pool.c - see page_pool.h for the contract.
 *
 * free_ids[0 .. free_count) is a stack, so the most recently released page is reused first. Bit
 * id of `taken` is 0 exactly when id is on that stack: the bits of millions of pages stay in a
 * cache, where a word for each page would be one more access to memory.
 */
#include "blockmgr/page_pool.h"

#include "base/alloc.h"
#include "base/assert.h"

enum { WORD_BITS = 64 };

struct qr_page_pool {
    int32_t page_count;
    int32_t free_count;
    qr_page_id *free_ids; /* [page_count] */
    uint64_t *taken;      /* [page_count / WORD_BITS, rounded up] */
};

enum qr_status qr_page_pool_create(int32_t page_count, struct qr_page_pool **out)
{
    struct qr_page_pool *pool = NULL;

    *out = NULL;
    if (page_count <= 0)
        return QR_ERR_INVALID;

    size_t n = (size_t)page_count;
    size_t n_words = (n + WORD_BITS - 1) / WORD_BITS;
    if ((pool = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*pool))) == NULL)
        goto fail;
    if ((pool->free_ids = qr_calloc_huge(QR_ARENA_ENGINE, n, sizeof(*pool->free_ids))) == NULL)
        goto fail;
    if ((pool->taken = qr_calloc(QR_ARENA_ENGINE, n_words, sizeof(*pool->taken))) == NULL)
        goto fail;

    pool->page_count = pool->free_count = page_count;
    for (int32_t i = 0; i < page_count; i++)
        pool->free_ids[i] = page_count - 1 - i; /* page 0 is taken first */

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
    qr_free(pool->taken);
    qr_free(pool->free_ids);
    qr_free(pool);
}

static uint64_t bit_of(qr_page_id id)
{
    return UINT64_C(1) << (id % WORD_BITS);
}

enum qr_status qr_page_pool_take(struct qr_page_pool *pool, int32_t count, qr_page_id *ids)
{
    QR_ASSERT(count >= 0);
    if (count > pool->free_count)
        return QR_ERR_NO_PAGES;
    for (int32_t i = 0; i < count; i++) {
        ids[i] = pool->free_ids[--pool->free_count];
        QR_ASSERT(!qr_page_pool_is_taken(pool, ids[i]));
        pool->taken[ids[i] / WORD_BITS] |= bit_of(ids[i]);
    }
    return QR_OK;
}

void qr_page_pool_give_back(struct qr_page_pool *pool, qr_page_id id)
{
    QR_ASSERT(qr_page_pool_is_taken(pool, id));
    pool->taken[id / WORD_BITS] &= ~bit_of(id);
    pool->free_ids[pool->free_count++] = id;
}

int32_t qr_page_pool_free_count(const struct qr_page_pool *pool)
{
    return pool->free_count;
}

bool qr_page_pool_is_taken(const struct qr_page_pool *pool, qr_page_id id)
{
    QR_ASSERT(id >= 0 && id < pool->page_count);
    return (pool->taken[id / WORD_BITS] & bit_of(id)) != 0;
}
