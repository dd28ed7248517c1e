/*
 * range_plan.c - which keys of a step are computed in ranges, each of which leaves its parts to the
 * merge: of prefixes that sequences share, once for all of them; and of long sequences of which
 * there are a few rows, so that more blocks than those of their queries have work.
 */
#include "attention/cuda/attention_plan_internal.h"

/* ---- who shares ---- */

/* Keys of pages that two sequences have in common, in whole splits, fewer than either has. */
static int32_t common_keys(const struct planner *p, const struct decode_row *a,
                           const struct decode_row *b)
{
    const int32_t *pages_a = qr_plan_table_of_seq(p->batch, a->seq);
    const int32_t *pages_b = qr_plan_table_of_seq(p->batch, b->seq);
    int32_t page_size = p->attn->config.kv.page_size;
    int32_t n_keys = a->n_keys < b->n_keys ? a->n_keys : b->n_keys;
    int32_t n = 0;

    while (n * page_size < n_keys && pages_a[n] == pages_b[n] && pages_a[n] >= 0)
        n++;
    int32_t common = n * page_size < n_keys - 1 ? n * page_size : n_keys - 1;
    return common / QR_CUDA_SPLIT * QR_CUDA_SPLIT;
}

/* Into the first group whose saving does not shrink by it. */
static void join_group(struct planner *p, struct decode_row *row)
{
    int32_t first_page = qr_plan_table_of_seq(p->batch, row->seq)[0];

    for (int32_t g = 0; g < p->n_groups; g++) {
        struct row_group *group = &p->groups[g];
        if (group->first_page != first_page)
            continue;
        int32_t common = common_keys(p, &p->decodes[group->leader], row);
        int32_t prefix = common < group->prefix || group->n_members == 1 ? common : group->prefix;
        if (common > 0 &&
            (int64_t)group->n_members * prefix >= (int64_t)(group->n_members - 1) * group->prefix) {
            group->prefix = prefix;
            group->n_members++;
            row->group = g;
            return;
        }
    }
    row->group = p->n_groups;
    p->groups[p->n_groups++] = (struct row_group){
        .leader = (int32_t)(row - p->decodes), .first_page = first_page, .n_members = 1};
}

/* K and V of a token in a layer. */
static int64_t key_bytes_of(const struct qr_cuda_attention *attn)
{
    const struct qr_kv_geometry *kv = &attn->config.kv;
    return (int64_t)qr_dtype_size(attn->config.kv_type) * kv->head_dim * 2 * kv->n_kv_heads;
}

static bool group_pays(const struct qr_cuda_attention *attn, const struct row_group *group)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    int64_t least = c->cascade_saves != 0 ? c->cascade_saves : QR_CUDA_CASCADE_SAVES;
    int64_t wanted = attn->shares_all ? 1 : least;
    return group->is_one_sequence ||
           (group->prefix > 0 &&
            (group->n_members - 1) * key_bytes_of(attn) * group->prefix >= wanted);
}

/* Whether some could, if all sequences had the longest one's keys in common. */
static bool some_may_share(const struct planner *p)
{
    struct row_group all = {.n_members = p->n_decodes};

    for (int32_t i = 0; i < p->n_decodes; i++)
        all.prefix = p->decodes[i].n_keys > all.prefix ? p->decodes[i].n_keys : all.prefix;
    return group_pays(p->attn, &all);
}

/* Comparing block tables is in vain where not even all sequences together would pay. */
static void find_shared_prefixes(struct planner *p)
{
    if (some_may_share(p)) {
        for (int32_t i = 0; i < p->n_decodes; i++)
            join_group(p, &p->decodes[i]);
    } else {
        p->groups[p->n_groups++] = (struct row_group){.n_members = p->n_decodes};
    }
}

/* ---- rows of one sequence ---- */

enum { LEAST_CUT_KEYS = 2 * QR_GROUP_KEYS }; /* of a sequence whose rows are computed in ranges */

bool qr_plan_cuts_seq(const struct planner *p, int32_t seq)
{
    return p->cuts_rows && qr_plan_rows_of_seq(p->batch, seq) > 1 &&
           p->batch->context_length[seq] >= LEAST_CUT_KEYS;
}

/* As many as take half of the prefill's blocks, at group / queries_per_item of an item each. */
int32_t qr_plan_max_cut_rows(const struct qr_cuda_attention *attn)
{
    int32_t most = attn->n_prefill_ctas * attn->queries_per_item / (2 * attn->config.n_heads);
    return most < attn->config.max_rows ? most : attn->config.max_rows;
}

/* Where prefill would leave half of its blocks without work, all else would wait for a few. */
static bool blocks_are_idle(const struct planner *p)
{
    const struct qr_cuda_attention *attn = p->attn;
    int32_t group = attn->config.n_heads / attn->config.kv.n_kv_heads;
    int64_t n_work = 0;

    for (int32_t s = 0; s < p->batch->n_seqs; s++) {
        int32_t n_rows = qr_plan_rows_of_seq(p->batch, s);
        if (n_rows > 1)
            n_work += qr_divide_up(n_rows * group, attn->queries_per_item);
    }
    return 2 * n_work * attn->config.kv.n_kv_heads <= attn->n_prefill_ctas;
}

/* The rows of a sequence join those that decode, with nothing left to decode. */
static void add_rows_of(struct planner *p, int32_t seq)
{
    const struct qr_plan_row *rows = qr_plan_rows(p);
    int32_t first = p->batch->query_start[seq], end = p->batch->query_start[seq + 1];

    p->groups[p->n_groups] = (struct row_group){.leader = p->n_decodes,
                                                .n_members = end - first,
                                                .prefix = p->batch->context_length[seq],
                                                .is_one_sequence = true};
    for (int32_t i = first; i < end; i++)
        p->decodes[p->n_decodes++] = (struct decode_row){.seq = seq,
                                                         .index = i,
                                                         .n_keys = rows[i].position + 1,
                                                         .table = rows[i].table,
                                                         .group = p->n_groups};
    p->n_groups++;
}

static void find_long_sequences(struct planner *p)
{
    p->cuts_rows = blocks_are_idle(p);
    for (int32_t s = 0; s < p->batch->n_seqs; s++) {
        if (qr_plan_cuts_seq(p, s))
            add_rows_of(p, s);
    }
}

/* ---- how they are cut ---- */

/* What is computed in ranges, as it is cut. */
struct cutter {
    struct planner *planner;
    struct qr_range_row *rows;
    struct qr_prefill_item *items;
    int32_t n_members; /* rows */
    int32_t range;     /* splits of an item */
    int32_t room;      /* parts that a chain may leave */
    int32_t n_parts;   /* states of parts so far */
};

/* Items that take the same keys for the queries of all members of a group. */
static int64_t items_across(const struct planner *p, const struct row_group *group)
{
    const struct qr_cuda_attention *attn = p->attn;
    int32_t n_queries = group->n_members * (attn->config.n_heads / attn->config.kv.n_kv_heads);
    return (int64_t)qr_divide_up(n_queries, attn->queries_per_item) * attn->config.kv.n_kv_heads;
}

static int32_t splits_of_group(const struct row_group *group)
{
    return qr_divide_up(group->prefix, QR_CUDA_SPLIT);
}

/* States that the members' chains leave of what they do not share, if none of them is cut. */
static int64_t states_behind(const struct planner *p)
{
    int64_t n_states = 0;

    for (int32_t i = 0; i < p->n_decodes; i++) {
        int32_t first = splits_of_group(&p->groups[p->decodes[i].group]);
        int32_t end = qr_divide_up(p->decodes[i].n_keys, QR_CUDA_SPLIT);
        if (first > 0 && first < end)
            n_states += qr_states_left(first, end, qr_separate_splits(first, end));
    }
    return n_states * p->attn->n_chains;
}

/* Forgets the groups that do not pay, or all where there is no room for their states. */
static void choose_groups(struct cutter *c)
{
    struct planner *p = c->planner;

    for (int32_t g = 0; g < p->n_groups; g++) {
        struct row_group *group = &p->groups[g];
        if (!group_pays(p->attn, group))
            group->prefix = 0;
        else
            c->n_members += group->n_members;
    }
    if (c->n_members > 0)
        c->room = p->attn->max_parts / (c->n_members * p->attn->n_chains);
    if (c->room < 2 || states_behind(p) > p->attn->max_states)
        c->n_members = 0;
}

/* Groups of splits, from key 0 on, that have to be folded into one part for the room there is. */
static int32_t groups_folded(const struct cutter *c, int32_t n_splits)
{
    int32_t n_groups = qr_divide_up(n_splits, QR_GROUP_SPLITS);
    return n_groups <= c->room ? 0 : n_groups - c->room + 1;
}

/* Of ranges of so many splits. */
struct range_cost {
    int64_t n_items;
    bool fits; /* their parts have room */
};

static struct range_cost cost_of_range(const struct cutter *c, int32_t range)
{
    const struct planner *p = c->planner;
    struct range_cost cost = {.fits = true};

    for (int32_t g = 0; g < p->n_groups; g++) {
        int32_t n_splits = splits_of_group(&p->groups[g]);
        /* The first range of a group of splits leaves one part, the others as many as splits. */
        int32_t n_parts = qr_divide_up(n_splits, QR_GROUP_SPLITS) * (1 + QR_GROUP_SPLITS - range);
        cost.n_items += qr_divide_up(n_splits, range) * items_across(p, &p->groups[g]);
        cost.fits &= n_parts <= c->room;
    }
    return cost;
}

/*
 * Whether a block a multiprocessor computes the ranges, beside one that reads what else there is,
 * instead of two before it. Two are faster, by what was counted of a split: 4000 clocks alone, 4900
 * where another block shares the multiprocessor (docs/cuda-attention.md).
 */
static bool ranges_leave_room(const struct cutter *c)
{
    enum { CLOCKS_SAVED = 4000 - 4900 / 2, BYTES_A_CLOCK = 18 };
    const struct planner *p = c->planner;
    int64_t clocks_saved = cost_of_range(c, 1).n_items * CLOCKS_SAVED, n_keys = 0;

    for (int32_t i = 0; i < p->n_decodes; i++) {
        int32_t rest = p->decodes[i].n_keys - p->groups[p->decodes[i].group].prefix;
        n_keys += rest > 0 ? rest : 0;
    }
    return p->attn->overlaps && n_keys * key_bytes_of(p->attn) / BYTES_A_CLOCK >= clocks_saved;
}

/* The range, a group of splits or an even part of one, with which all end first. To write and read
 * a state takes about as long as a split. */
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
        struct decode_row *row = &p->decodes[i];
        if (row->group != g)
            continue;
        row->prefix = p->groups[g].prefix;
        row->parts = p->attn->max_states + c->n_parts;
        row->n_parts = n_parts;
        c->rows[p->plan->n_range_rows++] =
            (struct qr_range_row){.row = row->index, .parts = row->parts, .n_parts = n_parts};
        c->n_parts += n_parts * p->attn->n_chains;
        least = least < 0 || row->n_keys - 1 < least ? row->n_keys - 1 : least;
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
static void cut_group(struct cutter *c, int32_t g)
{
    struct planner *p = c->planner;
    const struct row_group *group = &p->groups[g];
    int32_t n_splits = splits_of_group(group), n_parts = 0;
    int32_t n_queries =
        group->n_members * (p->attn->config.n_heads / p->attn->config.kv.n_kv_heads);
    struct qr_prefill_item like = {.table = p->decodes[group->leader].table,
                                   .first_row = p->plan->n_range_rows};

    for (int32_t split = 0, end; split < n_splits; split = end) {
        end = range_end(c, split, n_splits);
        n_parts += range_parts(c, split, end, n_splits);
    }
    int32_t least_position = list_members(c, g, n_parts);
    for (int32_t split = 0, end; split < n_splits; split = end) {
        end = range_end(c, split, n_splits);
        like.begin_key = split * QR_CUDA_SPLIT;
        like.end_key = end < n_splits ? end * QR_CUDA_SPLIT : group->prefix;
        like.is_folded = split < groups_folded(c, n_splits) * QR_GROUP_SPLITS;
        p->plan->n_range_items += qr_plan_write_items(p, c->items + p->plan->n_range_items, like,
                                                      n_queries, least_position, false);
        like.part += range_parts(c, split, end, n_splits);
    }
}

static void write_ranges(struct cutter *c)
{
    struct planner *p = c->planner;

    p->plan->n_range_ctas = ranges_leave_room(c) ? p->attn->n_sms : p->attn->n_prefill_ctas;
    c->range = choose_range(c, p->plan->n_range_ctas);
    c->rows = qr_plan_begin_array(p, &p->plan->range_rows);
    qr_plan_end_array(p, (size_t)c->n_members * sizeof(*c->rows));
    c->items = qr_plan_begin_array(p, &p->plan->range_items);
    for (int32_t g = 0; g < p->n_groups; g++) {
        if (p->groups[g].prefix > 0)
            cut_group(c, g);
    }
    qr_plan_end_array(p, (size_t)p->plan->n_range_items * sizeof(*c->items));
}

void qr_plan_ranges(struct planner *p)
{
    struct cutter c = {.planner = p};
    int32_t n_decodes = p->n_decodes;

    if (p->attn->config.no_ranges)
        return;
    find_shared_prefixes(p);
    find_long_sequences(p);
    choose_groups(&c);
    if (c.n_members > 0) {
        write_ranges(&c);
    } else { /* rows of several are left to prefill */
        p->n_decodes = n_decodes;
        p->cuts_rows = false;
    }
}
