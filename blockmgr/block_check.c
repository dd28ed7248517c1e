/*
 * block_check.c - every invariant between tables, tree, lists, pools and counters, counted
 * anew from the blocks and compared. For tests; takes time in proportion to everything.
 */
#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

/* Counted from the blocks. */
struct census {
    int32_t n_used;
    int32_t n_cached;
    int32_t n_with_page;
    int32_t n_leaving;
    int32_t n_queued;
    int32_t n_active;
    int32_t n_listed;
    int32_t n_to_save;
    int32_t n_in_use;
    int32_t n_ghosts;
    int64_t used_slots;
    int32_t n_slots[QR_TIER_COUNT];
    int32_t n_slots_listed[QR_TIER_COUNT];
};

static int32_t pins_in_tables(const struct qr_block_manager *mgr, int32_t id)
{
    int32_t n = 0;

    for (int32_t seq = 0; seq < mgr->config.max_sequences; seq++) {
        const struct qr_table *table = qr_table_of(mgr, seq);
        for (int32_t i = table->first_block; i < table->n_blocks; i++)
            n += qr_table_blocks(mgr, seq)[i] == id;
    }
    return n;
}

static void check_lists(const struct qr_block_manager *mgr, int32_t id)
{
    const struct qr_block *block = qr_block_of(mgr, id);
    bool idle = block->state == QR_BLOCK_IDLE;
    bool listed = qr_evict_is_listed(&block->links[QR_LINK_DEVICE]);
    bool slot_listed = qr_evict_is_listed(&block->links[QR_LINK_TIER]);
    bool is_last = (mgr->window > 0 ? block->n_cached_children : block->n_resident_children) == 0;
    bool slot_may_go = mgr->window > 0 || block->page != QR_PAGE_NONE || block->n_children == 0;

    QR_ASSERT(listed == (qr_block_is_cached(block) && is_last) && listed == block->listed);
    QR_ASSERT(slot_listed ==
              (block->indexed && idle && block->slot != QR_SLOT_NONE && slot_may_go));
}

/*
 * A block stands below a block on the device if it is there itself, and is not lost; with a
 * window below any that is in the tree.
 */
static void check_family(const struct qr_block_manager *mgr, int32_t id)
{
    const struct qr_block *block = qr_block_of(mgr, id);
    int32_t n_children = 0;
    int32_t n_resident = 0;
    int32_t n_cached = 0;

    for (int32_t child = block->first_child; child != QR_BLOCK_NONE;
         child = qr_block_of(mgr, child)->next_sibling) {
        QR_ASSERT(qr_block_of(mgr, child)->indexed && qr_block_of(mgr, child)->parent == id);
        n_children++;
        n_resident += qr_block_of(mgr, child)->page != QR_PAGE_NONE;
        n_cached += qr_block_is_cached(qr_block_of(mgr, child));
    }
    QR_ASSERT(n_children == block->n_children && n_resident == block->n_resident_children);
    QR_ASSERT(mgr->window == 0 || n_cached == block->n_cached_children);
    if (qr_block_is_root(&mgr->tree, id))
        return;
    QR_ASSERT(mgr->window > 0 || n_resident == 0 || block->page != QR_PAGE_NONE);
    QR_ASSERT(block->indexed == (block->parent != QR_BLOCK_NONE));
    QR_ASSERT(block->indexed || n_children == 0);
    QR_ASSERT(!(block->indexed && block->lost));
    QR_ASSERT(n_children == 0 || block->n_tokens == mgr->config.page_size);
    QR_ASSERT(!block->indexed || block->n_tokens < mgr->config.page_size ||
              qr_block_tree_is_findable(&mgr->tree, id));
}

static void check_block(const struct qr_block_manager *mgr, int32_t id, struct census *census)
{
    const struct qr_block *block = qr_block_of(mgr, id);

    QR_ASSERT(block->n_pins == pins_in_tables(mgr, id));
    bool is_ghost = qr_block_is_ghost(block);
    QR_ASSERT(block->page != QR_PAGE_NONE || block->slot != QR_SLOT_NONE || is_ghost);
    QR_ASSERT(!is_ghost || (mgr->window > 0 && block->n_children > 0 &&
                            block->state == QR_BLOCK_IDLE && block->n_pins == 0));
    QR_ASSERT(block->page != QR_PAGE_NONE || block->n_pins == 0);
    QR_ASSERT(block->n_pins > 0 || block->indexed || block->state != QR_BLOCK_IDLE);
    QR_ASSERT(!block->indexed || (block->n_tokens > 0 && block->n_tokens <= block->fill));
    QR_ASSERT(block->page == QR_PAGE_NONE || qr_page_pool_is_taken(mgr->pages, block->page));
    check_lists(mgr, id);
    check_family(mgr, id);
    census->n_in_use++;
    census->n_ghosts += is_ghost;
    census->n_with_page += block->page != QR_PAGE_NONE;
    census->n_used += block->n_pins > 0;
    census->used_slots += block->n_pins > 0 ? block->fill : 0;
    census->n_cached += qr_block_is_cached(block);
    census->n_listed += qr_evict_is_listed(&block->links[QR_LINK_DEVICE]);
    census->n_to_save += block->to_save;
    QR_ASSERT(!block->to_save || (block->n_pins == 0 && block->state == QR_BLOCK_IDLE &&
                                  block->page != QR_PAGE_NONE && block->slot == QR_SLOT_NONE));
    census->n_leaving += block->state == QR_BLOCK_QUEUED_OUT || block->state == QR_BLOCK_OUT;
    census->n_queued += block->state == QR_BLOCK_QUEUED_OUT || block->state == QR_BLOCK_QUEUED_IN;
    census->n_active += block->state == QR_BLOCK_OUT || block->state == QR_BLOCK_IN;
    if (block->slot != QR_SLOT_NONE) {
        census->n_slots[block->tier]++;
        census->n_slots_listed[block->tier] += qr_evict_is_listed(&block->links[QR_LINK_TIER]);
    }
}

/* What is held, and that the last full block is: the next stands below it. */
static void check_first_block(const struct qr_block_manager *mgr, int32_t seq)
{
    const struct qr_table *table = qr_table_of(mgr, seq);

    QR_ASSERT(table->first_block == 0 || mgr->window > 0);
    QR_ASSERT(table->first_block >= 0 && table->first_block <= table->n_blocks);
    QR_ASSERT(table->n_blocks - table->first_block <= mgr->max_held);
    QR_ASSERT(table->first_block == 0 || table->first_block < table->n_indexed);
    for (int32_t i = 0; i < table->first_block; i++)
        QR_ASSERT(qr_table_blocks(mgr, seq)[i] == QR_BLOCK_NONE &&
                  qr_table_pages(mgr, seq)[i] == QR_PAGE_NONE);
}

static void check_ghosts(const struct qr_block_manager *mgr, const struct census *census)
{
    int32_t n = 0;

    for (int32_t id = mgr->ghosts.head; id != QR_BLOCK_NONE;
         id = qr_block_of(mgr, id)->links[QR_LINK_DEVICE].next) {
        QR_ASSERT(qr_block_is_ghost(qr_block_of(mgr, id)));
        n++;
    }
    QR_ASSERT(n == census->n_ghosts);
}

/* What prefetching has left is what committing would compute. */
static void check_hash_ahead(const struct qr_block_manager *mgr, int32_t seq)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    int32_t index = table->n_indexed;

    if (table->tokens == NULL || table->n_hashed != index + 1)
        return;
    int32_t parent = qr_table_parent(mgr, seq, index);
    const int32_t *tokens = table->tokens + index * mgr->config.page_size;
    QR_ASSERT(!qr_block_is_in_tree(mgr, parent) ||
              table->hash_ahead ==
                  qr_block_tree_hash(&mgr->tree, qr_block_of(mgr, parent)->hash, tokens));
}

static void check_tables(const struct qr_block_manager *mgr)
{
    int32_t n_promised = 0;

    for (int32_t seq = 0; seq < mgr->config.max_sequences; seq++) {
        const struct qr_table *table = qr_table_of(mgr, seq);
        n_promised += table->n_promised;
        QR_ASSERT(table->tokens != NULL || (table->n_blocks == 0 && table->n_promised == 0));
        QR_ASSERT(table->n_indexed <= table->n_blocks && table->n_blocks <= mgr->max_blocks);
        check_first_block(mgr, seq);
        check_hash_ahead(mgr, seq);
        for (int32_t i = table->first_block; i < table->n_blocks; i++) {
            const struct qr_block *block = qr_block_of(mgr, qr_table_blocks(mgr, seq)[i]);
            QR_ASSERT(block->state != QR_BLOCK_FREE);
            QR_ASSERT(block->page == qr_table_pages(mgr, seq)[i]);
            QR_ASSERT(block->position == i * mgr->config.page_size);
        }
    }
    QR_ASSERT(n_promised == mgr->n_promised);
}

static void check_save_queue(const struct qr_block_manager *mgr, const struct census *census)
{
    int32_t n = 0;

    for (int32_t id = mgr->save_queue.head; id != QR_BLOCK_NONE;
         id = qr_block_of(mgr, id)->links[QR_LINK_TIER].next) {
        QR_ASSERT(qr_block_of(mgr, id)->to_save);
        n++;
    }
    QR_ASSERT(n == census->n_to_save);
}

static void check_tiers(const struct qr_block_manager *mgr, struct census *census)
{
    for (int32_t i = 0; i < mgr->config.max_transfers; i++) {
        const struct qr_active_transfer *active = &mgr->active[i];
        if (active->block == QR_BLOCK_NONE)
            continue;
        census->n_active--;
        census->n_slots[active->tier] += active->out; /* not yet the block's */
    }
    QR_ASSERT(census->n_active == 0);
    for (int32_t t = 0; t < QR_TIER_COUNT; t++) {
        const struct qr_tier_state *tier = &mgr->tiers[t];
        int32_t n_free = tier->slots != NULL ? qr_page_pool_free_count(tier->slots) : 0;
        QR_ASSERT(census->n_slots[t] + n_free == mgr->config.tier_slots[t]);
        QR_ASSERT(census->n_slots_listed[t] == tier->evictable.count);
    }
}

void qr_block_manager_check(const struct qr_block_manager *mgr)
{
    const struct qr_block_tree *tree = &mgr->tree;
    struct census census = {0};

    for (int32_t id = 0; id < tree->n_blocks; id++) {
        if (qr_block_of(mgr, id)->state != QR_BLOCK_FREE)
            check_block(mgr, id, &census);
    }
    for (int32_t root = tree->n_blocks; root < tree->n_blocks + tree->n_roots; root++) {
        if (tree->salts[root - tree->n_blocks].in_use)
            check_family(mgr, root);
    }
    check_tables(mgr);
    check_tiers(mgr, &census);
    check_save_queue(mgr, &census);
    check_ghosts(mgr, &census);
    QR_ASSERT(census.n_in_use + tree->n_free_blocks == tree->n_blocks);
    QR_ASSERT(census.n_with_page + qr_page_pool_free_count(mgr->pages) == mgr->config.page_count);
    QR_ASSERT(census.n_used == mgr->n_used && census.n_cached == mgr->n_cached);
    QR_ASSERT(census.used_slots == mgr->used_slots);
    QR_ASSERT(census.n_listed == mgr->evictable.count);
    QR_ASSERT(census.n_leaving == mgr->n_leaving && census.n_queued == mgr->n_queued);
}
