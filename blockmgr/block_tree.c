/* block_tree.c - see block_tree.h for the contract. */
#include "blockmgr/block_tree.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"

/* Children that a partial match looks at: bounds the time of a lookup. */
enum { MAX_SIBLINGS_SEEN = 32 };
enum { TAKEN_AHEAD = 4 };

static int32_t *tokens_of(const struct qr_block_tree *tree, int32_t id)
{
    return tree->tokens + (size_t)id * (size_t)tree->page_size;
}

static enum qr_status allocate(struct qr_block_tree *tree)
{
    size_t n_blocks = (size_t)tree->n_blocks;
    size_t n_roots = (size_t)tree->n_roots;
    size_t token_bytes = (size_t)tree->page_size * sizeof(*tree->tokens);
    const enum qr_arena arena = QR_ARENA_ENGINE;

    if ((tree->blocks = qr_calloc_huge(arena, n_blocks + n_roots, sizeof(*tree->blocks))) == NULL ||
        (tree->salts = qr_calloc(arena, n_roots, sizeof(*tree->salts))) == NULL ||
        (tree->tokens = qr_calloc_huge(arena, n_blocks, token_bytes)) == NULL ||
        (tree->free_blocks = qr_calloc_huge(arena, n_blocks, sizeof(*tree->free_blocks))) == NULL ||
        (tree->free_roots = qr_calloc(arena, n_roots, sizeof(*tree->free_roots))) == NULL)
        return QR_ERR_NOMEM;
    return qr_block_map_init(&tree->map, (int64_t)n_blocks + (int64_t)n_roots);
}

/* The links stay: they are in no list. */
static void clear_block(struct qr_block *block)
{
    _Static_assert(offsetof(struct qr_block, links) == 64, "what comes before is one cache line");
    static const struct qr_block cleared = {.parent = QR_BLOCK_NONE,
                                            .first_child = QR_BLOCK_NONE,
                                            .prev_sibling = QR_BLOCK_NONE,
                                            .next_sibling = QR_BLOCK_NONE,
                                            .page = QR_PAGE_NONE,
                                            .slot = QR_SLOT_NONE};
    memcpy(block, &cleared, offsetof(struct qr_block, links));
}

enum qr_status qr_block_tree_init(struct qr_block_tree *tree, int32_t n_blocks, int32_t n_roots,
                                  int32_t page_size)
{
    *tree = (struct qr_block_tree){.page_size = page_size,
                                   .n_blocks = n_blocks,
                                   .n_roots = n_roots,
                                   .n_free_blocks = n_blocks,
                                   .n_free_roots = n_roots};
    QR_TRY(allocate(tree));
    /* Touched now, so that no call waits for the system to give the memory. */
    memset(tree->blocks, 0, (size_t)n_blocks * sizeof(*tree->blocks));
    memset(tree->tokens, 0, (size_t)n_blocks * (size_t)page_size * sizeof(*tree->tokens));
    for (int32_t i = 0; i < n_blocks; i++)
        tree->free_blocks[i] = n_blocks - 1 - i; /* block 0 is taken first */
    for (int32_t i = 0; i < n_roots; i++)
        tree->free_roots[i] = n_blocks + n_roots - 1 - i;
    return QR_OK;
}

void qr_block_tree_free(struct qr_block_tree *tree)
{
    qr_free(tree->free_roots);
    qr_free(tree->free_blocks);
    qr_block_map_free(&tree->map);
    qr_free(tree->tokens);
    qr_free(tree->salts);
    qr_free(tree->blocks);
}

static struct qr_root_salt *salt_of(const struct qr_block_tree *tree, int32_t root)
{
    return &tree->salts[root - tree->n_blocks];
}

static bool has_salt(const struct qr_block_tree *tree, int32_t root, const char *salt,
                     size_t n_bytes)
{
    const struct qr_root_salt *known = salt_of(tree, root);
    return known->n_bytes == n_bytes && memcmp(known->bytes, salt, n_bytes) == 0;
}

static int32_t find_root(const struct qr_block_tree *tree, uint64_t hash, const char *salt,
                         size_t n_bytes)
{
    uint32_t at = (uint32_t)hash;
    int32_t id;

    do {
        id = qr_block_map_next(&tree->map, hash, &at);
    } while (id != QR_BLOCK_NONE &&
             !(qr_block_is_root(tree, id) && has_salt(tree, id, salt, n_bytes)));
    return id;
}

int32_t qr_block_tree_open_root(struct qr_block_tree *tree, const char *salt, size_t n_bytes)
{
    bool anonymous = salt == NULL;
    uint64_t hash =
        anonymous ? XXH3_64bits_withSeed("", 0, ++tree->n_anonymous) : XXH3_64bits(salt, n_bytes);
    int32_t root = anonymous ? QR_BLOCK_NONE : find_root(tree, hash, salt, n_bytes);

    QR_ASSERT(n_bytes <= QR_MAX_SALT_BYTES);
    if (root == QR_BLOCK_NONE) {
        QR_ASSERT(tree->n_free_roots > 0);
        root = tree->free_roots[--tree->n_free_roots];
        clear_block(&tree->blocks[root]);
        tree->blocks[root].hash = hash;
        struct qr_root_salt *own = salt_of(tree, root);
        *own = (struct qr_root_salt){
            .in_use = true, .anonymous = anonymous, .n_bytes = (uint8_t)n_bytes};
        if (!anonymous) {
            memcpy(own->bytes, salt, n_bytes);
            qr_block_map_add(&tree->map, hash, root);
        }
    }
    tree->blocks[root].n_pins++;
    return root;
}

void qr_block_tree_tidy_root(struct qr_block_tree *tree, int32_t root)
{
    struct qr_root_salt *salt = salt_of(tree, root);

    if (!salt->in_use || tree->blocks[root].n_pins > 0 || tree->blocks[root].n_children > 0)
        return;
    if (!salt->anonymous)
        qr_block_map_remove(&tree->map, tree->blocks[root].hash, root);
    salt->in_use = false;
    tree->free_roots[tree->n_free_roots++] = root;
}

/* Blocks are mostly taken several at a time: the memory of a later one is fetched now. */
static void prefetch_free(const struct qr_block_tree *tree)
{
    if (tree->n_free_blocks < TAKEN_AHEAD)
        return;
    int32_t id = tree->free_blocks[tree->n_free_blocks - TAKEN_AHEAD];
    __builtin_prefetch(&tree->blocks[id], 1);
    __builtin_prefetch(tokens_of(tree, id), 1);
}

int32_t qr_block_tree_new(struct qr_block_tree *tree)
{
    QR_ASSERT(tree->n_free_blocks > 0);
    int32_t id = tree->free_blocks[--tree->n_free_blocks];

    prefetch_free(tree);
    clear_block(&tree->blocks[id]);
    tree->blocks[id].state = QR_BLOCK_IDLE;
    tree->blocks[id].n_pins = 1;
    return id;
}

void qr_block_tree_delete(struct qr_block_tree *tree, int32_t id)
{
    struct qr_block *block = &tree->blocks[id];

    QR_ASSERT(block->state == QR_BLOCK_IDLE && !block->indexed && block->n_pins == 0);
    QR_ASSERT(block->page == QR_PAGE_NONE && block->slot == QR_SLOT_NONE);
    block->state = QR_BLOCK_FREE;
    tree->free_blocks[tree->n_free_blocks++] = id;
}

uint64_t qr_block_tree_hash(const struct qr_block_tree *tree, uint64_t parent_hash,
                            const int32_t *tokens)
{
    return XXH3_64bits_withSeed(tokens, (size_t)tree->page_size * sizeof(*tokens), parent_hash);
}

static bool has_tokens(const struct qr_block_tree *tree, int32_t id, int32_t parent, uint64_t hash,
                       const int32_t *tokens)
{
    const struct qr_block *block = &tree->blocks[id];
    return block->hash == hash && block->parent == parent &&
           memcmp(tokens_of(tree, id), tokens, (size_t)tree->page_size * sizeof(*tokens)) == 0;
}

int32_t qr_block_tree_find(const struct qr_block_tree *tree, int32_t parent, uint64_t hash,
                           const int32_t *tokens)
{
    uint32_t at = (uint32_t)hash;
    int32_t id;

    do {
        id = qr_block_map_next(&tree->map, hash, &at);
    } while (id != QR_BLOCK_NONE && !has_tokens(tree, id, parent, hash, tokens));
    return id;
}

bool qr_block_tree_is_findable(const struct qr_block_tree *tree, int32_t id)
{
    uint64_t hash = tree->blocks[id].hash;
    uint32_t at = (uint32_t)hash;
    int32_t found;

    if (hash !=
        qr_block_tree_hash(tree, tree->blocks[tree->blocks[id].parent].hash, tokens_of(tree, id)))
        return false;
    do {
        found = qr_block_map_next(&tree->map, hash, &at);
    } while (found != id && found != QR_BLOCK_NONE);
    return found == id;
}

static int32_t common_tokens(const int32_t *a, const int32_t *b, int32_t n_max)
{
    int32_t n = 0;
    while (n < n_max && a[n] == b[n])
        n++;
    return n;
}

int32_t qr_block_tree_find_partial(const struct qr_block_tree *tree, int32_t parent,
                                   const int32_t *tokens, int32_t n_tokens, int32_t *n_common)
{
    int32_t best = QR_BLOCK_NONE;
    int32_t id = tree->blocks[parent].first_child;

    *n_common = 0;
    for (int32_t seen = 0; id != QR_BLOCK_NONE && seen < MAX_SIBLINGS_SEEN; seen++) {
        const struct qr_block *block = &tree->blocks[id];
        int32_t n_max = block->n_tokens < n_tokens ? block->n_tokens : n_tokens;
        int32_t n = common_tokens(tokens_of(tree, id), tokens, n_max);
        bool resident = block->page != QR_PAGE_NONE && block->state != QR_BLOCK_IN &&
                        block->state != QR_BLOCK_QUEUED_IN;
        if (n > *n_common && (resident || n == block->n_tokens)) {
            *n_common = n;
            best = id;
        }
        id = block->next_sibling;
    }
    return best;
}

static void link_to_parent(struct qr_block_tree *tree, int32_t id, int32_t parent)
{
    struct qr_block *block = &tree->blocks[id];
    struct qr_block *above = &tree->blocks[parent];

    block->parent = parent;
    block->prev_sibling = QR_BLOCK_NONE;
    block->next_sibling = above->first_child;
    if (above->first_child != QR_BLOCK_NONE)
        tree->blocks[above->first_child].prev_sibling = id;
    above->first_child = id;
    above->n_children++;
    above->n_resident_children += block->page != QR_PAGE_NONE;
}

static void copy_tokens(struct qr_block_tree *tree, int32_t id, uint64_t hash,
                        const int32_t *tokens, int32_t n_tokens)
{
    struct qr_block *block = &tree->blocks[id];

    memcpy(tokens_of(tree, id), tokens, (size_t)n_tokens * sizeof(*tokens));
    block->n_tokens = (uint16_t)n_tokens;
    if (n_tokens == tree->page_size) {
        block->hash = hash;
        qr_block_map_add(&tree->map, hash, id);
    }
}

void qr_block_tree_insert(struct qr_block_tree *tree, int32_t id, int32_t parent, uint64_t hash,
                          const int32_t *tokens, int32_t n_tokens)
{
    struct qr_block *block = &tree->blocks[id];

    QR_ASSERT(!block->indexed && !block->lost && n_tokens > 0 && n_tokens <= block->fill);
    block->indexed = true;
    link_to_parent(tree, id, parent);
    copy_tokens(tree, id, hash, tokens, n_tokens);
}

void qr_block_tree_extend(struct qr_block_tree *tree, int32_t id, uint64_t hash,
                          const int32_t *tokens, int32_t n_tokens)
{
    struct qr_block *block = &tree->blocks[id];

    QR_ASSERT(block->indexed && n_tokens > block->n_tokens && n_tokens <= block->fill);
    copy_tokens(tree, id, hash, tokens, n_tokens);
}

void qr_block_tree_remove(struct qr_block_tree *tree, int32_t id)
{
    struct qr_block *block = &tree->blocks[id];
    struct qr_block *above = &tree->blocks[block->parent];

    QR_ASSERT(block->indexed && block->n_children == 0);
    if (block->n_tokens == tree->page_size)
        qr_block_map_remove(&tree->map, block->hash, id);
    if (block->prev_sibling != QR_BLOCK_NONE)
        tree->blocks[block->prev_sibling].next_sibling = block->next_sibling;
    else
        above->first_child = block->next_sibling;
    if (block->next_sibling != QR_BLOCK_NONE)
        tree->blocks[block->next_sibling].prev_sibling = block->prev_sibling;
    above->n_children--;
    above->n_resident_children -= block->page != QR_PAGE_NONE;
    block->parent = block->prev_sibling = block->next_sibling = QR_BLOCK_NONE;
    block->indexed = false;
}

void qr_block_tree_set_page(struct qr_block_tree *tree, int32_t id, qr_page_id page)
{
    struct qr_block *block = &tree->blocks[id];

    if (block->indexed)
        tree->blocks[block->parent].n_resident_children +=
            (page != QR_PAGE_NONE) - (block->page != QR_PAGE_NONE);
    block->page = page;
}
