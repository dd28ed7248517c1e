/*
 * block_manager.c - see block_manager.h for the contract.
 *
 * The tables of all slots are one array with max_blocks entries a slot, so that a
 * growing sequence never moves and nothing allocates after create. The entries of a
 * slot beyond its n_blocks mean nothing.
 */
#include "blockmgr/block_manager.h"

#include <stdbool.h>
#include <stddef.h>

#include "base/alloc.h"
#include "base/assert.h"

enum { MIN_PAGE_SIZE = 8, MAX_PAGE_SIZE = 256 };

struct block_slot {
    int32_t n_blocks;
    int32_t n_tokens; /* reserved; at most n_blocks * page_size */
};

struct qr_block_manager {
    struct qr_page_pool *pool;
    int32_t page_size;
    int32_t max_sequences;
    int32_t max_seq_tokens;
    int32_t max_blocks;
    int64_t used_slots;       /* sum of n_tokens over all slots */
    struct block_slot *slots; /* [max_sequences] */
    qr_page_id *tables;       /* [max_sequences, max_blocks] */
};

static bool config_is_valid(const struct qr_block_manager_config *config)
{
    return config->page_count > 0 && config->page_size >= MIN_PAGE_SIZE &&
           config->page_size <= MAX_PAGE_SIZE &&
           (config->page_size & (config->page_size - 1)) == 0 && config->max_sequences > 0 &&
           config->max_seq_tokens > 0;
}

/* Pages that hold n_tokens; no overflow up to INT32_MAX tokens. */
static int32_t blocks_for(const struct qr_block_manager *mgr, int32_t n_tokens)
{
    return n_tokens / mgr->page_size + (n_tokens % mgr->page_size != 0);
}

static struct block_slot *slot_of(const struct qr_block_manager *mgr, int32_t seq)
{
    QR_ASSERT(seq >= 0 && seq < mgr->max_sequences);
    return &mgr->slots[seq];
}

static qr_page_id *table_of(const struct qr_block_manager *mgr, int32_t seq)
{
    return mgr->tables + (size_t)seq * (size_t)mgr->max_blocks;
}

enum qr_status qr_block_manager_create(const struct qr_block_manager_config *config,
                                       struct qr_block_manager **out)
{
    struct qr_block_manager *mgr = NULL;
    enum qr_status st = QR_ERR_NOMEM;

    *out = NULL;
    if (!config_is_valid(config))
        return QR_ERR_INVALID;

    if ((mgr = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*mgr))) == NULL)
        goto fail;
    mgr->page_size = config->page_size;
    mgr->max_sequences = config->max_sequences;
    mgr->max_seq_tokens = config->max_seq_tokens;
    mgr->max_blocks = blocks_for(mgr, config->max_seq_tokens);

    size_t n_slots = (size_t)config->max_sequences;
    size_t table_bytes = (size_t)mgr->max_blocks * sizeof(*mgr->tables);
    if ((mgr->slots = qr_calloc(QR_ARENA_ENGINE, n_slots, sizeof(*mgr->slots))) == NULL)
        goto fail;
    if ((mgr->tables = qr_calloc(QR_ARENA_ENGINE, n_slots, table_bytes)) == NULL)
        goto fail;

    const struct qr_page_pool_config pool_config = {.page_count = config->page_count,
                                                    .page_size = config->page_size};
    if ((st = qr_page_pool_create(&pool_config, &mgr->pool)) != QR_OK)
        goto fail;

    *out = mgr;
    return QR_OK;

fail:
    qr_block_manager_destroy(mgr);
    return st;
}

void qr_block_manager_destroy(struct qr_block_manager *mgr)
{
    if (mgr == NULL)
        return;
    qr_page_pool_destroy(mgr->pool);
    qr_free(mgr->tables);
    qr_free(mgr->slots);
    qr_free(mgr);
}

int32_t qr_block_manager_pages_needed(const struct qr_block_manager *mgr, int32_t seq,
                                      int32_t n_tokens)
{
    QR_ASSERT(n_tokens >= 0 && n_tokens <= mgr->max_seq_tokens);
    int32_t n_more = blocks_for(mgr, n_tokens) - slot_of(mgr, seq)->n_blocks;
    return n_more > 0 ? n_more : 0;
}

enum qr_status qr_block_manager_reserve(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    int32_t n_more = qr_block_manager_pages_needed(mgr, seq, n_tokens);
    struct block_slot *slot = slot_of(mgr, seq);

    QR_TRY(qr_page_pool_take(mgr->pool, n_more, table_of(mgr, seq) + slot->n_blocks));
    slot->n_blocks += n_more;
    if (n_tokens > slot->n_tokens) {
        mgr->used_slots += n_tokens - slot->n_tokens;
        slot->n_tokens = n_tokens;
    }
    return QR_OK;
}

void qr_block_manager_release(struct qr_block_manager *mgr, int32_t seq)
{
    struct block_slot *slot = slot_of(mgr, seq);
    const qr_page_id *table = table_of(mgr, seq);

    /* Last page first: the next sequence then takes them from the pool in their old order. */
    for (int32_t i = slot->n_blocks - 1; i >= 0; i--)
        qr_page_pool_unref(mgr->pool, table[i]);
    mgr->used_slots -= slot->n_tokens;
    *slot = (struct block_slot){0};
}

const int32_t *qr_block_manager_block_table(const struct qr_block_manager *mgr, int32_t seq)
{
    QR_ASSERT(seq >= 0 && seq < mgr->max_sequences);
    return table_of(mgr, seq);
}

int32_t qr_block_manager_n_blocks(const struct qr_block_manager *mgr, int32_t seq)
{
    return slot_of(mgr, seq)->n_blocks;
}

int32_t qr_block_manager_free_pages(const struct qr_block_manager *mgr)
{
    return qr_page_pool_free_count(mgr->pool);
}

int32_t qr_block_manager_page_size(const struct qr_block_manager *mgr)
{
    return mgr->page_size;
}

int32_t qr_block_manager_max_blocks(const struct qr_block_manager *mgr)
{
    return mgr->max_blocks;
}

int32_t qr_block_manager_max_sequences(const struct qr_block_manager *mgr)
{
    return mgr->max_sequences;
}

int32_t qr_block_manager_max_seq_tokens(const struct qr_block_manager *mgr)
{
    return mgr->max_seq_tokens;
}

int32_t qr_block_manager_page_count(const struct qr_block_manager *mgr)
{
    return qr_page_pool_page_count(mgr->pool);
}

void qr_block_manager_stats(const struct qr_block_manager *mgr, struct qr_block_stats *stats)
{
    stats->page_count = qr_page_pool_page_count(mgr->pool);
    stats->free_pages = qr_page_pool_free_count(mgr->pool);
    stats->used_pages = stats->page_count - stats->free_pages;
    stats->used_slots = mgr->used_slots;
    stats->wasted_slots = (int64_t)stats->used_pages * mgr->page_size - mgr->used_slots;
}
