/*
 * attention_plan.c - who computes what in a step.
 *
 * Decode: the splits of all chains, one after the other, are cut into as many runs as there are
 * blocks, of about the same number of tiles each (the idea of FlashMLA's scheduler). A chain that
 * lies in one run is finished there; what is cut is folded by the merge. The bits do not depend on
 * where the cuts are.
 */
#include "attention/cuda/attention_plan_internal.h"

#include <string.h>

#include "base/assert.h"

static size_t align16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

/* ---- sizes ---- */

static int32_t n_lists(const struct qr_cuda_attention *attn)
{
    return attn->config.window != 0 ? 2 : 1;
}

/* Of a step: of decode, or whose rows are computed in ranges. */
static size_t max_decodes(const struct qr_cuda_attention *attn)
{
    return (size_t)(attn->config.max_seqs + qr_plan_max_cut_rows(attn));
}

size_t qr_attention_plan_bytes(const struct qr_cuda_attention *attn)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    size_t seqs = (size_t)c->max_seqs, rows = (size_t)c->max_rows, n_ctas = (size_t)attn->n_ctas;
    size_t bytes = align16(sizeof(struct qr_attention_plan));

    bytes += align16(rows * sizeof(struct qr_plan_row));
    bytes += align16(seqs * (size_t)c->max_blocks * sizeof(int32_t));
    if (attn->is_generic)
        return bytes;
    size_t group = (size_t)(c->n_heads / c->kv.n_kv_heads);
    size_t items = rows * group / (size_t)attn->queries_per_item + seqs;
    /* A range leaves a part for each of its sequences, of which an item takes one at least. */
    size_t range_items = (group / (size_t)attn->queries_per_item + 2) *
                         (size_t)(attn->max_parts / attn->n_chains + 1);
    bytes += (items + range_items) * sizeof(struct qr_prefill_item);
    bytes += align16(max_decodes(attn) * sizeof(struct qr_range_row));
    size_t n_chains = max_decodes(attn) * (size_t)attn->n_chains;
    size_t list = align16((n_ctas + 1) * sizeof(int32_t)) +
                  (n_chains + n_ctas + 1) * sizeof(struct qr_merge_item) +
                  (n_chains + n_ctas) * sizeof(struct qr_decode_piece);
    return bytes + (size_t)n_lists(attn) * list;
}

size_t qr_attention_scratch_bytes(const struct qr_cuda_attention *attn)
{
    return max_decodes(attn) * sizeof(struct decode_row) +
           ((size_t)attn->config.max_seqs + 1) * sizeof(struct row_group);
}

/* The plan's next array: where it starts. */
void *qr_plan_begin_array(struct planner *p, uint32_t *offset)
{
    *offset = (uint32_t)p->at;
    return (unsigned char *)p->plan + p->at;
}

void qr_plan_end_array(struct planner *p, size_t n_bytes)
{
    p->at += align16(n_bytes);
    QR_ASSERT(p->at <= p->attn->plan_bytes);
}

/* ---- rows and block tables ---- */

/*
 * Pages that the window has passed are gone. A tile that begins before the window reads the next
 * page in their place, and masks what it finds.
 */
static void write_table(int32_t *to, const int32_t *pages, size_t n_pages)
{
    size_t n_gone = 0;

    while (n_gone + 1 < n_pages && pages[n_gone] < 0)
        n_gone++;
    for (size_t i = 0; i < n_gone; i++)
        to[i] = pages[n_gone];
    memcpy(to + n_gone, pages + n_gone, (n_pages - n_gone) * sizeof(int32_t));
}

static void write_tables(struct planner *p)
{
    const struct qr_attention_batch *batch = p->batch;
    int32_t page_size = p->attn->config.kv.page_size;
    int32_t *tables = qr_plan_begin_array(p, &p->plan->tables);
    size_t n = 0;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        size_t n_pages = (size_t)qr_divide_up(batch->context_length[s], page_size);
        QR_ASSERT(n_pages <= (size_t)p->attn->config.max_blocks);
        write_table(tables + n, qr_plan_table_of_seq(batch, s), n_pages);
        n += n_pages;
    }
    qr_plan_end_array(p, n * sizeof(int32_t));
}

/* Where each row stands; and the list of the sequences that decode. */
static void write_rows(struct planner *p)
{
    const struct qr_attention_batch *batch = p->batch;
    int32_t page_size = p->attn->config.kv.page_size;
    struct qr_plan_row *rows = qr_plan_begin_array(p, &p->plan->rows);
    int32_t table = 0;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        int32_t first = batch->query_start[s], n_rows = qr_plan_rows_of_seq(batch, s);
        int32_t n_keys = batch->context_length[s];
        QR_ASSERT(n_rows >= 0 && n_rows <= n_keys);
        for (int32_t r = 0; r < n_rows; r++)
            rows[first + r] = (struct qr_plan_row){n_keys - n_rows + r, table};
        if (n_rows == 1)
            p->decodes[p->n_decodes++] =
                (struct decode_row){.seq = s, .index = first, .n_keys = n_keys, .table = table};
        table += qr_divide_up(n_keys, page_size);
    }
    qr_plan_end_array(p, (size_t)p->plan->n_rows * sizeof(*rows));
}

/* ---- prefill ---- */

/* The first key that a row at `position` sees in a layer that slides. */
static int32_t first_key_of(const struct qr_cuda_attention *attn, int32_t position)
{
    int32_t window = attn->config.window;
    return window == 0 || position < window ? 0 : position - window + 1;
}

/* Whether warpgroups do the prefill of the planned step. */
static bool is_wide(const struct planner *p)
{
    return p->attn->wide_rows > 0 && p->plan->n_rows >= p->attn->wide_rows && !p->cuts_rows;
}

/* Items of n queries; the last first, as those see the most keys and should not start last.
 * Query q stands at position first_position + q / group, or (in ranges) anywhere from there on. */
int32_t qr_plan_write_items(const struct planner *p, struct qr_prefill_item *items,
                            struct qr_prefill_item like, int32_t n_queries, int32_t first_position,
                            bool grows)
{
    const struct qr_cuda_attention *attn = p->attn;
    int32_t group = attn->config.n_heads / attn->config.kv.n_kv_heads;
    int32_t most = grows && is_wide(p) ? QR_WIDE_QUERIES : attn->queries_per_item;
    int32_t n_items = qr_divide_up(n_queries, most);

    for (int32_t i = 0; i < n_items; i++) {
        int32_t first = (n_items - 1 - i) * most;
        int32_t n = n_queries - first < most ? n_queries - first : most;
        items[i] = like;
        items[i].first_query = first;
        items[i].n_queries = n;
        items[i].first_key = first_key_of(attn, first_position + (grows ? first / group : 0));
        if (grows)
            items[i].end_key = first_position + (first + n - 1) / group + 1;
    }
    return n_items;
}

static void write_prefill(struct planner *p)
{
    const struct qr_attention_batch *batch = p->batch;
    const struct qr_cuda_attention_config *config = &p->attn->config;
    int32_t group = config->n_heads / config->kv.n_kv_heads;
    struct qr_prefill_item *items = qr_plan_begin_array(p, &p->plan->prefill);

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        int32_t n_rows = qr_plan_rows_of_seq(batch, s), n_keys = batch->context_length[s];
        if (n_rows <= 1 || qr_plan_cuts_seq(p, s))
            continue;
        int32_t first = batch->query_start[s];
        struct qr_prefill_item like = {.table = qr_plan_rows(p)[first].table, .first_row = first};
        p->plan->n_prefill += qr_plan_write_items(p, items + p->plan->n_prefill, like,
                                                  n_rows * group, n_keys - n_rows, true);
    }
    qr_plan_end_array(p, (size_t)p->plan->n_prefill * sizeof(*items));
}

/* ---- decode ---- */

/* The splits of a row's chains in one list. */
struct split_range {
    int32_t first_key;
    int32_t first; /* split */
    int32_t end;
};

static struct split_range splits_of(const struct planner *p, const struct decode_row *row,
                                    int sliding)
{
    struct split_range range = {
        .first_key = sliding ? first_key_of(p->attn, row->n_keys - 1) : 0,
        .end = qr_divide_up(row->n_keys, QR_CUDA_SPLIT),
    };
    int32_t behind = qr_divide_up(row->prefix, QR_CUDA_SPLIT); /* what is computed in ranges */
    range.first = range.first_key / QR_CUDA_SPLIT;
    if (range.first < behind)
        range.first = behind;
    if (range.end < range.first)
        range.end = range.first;
    return range;
}

/* Tiles of splits [first, end) of the row: what a run is measured by. */
static int64_t tiles_of(const struct decode_row *row, int32_t first_key, int32_t first, int32_t end)
{
    int32_t from = first * QR_CUDA_SPLIT, to = end * QR_CUDA_SPLIT;
    if (first >= end)
        return 0;
    if (from < first_key)
        from = first_key;
    if (to > row->n_keys)
        to = row->n_keys;
    return qr_divide_up(to, QR_TILE_KEYS) - from / QR_TILE_KEYS;
}

/* The runs as they are dealt out. */
struct dealer {
    struct planner *planner;
    int32_t *block_first;
    struct qr_decode_piece *pieces;
    struct qr_merge_item *merges;
    int32_t n_blocks;
    int32_t block; /* whose run grows */
    int32_t n_pieces;
    int32_t n_merges;
    int32_t n_states;
    int32_t in_run; /* splits of the block's run */
    int64_t dealt;  /* tiles */
    int64_t total;
    int64_t keep_whole; /* chains of at most so many tiles are not cut */
};

static void next_block(struct dealer *d)
{
    d->block++;
    d->block_first[d->block] = d->n_pieces;
    d->in_run = 0;
}

/* How many of the chain's splits [first, end) the current block takes; 0: it is full. skipped:
 * tiles of the first one that lie before the window. */
static int32_t splits_taken(const struct dealer *d, int64_t chain_tiles, int32_t skipped,
                            int32_t first, int32_t end)
{
    const int64_t split_tiles = QR_CUDA_SPLIT / QR_TILE_KEYS;
    if (d->block == d->n_blocks - 1)
        return end - first;
    int64_t room = d->total * (d->block + 1) / d->n_blocks - d->dealt;
    if (chain_tiles <= d->keep_whole)
        return 2 * room >= chain_tiles ? end - first : 0;
    int64_t n = (room + skipped + split_tiles / 2) / split_tiles;
    return n <= 0 ? 0 : n < end - first ? (int32_t)n : end - first;
}

/* One chain of a row: pieces for as many blocks as it takes. */
static void deal_chain(struct dealer *d, struct qr_decode_piece like, const struct decode_row *row,
                       int32_t chain, struct split_range range)
{
    int64_t chain_tiles = tiles_of(row, range.first_key, range.first, range.end);
    int32_t first_state = d->n_states;
    /* A window that lies behind the prefix sees nothing of it. */
    int32_t n_parts = range.first_key < row->prefix ? row->n_parts : 0;

    for (int32_t split = range.first; split < range.end;) {
        int32_t before = range.first_key - split * QR_CUDA_SPLIT; /* keys ahead of the window */
        int32_t skipped = before > 0 ? before / QR_TILE_KEYS : 0;
        int32_t n = splits_taken(d, chain_tiles, skipped, split, range.end);
        if (n == 0) {
            next_block(d);
            continue;
        }
        struct qr_decode_piece *piece = &d->pieces[d->n_pieces++];
        d->in_run += n;
        *piece = like;
        piece->first_split = split;
        piece->end = d->in_run;
        piece->state = d->n_states;
        if (split > range.first || n_parts > 0)
            piece->n_separate = qr_separate_splits(split, split + n);
        else if (split + n == range.end)
            piece->state = -1;
        if (piece->state >= 0)
            d->n_states += qr_states_left(split, split + n, piece->n_separate);
        d->dealt += tiles_of(row, range.first_key, split, split + n);
        split += n;
    }
    if (d->n_states > first_state || n_parts > 0)
        d->merges[d->n_merges++] =
            (struct qr_merge_item){.row = like.row,
                                   .head = like.head,
                                   .n_queries = like.n_queries,
                                   .first_part = row->parts + chain * row->n_parts,
                                   .n_parts = n_parts,
                                   .first_state = first_state,
                                   .n_states = d->n_states - first_state};
}

/* The chains of a row: each KV head's query heads, in parts that fit one chain. */
static void deal_row(struct dealer *d, const struct decode_row *row, struct split_range range)
{
    const struct qr_cuda_attention *attn = d->planner->attn;
    int32_t n_kv_heads = attn->config.kv.n_kv_heads, group = attn->config.n_heads / n_kv_heads;
    int32_t parts = attn->n_chains / n_kv_heads;

    for (int32_t chain = 0; chain < attn->n_chains; chain++) {
        int32_t first = chain % parts * attn->chain_queries;
        struct qr_decode_piece like = {
            .row = row->index,
            .table = row->table,
            .kv_head = chain / parts,
            .head = chain / parts * group + first,
            .n_queries = group - first < attn->chain_queries ? group - first : attn->chain_queries,
            .n_keys = row->n_keys,
            .first_key = range.first_key,
        };
        deal_chain(d, like, row, chain, range);
    }
}

static void deal_all(struct dealer *d, int sliding)
{
    struct planner *p = d->planner;
    d->block = d->n_pieces = d->n_merges = d->n_states = d->in_run = 0;
    d->dealt = 0;
    d->block_first[0] = 0;
    for (int32_t i = 0; i < p->n_decodes; i++)
        deal_row(d, &p->decodes[i], splits_of(p, &p->decodes[i], sliding));
    while (d->block < p->attn->n_ctas)
        next_block(d);
}

static void write_decode(struct planner *p, int sliding)
{
    struct qr_decode_list *list = &p->plan->decode[sliding];
    const struct qr_cuda_attention *attn = p->attn;
    /* A chain is cut where a block ends, or by the prefix that it shares. */
    int32_t max_merges = attn->n_ctas + 1 + p->plan->n_range_rows * attn->n_chains;
    int32_t n_splits = 0;
    struct dealer d = {.planner = p};

    d.block_first = qr_plan_begin_array(p, &list->block_first);
    qr_plan_end_array(p, (size_t)(attn->n_ctas + 1) * sizeof(int32_t));
    d.merges = qr_plan_begin_array(p, &list->merges);
    qr_plan_end_array(p, (size_t)max_merges * sizeof(*d.merges));
    d.pieces = qr_plan_begin_array(p, &list->pieces);

    for (int32_t i = 0; i < p->n_decodes; i++) {
        struct split_range range = splits_of(p, &p->decodes[i], sliding);
        n_splits += (range.end - range.first) * attn->n_chains;
        d.total +=
            tiles_of(&p->decodes[i], range.first_key, range.first, range.end) * attn->n_chains;
    }
    /* No more blocks than splits: the first ones have a multiprocessor each. */
    d.n_blocks = n_splits < attn->n_ctas ? n_splits : attn->n_ctas;
    deal_all(&d, sliding);
    if (d.n_states > attn->max_states) { /* cut only what would not fit one run */
        d.keep_whole = d.total / d.n_blocks;
        deal_all(&d, sliding);
    }
    if (d.n_states > attn->max_states) {
        d.keep_whole = d.total;
        deal_all(&d, sliding);
    }
    QR_ASSERT(d.n_merges <= max_merges && d.n_states <= attn->max_states);
    list->n_merges = d.n_merges;
    qr_plan_end_array(p, (size_t)d.n_pieces * sizeof(*d.pieces));
}

size_t qr_attention_plan_write(struct qr_cuda_attention *attn,
                               const struct qr_attention_batch *batch, void *scratch,
                               struct qr_attention_plan *plan)
{
    struct planner p = {
        .attn = attn,
        .batch = batch,
        .plan = plan,
        .at = align16(sizeof(*plan)),
        .decodes = scratch,
        .groups = (void *)((struct decode_row *)scratch + max_decodes(attn)),
    };

    QR_ASSERT(batch->n_seqs <= attn->config.max_seqs);
    QR_ASSERT(batch->query_start[batch->n_seqs] <= attn->config.max_rows);
    *plan = (struct qr_attention_plan){.n_rows = batch->query_start[batch->n_seqs]};
    attn->n_rows = plan->n_rows;
    write_rows(&p);
    write_tables(&p);
    attn->launches = QR_ATTENTION_LAUNCHES_GENERIC;
    if (attn->is_generic)
        return p.at;
    qr_plan_ranges(&p);
    write_prefill(&p);
    for (int i = 0; i < n_lists(attn); i++)
        write_decode(&p, i);
    uint32_t prefill = is_wide(&p) ? QR_ATTENTION_LAUNCHES_WIDE : QR_ATTENTION_LAUNCHES_PREFILL;
    attn->launches = (p.n_decodes > 0 ? (uint32_t)QR_ATTENTION_LAUNCHES_DECODE : 0) |
                     (plan->n_prefill > 0 ? prefill : 0) |
                     (plan->n_range_items > 0 ? (uint32_t)QR_ATTENTION_LAUNCHES_RANGES : 0);
    return p.at;
}
