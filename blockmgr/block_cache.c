/*
 * block_cache.c - pins, and what becomes of blocks without: they stay where they are
 * until their page or slot is wanted, and go in the order of evict_list.h.
 *
 * On the device a block may go when none of its children is there, so that what is left
 * of a cached sequence is always a beginning of it. A block that goes without a copy in a
 * lower tier is lost, and all below it with it.
 *
 * With a window, sequences hold ends: a block may go when none of its children is cached,
 * though sequences hold some, and what is lost stays in the tree as a ghost while blocks
 * stand below it.
 */
#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

/* Rows that see all tokens before them. */
static double compute_whole_ns(const struct qr_block_costs *costs, int32_t first, int32_t end)
{
    double n = end - first;
    double mean_position = ((double)first + (double)end - 1) / 2;
    return n * (costs->row_ns + mean_position * costs->row_position_ns);
}

double qr_block_manager_compute_ns(const struct qr_block_manager *mgr, int32_t first, int32_t end)
{
    const struct qr_block_costs *costs = &mgr->costs;
    int32_t window = mgr->window;

    if (window == 0 || end <= window)
        return compute_whole_ns(costs, first, end);
    double ns = first < window ? compute_whole_ns(costs, first, window) : 0;
    double n_sliding = end - (first < window ? window : first);
    return ns + n_sliding * (costs->row_ns + (double)window * costs->row_position_ns);
}

/* What it would cost to have the page again, times how likely that is. */
static double device_weight(const struct qr_block_manager *mgr, const struct qr_block *block)
{
    double again_ns = block->slot == QR_SLOT_NONE ? qr_block_recompute_ns(mgr, block)
                                                  : mgr->costs.page_in_ns[block->tier];
    if (block->parked)
        return 0;
    return again_ns * block->n_uses * (block->held ? QR_HELD_WEIGHT : 1);
}

static void list_if_evictable(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);
    int32_t n_staying = mgr->window > 0 ? block->n_cached_children : block->n_resident_children;

    if (qr_block_is_root(&mgr->tree, id) || !qr_block_is_cached(block) || block->listed ||
        n_staying > 0)
        return;
    block->listed = true;
    qr_evict_list_insert(&mgr->evictable, mgr->tree.blocks, id, device_weight(mgr, block));
}

/* That it is not listed, as most are not, is known without its links. */
static void unlist(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (!block->listed)
        return;
    block->listed = false;
    qr_evict_list_remove(&mgr->evictable, mgr->tree.blocks, id);
}

static void count_cached(struct qr_block_manager *mgr, const struct qr_block *block)
{
    mgr->n_cached++;
    if (mgr->window == 0)
        return;
    qr_block_of(mgr, block->parent)->n_cached_children++;
    unlist(mgr, block->parent);
}

static void uncount_cached(struct qr_block_manager *mgr, const struct qr_block *block)
{
    mgr->n_cached--;
    if (mgr->window == 0)
        return;
    qr_block_of(mgr, block->parent)->n_cached_children--;
    list_if_evictable(mgr, block->parent);
}

void qr_block_settle(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (block->n_pins > 0 || block->state != QR_BLOCK_IDLE)
        return;
    if (qr_block_is_cached(block)) {
        count_cached(mgr, block);
        list_if_evictable(mgr, id);
        qr_block_queue_save(mgr, id);
        qr_block_relist_slot(mgr, id);
    } else if (!block->indexed) {
        qr_block_drop_slot(mgr, id);
        if (block->page != QR_PAGE_NONE)
            qr_page_pool_give_back(mgr->pages, block->page);
        block->page = QR_PAGE_NONE;
        qr_block_tree_delete(&mgr->tree, id);
    }
}

void qr_block_unsettle(struct qr_block_manager *mgr, int32_t id)
{
    if (!qr_block_is_cached(qr_block_of(mgr, id)))
        return;
    uncount_cached(mgr, qr_block_of(mgr, id));
    unlist(mgr, id);
    qr_block_unqueue_save(mgr, id);
}

void qr_block_set_fill(struct qr_block_manager *mgr, int32_t id, int32_t fill)
{
    struct qr_block *block = qr_block_of(mgr, id);

    mgr->used_slots += fill - block->fill; /* only blocks that somebody holds are written */
    block->fill = (uint16_t)fill;
}

void qr_block_pin(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (block->n_pins == 0) {
        if (block->state == QR_BLOCK_QUEUED_OUT)
            qr_block_unqueue(mgr, id);
        else
            qr_block_unsettle(mgr, id);
        block->held = block->parked = block->unsavable = false;
        mgr->n_used++;
        mgr->used_slots += block->fill;
    }
    block->n_uses++;
    if (block->n_pins++ == 0)
        qr_block_relist_slot(mgr, id);
}

/* A load that was not begun and that nobody waits for any more. */
static void cancel_load(struct qr_block_manager *mgr, int32_t id)
{
    qr_page_pool_give_back(mgr->pages, qr_block_of(mgr, id)->page);
    qr_block_unqueue(mgr, id);
    qr_block_relist_slot(mgr, id);
    qr_block_settle(mgr, id); /* it may have been lost meanwhile */
}

void qr_block_unpin(struct qr_block_manager *mgr, int32_t id, enum qr_release how)
{
    struct qr_block *block = qr_block_of(mgr, id);

    QR_ASSERT(block->n_pins > 0);
    if (--block->n_pins > 0)
        return;
    mgr->n_used--;
    mgr->used_slots -= block->fill;
    block->held = how != QR_RELEASE_FINISHED;
    block->parked = how == QR_RELEASE_PARKED;
    bool leaves = how == QR_RELEASE_SWAPPED || how == QR_RELEASE_PARKED;
    if (block->state == QR_BLOCK_QUEUED_IN && (mgr->window > 0 || block->n_resident_children == 0))
        cancel_load(mgr, id);
    else if (leaves && block->indexed && block->state == QR_BLOCK_IDLE &&
             block->slot == QR_SLOT_NONE && qr_block_can_leave(mgr))
        qr_block_queue_out(mgr, id);
    else
        qr_block_settle(mgr, id);
}

void qr_block_drop_slot(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (block->slot == QR_SLOT_NONE)
        return;
    struct qr_tier_state *tier = &mgr->tiers[block->tier];
    if (qr_evict_is_listed(&block->links[QR_LINK_TIER]))
        qr_evict_list_remove(&tier->evictable, mgr->tree.blocks, id);
    qr_page_pool_give_back(tier->slots, block->slot);
    block->slot = QR_SLOT_NONE;
}

void qr_block_unindex(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);
    int32_t parent = block->parent;

    qr_block_unsettle(mgr, id);
    if (block->state == QR_BLOCK_QUEUED_OUT)
        qr_block_unqueue(mgr, id);
    if (mgr->window > 0 && qr_block_is_ghost(block))
        qr_ghost_leave(mgr, id);
    qr_block_tree_remove(&mgr->tree, id);
    if (block->state == QR_BLOCK_IDLE)
        qr_block_drop_slot(mgr, id);
    if (qr_block_is_root(&mgr->tree, parent)) {
        qr_block_tree_tidy_root(&mgr->tree, parent);
    } else {
        list_if_evictable(mgr, parent);
        qr_block_relist_slot(mgr, parent);
    }
}

static void drop_leaf(struct qr_block_manager *mgr, int32_t id)
{
    qr_block_unindex(mgr, id);
    qr_block_of(mgr, id)->lost = true;
    qr_block_settle(mgr, id);
}

void qr_block_drop_children(struct qr_block_manager *mgr, int32_t root)
{
    while (qr_block_of(mgr, root)->n_children > 0)
        qr_block_drop_subtree(mgr, qr_block_of(mgr, root)->first_child);
}

static void drop_with_all_below(struct qr_block_manager *mgr, int32_t id)
{
    int32_t leaf = id;

    for (;;) {
        while (qr_block_of(mgr, leaf)->first_child != QR_BLOCK_NONE)
            leaf = qr_block_of(mgr, leaf)->first_child;
        int32_t parent = qr_block_of(mgr, leaf)->parent;
        drop_leaf(mgr, leaf);
        if (leaf == id)
            return;
        leaf = parent;
    }
}

void qr_block_drop_subtree(struct qr_block_manager *mgr, int32_t id)
{
    int32_t above = qr_block_of(mgr, id)->parent;

    drop_with_all_below(mgr, id);
    if (mgr->window > 0)
        qr_ghost_tidy(mgr, above);
}

static void prefetch_block(const struct qr_block_manager *mgr, int32_t id)
{
    __builtin_prefetch(qr_block_of(mgr, id), 1);
    __builtin_prefetch(&qr_block_of(mgr, id)->links[QR_LINK_DEVICE], 1);
}

/*
 * Seldom is one page wanted alone: of the block that goes some evictions after `id` the record is
 * fetched, and of one that goes sooner, whose record is there by then, what it hangs on.
 */
static void prefetch_next(const struct qr_block_manager *mgr, int32_t id)
{
    enum { N_SOONER = 2 };
    int32_t next = qr_evict_list_first(&mgr->evictable);

    prefetch_block(mgr, qr_block_of(mgr, id)->links[QR_LINK_DEVICE].ahead);
    for (int i = 0; i < N_SOONER && next >= 0; i++)
        next = qr_block_of(mgr, next)->links[QR_LINK_DEVICE].next;
    if (next < 0)
        return;
    const struct qr_block *block = qr_block_of(mgr, next);
    qr_block_map_prefetch(&mgr->tree.map, block->hash);
    prefetch_block(mgr, block->parent);
}

/* Takes the page of the cached block that is missed least. */
static void evict_one(struct qr_block_manager *mgr)
{
    int32_t id = qr_evict_list_pop(&mgr->evictable, mgr->tree.blocks);
    struct qr_block *block = qr_block_of(mgr, id);

    block->listed = false;
    prefetch_next(mgr, id);
    mgr->counters.n_evicted++;
    mgr->counters.n_lost += block->slot == QR_SLOT_NONE;
    if (block->slot == QR_SLOT_NONE && (mgr->window == 0 || block->n_children == 0)) {
        qr_block_drop_subtree(mgr, id);
        return;
    }
    uncount_cached(mgr, block);
    qr_block_unqueue_save(mgr, id);
    qr_page_pool_give_back(mgr->pages, block->page);
    qr_block_tree_set_page(&mgr->tree, id, QR_PAGE_NONE);
    if (block->slot == QR_SLOT_NONE)
        qr_ghost_enter(mgr, id);
    qr_block_relist_slot(mgr, id);
    list_if_evictable(mgr, block->parent);
}

enum qr_status qr_page_take(struct qr_block_manager *mgr, qr_page_id *page)
{
    while (qr_page_pool_free_count(mgr->pages) == 0) {
        if (mgr->evictable.count == 0)
            return QR_ERR_NO_PAGES;
        evict_one(mgr);
    }
    return qr_page_pool_take(mgr->pages, 1, page);
}

int32_t qr_block_take(struct qr_block_manager *mgr, int32_t position)
{
    qr_page_id page;

    if (qr_page_take(mgr, &page) != QR_OK)
        return QR_BLOCK_NONE;
    if (mgr->tree.n_free_blocks == 0)
        qr_ghost_reclaim(mgr);
    int32_t id = qr_block_tree_new(&mgr->tree);
    struct qr_block *block = qr_block_of(mgr, id);
    block->page = page;
    block->position = position;
    block->n_uses = 1;
    mgr->n_used++;
    return id;
}
