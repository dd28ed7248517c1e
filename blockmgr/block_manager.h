/*
 * block_manager.h - who holds which KV page: block tables, the prefix cache, sharing
 * with copy-on-write, and the tiers below the device.
 *
 * A block is the KV of up to page_size consecutive tokens of a sequence, from a
 * multiple of page_size on. It lies in a device page, in a slot of a lower tier, or
 * in both. A block table maps block i of a sequence (tokens [i * page_size, (i + 1) *
 * page_size)) to its device page. Computed blocks are indexed by their own tokens and
 * the block before them, so that another sequence with the same beginning finds them,
 * as does the same one after a preemption: a preempted sequence is cached tokens, and
 * nothing else. A block that nobody holds stays until its room is wanted.
 *
 * Rules that keep shared pages right:
 * - Slots of a page that hold a token are never written again while somebody may read
 *   them. A sequence that grows into a block whose next slot another has filled, or
 *   that is under way to a lower tier, gets a copy of the page first.
 * - A block is found by hash and confirmed by comparing token ids and the identity of
 *   the block before it. Sequences with different salts never meet.
 * - A block under way between tiers is never given up.
 *
 * With a window, rows see only the keys of the last `window` tokens: a sequence gives its
 * blocks back as the window passes them, and finds itself again from those that the next
 * row needs. Its table begins with first_block entries that stand for no page.
 *
 * Pure bookkeeping: copies and transfers are handed out as lists, their ends come back
 * as calls. Engine thread only. Nothing allocates after create. Every answer is a
 * function of the calls before it.
 *
 * Methods: PagedAttention (Kwon et al., SOSP 2023, section 4) for tables and sharing;
 * the tree of cached prefixes after RadixAttention (Zheng et al., SGLang, 2024), with
 * pages as its nodes; Greedy-Dual-Size-Frequency (Cherkasova, HP Labs 1998) for what
 * goes first; ghosts, entries known without their contents, after ARC (Megiddo and Modha,
 * FAST 2003). docs/block-manager.md has the whole.
 */
#ifndef QUIRE_BLOCKMGR_BLOCK_MANAGER_H
#define QUIRE_BLOCKMGR_BLOCK_MANAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/page_pool.h"

enum { QR_MAX_SALT_BYTES = 64 };

struct qr_block_manager;

enum qr_tier {
    QR_TIER_HOST, /* host memory */
    QR_TIER_DISK,
    QR_TIER_COUNT,
};

struct qr_block_manager_config {
    int32_t page_count;                /* device pages, at least 1 */
    int32_t page_size;                 /* tokens a page: a power of two in [8, 256] */
    int32_t max_sequences;             /* slots: sequences known at one time, at least 1 */
    int32_t max_seq_tokens;            /* the longest sequence, in tokens, at least 1 */
    int32_t tier_slots[QR_TIER_COUNT]; /* pages that the lower tiers hold; 0: no such tier */
    int32_t max_transfers;             /* under way at one time; 0 without lower tiers */
    int32_t window;    /* keys that a row sees, itself included, in every layer; 0: all */
    int32_t max_rows;  /* of one sequence in one grow, at least 1; without a window not used */
    bool prefix_cache; /* sequences find each other's blocks; otherwise only their own */
};

/* What moving and computing costs here, in nanoseconds; measured by who runs the plans. */
struct qr_block_costs {
    double page_out_ns[QR_TIER_COUNT]; /* one page, device to tier */
    double page_in_ns[QR_TIER_COUNT];  /* one page, tier to device */
    double row_ns;                     /* computing one row of a prefill at position 0 */
    double row_position_ns;            /* what each token of context before it adds */
};

/* A device page to be copied whole before the next rows are computed. */
struct qr_page_copy {
    qr_page_id from;
    qr_page_id to;
};

/*
 * One page to move between the device and a tier, beside the computing. Until
 * qr_block_manager_transfer_done(id) its page and slot belong to it.
 */
struct qr_transfer {
    int32_t id; /* in [0, max_transfers) */
    enum qr_tier tier;
    bool out; /* from the device to the tier; otherwise from the tier to the device */
    qr_page_id page;
    int32_t slot; /* of the tier */
};

/* How a sequence comes to give up its blocks. */
enum qr_release {
    QR_RELEASE_FINISHED, /* cached for others, as long as nobody wants the room */
    QR_RELEASE_RESUMES,  /* preempted, to be recomputed: kept rather than other cached blocks */
    QR_RELEASE_SWAPPED,  /* preempted, to be swapped: moved to a lower tier from now on */
    QR_RELEASE_PARKED,   /* its reader is slow: the first to go, to a lower tier if there is one */
};

enum qr_load { QR_LOAD_DONE, QR_LOAD_UNDER_WAY, QR_LOAD_FAILED };

/* What qr_block_manager_acquire found. */
struct qr_acquired {
    int32_t n_cached; /* leading tokens whose KV is there, or will be once it is loaded */
    int32_t n_loads;  /* of their blocks, how many are on their way from a lower tier */
};

/* What giving up a sequence's blocks would free and cost. */
struct qr_release_estimate {
    int32_t n_freed; /* pages that nobody else holds */
    int32_t n_dirty; /* of those, how many have no copy in a lower tier */
    double swap_ns;  /* to move the dirty ones out and all of them in again; INFINITY: no room */
    double recompute_ns;
};

struct qr_block_stats {
    int32_t page_count;
    int32_t used_pages;   /* held by at least one sequence */
    int32_t cached_pages; /* held by none, and holding a cached block */
    int32_t free_pages;   /* neither; the three add up to page_count */
    int64_t used_slots;   /* token slots of used pages that hold a token */
    int64_t wasted_slots; /* the others */
    int32_t tier_used[QR_TIER_COUNT];
    int32_t tier_slots[QR_TIER_COUNT];
    int32_t n_in_transfer;              /* queued or under way */
    int64_t n_pages_out[QR_TIER_COUNT]; /* since create, as the following */
    int64_t n_pages_in[QR_TIER_COUNT];
    int64_t n_failed_out[QR_TIER_COUNT];
    int64_t n_failed_in[QR_TIER_COUNT]; /* unreadable, or the checksum was wrong */
    int64_t n_copies;                   /* copy-on-write */
    int64_t n_merged;                   /* pages given back because another held the same */
    int64_t n_evicted;                  /* cached blocks given up for their page, lost or not */
    int64_t n_lost;                     /* of those, how many had no other copy */
    int64_t n_hit_tokens;               /* found by acquire */
    int64_t n_lookup_tokens;            /* asked for by acquire */
};

/* What qr_block_manager_prefetch fetches, and how many sequences ahead it is best asked for. */
enum qr_fetch { QR_FETCH_TABLE, QR_FETCH_BLOCKS, QR_FETCH_INDEX };
enum { QR_TABLES_AHEAD = 12, QR_BLOCKS_AHEAD = 8, QR_INDEX_AHEAD = 4 };

QR_BEGIN_DECLS

/*
 * Pages that one sequence of max_seq_tokens holds at one time, at most, as page_size, window and
 * max_rows of a configuration have it: without a window, all. A copy may need one more.
 */
int32_t qr_block_manager_most_held(const struct qr_block_manager_config *config);
/*
 * On QR_OK the caller owns *out. On error *out is NULL: QR_ERR_INVALID when a field of
 * the configuration is out of its range, QR_ERR_NOMEM. The longest sequence may need
 * more pages than the pool has; who relies on it fitting checks that.
 */
QR_MUST_CHECK enum qr_status qr_block_manager_create(const struct qr_block_manager_config *config,
                                                     struct qr_block_manager **out);
void qr_block_manager_destroy(struct qr_block_manager *mgr); /* accepts NULL */
/* What computing tokens [first, end) of a sequence costs by these figures. */
double qr_block_manager_compute_ns(const struct qr_block_manager *mgr, int32_t first, int32_t end);
/* The figures that eviction, loading and qr_block_manager_estimate weigh from now on. */
void qr_block_manager_set_costs(struct qr_block_manager *mgr, const struct qr_block_costs *costs);

/*
 * Begins the use of sequence slot `seq` (in [0, max_sequences)), which was closed.
 * `tokens` is borrowed until close: the manager reads as many of them as its calls name
 * when it looks up or indexes blocks. salt: at most QR_MAX_SALT_BYTES bytes.
 */
void qr_block_manager_open(struct qr_block_manager *mgr, int32_t seq, const int32_t *tokens,
                           const char *salt, size_t n_salt_bytes);
/* As open, with the salt of another open sequence, whose blocks it may find and fork. */
void qr_block_manager_open_fork(struct qr_block_manager *mgr, int32_t seq, const int32_t *tokens,
                                int32_t parent);
/* Ends the use of the slot, which holds no blocks (see release). */
void qr_block_manager_close(struct qr_block_manager *mgr, int32_t seq);

/*
 * Gives a sequence without blocks those that are cached of its first n_known tokens
 * (but never all: the last token is left to be computed), starts loading what lies in
 * lower tiers where that costs less than computing it, and promises it pages for
 * n_promised tokens in all. All or nothing: QR_ERR_NO_PAGES, also when fewer than n_spare
 * pages would stay available, leaves it without blocks.
 * With a window it is given the blocks that its next row sees, and is promised what it will
 * hold at one time. What it gives back later stays promised to it, unless others hold it too:
 * then grow may find no pages.
 * n_known <= n_promised <= max_seq_tokens.
 */
QR_MUST_CHECK enum qr_status qr_block_manager_acquire(struct qr_block_manager *mgr, int32_t seq,
                                                      int32_t n_known, int32_t n_promised,
                                                      int32_t n_spare,
                                                      struct qr_acquired *acquired);
/*
 * Makes `seq` hold the same first n_tokens tokens' blocks as `parent`, all of them
 * shared. `parent` holds them, computed; `seq` was opened by open_fork, holds
 * nothing, and its tokens begin alike. Needs no page.
 */
void qr_block_manager_fork(struct qr_block_manager *mgr, int32_t parent, int32_t seq,
                           int32_t n_tokens);
/*
 * Makes tokens [first, n_tokens) writable: takes pages, first of those promised, and
 * copies the page of token `first` if it is shared. first is the number of computed
 * tokens. On QR_ERR_NO_PAGES nothing may be written; try again when there are pages.
 */
QR_MUST_CHECK enum qr_status qr_block_manager_grow(struct qr_block_manager *mgr, int32_t seq,
                                                   int32_t first, int32_t n_tokens);
/* Pages that qr_block_manager_grow would have to take beyond what was promised. */
int32_t qr_block_manager_pages_needed(const struct qr_block_manager *mgr, int32_t seq,
                                      int32_t first, int32_t n_tokens);
/*
 * The first n_tokens tokens are computed: full blocks are indexed, duplicates merged. Those that
 * the window has passed are given back, but for the last of them: what is found of the sequence
 * later may end a little earlier.
 */
void qr_block_manager_commit(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens);
/*
 * Begins to fetch from memory what growing an open sequence from `first` to n_tokens tokens, and
 * committing them, will touch; changes nothing that shows. For callers that go through many
 * sequences: QR_FETCH_TABLE for one that comes some calls later, QR_FETCH_BLOCKS for one that
 * comes sooner, then QR_FETCH_INDEX, before commit only; each reads what the one before it
 * fetched. With QR_FETCH_INDEX those n_tokens tokens stay as they are until they are committed
 * or the sequence is released: the hash of the block that they fill is kept.
 */
void qr_block_manager_prefetch(struct qr_block_manager *mgr, int32_t seq, int32_t first,
                               int32_t n_tokens, enum qr_fetch what);
/*
 * Gives up all blocks of the sequence, of which the first n_tokens tokens are computed,
 * and what was promised to it; harmless when it holds none.
 */
void qr_block_manager_release(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens,
                              enum qr_release how);
/* With n_tokens computed tokens. Takes time in proportion to its blocks. */
void qr_block_manager_estimate(const struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens,
                               struct qr_release_estimate *estimate);

/*
 * Whether the blocks that acquire began to load are all there. QR_LOAD_FAILED: one could
 * not be read, or its checksum was wrong; release the sequence with 0 computed tokens and
 * acquire again, what was lost is then no longer found.
 */
enum qr_load qr_block_manager_load_state(struct qr_block_manager *mgr, int32_t seq);

/*
 * Starts transfers of blocks that wait for one, as many as may be under way.
 * Copies and transfers handed out since the last clear, in order: copies first.
 */
void qr_block_manager_start_transfers(struct qr_block_manager *mgr);
const struct qr_page_copy *qr_block_manager_copies(const struct qr_block_manager *mgr,
                                                   int32_t *count);
const struct qr_transfer *qr_block_manager_transfers(const struct qr_block_manager *mgr,
                                                     int32_t *count);
void qr_block_manager_clear_lists(struct qr_block_manager *mgr);
/* A transfer ended. After a failure the block is where it was before, or nowhere. */
void qr_block_manager_transfer_done(struct qr_block_manager *mgr, int32_t id, bool ok);
/* Nothing is moved to this tier any more; what lies there can still be loaded. */
void qr_block_manager_close_tier(struct qr_block_manager *mgr, enum qr_tier tier);

/*
 * block_table[qr_block_manager_n_blocks()]: device pages, valid until the next change of seq;
 * the first qr_block_manager_first_block() of them are -1: the window has passed them.
 */
const int32_t *qr_block_manager_block_table(const struct qr_block_manager *mgr, int32_t seq);
int32_t qr_block_manager_n_blocks(const struct qr_block_manager *mgr, int32_t seq);
int32_t qr_block_manager_first_block(const struct qr_block_manager *mgr, int32_t seq);
int32_t qr_block_manager_held_pages(const struct qr_block_manager *mgr, int32_t seq);
int32_t qr_block_manager_promised_pages(const struct qr_block_manager *mgr, int32_t seq);
/* Whether sequences give blocks back before they end. */
bool qr_block_manager_has_window(const struct qr_block_manager *mgr);
/* Pages that a sequence of n_tokens tokens holds at one time, at most. */
int32_t qr_block_manager_pages_for(const struct qr_block_manager *mgr, int32_t n_tokens);
/* Rows of one sequence that one grow may add. */
int32_t qr_block_manager_max_rows(const struct qr_block_manager *mgr);
/*
 * Pages that can be taken: free, or held by cached blocks that may go; less the promised.
 * A cached block with one below it that is on its way out may go once that has left, so
 * grow can say QR_ERR_NO_PAGES to what is available or promised while pages are leaving.
 */
int32_t qr_block_manager_available_pages(const struct qr_block_manager *mgr);
/* Pages that are becoming available: their blocks are on the way to a lower tier. */
int32_t qr_block_manager_leaving_pages(const struct qr_block_manager *mgr);
int32_t qr_block_manager_page_size(const struct qr_block_manager *mgr);
int32_t qr_block_manager_max_blocks(const struct qr_block_manager *mgr); /* a sequence */
int32_t qr_block_manager_max_sequences(const struct qr_block_manager *mgr);
int32_t qr_block_manager_max_seq_tokens(const struct qr_block_manager *mgr);
int32_t qr_block_manager_page_count(const struct qr_block_manager *mgr);
void qr_block_manager_stats(const struct qr_block_manager *mgr, struct qr_block_stats *stats);
/* Checks every invariant between tables, tree, lists and pools by an assertion; slow. */
void qr_block_manager_check(const struct qr_block_manager *mgr);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_BLOCK_MANAGER_H */
