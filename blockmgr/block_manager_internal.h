/*
 * block_manager_internal.h - the block manager's state, shared by the files of this
 * folder and nobody else.
 *
 * block_manager.c makes and shows, block_lookup.c finds and block_table.c writes the
 * blocks of sequences, block_window.c gives back what a window has passed, block_cache.c
 * decides what stays, block_transfer.c moves between tiers, block_prefetch.c has the memory
 * ready.
 */
#ifndef QUIRE_BLOCKMGR_BLOCK_MANAGER_INTERNAL_H
#define QUIRE_BLOCKMGR_BLOCK_MANAGER_INTERNAL_H

#include "base/assert.h"
#include "blockmgr/block_manager.h"
#include "blockmgr/block_queue.h"
#include "blockmgr/block_tree.h"
#include "blockmgr/evict_list.h"
#include "blockmgr/page_pool.h"

/* How much more a block weighs that a preempted sequence will want again. */
#define QR_HELD_WEIGHT 64.0

/* One cache line. */
struct qr_table {
    _Alignas(64) const int32_t *tokens; /* borrowed; NULL: the slot is closed */
    uint64_t hash_ahead;                /* of the block n_hashed - 1, by prefetching */
    int32_t n_hashed;                   /* n_indexed + 1: hash_ahead is that of the next block */
    int32_t root;
    int32_t n_blocks;
    int32_t first_block; /* the blocks before it are passed by the window, and not held */
    int32_t n_indexed;   /* leading blocks that are full and, unless lost, indexed */
    int32_t n_loaded;    /* leading blocks that were seen on the device */
    int32_t n_target;    /* tokens that pages were promised for */
    int32_t n_promised;  /* pages, beyond n_blocks; the following included */
    bool copy_promised;  /* one of them, for a copy of the last block */
};

struct qr_active_transfer {
    int32_t block; /* QR_BLOCK_NONE: not in use */
    int32_t slot;
    enum qr_tier tier;
    bool out;
    bool saves; /* of a block that nobody gave up for its page */
};

struct qr_tier_state {
    struct qr_page_pool *slots;     /* NULL: no such tier */
    struct qr_evict_list evictable; /* blocks whose slot may be taken */
    bool closed;
};

struct qr_block_manager {
    struct qr_block_manager_config config;
    struct qr_block_costs costs;
    int32_t max_blocks; /* a sequence */
    int32_t page_shift; /* page_size == 1 << page_shift */
    int32_t window;     /* 0: none, or none that matters */
    int32_t max_held;   /* blocks that a sequence holds at one time */

    struct qr_block_tree tree;
    struct qr_page_pool *pages;
    struct qr_table *tables; /* [max_sequences] */
    int32_t *table_blocks;   /* [max_sequences][max_blocks] */
    qr_page_id *table_pages; /* [max_sequences][max_blocks] the same blocks' pages */

    struct qr_evict_list evictable; /* cached blocks that may go next: see block_cache.c */
    int32_t n_cached;               /* idle blocks on the device that nobody holds */
    int32_t n_used;                 /* blocks on the device that somebody holds */
    int32_t n_promised;             /* sum over all tables */
    int64_t used_slots;             /* sum of fill over used blocks */

    struct qr_tier_state tiers[QR_TIER_COUNT];
    struct qr_block_queue out_queue;
    struct qr_block_queue in_queue;
    struct qr_block_queue save_queue; /* cached blocks without a copy below, when there is time */
    struct qr_block_queue ghosts;     /* the oldest first */
    int32_t n_leaving; /* queued out or on the way out, held by nobody or by somebody again */
    int32_t n_queued;  /* to go out and in */
    int32_t n_saving;  /* transfers that only save: under way */
    struct qr_active_transfer *active; /* [max_transfers] */
    int32_t *free_transfers;           /* [max_transfers] a stack */
    int32_t n_free_transfers;

    struct qr_page_copy *copies; /* [max_sequences] */
    int32_t n_copies;
    struct qr_transfer *transfers; /* [max_transfers] */
    int32_t n_transfers;

    struct qr_block_stats counters; /* what counts since create */
};

static inline struct qr_block *qr_block_of(const struct qr_block_manager *mgr, int32_t id)
{
    return &mgr->tree.blocks[id];
}

/* In which block of its sequence a token stands, and where there; dividing would take longer. */
static inline int32_t qr_block_index_of(const struct qr_block_manager *mgr, int32_t token)
{
    return token >> mgr->page_shift;
}

static inline int32_t qr_block_offset_of(const struct qr_block_manager *mgr, int32_t token)
{
    return token & (mgr->config.page_size - 1);
}

/* Pages or blocks that hold n_tokens; no overflow up to INT32_MAX tokens. */
static inline int32_t qr_blocks_for(const struct qr_block_manager *mgr, int32_t n_tokens)
{
    return qr_block_index_of(mgr, n_tokens) + (qr_block_offset_of(mgr, n_tokens) != 0);
}

/* On the device, idle, held by nobody: counted as available. */
static inline bool qr_block_is_cached(const struct qr_block *block)
{
    return block->indexed && block->n_pins == 0 && block->state == QR_BLOCK_IDLE &&
           block->page != QR_PAGE_NONE;
}

/* An indexed block with neither page nor slot: known for what stands below it. */
static inline bool qr_block_is_ghost(const struct qr_block *block)
{
    return block->indexed && block->page == QR_PAGE_NONE && block->slot == QR_SLOT_NONE;
}

/* Whether blocks can be indexed below it: not if it was forgotten while sequences held it. */
static inline bool qr_block_is_in_tree(const struct qr_block_manager *mgr, int32_t parent)
{
    return qr_block_is_root(&mgr->tree, parent) || qr_block_of(mgr, parent)->indexed;
}

/* What computing the tokens of an indexed block costs. */
static inline double qr_block_recompute_ns(const struct qr_block_manager *mgr,
                                           const struct qr_block *block)
{
    return qr_block_manager_compute_ns(mgr, block->position, block->position + block->n_tokens);
}

static inline struct qr_table *qr_table_of(const struct qr_block_manager *mgr, int32_t seq)
{
    QR_ASSERT(seq >= 0 && seq < mgr->config.max_sequences);
    return &mgr->tables[seq];
}

/* [max_blocks] */
static inline int32_t *qr_table_blocks(const struct qr_block_manager *mgr, int32_t seq)
{
    return mgr->table_blocks + (size_t)seq * (size_t)mgr->max_blocks;
}

/* [max_blocks] */
static inline qr_page_id *qr_table_pages(const struct qr_block_manager *mgr, int32_t seq)
{
    return mgr->table_pages + (size_t)seq * (size_t)mgr->max_blocks;
}

/* Below which block or root the block `index` of the sequence stands, which holds it. */
static inline int32_t qr_table_parent(const struct qr_block_manager *mgr, int32_t seq,
                                      int32_t index)
{
    return index == 0 ? qr_table_of(mgr, seq)->root : qr_table_blocks(mgr, seq)[index - 1];
}

QR_BEGIN_DECLS

/* block_lookup.c */

enum { QR_HASHES_AHEAD = 8 }; /* a power of two */

/*
 * The hashes of full blocks of a sequence, one after the other, computed some blocks ahead: their
 * places in the hash table arrive from memory while other work is done.
 */
struct qr_hashes {
    uint64_t last; /* of the block before `next` */
    int32_t next;  /* the first block that is not hashed */
    uint64_t ring[QR_HASHES_AHEAD];
};

/* `hash` is that of block n_hashed - 1, or of the root if n_hashed is 0. */
static inline void qr_hashes_begin(struct qr_hashes *hashes, int32_t n_hashed, uint64_t hash)
{
    hashes->next = n_hashed;
    hashes->last = hash;
    hashes->ring[(uint32_t)(n_hashed - 1) % QR_HASHES_AHEAD] = hash;
}

/* Of block `index`: each of those up to `end` is asked for in turn. */
uint64_t qr_hashes_at(const struct qr_block_manager *mgr, const struct qr_table *table,
                      struct qr_hashes *hashes, int32_t index, int32_t end);

/* block_table.c */

/* The table of a sequence without blocks begins with so many that it does not hold. */
void qr_table_skip(struct qr_block_manager *mgr, int32_t seq, int32_t first_block);
/* Promises the sequence n_pages in all beyond its blocks. */
void qr_table_promise(struct qr_block_manager *mgr, struct qr_table *table, int32_t n_pages);
/* Whether nobody else can read or will write slots of the page from `offset` on. */
bool qr_block_is_writable(const struct qr_block *block, int32_t offset);

/* block_cache.c */

/* A new private block with a page and one pin; QR_BLOCK_NONE: no page can be had. */
int32_t qr_block_take(struct qr_block_manager *mgr, int32_t position);
/* A free page, if need be at the cost of a cached block. */
QR_MUST_CHECK enum qr_status qr_page_take(struct qr_block_manager *mgr, qr_page_id *page);
void qr_block_pin(struct qr_block_manager *mgr, int32_t id);
void qr_block_unpin(struct qr_block_manager *mgr, int32_t id, enum qr_release how);
void qr_block_set_fill(struct qr_block_manager *mgr, int32_t id, int32_t fill);
/* The block's copy in a lower tier is no longer wanted; harmless when there is none. */
void qr_block_drop_slot(struct qr_block_manager *mgr, int32_t id);
/* Removes an indexed block and all below it: freed, or lost while pinned or in transfer. */
void qr_block_drop_subtree(struct qr_block_manager *mgr, int32_t id);
/* Makes an indexed block without children private; what it holds stays. */
void qr_block_unindex(struct qr_block_manager *mgr, int32_t id);
/* All below a root. */
void qr_block_drop_children(struct qr_block_manager *mgr, int32_t root);
/* The block became idle or lost its last pin: where does it belong now? */
void qr_block_settle(struct qr_block_manager *mgr, int32_t id);
/* The opposite, for a block that is cached; harmless for others. */
void qr_block_unsettle(struct qr_block_manager *mgr, int32_t id);

/* block_window.c */

/* The first block that the row after n_tokens tokens needs, or that its own stands below. */
int32_t qr_window_first_needed(const struct qr_block_manager *mgr, int32_t n_tokens);
/* Gives back what the window of a sequence with n_tokens computed tokens has passed. */
void qr_window_slide(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens);
void qr_ghost_enter(struct qr_block_manager *mgr, int32_t id); /* it has just become one */
void qr_ghost_leave(struct qr_block_manager *mgr, int32_t id); /* it is one no longer */
/* If `id` is a ghost with nothing below it, it goes, and so do those above it. */
void qr_ghost_tidy(struct qr_block_manager *mgr, int32_t id);
/* All records are taken: the oldest ghost goes, with what stands below it. */
void qr_ghost_reclaim(struct qr_block_manager *mgr);
/* The ghost takes the place of block `index` of the sequence, and its page. */
void qr_ghost_revive(struct qr_block_manager *mgr, int32_t seq, int32_t index, int32_t ghost);

/* block_transfer.c */

/* Whether some tier takes pages now. */
bool qr_block_can_leave(const struct qr_block_manager *mgr);
void qr_block_queue_out(struct qr_block_manager *mgr, int32_t id);
/* The block has a slot; its page was taken. */
void qr_block_queue_in(struct qr_block_manager *mgr, int32_t id, qr_page_id page);
/* Takes a queued block out of its queue; it is idle then, and a queued-in one has no page. */
void qr_block_unqueue(struct qr_block_manager *mgr, int32_t id);
/* A cached block may be copied to a lower tier when there is time; harmless if it may not. */
void qr_block_queue_save(struct qr_block_manager *mgr, int32_t id);
void qr_block_unqueue_save(struct qr_block_manager *mgr, int32_t id); /* harmless if it is not */
/* Where the block stands among those whose slot may be taken; call after what matters changed. */
void qr_block_relist_slot(struct qr_block_manager *mgr, int32_t id);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_BLOCK_MANAGER_INTERNAL_H */
