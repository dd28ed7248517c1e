/*
 * block_tree.h - the blocks of KV, and how they are found again: a tree whose nodes are
 * blocks and whose paths are token sequences.
 *
 * A block is private (one or several sequences write or read it, nobody can find it) or
 * indexed: a child of the block before it, with its own copy of its token ids. Full
 * blocks are found through a map keyed by the hash of all tokens up to their end;
 * a hit is confirmed by the parent's identity and the ids. A block with fewer tokens has
 * no children and is found by comparing it with what follows in a prompt. The first
 * blocks of sequences are children of a root, one for each salt.
 *
 * Private to blockmgr/. Knows nothing of lists, tiers or sequences: page, slot, pins and
 * state of a block belong to block_cache.c and block_transfer.c.
 */
#ifndef QUIRE_BLOCKMGR_BLOCK_TREE_H
#define QUIRE_BLOCKMGR_BLOCK_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/block_manager.h"
#include "blockmgr/block_map.h"
#include "blockmgr/evict_list.h"

#define QR_BLOCK_NONE ((int32_t)-1)
#define QR_PAGE_NONE  ((qr_page_id)-1)
#define QR_SLOT_NONE  ((int32_t)-1)

enum { QR_LINK_DEVICE, QR_LINK_TIER, QR_LINK_COUNT };

enum qr_block_state {
    QR_BLOCK_FREE,       /* as in zeroed memory */
    QR_BLOCK_IDLE,       /* no transfer */
    QR_BLOCK_QUEUED_OUT, /* waits for a transfer; its links are those of the queue */
    QR_BLOCK_OUT,        /* under way */
    QR_BLOCK_QUEUED_IN,  /* page taken, contents to come */
    QR_BLOCK_IN,
};

/* What most calls touch comes first and fills one cache line. */
struct qr_block {
    uint64_t
        hash; /* of the salt and all tokens up to the end of a full block; of a root: the salt's */
    int32_t parent;      /* a block or a root; QR_BLOCK_NONE: private, or a root */
    int32_t first_child; /* the most recent */
    int32_t prev_sibling;
    int32_t next_sibling;
    int32_t n_children;          /* of the indexed block or root */
    int32_t n_resident_children; /* with a device page */
    int32_t n_cached_children;   /* kept by block_cache.c, with a window only */
    int32_t position;            /* of its first token in the sequence */
    int32_t n_pins;              /* block tables that hold it; of a root: open sequences */
    qr_page_id page;             /* QR_PAGE_NONE: not on the device */
    int32_t slot;                /* of `tier`; QR_SLOT_NONE: no copy in a lower tier */
    uint32_t n_uses;             /* how often it was computed or found */
    uint16_t n_tokens;           /* indexed */
    uint16_t fill; /* leading slots of the page that hold a token or are being written */
    uint8_t state; /* enum qr_block_state */
    uint8_t tier;  /* enum qr_tier */
    bool indexed : 1;
    bool held : 1;      /* given up by a sequence that will want it again */
    bool parked : 1;    /* by one whose reader is slow */
    bool lost : 1;      /* its contents are gone; freed when the last pin and transfer end */
    bool to_save : 1;   /* cached, in the queue of those to be copied to a lower tier */
    bool unsavable : 1; /* cached, and no lower tier had room for it */
    bool listed : 1;    /* among those whose page may be taken: its device link is in use */
    _Alignas(64) struct qr_evict_link links[QR_LINK_COUNT];
};

struct qr_root_salt {
    bool in_use;
    bool anonymous; /* found by nobody */
    uint8_t n_bytes;
    char bytes[QR_MAX_SALT_BYTES];
};

struct qr_block_tree {
    int32_t page_size;
    int32_t n_blocks;
    int32_t n_roots;
    int32_t n_free_blocks;
    int32_t n_free_roots;
    uint64_t n_anonymous;       /* since create: seeds their hashes */
    struct qr_block *blocks;    /* [n_blocks + n_roots]: blocks, then roots */
    struct qr_root_salt *salts; /* [n_roots] */
    int32_t *tokens;            /* [n_blocks][page_size] of indexed blocks */
    struct qr_block_map map;    /* full blocks and named roots */
    int32_t *free_blocks;       /* [n_blocks] a stack */
    int32_t *free_roots;        /* [n_roots] a stack */
};

QR_BEGIN_DECLS

QR_MUST_CHECK enum qr_status qr_block_tree_init(struct qr_block_tree *tree, int32_t n_blocks,
                                                int32_t n_roots, int32_t page_size);
void qr_block_tree_free(struct qr_block_tree *tree); /* of a zeroed tree: nothing */

static inline bool qr_block_is_root(const struct qr_block_tree *tree, int32_t id)
{
    return id >= tree->n_blocks;
}

/* The root of a salt, with one pin more; NULL: a root of its own. n_roots suffice by contract. */
int32_t qr_block_tree_open_root(struct qr_block_tree *tree, const char *salt, size_t n_bytes);
/* Frees a root without pins and children; harmless otherwise. */
void qr_block_tree_tidy_root(struct qr_block_tree *tree, int32_t root);

/* A private block without page and slot, with one pin; or back to the stack. */
int32_t qr_block_tree_new(struct qr_block_tree *tree);
void qr_block_tree_delete(struct qr_block_tree *tree, int32_t id);

/* Of page_size tokens below a parent with this hash. */
uint64_t qr_block_tree_hash(const struct qr_block_tree *tree, uint64_t parent_hash,
                            const int32_t *tokens);
/* tokens [page_size]. QR_BLOCK_NONE: there is no such full block. */
int32_t qr_block_tree_find(const struct qr_block_tree *tree, int32_t parent, uint64_t hash,
                           const int32_t *tokens);
/* Whether an indexed block that is full has the hash of its tokens and can be found. For tests. */
bool qr_block_tree_is_findable(const struct qr_block_tree *tree, int32_t id);
/*
 * The child of `parent` that begins with the most of tokens[n_tokens], among the
 * children that came last; *n_common says how many, 0 with QR_BLOCK_NONE. Blocks that
 * are not on the device count only if all of their tokens are wanted.
 */
int32_t qr_block_tree_find_partial(const struct qr_block_tree *tree, int32_t parent,
                                   const int32_t *tokens, int32_t n_tokens, int32_t *n_common);
/*
 * Makes a private block a child of `parent`. tokens [n_tokens], copied. hash: of all tokens up
 * to their end if they fill the block (qr_block_tree_hash); not used otherwise.
 */
void qr_block_tree_insert(struct qr_block_tree *tree, int32_t id, int32_t parent, uint64_t hash,
                          const int32_t *tokens, int32_t n_tokens);
/* A child that was not full holds more tokens now; tokens [n_tokens], those before included. */
void qr_block_tree_extend(struct qr_block_tree *tree, int32_t id, uint64_t hash,
                          const int32_t *tokens, int32_t n_tokens);
/* Makes an indexed block without children private. */
void qr_block_tree_remove(struct qr_block_tree *tree, int32_t id);
/* The page of a block, private or indexed, comes or goes (QR_PAGE_NONE). */
void qr_block_tree_set_page(struct qr_block_tree *tree, int32_t id, qr_page_id page);

QR_END_DECLS

#endif /* QUIRE_BLOCKMGR_BLOCK_TREE_H */
