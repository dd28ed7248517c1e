/*
 * block_table.c - how sequences come by their blocks and give them up: acquire, fork,
 * grow, commit, release.
 */
#include <math.h>

#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

enum { LOOK_AHEAD = 16 }; /* full blocks whose places in the hash table are fetched together */

/* The blocks that acquire found, in the sequence's own table. */
struct lookup {
    int32_t n_full;    /* full blocks */
    int32_t n_common;  /* tokens of one block more, 0: none */
    int32_t n_blocks;  /* that are used: n_full, and the one more */
    int32_t n_to_load; /* of those, not on the device */
    int32_t n_idle;    /* of those, counted as available so far */
};

static int32_t find_full(const struct qr_block_manager *mgr, const struct qr_table *table,
                         int32_t n_max, int32_t *blocks)
{
    const struct qr_block_tree *tree = &mgr->tree;
    int32_t page_size = mgr->config.page_size;
    uint64_t hashes[LOOK_AHEAD];
    uint64_t hash = qr_block_of(mgr, table->root)->hash;
    int32_t parent = table->root;

    for (int32_t first = 0; first < n_max; first += LOOK_AHEAD) {
        int32_t n = n_max - first < LOOK_AHEAD ? n_max - first : LOOK_AHEAD;
        for (int32_t i = 0; i < n; i++) {
            hash = qr_block_tree_hash(tree, hash, table->tokens + (first + i) * page_size);
            qr_block_tree_prefetch(tree, hash);
            hashes[i] = hash;
        }
        for (int32_t i = 0; i < n; i++) {
            int32_t id = qr_block_tree_find(tree, parent, hashes[i],
                                            table->tokens + (first + i) * page_size);
            if (id == QR_BLOCK_NONE)
                return first + i;
            blocks[first + i] = parent = id;
        }
    }
    return n_max;
}

/*
 * What is on the device is a beginning of what was found. Of the rest, loads up to where
 * that saves most: what is loaded need not be computed.
 */
static int32_t blocks_worth_having(const struct qr_block_manager *mgr, const int32_t *blocks,
                                   int32_t n_found)
{
    double saved_ns = 0;
    double best_ns = 0;
    int32_t n_best = 0;

    for (int32_t i = 0; i < n_found; i++) {
        const struct qr_block *block = qr_block_of(mgr, blocks[i]);
        saved_ns +=
            qr_block_manager_compute_ns(mgr, block->position, block->position + block->n_tokens);
        if (block->page == QR_PAGE_NONE)
            saved_ns -= mgr->costs.page_in_ns[block->tier];
        if (saved_ns >= best_ns) {
            best_ns = saved_ns;
            n_best = i + 1;
        }
    }
    return n_best;
}

static void look_up(const struct qr_block_manager *mgr, int32_t seq, int32_t n_known,
                    struct lookup *found)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    int32_t *blocks = qr_table_blocks(mgr, seq);
    int32_t page_size = mgr->config.page_size;
    int32_t n_wanted = n_known - 1;

    *found = (struct lookup){.n_full = find_full(mgr, table, n_wanted / page_size, blocks)};
    int32_t parent = found->n_full > 0 ? blocks[found->n_full - 1] : table->root;
    int32_t first = found->n_full * page_size;
    int32_t n_left = n_wanted - first < page_size ? n_wanted - first : page_size;
    int32_t partial = qr_block_tree_find_partial(&mgr->tree, parent, table->tokens + first, n_left,
                                                 &found->n_common);
    found->n_blocks = found->n_full;
    if (partial != QR_BLOCK_NONE)
        blocks[found->n_blocks++] = partial;

    int32_t n_worth = blocks_worth_having(mgr, blocks, found->n_blocks);
    if (n_worth <= found->n_full) {
        found->n_full = n_worth;
        found->n_common = 0;
    }
    found->n_blocks = n_worth;
    for (int32_t i = 0; i < n_worth; i++) {
        const struct qr_block *block = qr_block_of(mgr, blocks[i]);
        found->n_to_load += block->page == QR_PAGE_NONE;
        found->n_idle +=
            block->n_pins == 0 && block->state == QR_BLOCK_IDLE && block->page != QR_PAGE_NONE;
    }
}

/* Pins what was found and takes a page for each load; false: a page could not be had. */
static bool hold_found(struct qr_block_manager *mgr, int32_t seq, const struct lookup *found)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    int32_t *blocks = qr_table_blocks(mgr, seq);
    qr_page_id *pages = qr_table_pages(mgr, seq);

    for (int32_t i = 0; i < found->n_blocks; i++)
        qr_block_pin(mgr, blocks[i]);
    table->n_blocks = found->n_blocks;
    for (int32_t i = 0; i < found->n_blocks; i++) {
        if (qr_block_of(mgr, blocks[i])->page == QR_PAGE_NONE) {
            qr_page_id page;
            if (qr_page_take(mgr, &page) != QR_OK)
                return false;
            qr_block_queue_in(mgr, blocks[i], page);
        }
        pages[i] = qr_block_of(mgr, blocks[i])->page;
    }
    return true;
}

static void promise(struct qr_block_manager *mgr, struct qr_table *table, int32_t n_pages)
{
    mgr->n_promised += n_pages - table->n_promised;
    table->n_promised = n_pages;
}

enum qr_status qr_block_manager_acquire(struct qr_block_manager *mgr, int32_t seq, int32_t n_known,
                                        int32_t n_promised, int32_t n_spare,
                                        struct qr_acquired *acquired)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    struct lookup found;

    QR_ASSERT(table->tokens != NULL && table->n_blocks == 0 && table->n_promised == 0);
    QR_ASSERT(n_known >= 1 && n_known <= n_promised && n_promised <= mgr->config.max_seq_tokens);
    look_up(mgr, seq, n_known, &found);
    int32_t n_resident = found.n_blocks - found.n_to_load;
    int32_t n_more = qr_blocks_for(mgr, n_promised) - n_resident;
    if (qr_block_manager_available_pages(mgr) - found.n_idle - n_spare < n_more)
        return QR_ERR_NO_PAGES;
    if (!hold_found(mgr, seq, &found)) {
        qr_block_manager_release(mgr, seq, 0, QR_RELEASE_RESUMES);
        return QR_ERR_NO_PAGES;
    }
    promise(mgr, table, n_more - found.n_to_load);
    table->n_indexed = found.n_full;
    *acquired = (struct qr_acquired){
        .n_cached = found.n_full * mgr->config.page_size + found.n_common,
    };
    for (int32_t i = 0; i < found.n_blocks; i++) {
        uint8_t state = qr_block_of(mgr, qr_table_blocks(mgr, seq)[i])->state;
        acquired->n_loads += state == QR_BLOCK_QUEUED_IN || state == QR_BLOCK_IN;
    }
    mgr->counters.n_hit_tokens += acquired->n_cached;
    mgr->counters.n_lookup_tokens += n_known;
    return QR_OK;
}

enum qr_load qr_block_manager_load_state(struct qr_block_manager *mgr, int32_t seq)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    const int32_t *blocks = qr_table_blocks(mgr, seq);

    for (; table->n_loaded < table->n_blocks; table->n_loaded++) {
        const struct qr_block *block = qr_block_of(mgr, blocks[table->n_loaded]);
        if (block->lost)
            return QR_LOAD_FAILED;
        if (block->state == QR_BLOCK_QUEUED_IN || block->state == QR_BLOCK_IN)
            return QR_LOAD_UNDER_WAY;
    }
    return QR_LOAD_DONE;
}

void qr_block_manager_fork(struct qr_block_manager *mgr, int32_t parent, int32_t seq,
                           int32_t n_tokens)
{
    const struct qr_table *from = qr_table_of(mgr, parent);
    struct qr_table *to = qr_table_of(mgr, seq);
    int32_t n_blocks = qr_blocks_for(mgr, n_tokens);

    QR_ASSERT(to->tokens != NULL && to->n_blocks == 0 && to->root == from->root);
    QR_ASSERT(n_blocks <= from->n_blocks);
    for (int32_t i = 0; i < n_blocks; i++) {
        int32_t id = qr_table_blocks(mgr, parent)[i];
        qr_block_pin(mgr, id);
        qr_table_blocks(mgr, seq)[i] = id;
        qr_table_pages(mgr, seq)[i] = qr_block_of(mgr, id)->page;
    }
    to->n_blocks = to->n_loaded = n_blocks;
    to->n_indexed = from->n_indexed < n_blocks ? from->n_indexed : n_blocks;
}

/* Whether nobody else can read or will write slots of the page from `offset` on. */
static bool is_writable(const struct qr_block *block, int32_t offset)
{
    if (block->state != QR_BLOCK_IDLE)
        return false;
    return block->fill == offset || (block->n_pins == 1 && !block->indexed);
}

static bool must_copy(const struct qr_block_manager *mgr, int32_t seq, int32_t first)
{
    int32_t offset = first % mgr->config.page_size;
    int32_t index = first / mgr->config.page_size;

    if (offset == 0 || index >= qr_table_of(mgr, seq)->n_blocks)
        return false;
    return !is_writable(qr_block_of(mgr, qr_table_blocks(mgr, seq)[index]), offset);
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
    int32_t n_more = blocks_to_append(mgr, seq, n_tokens) - qr_table_of(mgr, seq)->n_promised;

    QR_ASSERT(first >= 0 && first <= n_tokens && n_tokens <= mgr->config.max_seq_tokens);
    return (n_more > 0 ? n_more : 0) + must_copy(mgr, seq, first);
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
    promise(mgr, table, n_left > 0 ? n_left : 0);
    return true;
}

/* Tokens [first, n_tokens) are about to be written. */
static void note_written(struct qr_block_manager *mgr, int32_t seq, int32_t first, int32_t n_tokens)
{
    int32_t page_size = mgr->config.page_size;

    for (int32_t i = first / page_size; i * page_size < n_tokens; i++) {
        int32_t id = qr_table_blocks(mgr, seq)[i];
        int32_t end = n_tokens - i * page_size;
        qr_block_drop_slot(mgr, id); /* the copy in a lower tier lacks what is written now */
        qr_block_set_fill(mgr, id, end < page_size ? end : page_size);
    }
}

enum qr_status qr_block_manager_grow(struct qr_block_manager *mgr, int32_t seq, int32_t first,
                                     int32_t n_tokens)
{
    int32_t n_beyond = qr_block_manager_pages_needed(mgr, seq, first, n_tokens);

    if (n_beyond > 0 && n_beyond > qr_block_manager_available_pages(mgr))
        return QR_ERR_NO_PAGES;
    if (!append_blocks(mgr, seq, qr_blocks_for(mgr, n_tokens)))
        return QR_ERR_NO_PAGES;
    if (must_copy(mgr, seq, first) && !copy_on_write(mgr, seq, first / mgr->config.page_size))
        return QR_ERR_NO_PAGES; /* what was appended is there for the next try */
    note_written(mgr, seq, first, n_tokens);
    return QR_OK;
}

static int32_t parent_of(const struct qr_block_manager *mgr, int32_t seq, int32_t index)
{
    return index == 0 ? qr_table_of(mgr, seq)->root : qr_table_blocks(mgr, seq)[index - 1];
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

/* A block that lies in a lower tier is not waited for: there are two of it then. */
static void index_full(struct qr_block_manager *mgr, int32_t seq, int32_t index)
{
    int32_t page_size = mgr->config.page_size;
    int32_t own = qr_table_blocks(mgr, seq)[index];
    int32_t parent = parent_of(mgr, seq, index);
    const int32_t *tokens = qr_table_of(mgr, seq)->tokens + index * page_size;
    uint64_t hash = qr_block_tree_hash(&mgr->tree, qr_block_of(mgr, parent)->hash, tokens);
    int32_t known = qr_block_tree_find(&mgr->tree, parent, hash, tokens);

    if (known == own)
        return;
    if (known != QR_BLOCK_NONE && is_present(qr_block_of(mgr, known)))
        merge(mgr, seq, index, known);
    else if (qr_block_of(mgr, own)->indexed)
        qr_block_tree_extend(&mgr->tree, own, tokens, page_size);
    else
        qr_block_tree_insert(&mgr->tree, own, parent, tokens, page_size);
}

void qr_block_manager_commit(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    struct qr_table *table = qr_table_of(mgr, seq);

    while ((table->n_indexed + 1) * mgr->config.page_size <= n_tokens)
        index_full(mgr, seq, table->n_indexed++);
}

/* The last block, which is not full, becomes known as well. */
static void index_partial(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    int32_t page_size = mgr->config.page_size;
    int32_t index = n_tokens / page_size;
    int32_t n_last = n_tokens % page_size;
    if (n_last == 0 || index >= qr_table_of(mgr, seq)->n_blocks)
        return;
    int32_t own = qr_table_blocks(mgr, seq)[index];
    int32_t parent = parent_of(mgr, seq, index);
    const int32_t *tokens = qr_table_of(mgr, seq)->tokens + index * page_size;
    int32_t n_common;

    if (qr_block_of(mgr, own)->lost || qr_block_of(mgr, parent)->lost)
        return;
    if (qr_block_of(mgr, own)->indexed) {
        if (n_last > qr_block_of(mgr, own)->n_tokens)
            qr_block_tree_extend(&mgr->tree, own, tokens, n_last);
        return;
    }
    int32_t known = qr_block_tree_find_partial(&mgr->tree, parent, tokens, n_last, &n_common);
    if (known != QR_BLOCK_NONE && n_common == n_last && is_present(qr_block_of(mgr, known)))
        merge(mgr, seq, index, known);
    else
        qr_block_tree_insert(&mgr->tree, own, parent, tokens, n_last);
}

void qr_block_manager_release(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens,
                              enum qr_release how)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    const int32_t *blocks = qr_table_blocks(mgr, seq);

    promise(mgr, table, 0);
    if (table->n_blocks == 0)
        return;
    if (how != QR_RELEASE_FINISHED || mgr->config.prefix_cache)
        index_partial(mgr, seq, n_tokens);
    while (table->n_blocks > 0)
        qr_block_unpin(mgr, blocks[--table->n_blocks], how);
    table->n_indexed = table->n_loaded = 0;
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
    while (first_freed > 0 && qr_block_of(mgr, blocks[first_freed - 1])->n_pins == 1)
        first_freed--;
    for (int32_t i = first_freed; i < table->n_blocks; i++)
        estimate->n_dirty += qr_block_of(mgr, blocks[i])->slot == QR_SLOT_NONE;
    estimate->n_freed = table->n_blocks - first_freed;
    int32_t first = first_freed * mgr->config.page_size;
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
