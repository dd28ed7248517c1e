/*
 * block_window.c - sliding windows: what sequences give back, and how the rest is found again.
 *
 * What a window has passed is cached like any other beginning. The blocks that follow it stand
 * below it in the tree, so a block that is lost from there stays as a ghost: its tokens and its
 * place, without contents. Ghosts are counted; when there is no room for another, the oldest is
 * forgotten and what stands below it becomes private, which costs no more than computing it anew.
 */
#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

/* The block of the first key that the row after n_tokens tokens sees. */
static int32_t first_seen(const struct qr_block_manager *mgr, int32_t n_tokens)
{
    int32_t first_key = n_tokens - mgr->window + 1;
    return mgr->window == 0 || first_key <= 0 ? 0 : qr_block_index_of(mgr, first_key);
}

int32_t qr_window_first_needed(const struct qr_block_manager *mgr, int32_t n_tokens)
{
    int32_t seen = first_seen(mgr, n_tokens);
    int32_t before = qr_block_index_of(mgr, n_tokens) - 1;

    return seen <= before ? seen : before > 0 && mgr->window > 0 ? before : 0;
}

/* As many pages as it will want for what it was promised, if they are there. */
static void promise_again(struct qr_block_manager *mgr, struct qr_table *table)
{
    int32_t n_held = table->n_blocks - table->first_block;
    int32_t n_wanted = qr_blocks_for(mgr, table->n_target) - table->n_blocks;
    int32_t n_most = mgr->max_held - n_held;

    n_wanted = (n_wanted < n_most ? n_wanted : n_most) + table->copy_promised;
    int32_t n_more = n_wanted - table->n_promised;
    int32_t n_available = qr_block_manager_available_pages(mgr);
    if (n_more > n_available)
        n_more = n_available;
    if (n_more > 0)
        qr_table_promise(mgr, table, table->n_promised + n_more);
}

void qr_window_slide(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    int32_t *blocks = qr_table_blocks(mgr, seq);
    qr_page_id *pages = qr_table_pages(mgr, seq);
    int32_t first = first_seen(mgr, n_tokens) - 1; /* the last that is passed stays */

    if (first <= table->first_block)
        return;
    for (int32_t i = first - 1; i >= table->first_block; i--) {
        qr_block_unpin(mgr, blocks[i], QR_RELEASE_FINISHED);
        blocks[i] = QR_BLOCK_NONE;
        pages[i] = QR_PAGE_NONE;
    }
    table->first_block = first;
    promise_again(mgr, table);
}

void qr_ghost_enter(struct qr_block_manager *mgr, int32_t id)
{
    QR_ASSERT(qr_block_is_ghost(qr_block_of(mgr, id)));
    qr_block_queue_append(&mgr->ghosts, mgr->tree.blocks, id); /* ghosts are in no other list */
}

void qr_ghost_leave(struct qr_block_manager *mgr, int32_t id)
{
    qr_block_queue_remove(&mgr->ghosts, mgr->tree.blocks, id);
}

void qr_ghost_tidy(struct qr_block_manager *mgr, int32_t id)
{
    while (!qr_block_is_root(&mgr->tree, id) && qr_block_is_ghost(qr_block_of(mgr, id)) &&
           qr_block_of(mgr, id)->n_children == 0) {
        int32_t above = qr_block_of(mgr, id)->parent;
        qr_block_unindex(mgr, id);
        qr_block_settle(mgr, id);
        id = above;
    }
}

void qr_ghost_reclaim(struct qr_block_manager *mgr)
{
    QR_ASSERT(mgr->ghosts.head != QR_BLOCK_NONE);
    qr_block_drop_subtree(mgr, mgr->ghosts.head);
}

void qr_ghost_revive(struct qr_block_manager *mgr, int32_t seq, int32_t index, int32_t ghost)
{
    int32_t id = qr_table_blocks(mgr, seq)[index];
    struct qr_block *own = qr_block_of(mgr, id);
    struct qr_block *block = qr_block_of(mgr, ghost);

    QR_ASSERT(own->n_pins == 1 && own->state == QR_BLOCK_IDLE && own->slot == QR_SLOT_NONE);
    if (own->indexed) /* as a beginning of the ghost */
        qr_block_unindex(mgr, id);
    qr_ghost_leave(mgr, ghost);
    qr_block_tree_set_page(&mgr->tree, ghost, own->page);
    block->fill = own->fill;
    block->n_pins = 1;
    block->n_uses++;
    block->held = block->parked = block->unsavable = false;
    qr_table_blocks(mgr, seq)[index] = ghost;
    own->page = QR_PAGE_NONE;
    own->n_pins = 0;
    qr_block_tree_delete(&mgr->tree, id);
}
