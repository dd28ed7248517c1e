/* paged_plan.c - see paged_plan.h. */
#include "attention/cpu/paged_plan.h"

#include "base/alloc.h"
#include "base/assert.h"

enum {
    SPLIT = QR_ATTENTION_SPLIT,
    ITEMS_PER_THREAD = 4, /* as many as all blocks would make, were they equal */
    ROW_COST = 8,         /* loads of K and V cost a block as much as so many queries */
    LONG_SEQS = 4,        /* of the longest context whose states find room, a row of each */
};

static int32_t group_of(const struct qr_attention_params *params)
{
    return params->n_heads / params->kv.n_kv_heads;
}

enum qr_status qr_attention_workspace_create(const struct qr_attention_limits *limits,
                                             struct qr_attention_workspace **out)
{
    struct qr_attention_workspace *workspace;
    size_t n_splits = ((size_t)limits->max_context + SPLIT - 1) / SPLIT;

    *out = NULL;
    QR_ASSERT(limits->n_threads >= 1 && limits->max_seqs >= 0 && limits->max_context >= 0);
    if ((workspace = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*workspace))) == NULL)
        return QR_ERR_NOMEM;
    workspace->max_seqs = limits->max_seqs;
    if (limits->n_threads > 1 && n_splits > 1)
        workspace->n_state_floats = LONG_SEQS * (size_t)limits->n_heads * n_splits *
                                    qr_attention_state_floats(limits->head_dim);
    workspace->seqs =
        qr_calloc(QR_ARENA_ENGINE, (size_t)limits->max_seqs + 1, sizeof(*workspace->seqs));
    if (workspace->seqs == NULL)
        goto fail;
    if (workspace->n_state_floats > 0) {
        workspace->states =
            qr_aligned_alloc(QR_ARENA_ENGINE, QR_ATTENTION_STATE_ALIGN * sizeof(float),
                             workspace->n_state_floats * sizeof(float));
        if (workspace->states == NULL)
            goto fail;
    }

    *out = workspace;
    return QR_OK;

fail:
    qr_attention_workspace_destroy(workspace);
    return QR_ERR_NOMEM;
}

void qr_attention_workspace_destroy(struct qr_attention_workspace *workspace)
{
    if (workspace == NULL)
        return;
    qr_free(workspace->seqs);
    qr_free(workspace->states);
    qr_free(workspace);
}

static int64_t queries_of_seq(const struct qr_attention_params *params, int32_t seq)
{
    const int32_t *query_start = params->batch->query_start;

    return (int64_t)(query_start[seq + 1] - query_start[seq]) * group_of(params);
}

/* Its blocks, and the splits that its first row's first key and its last row's last are in. */
static void measure_seq(const struct qr_attention_params *params, int32_t seq,
                        struct qr_paged_seq_plan *plan)
{
    const struct qr_attention_batch *batch = params->batch;
    int32_t n_keys = batch->context_length[seq];
    int32_t n_rows = batch->query_start[seq + 1] - batch->query_start[seq];
    int32_t first_seen = params->window == 0 ? 0 : n_keys - n_rows + 1 - params->window;

    QR_ASSERT(n_rows >= 0 && n_keys >= n_rows);
    *plan = (struct qr_paged_seq_plan){
        .n_blocks = (queries_of_seq(params, seq) + QR_ATTENTION_BLOCK_QUERIES - 1) /
                    QR_ATTENTION_BLOCK_QUERIES,
        .first_key = first_seen < 0 ? 0 : first_seen / SPLIT * SPLIT,
        .n_pieces = 1,
    };
    plan->n_splits = (n_keys - plan->first_key + SPLIT - 1) / SPLIT;
}

/* Of one of its blocks, roughly, in products of a query and a key. */
static int64_t cost_of_block(const struct qr_attention_params *params, int32_t seq,
                             const struct qr_paged_seq_plan *plan)
{
    int64_t n_queries = queries_of_seq(params, seq);

    if (n_queries > QR_ATTENTION_BLOCK_QUERIES)
        n_queries = QR_ATTENTION_BLOCK_QUERIES;
    return (params->batch->context_length[seq] - plan->first_key) * (n_queries + ROW_COST);
}

/* Cuts a sequence whose blocks cost more than `enough` each. Returns the floats of its states,
 * which come behind the n_used of others. */
static size_t cut_seq(const struct qr_attention_params *params, int32_t seq, int64_t enough,
                      const struct qr_attention_workspace *workspace, size_t n_used,
                      struct qr_paged_seq_plan *plan)
{
    int64_t n_wanted = (cost_of_block(params, seq, plan) - 1) / enough + 1;
    size_t n_floats = (size_t)queries_of_seq(params, seq) * (size_t)params->kv.n_kv_heads *
                      (size_t)plan->n_splits * qr_attention_state_floats(params->kv.head_dim);

    if (n_wanted <= 1 || plan->n_splits <= 1 || n_floats > workspace->n_state_floats - n_used)
        return 0;
    plan->n_pieces = n_wanted < plan->n_splits ? (int32_t)n_wanted : plan->n_splits;
    plan->states = workspace->states + n_used;
    return n_floats;
}

void qr_paged_plan(const struct qr_attention_params *params, int32_t n_threads,
                   struct qr_attention_workspace *workspace)
{
    int32_t n_seqs = params->batch->n_seqs;
    int64_t total = 0;
    int64_t n_items = 0, n_merges = 0;
    size_t n_used = 0;

    QR_ASSERT(n_seqs <= workspace->max_seqs);
    for (int32_t s = 0; s < n_seqs; s++) {
        struct qr_paged_seq_plan *plan = &workspace->seqs[s];
        measure_seq(params, s, plan);
        total += cost_of_block(params, s, plan) * plan->n_blocks * params->kv.n_kv_heads;
    }
    int64_t enough = total / (ITEMS_PER_THREAD * (int64_t)n_threads) + 1;
    for (int32_t s = 0; s < n_seqs; s++) {
        struct qr_paged_seq_plan *plan = &workspace->seqs[s];
        if (n_threads > 1)
            n_used += cut_seq(params, s, enough, workspace, n_used, plan);
        plan->first_item = n_items;
        plan->first_merge = n_merges;
        n_items += plan->n_blocks * params->kv.n_kv_heads * plan->n_pieces;
        n_merges += plan->states != NULL ? plan->n_blocks * params->kv.n_kv_heads : 0;
    }
    workspace->seqs[n_seqs] =
        (struct qr_paged_seq_plan){.first_item = n_items, .first_merge = n_merges};
}

/* Block `index` of a sequence, with all its keys. */
static struct qr_attention_block find_block(const struct qr_attention_params *params,
                                            const struct qr_paged_seq_plan *plan, int32_t seq,
                                            int64_t index)
{
    int32_t kv_head = (int32_t)(index / plan->n_blocks);
    int64_t first_query = index % plan->n_blocks * QR_ATTENTION_BLOCK_QUERIES;
    int64_t n_queries = queries_of_seq(params, seq);
    int64_t n_left = n_queries - first_query;
    struct qr_attention_block block = {
        .params = params,
        .seq = seq,
        .kv_head = kv_head,
        .first_query = first_query,
        .n_queries =
            n_left < QR_ATTENTION_BLOCK_QUERIES ? (int32_t)n_left : QR_ATTENTION_BLOCK_QUERIES,
        .first_key = plan->first_key,
        .end_key = plan->first_key + plan->n_splits * SPLIT,
        .n_splits = plan->n_splits,
    };

    if (plan->states != NULL)
        block.states = plan->states + (size_t)(kv_head * n_queries + first_query) *
                                          (size_t)plan->n_splits *
                                          qr_attention_state_floats(params->kv.head_dim);
    return block;
}

static int64_t first_of(const struct qr_paged_seq_plan *plan, bool of_merges)
{
    return of_merges ? plan->first_merge : plan->first_item;
}

/* The sequence that an item, or a block to be merged, belongs to: the last that begins at or before
 * it, as those without any begin where the next one does. */
static int32_t find_seq(const struct qr_attention_params *params,
                        const struct qr_attention_workspace *workspace, int64_t index,
                        bool of_merges)
{
    int32_t first = 0, end = params->batch->n_seqs;

    while (end - first > 1) {
        int32_t middle = first + (end - first) / 2;
        if (first_of(&workspace->seqs[middle], of_merges) <= index)
            first = middle;
        else
            end = middle;
    }
    return first;
}

struct qr_attention_block qr_paged_plan_item(const struct qr_attention_params *params,
                                             const struct qr_attention_workspace *workspace,
                                             int64_t item)
{
    int32_t seq = find_seq(params, workspace, item, false);
    const struct qr_paged_seq_plan *plan = &workspace->seqs[seq];
    item -= plan->first_item;
    struct qr_attention_block block = find_block(params, plan, seq, item / plan->n_pieces);
    int64_t piece = item % plan->n_pieces;
    int32_t first_split = (int32_t)(piece * plan->n_splits / plan->n_pieces);
    int32_t end_split = (int32_t)((piece + 1) * plan->n_splits / plan->n_pieces);
    block.first_key = plan->first_key + first_split * SPLIT;
    block.end_key = plan->first_key + end_split * SPLIT;
    if (block.states != NULL)
        block.states += (size_t)first_split * qr_attention_state_floats(params->kv.head_dim);
    return block;
}

struct qr_attention_block qr_paged_plan_merge(const struct qr_attention_params *params,
                                              const struct qr_attention_workspace *workspace,
                                              int64_t merge)
{
    int32_t seq = find_seq(params, workspace, merge, true);

    return find_block(params, &workspace->seqs[seq], seq, merge - workspace->seqs[seq].first_merge);
}
