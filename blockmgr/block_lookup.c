/*
 * block_lookup.c - what a sequence finds when it comes, or comes back: cached blocks of its
 * first tokens, on the device or to be loaded from a lower tier.
 */
#include "base/assert.h"
#include "blockmgr/block_manager_internal.h"

/* The blocks that acquire found, in the sequence's own table. */
struct lookup {
    int32_t n_full;    /* full blocks */
    int32_t n_common;  /* tokens of one block more, 0: none */
    int32_t n_blocks;  /* that are used end here: n_full, and the one more */
    int32_t first;     /* and begin here: those before are not held */
    int32_t n_to_load; /* of those, not on the device */
    int32_t n_idle;    /* of those, counted as available so far */
};

uint64_t qr_hashes_at(const struct qr_block_manager *mgr, const struct qr_table *table,
                      struct qr_hashes *hashes, int32_t index, int32_t end)
{
    for (; hashes->next < end && hashes->next < index + QR_HASHES_AHEAD; hashes->next++) {
        hashes->last = qr_block_tree_hash(&mgr->tree, hashes->last,
                                          table->tokens + hashes->next * mgr->config.page_size);
        qr_block_map_prefetch(&mgr->tree.map, hashes->last);
        hashes->ring[hashes->next % QR_HASHES_AHEAD] = hashes->last;
    }
    return hashes->ring[index % QR_HASHES_AHEAD];
}

static int32_t find_full(const struct qr_block_manager *mgr, const struct qr_table *table,
                         int32_t n_max, int32_t *blocks)
{
    struct qr_hashes hashes;
    int32_t parent = table->root;

    qr_hashes_begin(&hashes, 0, qr_block_of(mgr, table->root)->hash);
    for (int32_t i = 0; i < n_max; i++) {
        uint64_t hash = qr_hashes_at(mgr, table, &hashes, i, n_max);
        int32_t id =
            qr_block_tree_find(&mgr->tree, parent, hash, table->tokens + i * mgr->config.page_size);
        if (id == QR_BLOCK_NONE)
            return i;
        blocks[i] = parent = id;
    }
    return n_max;
}

/* Leading tokens that a sequence with the first n_blocks of what was found has computed. */
static int32_t tokens_of_found(const struct qr_block_manager *mgr, const struct lookup *found,
                               int32_t n_blocks)
{
    return n_blocks <= found->n_full ? n_blocks * mgr->config.page_size
                                     : found->n_full * mgr->config.page_size + found->n_common;
}

static bool is_in_tier(const struct qr_block *block)
{
    return block->page == QR_PAGE_NONE && block->slot != QR_SLOT_NONE;
}

/*
 * Of the n_found blocks, loads up to where that saves most: what is loaded need not be computed.
 * Where there is a window, only what the next row needs is held and loaded, and must be there.
 */
static void choose_blocks(const struct qr_block_manager *mgr, const int32_t *blocks,
                          int32_t n_found, struct lookup *found)
{
    double saved_ns = 0;
    double best_ns = 0;
    int32_t first = 0;
    int32_t after_gap = 0; /* blocks from here on are there */

    found->n_blocks = found->first = 0;
    for (int32_t i = 0; i < n_found; i++) {
        const struct qr_block *block = qr_block_of(mgr, blocks[i]);
        int32_t needed =
            mgr->window > 0 ? qr_window_first_needed(mgr, tokens_of_found(mgr, found, i + 1)) : 0;
        saved_ns +=
            qr_block_manager_compute_ns(mgr, block->position, block->position + block->n_tokens);
        if (is_in_tier(block))
            saved_ns -= mgr->costs.page_in_ns[block->tier];
        else if (block->page == QR_PAGE_NONE)
            after_gap = i + 1;
        for (; first < needed; first++) {
            const struct qr_block *passed = qr_block_of(mgr, blocks[first]);
            if (is_in_tier(passed))
                saved_ns += mgr->costs.page_in_ns[passed->tier];
        }
        if (first >= after_gap && saved_ns >= best_ns) {
            best_ns = saved_ns;
            found->n_blocks = i + 1;
            found->first = first;
        }
    }
    if (found->n_blocks <= found->n_full) {
        found->n_full = found->n_blocks;
        found->n_common = 0;
    }
}

static void count_found(const struct qr_block_manager *mgr, const int32_t *blocks,
                        struct lookup *found)
{
    found->n_to_load = found->n_idle = 0;
    for (int32_t i = found->first; i < found->n_blocks; i++) {
        found->n_to_load += qr_block_of(mgr, blocks[i])->page == QR_PAGE_NONE;
        found->n_idle += qr_block_is_cached(qr_block_of(mgr, blocks[i]));
    }
}

static void look_up(const struct qr_block_manager *mgr, int32_t seq, int32_t n_known,
                    struct lookup *found)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    int32_t *blocks = qr_table_blocks(mgr, seq);
    int32_t page_size = mgr->config.page_size;
    int32_t n_wanted = n_known - 1;

    *found =
        (struct lookup){.n_full = find_full(mgr, table, qr_block_index_of(mgr, n_wanted), blocks)};
    int32_t parent = found->n_full > 0 ? blocks[found->n_full - 1] : table->root;
    int32_t first = found->n_full * page_size;
    int32_t n_left = n_wanted - first < page_size ? n_wanted - first : page_size;
    int32_t partial = QR_BLOCK_NONE;
    if (n_left > 0)
        partial = qr_block_tree_find_partial(&mgr->tree, parent, table->tokens + first, n_left,
                                             &found->n_common);
    if (partial != QR_BLOCK_NONE)
        blocks[found->n_full] = partial;
    choose_blocks(mgr, blocks, found->n_full + (partial != QR_BLOCK_NONE), found);
    count_found(mgr, blocks, found);
}

/* There is no room to hold a block beside its copy. */
static void forget_partial(const struct qr_block_manager *mgr, int32_t seq, struct lookup *found)
{
    if (found->n_common == 0)
        return;
    const int32_t *blocks = qr_table_blocks(mgr, seq);
    found->n_blocks--;
    found->n_common = 0;
    if (mgr->window > 0) /* the row that is next now may see what lies further back */
        choose_blocks(mgr, blocks, found->n_full, found);
    count_found(mgr, blocks, found);
}

/* Pins what was found and takes a page for each load; false: a page could not be had. */
static bool hold_found(struct qr_block_manager *mgr, int32_t seq, const struct lookup *found)
{
    struct qr_table *table = qr_table_of(mgr, seq);
    int32_t *blocks = qr_table_blocks(mgr, seq);
    qr_page_id *pages = qr_table_pages(mgr, seq);

    qr_table_skip(mgr, seq, found->first);
    for (int32_t i = found->first; i < found->n_blocks; i++)
        qr_block_pin(mgr, blocks[i]);
    table->n_blocks = found->n_blocks;
    table->n_loaded = found->first;
    for (int32_t i = found->first; i < found->n_blocks; i++) {
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

/* The block after the full ones is only wanted for its beginning: it is copied, then let go. */
static bool will_copy(const struct qr_block_manager *mgr, int32_t seq, const struct lookup *found)
{
    return found->n_common > 0 &&
           !qr_block_is_writable(qr_block_of(mgr, qr_table_blocks(mgr, seq)[found->n_full]),
                                 found->n_common);
}

/* Pages to be taken beyond those found on the device. */
static int32_t pages_beyond(const struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens,
                            const struct lookup *found)
{
    int32_t n_held = found->n_blocks - found->first;
    int32_t n_more = qr_blocks_for(mgr, n_tokens) - found->n_blocks;

    n_more = n_more < mgr->max_held - n_held ? n_more : mgr->max_held - n_held;
    return n_more + found->n_to_load + will_copy(mgr, seq, found);
}

static void note_acquired(struct qr_block_manager *mgr, int32_t seq, const struct lookup *found,
                          struct qr_acquired *acquired)
{
    const int32_t *blocks = qr_table_blocks(mgr, seq);

    *acquired = (struct qr_acquired){
        .n_cached = found->n_full * mgr->config.page_size + found->n_common,
    };
    for (int32_t i = found->first; i < found->n_blocks; i++) {
        uint8_t state = qr_block_of(mgr, blocks[i])->state;
        acquired->n_loads += state == QR_BLOCK_QUEUED_IN || state == QR_BLOCK_IN;
    }
    mgr->counters.n_hit_tokens += acquired->n_cached;
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
    int32_t n_room = qr_block_manager_available_pages(mgr) - n_spare;
    if (n_room - found.n_idle < pages_beyond(mgr, seq, n_promised, &found))
        forget_partial(mgr, seq, &found);
    int32_t n_more = pages_beyond(mgr, seq, n_promised, &found);
    if (n_room - found.n_idle < n_more)
        return QR_ERR_NO_PAGES;
    table->copy_promised = will_copy(mgr, seq, &found);
    if (!hold_found(mgr, seq, &found)) {
        qr_block_manager_release(mgr, seq, 0, QR_RELEASE_RESUMES);
        return QR_ERR_NO_PAGES;
    }
    qr_table_promise(mgr, table, n_more - found.n_to_load);
    table->n_target = n_promised;
    table->n_indexed = found.n_full;
    note_acquired(mgr, seq, &found, acquired);
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
