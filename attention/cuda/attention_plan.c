/*
 * attention_plan.c - who computes what in a step.
 *
 * Decode: the splits of all chains, one after the other, are cut into as many runs as there are
 * blocks, of about the same number of tiles each (the idea of FlashMLA's scheduler). A chain that
 * lies in one run is finished there; what is cut is folded by the merge. The bits do not depend on
 * where the cuts are.
 */
#include "attention/cuda/attention_plan.h"

#include <string.h>

#include "base/assert.h"

/* A sequence that decodes. */
struct decode_seq {
    int32_t seq;
    int32_t row;
    int32_t n_keys;
    int32_t table;
    int32_t group;   /* of sequences that share a prefix */
    int32_t prefix;  /* keys that are computed with others; a multiple of a split */
    int32_t parts;   /* state of the prefix's first part for its first chain */
    int32_t n_parts; /* of a chain */
};
struct prefix_group {
    int32_t leader; /* decode_seq */
    int32_t first_page;
    int32_t n_members;
    int32_t prefix; /* keys, a multiple of a split */
};
struct planner {
    struct qr_cuda_attention *attn;
    const struct qr_attention_batch *batch;
    struct qr_attention_plan *plan;
    size_t at; /* bytes of the plan so far */
    struct decode_seq *decodes;
    struct prefix_group *groups;
    int32_t n_decodes;
    int32_t n_groups;
};

static size_t align16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static int32_t divide_up(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

/* ---- sizes ---- */

static int32_t n_lists(const struct qr_cuda_attention *attn)
{
    return attn->config.window != 0 ? 2 : 1;
}

static size_t max_chains(const struct qr_cuda_attention *attn)
{
    return (size_t)attn->config.max_seqs * (size_t)attn->n_chains;
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
    /* A range leaves a part at least, for each of its sequences; fewer items than those are full.
     */
    size_t cascade = (group / (size_t)attn->queries_per_item + 2) *
                     (size_t)(attn->max_parts / attn->n_chains + 1);
    bytes += (items + cascade) * sizeof(struct qr_prefill_item);
    bytes += align16(seqs * sizeof(struct qr_cascade_row));
    size_t list = align16((n_ctas + 1) * sizeof(int32_t)) +
                  (max_chains(attn) + n_ctas + 1) * sizeof(struct qr_merge_item) +
                  (max_chains(attn) + n_ctas) * sizeof(struct qr_decode_piece);
    return bytes + (size_t)n_lists(attn) * list;
}

size_t qr_attention_scratch_bytes(const struct qr_cuda_attention *attn)
{
    return (size_t)attn->config.max_seqs *
           (sizeof(struct decode_seq) + sizeof(struct prefix_group));
}

/* The plan's next array: where it starts. */
static void *begin_array(struct planner *p, uint32_t *offset)
{
    *offset = (uint32_t)p->at;
    return (unsigned char *)p->plan + p->at;
}

static void end_array(struct planner *p, size_t n_bytes)
{
    p->at += align16(n_bytes);
    QR_ASSERT(p->at <= p->attn->plan_bytes);
}

/* ---- rows and block tables ---- */

static int32_t rows_of_seq(const struct qr_attention_batch *batch, int32_t seq)
{
    return batch->query_start[seq + 1] - batch->query_start[seq];
}

static const int32_t *table_of_seq(const struct qr_attention_batch *batch, int32_t seq)
{
    return batch->block_table + (size_t)seq * (size_t)batch->block_table_stride;
}

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
    int32_t *tables = begin_array(p, &p->plan->tables);
    size_t n = 0;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        size_t n_pages = (size_t)divide_up(batch->context_length[s], page_size);
        QR_ASSERT(n_pages <= (size_t)p->attn->config.max_blocks);
        write_table(tables + n, table_of_seq(batch, s), n_pages);
        n += n_pages;
    }
    end_array(p, n * sizeof(int32_t));
}

/* Where each row stands; and the list of the sequences that decode. */
static void write_rows(struct planner *p)
{
    const struct qr_attention_batch *batch = p->batch;
    int32_t page_size = p->attn->config.kv.page_size;
    struct qr_plan_row *rows = begin_array(p, &p->plan->rows);
    int32_t table = 0;

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        int32_t first = batch->query_start[s], n_rows = rows_of_seq(batch, s);
        int32_t n_keys = batch->context_length[s];
        QR_ASSERT(n_rows >= 0 && n_rows <= n_keys);
        for (int32_t r = 0; r < n_rows; r++)
            rows[first + r] = (struct qr_plan_row){n_keys - n_rows + r, table};
        if (n_rows == 1)
            p->decodes[p->n_decodes++] =
                (struct decode_seq){.seq = s, .row = first, .n_keys = n_keys, .table = table};
        table += divide_up(n_keys, page_size);
    }
    end_array(p, (size_t)p->plan->n_rows * sizeof(*rows));
}

/* ---- prefill ---- */

/* The first key that a row at `position` sees in a layer that slides. */
static int32_t first_key_of(const struct qr_cuda_attention *attn, int32_t position)
{
    int32_t window = attn->config.window;
    return window == 0 || position < window ? 0 : position - window + 1;
}

/* Whether warpgroups do the prefill of the planned step. */
static bool is_wide(const struct qr_cuda_attention *attn)
{
    return attn->wide_rows > 0 && attn->n_rows >= attn->wide_rows;
}

/* Items of n queries; the last first, as those see the most keys and should not start last.
 * Query q stands at position first_position + q / group, or (cascade) anywhere from there on. */
static int32_t write_items(const struct qr_cuda_attention *attn, struct qr_prefill_item *items,
                           struct qr_prefill_item like, int32_t n_queries, int32_t first_position,
                           bool grows)
{
    int32_t group = attn->config.n_heads / attn->config.kv.n_kv_heads;
    int32_t most = grows && is_wide(attn) ? QR_WIDE_QUERIES : attn->queries_per_item;
    int32_t n_items = divide_up(n_queries, most);

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
    int32_t group = config->n_heads / config->kv.n_kv_heads, table = 0;
    struct qr_prefill_item *items = begin_array(p, &p->plan->prefill);

    for (int32_t s = 0; s < batch->n_seqs; s++) {
        int32_t n_rows = rows_of_seq(batch, s), n_keys = batch->context_length[s];
        struct qr_prefill_item like = {.table = table, .first_row = batch->query_start[s]};
        if (n_rows > 1)
            p->plan->n_prefill += write_items(p->attn, items + p->plan->n_prefill, like,
                                              n_rows * group, n_keys - n_rows, true);
        table += divide_up(n_keys, config->kv.page_size);
    }
    end_array(p, (size_t)p->plan->n_prefill * sizeof(*items));
}

/* ---- shared prefixes ---- */

/* Keys of pages that two sequences have in common, in whole splits, fewer than either has. */
static int32_t common_keys(const struct planner *p, const struct decode_seq *a,
                           const struct decode_seq *b)
{
    const int32_t *pages_a = table_of_seq(p->batch, a->seq);
    const int32_t *pages_b = table_of_seq(p->batch, b->seq);
    int32_t page_size = p->attn->config.kv.page_size;
    int32_t n_keys = a->n_keys < b->n_keys ? a->n_keys : b->n_keys;
    int32_t n = 0;

    while (n * page_size < n_keys && pages_a[n] == pages_b[n] && pages_a[n] >= 0)
        n++;
    int32_t common = n * page_size < n_keys - 1 ? n * page_size : n_keys - 1;
    return common / QR_CUDA_SPLIT * QR_CUDA_SPLIT;
}

/* Into the first group whose saving does not shrink by it. */
static void join_group(struct planner *p, struct decode_seq *seq)
{
    int32_t first_page = table_of_seq(p->batch, seq->seq)[0];

    for (int32_t g = 0; g < p->n_groups; g++) {
        struct prefix_group *group = &p->groups[g];
        if (group->first_page != first_page)
            continue;
        int32_t common = common_keys(p, &p->decodes[group->leader], seq);
        int32_t prefix = common < group->prefix || group->n_members == 1 ? common : group->prefix;
        if (common > 0 &&
            (int64_t)group->n_members * prefix >= (int64_t)(group->n_members - 1) * group->prefix) {
            group->prefix = prefix;
            group->n_members++;
            seq->group = g;
            return;
        }
    }
    seq->group = p->n_groups;
    p->groups[p->n_groups++] = (struct prefix_group){
        .leader = (int32_t)(seq - p->decodes), .first_page = first_page, .n_members = 1};
}

/* K and V of a token in a layer. */
static int64_t key_bytes_of(const struct qr_cuda_attention *attn)
{
    const struct qr_kv_geometry *kv = &attn->config.kv;
    return (int64_t)qr_dtype_size(attn->config.kv_type) * kv->head_dim * 2 * kv->n_kv_heads;
}

static bool group_pays(const struct qr_cuda_attention *attn, const struct prefix_group *group)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    int64_t least = c->cascade_saves != 0 ? c->cascade_saves : QR_CUDA_CASCADE_SAVES;
    int64_t wanted = attn->shares_all ? 1 : least;
    return group->prefix > 0 &&
           (group->n_members - 1) * key_bytes_of(attn) * group->prefix >= wanted;
}

/* Whether some could, if all sequences had the longest one's keys in common. */
static bool some_may_share(const struct planner *p)
{
    struct prefix_group all = {.n_members = p->n_decodes};

    for (int32_t i = 0; i < p->n_decodes; i++)
        all.prefix = p->decodes[i].n_keys > all.prefix ? p->decodes[i].n_keys : all.prefix;
    return group_pays(p->attn, &all);
}

/* The shared prefixes as they are cut. */
struct cutter {
    struct planner *planner;
    struct qr_cascade_row *rows;
    struct qr_prefill_item *items;
    int32_t n_members; /* sequences that share */
    int32_t range;     /* splits of an item */
    int32_t room;      /* parts that a chain's prefix may leave */
    int32_t n_parts;   /* states of parts so far */
};

/* Items that take the same keys for the queries of all members of a group. */
static int64_t items_across(const struct planner *p, const struct prefix_group *group)
{
    const struct qr_cuda_attention *attn = p->attn;
    int32_t n_queries = group->n_members * (attn->config.n_heads / attn->config.kv.n_kv_heads);
    return (int64_t)divide_up(n_queries, attn->queries_per_item) * attn->config.kv.n_kv_heads;
}

/* States that the members' chains leave of what they do not share, if none of them is cut. */
static int64_t states_behind(const struct planner *p, const struct prefix_group *group, int32_t g)
{
    int64_t n_states = 0;

    for (int32_t i = 0; i < p->n_decodes; i++) {
        int32_t first = group->prefix / QR_CUDA_SPLIT;
        int32_t end = divide_up(p->decodes[i].n_keys, QR_CUDA_SPLIT);
        if (p->decodes[i].group == g)
            n_states += qr_states_left(first, end, qr_separate_splits(first, end));
    }
    return n_states * p->attn->n_chains;
}

/* Forgets the groups that do not pay, or all where there is no room for their states. */
static void choose_groups(struct cutter *c)
{
    struct planner *p = c->planner;
    int64_t n_behind = 0;

    for (int32_t g = 0; g < p->n_groups; g++) {
        struct prefix_group *group = &p->groups[g];
        if (!group_pays(p->attn, group))
            group->prefix = 0;
        else
            c->n_members += group->n_members;
        if (group->prefix > 0)
            n_behind += states_behind(p, group, g);
    }
    if (c->n_members > 0)
        c->room = p->attn->max_parts / (c->n_members * p->attn->n_chains);
    if (c->room < 2 || n_behind > p->attn->max_states)
        c->n_members = 0;
}

/* Groups of splits, from key 0 on, that have to be folded into one part for the room there is. */
static int32_t groups_folded(const struct cutter *c, int32_t n_splits)
{
    int32_t n_groups = divide_up(n_splits, QR_GROUP_SPLITS);
    return n_groups <= c->room ? 0 : n_groups - c->room + 1;
}

/* How the prefixes are computed in ranges of some splits. */
struct range_cost {
    int64_t n_items;
    bool fits; /* the states of their parts */
};

static struct range_cost cost_of_range(const struct cutter *c, int32_t range)
{
    const struct planner *p = c->planner;
    struct range_cost cost = {.fits = true};

    for (int32_t g = 0; g < p->n_groups; g++) {
        int32_t n_splits = p->groups[g].prefix / QR_CUDA_SPLIT;
        /* The first range of a group of splits leaves one part, the others as many as splits. */
        int32_t n_parts = divide_up(n_splits, QR_GROUP_SPLITS) * (1 + QR_GROUP_SPLITS - range);
        cost.n_items += divide_up(n_splits, range) * items_across(p, &p->groups[g]);
        cost.fits &= n_parts <= c->room;
    }
    return cost;
}

/*
 * Whether a block a multiprocessor computes the prefixes, beside one that reads what is not shared,
 * instead of two before it. Two are faster, by what was counted of a split: 4000 clocks alone, 4900
 * where another block shares the multiprocessor (docs/cuda-attention.md).
 */
static bool prefix_leaves_room(const struct cutter *c)
{
    enum { CLOCKS_SAVED = 4000 - 4900 / 2, BYTES_A_CLOCK = 18 };
    const struct planner *p = c->planner;
    int64_t clocks_saved = cost_of_range(c, 1).n_items * CLOCKS_SAVED, n_keys = 0;

    for (int32_t i = 0; i < p->n_decodes; i++)
        n_keys += p->decodes[i].n_keys - p->groups[p->decodes[i].group].prefix;
    return p->attn->overlaps && n_keys * key_bytes_of(p->attn) / BYTES_A_CLOCK >= clocks_saved;
}

/* The range, a group of splits or an even part of one, with which the prefixes end first. To write
 * and read a state takes about as long as a split. */
static int32_t choose_range(const struct cutter *c, int32_t n_ctas)
{
    int32_t best = QR_GROUP_SPLITS;
    int64_t least = INT64_MAX;

    for (int32_t range = QR_GROUP_SPLITS; range >= 1; range /= 2) {
        struct range_cost cost = cost_of_range(c, range);
        int32_t n_states = range == QR_GROUP_SPLITS ? 1 : range; /* or one, of a group's first */
        int64_t splits = (cost.n_items + n_ctas - 1) / n_ctas * (range + n_states);
        if (splits < least && (cost.fits || range == QR_GROUP_SPLITS)) {
            least = splits;
            best = range;
        }
    }
    return best;
}

/* One group: its rows, and where their states go. Returns their least position. */
static int32_t list_members(struct cutter *c, int32_t g, int32_t n_parts)
{
    struct planner *p = c->planner;
    int32_t least = -1;

    for (int32_t i = 0; i < p->n_decodes; i++) {
        struct decode_seq *seq = &p->decodes[i];
        if (seq->group != g)
            continue;
        seq->prefix = p->groups[g].prefix;
        seq->parts = p->attn->max_states + c->n_parts;
        seq->n_parts = n_parts;
        c->rows[p->plan->n_cascade_rows++] =
            (struct qr_cascade_row){.row = seq->row, .parts = seq->parts, .n_parts = n_parts};
        c->n_parts += n_parts * p->attn->n_chains;
        least = least < 0 || seq->n_keys - 1 < least ? seq->n_keys - 1 : least;
    }
    return least;
}

/* The end of the range that starts at a split. */
static int32_t range_end(const struct cutter *c, int32_t split, int32_t n_splits)
{
    int32_t folded = groups_folded(c, n_splits) * QR_GROUP_SPLITS;
    int32_t end = split < folded ? folded : split + c->range;
    return end < n_splits ? end : n_splits;
}

/* Parts that a range leaves. */
static int32_t range_parts(const struct cutter *c, int32_t split, int32_t end, int32_t n_splits)
{
    if (split < groups_folded(c, n_splits) * QR_GROUP_SPLITS)
        return 1;
    return qr_states_left(split, end, qr_separate_splits(split, end));
}

/* The items of a group, range by range. */
static void cut_prefix(struct cutter *c, int32_t g)
{
    struct planner *p = c->planner;
    const struct prefix_group *group = &p->groups[g];
    int32_t n_splits = group->prefix / QR_CUDA_SPLIT, n_parts = 0;
    int32_t n_queries =
        group->n_members * (p->attn->config.n_heads / p->attn->config.kv.n_kv_heads);
    struct qr_prefill_item like = {.table = p->decodes[group->leader].table,
                                   .first_row = p->plan->n_cascade_rows};

    for (int32_t split = 0, end; split < n_splits; split = end) {
        end = range_end(c, split, n_splits);
        n_parts += range_parts(c, split, end, n_splits);
    }
    int32_t least_position = list_members(c, g, n_parts);
    for (int32_t split = 0, end; split < n_splits; split = end) {
        end = range_end(c, split, n_splits);
        like.begin_key = split * QR_CUDA_SPLIT;
        like.end_key = end * QR_CUDA_SPLIT;
        like.is_folded = split < groups_folded(c, n_splits) * QR_GROUP_SPLITS;
        p->plan->n_cascade += write_items(p->attn, c->items + p->plan->n_cascade, like, n_queries,
                                          least_position, false);
        like.part += range_parts(c, split, end, n_splits);
    }
}

static void write_cascade(struct planner *p)
{
    struct cutter c = {.planner = p};

    /* Comparing block tables is in vain where not even all sequences together would pay. */
    if (p->attn->config.no_cascade || !some_may_share(p))
        return;
    for (int32_t i = 0; i < p->n_decodes; i++)
        join_group(p, &p->decodes[i]);
    choose_groups(&c);
    if (c.n_members == 0)
        return;
    p->plan->n_cascade_ctas = prefix_leaves_room(&c) ? p->attn->n_sms : p->attn->n_prefill_ctas;
    c.range = choose_range(&c, p->plan->n_cascade_ctas);
    c.rows = begin_array(p, &p->plan->cascade_rows);
    end_array(p, (size_t)c.n_members * sizeof(*c.rows));
    c.items = begin_array(p, &p->plan->cascade);
    for (int32_t g = 0; g < p->n_groups; g++) {
        if (p->groups[g].prefix > 0)
            cut_prefix(&c, g);
    }
    end_array(p, (size_t)p->plan->n_cascade * sizeof(*c.items));
}

/* ---- decode ---- */

/* The splits of a sequence's chains in one list. */
struct split_range {
    int32_t first_key;
    int32_t first; /* split */
    int32_t end;
};

static struct split_range splits_of(const struct planner *p, const struct decode_seq *seq,
                                    int sliding)
{
    struct split_range range = {
        .first_key = sliding ? first_key_of(p->attn, seq->n_keys - 1) : 0,
        .end = divide_up(seq->n_keys, QR_CUDA_SPLIT),
    };
    range.first = range.first_key / QR_CUDA_SPLIT;
    if (range.first < seq->prefix / QR_CUDA_SPLIT)
        range.first = seq->prefix / QR_CUDA_SPLIT;
    return range;
}

/* Tiles of splits [first, end) of the sequence: what a run is measured by. */
static int64_t tiles_of(const struct decode_seq *seq, int32_t first_key, int32_t first, int32_t end)
{
    int32_t from = first * QR_CUDA_SPLIT, to = end * QR_CUDA_SPLIT;
    if (from < first_key)
        from = first_key;
    if (to > seq->n_keys)
        to = seq->n_keys;
    return divide_up(to, QR_TILE_KEYS) - from / QR_TILE_KEYS;
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

/* One chain of a sequence: pieces for as many blocks as it takes. */
static void deal_chain(struct dealer *d, struct qr_decode_piece like, const struct decode_seq *seq,
                       int32_t chain, struct split_range range)
{
    int64_t chain_tiles = tiles_of(seq, range.first_key, range.first, range.end);
    int32_t first_state = d->n_states;

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
        if (split > range.first || seq->n_parts > 0)
            piece->n_separate = qr_separate_splits(split, split + n);
        else if (split + n == range.end)
            piece->state = -1;
        if (piece->state >= 0)
            d->n_states += qr_states_left(split, split + n, piece->n_separate);
        d->dealt += tiles_of(seq, range.first_key, split, split + n);
        split += n;
    }
    if (d->n_states > first_state)
        d->merges[d->n_merges++] =
            (struct qr_merge_item){.row = like.row,
                                   .head = like.head,
                                   .n_queries = like.n_queries,
                                   .first_part = seq->parts + chain * seq->n_parts,
                                   .n_parts = seq->n_parts,
                                   .first_state = first_state,
                                   .n_states = d->n_states - first_state};
}

/* The chains of a sequence: each KV head's query heads, in parts that fit one chain. */
static void deal_seq(struct dealer *d, const struct decode_seq *seq, struct split_range range)
{
    const struct qr_cuda_attention *attn = d->planner->attn;
    int32_t n_kv_heads = attn->config.kv.n_kv_heads, group = attn->config.n_heads / n_kv_heads;
    int32_t parts = attn->n_chains / n_kv_heads;

    for (int32_t chain = 0; chain < attn->n_chains; chain++) {
        int32_t first = chain % parts * attn->chain_queries;
        struct qr_decode_piece like = {
            .row = seq->row,
            .table = seq->table,
            .kv_head = chain / parts,
            .head = chain / parts * group + first,
            .n_queries = group - first < attn->chain_queries ? group - first : attn->chain_queries,
            .n_keys = seq->n_keys,
            .first_key = range.first_key,
        };
        deal_chain(d, like, seq, chain, range);
    }
}

static void deal_all(struct dealer *d, int sliding)
{
    struct planner *p = d->planner;
    d->block = d->n_pieces = d->n_merges = d->n_states = d->in_run = 0;
    d->dealt = 0;
    d->block_first[0] = 0;
    for (int32_t i = 0; i < p->n_decodes; i++)
        deal_seq(d, &p->decodes[i], splits_of(p, &p->decodes[i], sliding));
    while (d->block < p->attn->n_ctas)
        next_block(d);
}

static void write_decode(struct planner *p, int sliding)
{
    struct qr_decode_list *list = &p->plan->decode[sliding];
    const struct qr_cuda_attention *attn = p->attn;
    /* A chain is cut where a block ends, or by the prefix that it shares. */
    int32_t max_merges = attn->n_ctas + 1 + p->plan->n_cascade_rows * attn->n_chains;
    int32_t n_splits = 0;
    struct dealer d = {.planner = p};

    d.block_first = begin_array(p, &list->block_first);
    end_array(p, (size_t)(attn->n_ctas + 1) * sizeof(int32_t));
    d.merges = begin_array(p, &list->merges);
    end_array(p, (size_t)max_merges * sizeof(*d.merges));
    d.pieces = begin_array(p, &list->pieces);

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
    QR_ASSERT(d.n_merges <= max_merges);
    list->n_merges = d.n_merges;
    end_array(p, (size_t)d.n_pieces * sizeof(*d.pieces));
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
        .groups = (void *)((struct decode_seq *)scratch + attn->config.max_seqs),
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
    write_prefill(&p);
    write_cascade(&p);
    for (int i = 0; i < n_lists(attn); i++)
        write_decode(&p, i);
    uint32_t prefill = is_wide(attn) ? QR_ATTENTION_LAUNCHES_WIDE : QR_ATTENTION_LAUNCHES_PREFILL;
    attn->launches = (p.n_decodes > 0 ? (uint32_t)QR_ATTENTION_LAUNCHES_DECODE : 0) |
                     (plan->n_prefill > 0 ? prefill : 0) |
                     (plan->n_cascade > 0 ? (uint32_t)QR_ATTENTION_LAUNCHES_CASCADE : 0);
    return p.at;
}
