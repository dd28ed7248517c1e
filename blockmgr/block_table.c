/*
 * block_table.c - how sequences share, write and give up their blocks: fork, grow, commit,
 * release. block_lookup.c is how they find them.
 */
#include <math.h>

#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

void qr_table_promise(struct qr_block_manager *mgr, struct qr_table *table, int32_t n_pages)
{
    mgr->n_promised += n_pages - table->n_promised;
    table->n_promised = n_pages;
}

void qr_table_skip(struct qr_block_manager *mgr, int32_t seq, int32_t first_block)
{
    for (int32_t i = 0; i < first_block; i++) {
        qr_table_blocks(mgr, seq)[i] = QR_BLOCK_NONE;
        qr_table_pages(mgr, seq)[i] = QR_PAGE_NONE;
    }
    qr_table_of(mgr, seq)->first_block = first_block;
}

void qr_block_manager_fork(struct qr_block_manager *mgr, int32_t parent, int32_t seq,
                           int32_t n_tokens)
{
    const struct qr_table *from = qr_table_of(mgr, parent);
    struct qr_table *to = qr_table_of(mgr, seq);
    int32_t n_blocks = qr_blocks_for(mgr, n_tokens);

    QR_ASSERT(to->tokens != NULL && to->n_blocks == 0 && to->root == from->root);
    QR_ASSERT(n_blocks <= from->n_blocks && n_blocks >= from->first_block);
    qr_table_skip(mgr, seq, from->first_block);
    for (int32_t i = from->first_block; i < n_blocks; i++) {
        int32_t id = qr_table_blocks(mgr, parent)[i];
        qr_block_pin(mgr, id);
        qr_table_blocks(mgr, seq)[i] = id;
        qr_table_pages(mgr, seq)[i] = qr_block_of(mgr, id)->page;
    }
    to->n_blocks = to->n_loaded = n_blocks;
    to->n_indexed = from->n_indexed < n_blocks ? from->n_indexed : n_blocks;
}

bool qr_block_is_writable(const struct qr_block *block, int32_t offset)
{
    if (block->state != QR_BLOCK_IDLE)
        return false;
    return block->fill == offset || (block->n_pins == 1 && !block->indexed);
}

static bool must_copy(const struct qr_block_manager *mgr, int32_t seq, int32_t first)
{
    int32_t offset = qr_block_offset_of(mgr, first);
    int32_t index = qr_block_index_of(mgr, first);

    if (offset == 0 || index >= qr_table_of(mgr, seq)->n_blocks)
        return false;
    return !qr_block_is_writable(qr_block_of(mgr, qr_table_blocks(mgr, seq)[index]), offset);
}

/* Blocks that growing appends. */
static int32_t blocks_to_append(const struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    int32_t n_more = qr_blocks_for(mgr, n_tokens) - qr_table_of(mgr, seq)->n_blocks;
    return n_more > 0 ? n_more : 0;
}

int32_t qr_block_manager_pages_needed(const struct qr_block_manager *mgr, int32_t seq,
                                      int32_t first, int32_t n_tokens)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    int32_t n_promised = table->n_promised - table->copy_promised;
    int32_t n_more = blocks_to_append(mgr, seq, n_tokens) - n_promised;

    QR_ASSERT(first >= 0 && first <= n_tokens && n_tokens <= mgr->config.max_seq_tokens);
    return (n_more > 0 ? n_more : 0) + (must_copy(mgr, seq, first) && !table->copy_promised);
}

/* Gives the sequence its own copy of the block that it is about to write to. */
static bool copy_on_write(struct qr_block_manager *mgr, int32_t seq, int32_t index)
{
    int32_t *blocks = qr_table_blocks(mgr, seq);
    int32_t shared = blocks[index];
    int32_t own = qr_block_take(mgr, index * mgr->config.page_size);

    if (own == QR_BLOCK_NONE)
        return false;
    qr_page_id page = qr_block_of(mgr, own)->page;
    QR_ASSERT(mgr->n_copies < mgr->config.max_sequences);
    mgr->copies[mgr->n_copies++] =
        (struct qr_page_copy){.from = qr_block_of(mgr, shared)->page, .to = page};
    mgr->counters.n_copies++;
    blocks[index] = own;
    qr_table_pages(mgr, seq)[index] = page;
    qr_block_unpin(mgr, shared, QR_RELEASE_FINISHED);
    return true;
}

static bool append_blocks(struct qr_block_manager *mgr, int32_t seq, int32_t n_blocks)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    int32_t n_before = table->n_blocks;

    while (table->n_blocks < n_blocks) {
        int32_t i = table->n_blocks;
        int32_t id = qr_block_take(mgr, i * mgr->config.page_size);
        if (id == QR_BLOCK_NONE) {
            while (table->n_blocks > n_before)
                qr_block_unpin(mgr, qr_table_blocks(mgr, seq)[--table->n_blocks],
                               QR_RELEASE_FINISHED);
            return false;
        }
        qr_table_blocks(mgr, seq)[i] = id;
        qr_table_pages(mgr, seq)[i] = qr_block_of(mgr, id)->page;
        table->n_blocks++;
    }
    int32_t n_left = table->n_promised - (table->n_blocks - n_before);
    qr_table_promise(mgr, table, n_left > table->copy_promised ? n_left : table->copy_promised);
    return true;
}

/* Tokens [first, n_tokens) are about to be written. */
static void note_written(struct qr_block_manager *mgr, int32_t seq, int32_t first, int32_t n_tokens)
{
    int32_t page_size = mgr->config.page_size;

    for (int32_t i = qr_block_index_of(mgr, first); i * page_size < n_tokens; i++) {
        int32_t id = qr_table_blocks(mgr, seq)[i];
        int32_t end = n_tokens - i * page_size;
        qr_block_drop_slot(mgr, id); /* the copy in a lower tier lacks what is written now */
        qr_block_set_fill(mgr, id, end < page_size ? end : page_size);
    }
}

/*
 * Without a page for a copy, a block that only this sequence holds is taken out of the cache
 * and written in place: otherwise one sequence alone in the pool could not go on.
 */
static void write_in_place(struct qr_block_manager *mgr, int32_t seq, int32_t index)
{
    int32_t id = qr_table_blocks(mgr, seq)[index];
    const struct qr_block *block = qr_block_of(mgr, id);

    if (block->n_pins == 1 && block->indexed && block->n_children == 0 &&
        block->state == QR_BLOCK_IDLE)
        qr_block_unindex(mgr, id);
}

/* The page for the copy was promised, or is not needed any more. */
static void end_copy_promise(struct qr_block_manager *mgr, struct qr_table *table)
{
    qr_table_promise(mgr, table, table->n_promised - table->copy_promised);
    table->copy_promised = false;
}

enum qr_status qr_block_manager_grow(struct qr_block_manager *mgr, int32_t seq, int32_t first,
                                     int32_t n_tokens)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    int32_t index = qr_block_index_of(mgr, first);
    int32_t n_available = qr_block_manager_available_pages(mgr);
    int32_t n_beyond = qr_block_manager_pages_needed(mgr, seq, first, n_tokens);

    QR_ASSERT(mgr->window == 0 || n_tokens - first <= mgr->config.max_rows);
    if (n_beyond > n_available && must_copy(mgr, seq, first)) {
        write_in_place(mgr, seq, index);
        n_beyond = qr_block_manager_pages_needed(mgr, seq, first, n_tokens);
    }
    if (n_beyond > 0 && n_beyond > n_available)
        return QR_ERR_NO_PAGES;
    if (!append_blocks(mgr, seq, qr_blocks_for(mgr, n_tokens)))
        return QR_ERR_NO_PAGES;
    if (must_copy(mgr, seq, first) && !copy_on_write(mgr, seq, index))
        return QR_ERR_NO_PAGES; /* what was appended is there for the next try */
    end_copy_promise(mgr, table);
    note_written(mgr, seq, first, n_tokens);
    return QR_OK;
}

/*
 * Whether holding `known` instead of `own` costs no page: somebody holds it already, or the
 * own one comes free at once. Else pages that were promised could be missing.
 */
static bool can_merge(const struct qr_block *own, const struct qr_block *known)
{
    return known->n_pins > 0 || (own->n_pins == 1 && own->state == QR_BLOCK_IDLE);
}

/* The sequence holds `other`, with the same tokens, instead of its own block `index`. */
static void merge(struct qr_block_manager *mgr, int32_t seq, int32_t index, int32_t other)
{
    int32_t own = qr_table_blocks(mgr, seq)[index];

    qr_block_pin(mgr, other);
    qr_table_blocks(mgr, seq)[index] = other;
    qr_table_pages(mgr, seq)[index] = qr_block_of(mgr, other)->page;
    mgr->counters.n_merged++;
    if (qr_block_of(mgr, own)->indexed && qr_block_of(mgr, own)->n_pins == 1 &&
        qr_block_of(mgr, own)->n_children == 0)
        qr_block_drop_subtree(mgr, own); /* a beginning of `other`: nobody needs to find it */
    qr_block_unpin(mgr, own, QR_RELEASE_FINISHED);
}

static bool is_present(const struct qr_block *block)
{
    return block->page != QR_PAGE_NONE && !block->lost && block->state != QR_BLOCK_QUEUED_IN &&
           block->state != QR_BLOCK_IN;
}

/* Where merging is not possible, for example with a block in a lower tier, there are two of it. */
static void index_full(struct qr_block_manager *mgr, int32_t seq, int32_t index, uint64_t hash)
{
    int32_t page_size = mgr->config.page_size;
    int32_t own = qr_table_blocks(mgr, seq)[index];
    int32_t parent = qr_table_parent(mgr, seq, index);
    const int32_t *tokens = qr_table_of(mgr, seq)->tokens + index * page_size;
    int32_t known = qr_block_tree_find(&mgr->tree, parent, hash, tokens);

    if (known == own)
        return;
    if (known != QR_BLOCK_NONE && is_present(qr_block_of(mgr, known)) &&
        can_merge(qr_block_of(mgr, own), qr_block_of(mgr, known)))
        merge(mgr, seq, index, known);
    else if (known != QR_BLOCK_NONE && qr_block_is_ghost(qr_block_of(mgr, known)) &&
             qr_block_of(mgr, own)->n_pins == 1 && qr_block_of(mgr, own)->state == QR_BLOCK_IDLE)
        qr_ghost_revive(mgr, seq, index, known);
    else if (qr_block_of(mgr, own)->indexed)
        qr_block_tree_extend(&mgr->tree, own, hash, tokens, page_size);
    else
        qr_block_tree_insert(&mgr->tree, own, parent, hash, tokens, page_size);
}

static void index_all(struct qr_block_manager *mgr, int32_t seq, int32_t n_full)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    int32_t parent = qr_table_parent(mgr, seq, table->n_indexed);
    struct qr_hashes hashes;

    if (!qr_block_is_in_tree(mgr, parent)) {
        table->n_indexed = n_full;
        return;
    }
    if (table->n_hashed == table->n_indexed + 1)
        qr_hashes_begin(&hashes, table->n_hashed, table->hash_ahead);
    else
        qr_hashes_begin(&hashes, table->n_indexed, qr_block_of(mgr, parent)->hash);
    for (; table->n_indexed < n_full; table->n_indexed++)
        index_full(mgr, seq, table->n_indexed,
                   qr_hashes_at(mgr, table, &hashes, table->n_indexed, n_full));
}

void qr_block_manager_commit(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    int32_t n_full = qr_block_index_of(mgr, n_tokens);

    if (qr_table_of(mgr, seq)->n_indexed < n_full)
        index_all(mgr, seq, n_full);
    if (mgr->window > 0)
        qr_window_slide(mgr, seq, n_tokens);
}

/* The last block, which is not full, becomes known as well. */
static void index_partial(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    int32_t index = qr_block_index_of(mgr, n_tokens);
    int32_t n_last = qr_block_offset_of(mgr, n_tokens);
    if (n_last == 0 || index >= qr_table_of(mgr, seq)->n_blocks)
        return;
    int32_t own = qr_table_blocks(mgr, seq)[index];
    int32_t parent = qr_table_parent(mgr, seq, index);
    const int32_t *tokens = qr_table_of(mgr, seq)->tokens + n_tokens - n_last;
    int32_t n_common;

    if (qr_block_of(mgr, own)->lost || !qr_block_is_in_tree(mgr, parent))
        return;
    if (qr_block_of(mgr, own)->indexed) {
        if (n_last > qr_block_of(mgr, own)->n_tokens)
            qr_block_tree_extend(&mgr->tree, own, 0, tokens, n_last);
        return;
    }
    int32_t known = qr_block_tree_find_partial(&mgr->tree, parent, tokens, n_last, &n_common);
    if (known != QR_BLOCK_NONE && n_common == n_last && is_present(qr_block_of(mgr, known)) &&
        can_merge(qr_block_of(mgr, own), qr_block_of(mgr, known)))
        merge(mgr, seq, index, known);
    else
        qr_block_tree_insert(&mgr->tree, own, parent, 0, tokens, n_last);
}

void qr_block_manager_release(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens,
                              enum qr_release how)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    const int32_t *blocks = qr_table_blocks(mgr, seq);

    qr_table_promise(mgr, table, 0);
    table->copy_promised = false;
    if (table->n_blocks == 0)
        return;
    if (how != QR_RELEASE_FINISHED || mgr->config.prefix_cache)
        index_partial(mgr, seq, n_tokens);
    while (table->n_blocks > table->first_block)
        qr_block_unpin(mgr, blocks[--table->n_blocks], how);
    table->n_blocks = table->first_block = 0;
    table->n_indexed = table->n_loaded = table->n_hashed = 0;
}

/* The cheapest way out and in again of one page. */
static double swap_page_ns(const struct qr_block_manager *mgr, bool dirty)
{
    double least = INFINITY;

    for (int32_t t = 0; t < QR_TIER_COUNT; t++) {
        const struct qr_tier_state *tier = &mgr->tiers[t];
        if (tier->slots == NULL || tier->closed ||
            (qr_page_pool_free_count(tier->slots) == 0 && tier->evictable.count == 0))
            continue;
        double ns = mgr->costs.page_in_ns[t] + (dirty ? mgr->costs.page_out_ns[t] : 0);
        least = ns < least ? ns : least;
    }
    return least;
}

void qr_block_manager_estimate(const struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens,
                               struct qr_release_estimate *estimate)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    const int32_t *blocks = qr_table_blocks(mgr, seq);
    int32_t first_freed = table->n_blocks;

    *estimate = (struct qr_release_estimate){0};
    /* Others hold beginnings: what this one holds alone is an end. */
    while (first_freed > table->first_block &&
           qr_block_of(mgr, blocks[first_freed - 1])->n_pins == 1)
        first_freed--;
    for (int32_t i = first_freed; i < table->n_blocks; i++)
        estimate->n_dirty += qr_block_of(mgr, blocks[i])->slot == QR_SLOT_NONE;
    estimate->n_freed = table->n_blocks - first_freed;
    /* An end without all that its window needs is of no use. */
    int32_t first = table->first_block > 0 ? 0 : first_freed * mgr->config.page_size;
    if (first < n_tokens)
        estimate->recompute_ns = qr_block_manager_compute_ns(mgr, first, n_tokens);
    int32_t n_clean = estimate->n_freed - estimate->n_dirty;
    if (estimate->n_dirty > 0)
        estimate->swap_ns += estimate->n_dirty * swap_page_ns(mgr, true);
    for (int32_t i = first_freed; n_clean > 0 && i < table->n_blocks; i++) {
        const struct qr_block *block = qr_block_of(mgr, blocks[i]);
        if (block->slot != QR_SLOT_NONE)
            estimate->swap_ns += mgr->costs.page_in_ns[block->tier];
    }
}
