/*
 * block_manager.c - see block_manager.h for the contract: making, taking apart, opening
 * and closing sequences, and the figures.
 *
 * The tables of all slots are one array with max_blocks entries a slot, so that a
 * growing sequence never moves. The entries of a slot beyond its n_blocks mean nothing.
 */
#include "blockmgr/block_manager.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

enum { MIN_PAGE_SIZE = 8, MAX_PAGE_SIZE = 256, MAX_GHOSTS_A_PLACE = 16 };

/* Before anything was measured: loading is better than computing, host better than disk. */
static const struct qr_block_costs default_costs = {
    .page_out_ns = {20e3, 200e3},
    .page_in_ns = {20e3, 200e3},
    .row_ns = 100e3,
    .row_position_ns = 10,
};

/* Blocks that have a page or a slot. */
static int64_t n_places(const struct qr_block_manager_config *config)
{
    return (int64_t)config->page_count + config->tier_slots[QR_TIER_HOST] +
           config->tier_slots[QR_TIER_DISK];
}

static bool has_window(const struct qr_block_manager_config *config)
{
    return config->window > 0 && config->window < config->max_seq_tokens;
}

/*
 * Enough for each window's worth of blocks to be the end of a longest sequence, within reason:
 * with fewer, sequences are forgotten that would have been found again.
 */
static int64_t n_ghosts(const struct qr_block_manager_config *config)
{
    if (!has_window(config))
        return 0;
    int32_t n = config->max_seq_tokens / config->window + 1;
    return n_places(config) * (n < MAX_GHOSTS_A_PLACE ? n : MAX_GHOSTS_A_PLACE);
}

static bool config_is_valid(const struct qr_block_manager_config *config)
{
    int64_t n_blocks = n_places(config) + n_ghosts(config);
    bool tiers = config->tier_slots[QR_TIER_HOST] > 0 || config->tier_slots[QR_TIER_DISK] > 0;

    return config->page_count > 0 && config->page_size >= MIN_PAGE_SIZE &&
           config->page_size <= MAX_PAGE_SIZE &&
           (config->page_size & (config->page_size - 1)) == 0 && config->max_sequences > 0 &&
           config->max_seq_tokens > 0 && config->tier_slots[QR_TIER_HOST] >= 0 &&
           config->tier_slots[QR_TIER_DISK] >= 0 && config->max_transfers >= (tiers ? 1 : 0) &&
           config->window >= 0 && (config->window == 0 || config->max_rows > 0) &&
           2 * n_blocks + config->max_sequences < INT32_MAX;
}

/* A block is in at most one of those of each link. */
static void make_lists(struct qr_block_manager *mgr)
{
    qr_evict_list_init(&mgr->evictable, QR_LINK_DEVICE);
    qr_block_queue_init(&mgr->in_queue, QR_LINK_DEVICE);
    qr_block_queue_init(&mgr->out_queue, QR_LINK_DEVICE);
    qr_block_queue_init(&mgr->ghosts, QR_LINK_DEVICE);
    for (int32_t t = 0; t < QR_TIER_COUNT; t++)
        qr_evict_list_init(&mgr->tiers[t].evictable, QR_LINK_TIER);
    qr_block_queue_init(&mgr->save_queue, QR_LINK_TIER);
}

static enum qr_status make_tiers(struct qr_block_manager *mgr)
{
    size_t n_transfers = (size_t)mgr->config.max_transfers;
    const enum qr_arena arena = QR_ARENA_ENGINE;

    for (int32_t t = 0; t < QR_TIER_COUNT; t++) {
        if (mgr->config.tier_slots[t] > 0)
            QR_TRY(qr_page_pool_create(mgr->config.tier_slots[t], &mgr->tiers[t].slots));
    }
    if ((mgr->active = qr_calloc(arena, n_transfers, sizeof(*mgr->active))) == NULL ||
        (mgr->transfers = qr_calloc(arena, n_transfers, sizeof(*mgr->transfers))) == NULL ||
        (mgr->free_transfers = qr_calloc(arena, n_transfers, sizeof(*mgr->free_transfers))) == NULL)
        return QR_ERR_NOMEM;
    mgr->n_free_transfers = mgr->config.max_transfers;
    for (int32_t i = 0; i < mgr->config.max_transfers; i++) {
        mgr->active[i].block = QR_BLOCK_NONE;
        mgr->free_transfers[i] = mgr->config.max_transfers - 1 - i;
    }
    return QR_OK;
}

static enum qr_status make_tables(struct qr_block_manager *mgr)
{
    size_t n_slots = (size_t)mgr->config.max_sequences;
    size_t row_bytes = (size_t)mgr->max_blocks * sizeof(int32_t);
    const enum qr_arena arena = QR_ARENA_ENGINE;

    if ((mgr->tables = qr_calloc_huge(arena, n_slots, sizeof(*mgr->tables))) == NULL ||
        (mgr->table_blocks = qr_calloc_huge(arena, n_slots, row_bytes)) == NULL ||
        (mgr->table_pages = qr_calloc_huge(arena, n_slots, row_bytes)) == NULL ||
        (mgr->copies = qr_calloc(arena, n_slots, sizeof(*mgr->copies))) == NULL)
        return QR_ERR_NOMEM;
    return QR_OK;
}

/*
 * Every block that is no ghost has a page or a slot. Each of these may have a root of its own, as
 * may open sequences.
 */
static enum qr_status make_tree(struct qr_block_manager *mgr)
{
    const struct qr_block_manager_config *config = &mgr->config;
    int32_t n_blocks = (int32_t)(n_places(config) + n_ghosts(config));
    int32_t n_roots = (int32_t)n_places(config) + config->max_sequences;

    return qr_block_tree_init(&mgr->tree, n_blocks, n_roots, config->page_size);
}

/* Those with a key that the first row of a chunk sees, one that is passed, those of the chunk. */
int32_t qr_block_manager_most_held(const struct qr_block_manager_config *config)
{
    int64_t page_size = config->page_size;
    int64_t n_all = (config->max_seq_tokens + page_size - 1) / page_size;
    int64_t n = ((int64_t)config->window - 1 + config->max_rows + page_size - 2) / page_size + 2;

    return (int32_t)(has_window(config) && n < n_all ? n : n_all);
}

enum qr_status qr_block_manager_create(const struct qr_block_manager_config *config,
                                       struct qr_block_manager **out)
{
    struct qr_block_manager *mgr = NULL;

    *out = NULL;
    if (!config_is_valid(config))
        return QR_ERR_INVALID;
    if ((mgr = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*mgr))) == NULL)
        return QR_ERR_NOMEM;
    mgr->config = *config;
    mgr->page_shift = __builtin_ctz((unsigned)config->page_size);
    mgr->costs = default_costs;
    mgr->max_blocks = qr_blocks_for(mgr, config->max_seq_tokens);
    mgr->window = has_window(config) ? config->window : 0;
    mgr->max_held = qr_block_manager_most_held(config);
    make_lists(mgr);
    if (make_tables(mgr) != QR_OK || make_tiers(mgr) != QR_OK || make_tree(mgr) != QR_OK ||
        qr_page_pool_create(config->page_count, &mgr->pages) != QR_OK) {
        qr_block_manager_destroy(mgr);
        return QR_ERR_NOMEM;
    }
    *out = mgr;
    return QR_OK;
}

void qr_block_manager_destroy(struct qr_block_manager *mgr)
{
    if (mgr == NULL)
        return;
    qr_page_pool_destroy(mgr->pages);
    qr_block_tree_free(&mgr->tree);
    qr_free(mgr->free_transfers);
    qr_free(mgr->transfers);
    qr_free(mgr->active);
    for (int32_t t = 0; t < QR_TIER_COUNT; t++)
        qr_page_pool_destroy(mgr->tiers[t].slots);
    qr_free(mgr->copies);
    qr_free(mgr->table_pages);
    qr_free(mgr->table_blocks);
    qr_free(mgr->tables);
    qr_free(mgr);
}

void qr_block_manager_set_costs(struct qr_block_manager *mgr, const struct qr_block_costs *costs)
{
    mgr->costs = *costs;
}

void qr_block_manager_open(struct qr_block_manager *mgr, int32_t seq, const int32_t *tokens,
                           const char *salt, size_t n_salt_bytes)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    const char *shared = salt != NULL ? salt : "";

    QR_ASSERT(table->tokens == NULL && tokens != NULL);
    *table = (struct qr_table){.tokens = tokens};
    table->root = qr_block_tree_open_root(&mgr->tree, mgr->config.prefix_cache ? shared : NULL,
                                          mgr->config.prefix_cache ? n_salt_bytes : 0);
}

void qr_block_manager_open_fork(struct qr_block_manager *mgr, int32_t seq, const int32_t *tokens,
                                int32_t parent)
{
    struct qr_table *table = qr_table_of(mgr, seq);

    QR_ASSERT(table->tokens == NULL && tokens != NULL);
    *table = (struct qr_table){.tokens = tokens, .root = qr_table_of(mgr, parent)->root};
    mgr->tree.blocks[table->root].n_pins++;
}

void qr_block_manager_close(struct qr_block_manager *mgr, int32_t seq)
{
    struct qr_table *table = qr_table_of(mgr, seq);

    QR_ASSERT(table->tokens != NULL && table->n_blocks == 0 && table->n_promised == 0);
    table->tokens = NULL;
    if (--qr_block_of(mgr, table->root)->n_pins == 0 && !mgr->config.prefix_cache)
        qr_block_drop_children(mgr, table->root); /* nobody will look for them */
    qr_block_tree_tidy_root(&mgr->tree, table->root);
}

const struct qr_page_copy *qr_block_manager_copies(const struct qr_block_manager *mgr,
                                                   int32_t *count)
{
    *count = mgr->n_copies;
    return mgr->copies;
}

const struct qr_transfer *qr_block_manager_transfers(const struct qr_block_manager *mgr,
                                                     int32_t *count)
{
    *count = mgr->n_transfers;
    return mgr->transfers;
}

void qr_block_manager_clear_lists(struct qr_block_manager *mgr)
{
    mgr->n_copies = mgr->n_transfers = 0;
}

const int32_t *qr_block_manager_block_table(const struct qr_block_manager *mgr, int32_t seq)
{
    QR_ASSERT(seq >= 0 && seq < mgr->config.max_sequences);
    return qr_table_pages(mgr, seq);
}

int32_t qr_block_manager_n_blocks(const struct qr_block_manager *mgr, int32_t seq)
{
    return qr_table_of(mgr, seq)->n_blocks;
}

int32_t qr_block_manager_first_block(const struct qr_block_manager *mgr, int32_t seq)
{
    return qr_table_of(mgr, seq)->first_block;
}

int32_t qr_block_manager_held_pages(const struct qr_block_manager *mgr, int32_t seq)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    return table->n_blocks - table->first_block;
}

bool qr_block_manager_has_window(const struct qr_block_manager *mgr)
{
    return mgr->window > 0;
}

int32_t qr_block_manager_pages_for(const struct qr_block_manager *mgr, int32_t n_tokens)
{
    int32_t n_blocks = qr_blocks_for(mgr, n_tokens);
    return n_blocks < mgr->max_held ? n_blocks : mgr->max_held;
}

int32_t qr_block_manager_max_rows(const struct qr_block_manager *mgr)
{
    return mgr->window > 0 ? mgr->config.max_rows : mgr->config.max_seq_tokens;
}

int32_t qr_block_manager_promised_pages(const struct qr_block_manager *mgr, int32_t seq)
{
    return qr_table_of(mgr, seq)->n_promised;
}

int32_t qr_block_manager_available_pages(const struct qr_block_manager *mgr)
{
    return qr_page_pool_free_count(mgr->pages) + mgr->n_cached - mgr->n_promised;
}

int32_t qr_block_manager_leaving_pages(const struct qr_block_manager *mgr)
{
    return mgr->n_leaving;
}

int32_t qr_block_manager_page_size(const struct qr_block_manager *mgr)
{
    return mgr->config.page_size;
}

int32_t qr_block_manager_max_blocks(const struct qr_block_manager *mgr)
{
    return mgr->max_blocks;
}

int32_t qr_block_manager_max_sequences(const struct qr_block_manager *mgr)
{
    return mgr->config.max_sequences;
}

int32_t qr_block_manager_max_seq_tokens(const struct qr_block_manager *mgr)
{
    return mgr->config.max_seq_tokens;
}

int32_t qr_block_manager_page_count(const struct qr_block_manager *mgr)
{
    return mgr->config.page_count;
}

void qr_block_manager_stats(const struct qr_block_manager *mgr, struct qr_block_stats *stats)
{
    *stats = mgr->counters;
    stats->page_count = mgr->config.page_count;
    stats->free_pages = qr_page_pool_free_count(mgr->pages);
    stats->used_pages = mgr->n_used;
    stats->cached_pages = stats->page_count - stats->free_pages - stats->used_pages;
    stats->used_slots = mgr->used_slots;
    stats->wasted_slots = (int64_t)stats->used_pages * mgr->config.page_size - mgr->used_slots;
    for (int32_t t = 0; t < QR_TIER_COUNT; t++) {
        stats->tier_slots[t] = mgr->config.tier_slots[t];
        if (mgr->tiers[t].slots != NULL)
            stats->tier_used[t] =
                mgr->config.tier_slots[t] - qr_page_pool_free_count(mgr->tiers[t].slots);
    }
    stats->n_in_transfer = mgr->n_queued + mgr->config.max_transfers - mgr->n_free_transfers;
}
