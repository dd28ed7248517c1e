/* block_index.c - see block_index.h. */
#include "tests/support/block_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blockmgr/block_manager_internal.h"
#include "tests/support/block_trail.h"

enum { MAX_NAMES = 256 }; /* a fingerprint is for small worlds */

static const int32_t *tokens_of(const struct qr_block_manager *mgr, int32_t id)
{
    return mgr->tree.tokens + (size_t)id * (size_t)mgr->tree.page_size;
}

static bool is_readable(const struct qr_block *block)
{
    return block->page != QR_PAGE_NONE && block->state != QR_BLOCK_QUEUED_IN &&
           block->state != QR_BLOCK_IN;
}

/* The key after the block's last token. */
static uint64_t check_block(const struct qr_block_manager *mgr, const struct block_shadow *shadow,
                            int32_t id, uint64_t key)
{
    const struct qr_block *block = qr_block_of(mgr, id);
    const int32_t *tokens = tokens_of(mgr, id);
    enum qr_tier tier = (enum qr_tier)block->tier;
    bool in_tier = block->slot != QR_SLOT_NONE && block->state != QR_BLOCK_OUT &&
                   !block_shadow_is_spoiled(shadow, tier, block->slot);

    for (int32_t i = 0; i < block->n_tokens; i++) {
        key = block_shadow_next_key(key, tokens[i]);
        if (is_readable(block) && block_shadow_read(shadow, block->page, i) != key)
            block_trail_fail("block %d, token %d: page %d holds other KV", id, i, block->page);
        if (in_tier && block_shadow_read_tier(shadow, tier, block->slot, i) != key)
            block_trail_fail("block %d, token %d: slot %d of tier %d holds other KV", id, i,
                             block->slot, tier);
    }
    return key;
}

static void check_children(const struct qr_block_manager *mgr, const struct block_shadow *shadow,
                           int32_t parent, uint64_t key)
{
    int32_t id = qr_block_of(mgr, parent)->first_child;

    for (; id != QR_BLOCK_NONE; id = qr_block_of(mgr, id)->next_sibling)
        check_children(mgr, shadow, id, check_block(mgr, shadow, id, key));
}

void block_index_check(const struct qr_block_manager *mgr, const struct block_shadow *shadow)
{
    for (int32_t i = 0; i < mgr->tree.n_roots; i++) {
        const struct qr_root_salt *salt = &mgr->tree.salts[i];
        if (salt->in_use && !salt->anonymous)
            check_children(mgr, shadow, mgr->tree.n_blocks + i,
                           block_shadow_first_key(salt->bytes, salt->n_bytes));
    }
}

/* FNV-1a over 64-bit words, and names for blocks: 1, 2, ... in the order of the walk; 0: none. */
struct walk {
    const struct qr_block_manager *mgr;
    uint64_t hash;
    int32_t n_named;
    int32_t names[MAX_NAMES];
};

static void add(struct walk *walk, uint64_t value)
{
    walk->hash = (walk->hash ^ value) * UINT64_C(0x100000001b3);
    walk->hash ^= walk->hash >> 29;
}

static int32_t name_of(const struct walk *walk, int32_t id)
{
    return id == QR_BLOCK_NONE ? 0 : walk->names[id];
}

static void add_block(struct walk *walk, int32_t id)
{
    const struct qr_block *block = qr_block_of(walk->mgr, id);
    bool is_root = qr_block_is_root(&walk->mgr->tree, id);

    walk->names[id] = ++walk->n_named;
    add(walk, (uint64_t)name_of(walk, block->parent));
    add(walk, (uint64_t)block->n_pins);
    if (is_root)
        return;
    add(walk, (uint64_t)block->n_tokens << 32 | (uint64_t)block->fill << 16 | block->state);
    add(walk, (uint64_t)(block->page != QR_PAGE_NONE) | (uint64_t)block->held << 1 |
                  (uint64_t)block->parked << 2 | (uint64_t)block->lost << 3 |
                  (uint64_t)block->indexed << 4 |
                  (uint64_t)(block->slot != QR_SLOT_NONE ? 1 + block->tier : 0) << 5);
    for (int32_t i = 0; block->indexed && i < block->n_tokens; i++)
        add(walk, (uint64_t)tokens_of(walk->mgr, id)[i]);
}

static void add_subtree(struct walk *walk, int32_t id)
{
    add_block(walk, id);
    for (int32_t child = qr_block_of(walk->mgr, id)->first_child; child != QR_BLOCK_NONE;
         child = qr_block_of(walk->mgr, child)->next_sibling)
        add_subtree(walk, child);
}

/* Named roots by their salts. There are few. */
static void add_named_roots(struct walk *walk)
{
    const struct qr_block_tree *tree = &walk->mgr->tree;
    int32_t last = -1; /* the first byte of the salt walked last: salts of one letter */

    for (;;) {
        int32_t best = -1;
        for (int32_t i = 0; i < tree->n_roots; i++) {
            const struct qr_root_salt *salt = &tree->salts[i];
            if (salt->in_use && !salt->anonymous && salt->bytes[0] > last &&
                (best < 0 || salt->bytes[0] < tree->salts[best].bytes[0]))
                best = i;
        }
        if (best < 0)
            break;
        last = tree->salts[best].bytes[0];
        add(walk, (uint64_t)last);
        add_subtree(walk, tree->n_blocks + best);
    }
}

static void add_table(struct walk *walk, int32_t seq)
{
    const struct qr_block_manager *mgr = walk->mgr;
    const struct qr_table *table = &mgr->tables[seq];
    const int32_t *blocks = mgr->table_blocks + (ptrdiff_t)seq * mgr->max_blocks;

    if (table->tokens == NULL) {
        add(walk, 0);
        return;
    }
    if (walk->names[table->root] == 0) /* of its own */
        add_subtree(walk, table->root);
    add(walk, (uint64_t)name_of(walk, table->root));
    add(walk, (uint64_t)table->n_blocks << 32 | (uint64_t)table->n_indexed << 16 |
                  (uint64_t)table->n_promised);
    add(walk,
        (uint64_t)table->first_block << 32 | (uint64_t)(mgr->window > 0 ? table->n_target : 0));
    for (int32_t i = table->first_block; i < table->n_blocks; i++) {
        if (walk->names[blocks[i]] == 0) /* private */
            add_block(walk, blocks[i]);
        add(walk, (uint64_t)name_of(walk, blocks[i]));
    }
}

struct place {
    double priority;
    int32_t weight_class;
    int32_t rank; /* in its class */
    int32_t id;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;

    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    if (x->weight_class != y->weight_class)
        return x->weight_class < y->weight_class ? -1 : 1;
    return x->rank - y->rank;
}

/* In the order in which they would go. */
static void add_evict_list(struct walk *walk, const struct qr_evict_list *list)
{
    struct place places[MAX_NAMES];
    int32_t n = 0;

    for (int32_t c = 0; c < QR_EVICT_CLASSES && n < list->count; c++) {
        int32_t rank = 0;
        for (int32_t id = list->head[c]; id >= 0;) {
            const struct qr_evict_link *link = &qr_block_of(walk->mgr, id)->links[list->link_index];
            places[n++] = (struct place){link->priority, c, rank++, id};
            id = link->next;
        }
    }
    qsort(places, (size_t)n, sizeof(places[0]), compare_places);
    add(walk, (uint64_t)n);
    for (int32_t i = 0; i < n; i++)
        add(walk, (uint64_t)name_of(walk, places[i].id) << 8 | (uint64_t)places[i].weight_class);
}

static void add_queue(struct walk *walk, const struct qr_block_queue *queue)
{
    for (int32_t id = queue->head; id != QR_BLOCK_NONE;
         id = qr_block_of(walk->mgr, id)->links[queue->link_index].next)
        add(walk, (uint64_t)name_of(walk, id));
    add(walk, 0);
}

/* Their ids have no meaning: a sum over them is the same in every order. */
static void add_transfers(struct walk *walk)
{
    const struct qr_block_manager *mgr = walk->mgr;
    uint64_t sum = 0;

    for (int32_t i = 0; i < mgr->config.max_transfers; i++) {
        const struct qr_active_transfer *active = &mgr->active[i];
        if (active->block == QR_BLOCK_NONE)
            continue;
        const struct qr_block *block = qr_block_of(mgr, active->block);
        uint64_t word = (uint64_t)name_of(walk, active->block) << 8 | (uint64_t)active->tier << 1 |
                        (uint64_t)active->out | (uint64_t)block->state << 32;
        sum += word * UINT64_C(0x9e3779b97f4a7c15) ^ word >> 7;
    }
    add(walk, sum);
}

uint64_t block_index_fingerprint(const struct qr_block_manager *mgr, const int32_t *order)
{
    static struct walk walk;

    size_t n_names = (size_t)mgr->tree.n_blocks + (size_t)mgr->tree.n_roots;

    BLOCK_TRAIL_CHECK(n_names <= MAX_NAMES);
    walk.mgr = mgr;
    walk.hash = UINT64_C(0xcbf29ce484222325);
    walk.n_named = 0;
    memset(walk.names, 0, n_names * sizeof(walk.names[0]));
    add_named_roots(&walk);
    for (int32_t i = 0; i < mgr->config.max_sequences; i++)
        add_table(&walk, order[i]);
    add_evict_list(&walk, &mgr->evictable);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        add(&walk, mgr->tiers[tier].closed);
        if (mgr->tiers[tier].slots != NULL)
            add_evict_list(&walk, &mgr->tiers[tier].evictable);
    }
    add_queue(&walk, &mgr->out_queue);
    add_queue(&walk, &mgr->in_queue);
    add_queue(&walk, &mgr->ghosts);
    add_transfers(&walk);
    return walk.hash;
}
