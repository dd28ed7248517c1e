/*
 * block_prefetch.c - memory that calls for other sequences will want. Tables, blocks and index
 * of a large pool fit in no cache, and each access waits for the one before it: but those of
 * different sequences need not wait for each other.
 */
#include "blockmgr/block_manager_internal.h"

static void fetch_table(const struct qr_block_manager *mgr, int32_t seq, int32_t index)
{
    int32_t before = index > 0 ? index - 1 : 0;

    __builtin_prefetch(qr_table_of(mgr, seq), 1);
    __builtin_prefetch(qr_table_blocks(mgr, seq) + before, 1);
    __builtin_prefetch(qr_table_pages(mgr, seq) + index, 1);
}

/* So many that the processor has seen by then where a long chunk goes on, and fetches the rest. */
static void fetch_tokens(const int32_t *tokens, const int32_t *end)
{
    enum { MAX_LINES = 16, LINE_TOKENS = 16 };

    for (int i = 0; i < MAX_LINES && tokens < end; i++, tokens += LINE_TOKENS)
        __builtin_prefetch(tokens);
}

static void fetch_blocks(const struct qr_block_manager *mgr, int32_t seq, int32_t first,
                         int32_t n_tokens)
{
    const struct qr_table *table = qr_table_of(mgr, seq);
    const int32_t *blocks = qr_table_blocks(mgr, seq);
    int32_t index = qr_block_index_of(mgr, first);

    if (index < table->n_blocks)
        __builtin_prefetch(qr_block_of(mgr, blocks[index]), 1);
    if (index > 0 && index <= table->n_blocks)
        __builtin_prefetch(qr_block_of(mgr, blocks[index - 1]), 1);
    fetch_tokens(table->tokens + table->n_indexed * mgr->config.page_size,
                 table->tokens + n_tokens);
}

/* The place of the next full block, if these tokens fill one; commit takes over its hash. */
static void fetch_index(struct qr_block_manager *mgr, int32_t seq, int32_t n_tokens)
{
    struct qr_table *table = qr_table_of(mgr, seq);

    if (qr_block_index_of(mgr, n_tokens) <= table->n_indexed)
        return;
    const struct qr_block *parent = qr_block_of(mgr, qr_table_parent(mgr, seq, table->n_indexed));
    const int32_t *tokens = table->tokens + table->n_indexed * mgr->config.page_size;
    table->hash_ahead = qr_block_tree_hash(&mgr->tree, parent->hash, tokens);
    table->n_hashed = table->n_indexed + 1;
    qr_block_map_prefetch(&mgr->tree.map, table->hash_ahead);
}

void qr_block_manager_prefetch(struct qr_block_manager *mgr, int32_t seq, int32_t first,
                               int32_t n_tokens, enum qr_fetch what)
{
    switch (what) {
    case QR_FETCH_TABLE:
        fetch_table(mgr, seq, qr_block_index_of(mgr, first));
        break;
    case QR_FETCH_BLOCKS:
        fetch_blocks(mgr, seq, first, n_tokens);
        break;
    case QR_FETCH_INDEX:
        fetch_index(mgr, seq, n_tokens);
        break;
    }
}
