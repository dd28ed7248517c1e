/*
 * block_transfer.c - blocks on their way between the device and a lower tier.
 *
 * Both directions wait in a queue until one of max_transfers is free; loads go first, as
 * a sequence waits for them. A block on its way is in no list of what may be given up.
 * What was loaded keeps its slot as a clean copy, so that giving up its page again costs
 * nothing, until the slot is wanted or the block grows.
 */
#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

enum {
    SCARCE_PART = 8, /* pages are scarce when fewer than this part of them are free */
    SAVING_PART = 2, /* of the transfers, this part may only save */
};

static bool tier_is_open(const struct qr_block_manager *mgr, int32_t tier)
{
    return mgr->tiers[tier].slots != NULL && !mgr->tiers[tier].closed;
}

bool qr_block_can_leave(const struct qr_block_manager *mgr)
{
    return tier_is_open(mgr, QR_TIER_HOST) || tier_is_open(mgr, QR_TIER_DISK);
}

/* Blocks that wait are in no list of the device. */
static void enqueue(struct qr_block_manager *mgr, int32_t id, bool out)
{
    qr_block_queue_append(out ? &mgr->out_queue : &mgr->in_queue, mgr->tree.blocks, id);
    mgr->n_queued++;
}

static void dequeue(struct qr_block_manager *mgr, int32_t id, bool out)
{
    qr_block_queue_remove(out ? &mgr->out_queue : &mgr->in_queue, mgr->tree.blocks, id);
    mgr->n_queued--;
}

void qr_block_queue_out(struct qr_block_manager *mgr, int32_t id)
{
    qr_block_of(mgr, id)->state = QR_BLOCK_QUEUED_OUT;
    mgr->n_leaving++;
    enqueue(mgr, id, true);
}

void qr_block_queue_in(struct qr_block_manager *mgr, int32_t id, qr_page_id page)
{
    struct qr_block *block = qr_block_of(mgr, id);

    QR_ASSERT(block->state == QR_BLOCK_IDLE && block->slot != QR_SLOT_NONE);
    if (qr_evict_is_listed(&block->links[QR_LINK_TIER]))
        qr_evict_list_remove(&mgr->tiers[block->tier].evictable, mgr->tree.blocks, id);
    qr_block_tree_set_page(&mgr->tree, id, page);
    block->state = QR_BLOCK_QUEUED_IN;
    enqueue(mgr, id, false);
}

void qr_block_unqueue(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);
    bool out = block->state == QR_BLOCK_QUEUED_OUT;

    QR_ASSERT(out || block->state == QR_BLOCK_QUEUED_IN);
    dequeue(mgr, id, out);
    block->state = QR_BLOCK_IDLE;
    if (out)
        mgr->n_leaving--;
    else
        qr_block_tree_set_page(&mgr->tree, id, QR_PAGE_NONE);
}

/* Into the fastest tier that is open, and back. */
static double save_ns(const struct qr_block_manager *mgr)
{
    int32_t tier = tier_is_open(mgr, QR_TIER_HOST) ? QR_TIER_HOST : QR_TIER_DISK;
    return mgr->costs.page_out_ns[tier] + mgr->costs.page_in_ns[tier];
}

/*
 * First comes what was given up last: of one sequence its beginning, without which the rest
 * is worth nothing. The queue uses the tier's links, as its members have no slot.
 */
void qr_block_queue_save(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (block->slot != QR_SLOT_NONE || block->unsavable || !mgr->config.prefix_cache ||
        !qr_block_can_leave(mgr) || qr_block_recompute_ns(mgr, block) <= save_ns(mgr))
        return;
    block->to_save = true;
    qr_block_queue_prepend(&mgr->save_queue, mgr->tree.blocks, id);
}

void qr_block_unqueue_save(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (!block->to_save)
        return;
    block->to_save = false;
    qr_block_queue_remove(&mgr->save_queue, mgr->tree.blocks, id);
}

/* What the copy in the tier saves: nothing while somebody holds the page on the device. */
static double slot_weight(const struct qr_block_manager *mgr, const struct qr_block *block)
{
    if (block->n_pins > 0)
        return 0;
    double saved_ns = qr_block_recompute_ns(mgr, block) - mgr->costs.page_in_ns[block->tier];
    return saved_ns > 0 ? saved_ns * block->n_uses * (block->held ? QR_HELD_WEIGHT : 1) : 0;
}

void qr_block_relist_slot(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);

    if (block->slot == QR_SLOT_NONE)
        return;
    struct qr_evict_list *list = &mgr->tiers[block->tier].evictable;
    if (qr_evict_is_listed(&block->links[QR_LINK_TIER]))
        qr_evict_list_remove(list, mgr->tree.blocks, id);
    bool may_go = mgr->window > 0 || block->page != QR_PAGE_NONE || block->n_children == 0;
    if (block->state == QR_BLOCK_IDLE && block->indexed && may_go)
        qr_evict_list_insert(list, mgr->tree.blocks, id, slot_weight(mgr, block));
}

/* Frees the slot that is missed least, if a newcomer of this weight is worth more. */
static bool evict_slot(struct qr_block_manager *mgr, int32_t tier, double weight)
{
    struct qr_evict_list *list = &mgr->tiers[tier].evictable;

    if (!qr_evict_list_yields(list, mgr->tree.blocks, weight))
        return false;
    int32_t id = qr_evict_list_pop(list, mgr->tree.blocks);
    if (qr_block_of(mgr, id)->page == QR_PAGE_NONE && qr_block_of(mgr, id)->n_children == 0) {
        qr_block_drop_subtree(mgr, id); /* this was all there was of it */
        return true;
    }
    qr_block_drop_slot(mgr, id);
    if (qr_block_is_ghost(qr_block_of(mgr, id)))
        qr_ghost_enter(mgr, id);
    return true;
}

/* A slot for a block that leaves: a free one of the fastest tier, else one worth less. */
static bool take_slot(struct qr_block_manager *mgr, double weight, enum qr_tier *tier,
                      int32_t *slot)
{
    for (int32_t t = 0; t < QR_TIER_COUNT; t++) {
        *tier = (enum qr_tier)t;
        if (tier_is_open(mgr, t) && qr_page_pool_take(mgr->tiers[t].slots, 1, slot) == QR_OK)
            return true;
    }
    for (int32_t t = 0; t < QR_TIER_COUNT; t++) {
        *tier = (enum qr_tier)t;
        if (tier_is_open(mgr, t) && evict_slot(mgr, t, weight))
            return qr_page_pool_take(mgr->tiers[t].slots, 1, slot) == QR_OK;
    }
    return false;
}

static void start(struct qr_block_manager *mgr, int32_t id, const struct qr_active_transfer *what)
{
    struct qr_block *block = qr_block_of(mgr, id);
    int32_t transfer = mgr->free_transfers[--mgr->n_free_transfers];

    block->state = what->out ? QR_BLOCK_OUT : QR_BLOCK_IN;
    mgr->active[transfer] = *what;
    mgr->active[transfer].block = id;
    mgr->n_saving += what->saves;
    mgr->transfers[mgr->n_transfers++] = (struct qr_transfer){.id = transfer,
                                                              .tier = what->tier,
                                                              .out = what->out,
                                                              .page = block->page,
                                                              .slot = what->slot};
}

/* Moving out the first of the queue is worth a slot of less weight. */
static void start_out(struct qr_block_manager *mgr, int32_t id)
{
    const struct qr_block *block = qr_block_of(mgr, id);
    double weight = qr_block_recompute_ns(mgr, block) * block->n_uses * QR_HELD_WEIGHT;
    struct qr_active_transfer out = {.out = true};

    dequeue(mgr, id, true);
    if (take_slot(mgr, weight, &out.tier, &out.slot)) {
        start(mgr, id, &out);
        return;
    }
    qr_block_of(mgr, id)->state = QR_BLOCK_IDLE; /* it stays, and is lost when its page is taken */
    mgr->n_leaving--;
    qr_block_settle(mgr, id);
}

static void start_save(struct qr_block_manager *mgr, int32_t id)
{
    struct qr_block *block = qr_block_of(mgr, id);
    double weight = qr_block_recompute_ns(mgr, block) * block->n_uses;
    struct qr_active_transfer save = {.out = true, .saves = true};

    qr_block_unsettle(mgr, id);
    block->state = QR_BLOCK_QUEUED_OUT; /* no cached block, whatever taking a slot drops */
    if (take_slot(mgr, weight, &save.tier, &save.slot)) {
        mgr->n_leaving++;
        start(mgr, id, &save);
    } else {
        block->state = QR_BLOCK_IDLE;
        block->unsavable = true;
        qr_block_settle(mgr, id);
    }
}

/* Whether cached blocks will soon have to go, and one can be spared for as long as it is saved. */
static bool should_save(const struct qr_block_manager *mgr)
{
    return qr_page_pool_free_count(mgr->pages) < mgr->config.page_count / SCARCE_PART &&
           qr_block_manager_available_pages(mgr) > 0;
}

void qr_block_manager_start_transfers(struct qr_block_manager *mgr)
{
    int32_t max_saving = mgr->config.max_transfers / SAVING_PART + 1;
    int32_t id;

    while (mgr->n_free_transfers > 0 && (id = mgr->in_queue.head) != QR_BLOCK_NONE) {
        const struct qr_block *block = qr_block_of(mgr, id);
        struct qr_active_transfer in = {.tier = (enum qr_tier)block->tier, .slot = block->slot};
        dequeue(mgr, id, false);
        start(mgr, id, &in);
    }
    while (mgr->n_free_transfers > 0 && (id = mgr->out_queue.head) != QR_BLOCK_NONE)
        start_out(mgr, id);
    while (mgr->n_free_transfers > 0 && mgr->n_saving < max_saving && should_save(mgr) &&
           (id = mgr->save_queue.head) != QR_BLOCK_NONE)
        start_save(mgr, id);
}

static void out_done(struct qr_block_manager *mgr, const struct qr_active_transfer *done, bool ok)
{
    struct qr_block *block = qr_block_of(mgr, done->block);

    mgr->n_leaving--;
    block->state = QR_BLOCK_IDLE;
    if (ok && block->indexed) {
        block->tier = (uint8_t)done->tier;
        block->slot = done->slot;
    } else {
        qr_page_pool_give_back(mgr->tiers[done->tier].slots, done->slot);
    }
    qr_block_relist_slot(mgr, done->block);
    qr_block_settle(mgr, done->block);
}

static void in_done(struct qr_block_manager *mgr, const struct qr_active_transfer *done, bool ok)
{
    struct qr_block *block = qr_block_of(mgr, done->block);

    bool indexed = block->indexed;

    block->state = QR_BLOCK_IDLE;
    if (!ok)
        qr_block_drop_slot(mgr, done->block);
    qr_block_relist_slot(mgr, done->block);
    qr_block_settle(mgr, done->block);
    if (!ok && indexed)
        qr_block_drop_subtree(mgr, done->block);
}

void qr_block_manager_transfer_done(struct qr_block_manager *mgr, int32_t id, bool ok)
{
    QR_ASSERT(id >= 0 && id < mgr->config.max_transfers);
    struct qr_active_transfer done = mgr->active[id];
    struct qr_block_stats *counters = &mgr->counters;

    QR_ASSERT(done.block != QR_BLOCK_NONE);
    mgr->n_saving -= done.saves;
    mgr->active[id].block = QR_BLOCK_NONE;
    mgr->free_transfers[mgr->n_free_transfers++] = id;
    if (done.out) {
        (ok ? counters->n_pages_out : counters->n_failed_out)[done.tier]++;
        out_done(mgr, &done, ok);
    } else {
        (ok ? counters->n_pages_in : counters->n_failed_in)[done.tier]++;
        in_done(mgr, &done, ok);
    }
}

void qr_block_manager_close_tier(struct qr_block_manager *mgr, enum qr_tier tier)
{
    mgr->tiers[tier].closed = true;
    while (!qr_block_can_leave(mgr) && mgr->out_queue.head != QR_BLOCK_NONE) {
        int32_t id = mgr->out_queue.head;
        qr_block_unqueue(mgr, id);
        qr_block_settle(mgr, id);
    }
}
