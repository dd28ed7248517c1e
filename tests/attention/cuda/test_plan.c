/* Plans by themselves: every split of every chain is dealt out once, about evenly, and the states
 * of what is cut fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attention/cuda/attention_plan.h"

enum { MAX_SEQS = 64, N_KV_HEADS = 4, MAX_BLOCKS = 2048, PAGE = 16, SPLITS = 256 };

static struct qr_cuda_attention attn;
static struct qr_attention_plan *plan;
static int32_t block_table[MAX_SEQS][MAX_BLOCKS];
static int32_t query_start[MAX_SEQS + 1], context_length[MAX_SEQS];

static int set_up(void **state)
{
    (void)state;
    attn = (struct qr_cuda_attention){
        .config = {.kv = {1, N_KV_HEADS, 128, PAGE},
                   .n_heads = 4 * N_KV_HEADS,
                   .max_rows = 4096,
                   .max_seqs = MAX_SEQS,
                   .max_blocks = MAX_BLOCKS,
                   .no_ranges = true},
        .n_ctas = 100,
        .n_sms = 50,
        .n_prefill_ctas = 100,
        .chain_queries = 4,
        .n_chains = N_KV_HEADS,
        .queries_per_item = 64,
        .max_states = 1 << 20,
        .max_parts = 1 << 20,
    };
    for (int32_t s = 0; s < MAX_SEQS; s++)
        for (int32_t i = 0; i < MAX_BLOCKS; i++)
            block_table[s][i] = s * MAX_BLOCKS + i;
    return 0;
}

static void write_plan(int32_t n_seqs)
{
    const struct qr_attention_batch batch = {n_seqs, query_start, context_length, block_table[0],
                                             MAX_BLOCKS};
    attn.plan_bytes = qr_attention_plan_bytes(&attn);
    void *scratch = malloc(qr_attention_scratch_bytes(&attn));
    free(plan);
    plan = malloc(attn.plan_bytes);
    assert_true(scratch != NULL && plan != NULL);
    size_t n_bytes = qr_attention_plan_write(&attn, &batch, scratch, plan);
    assert_true(n_bytes <= attn.plan_bytes);
    free(scratch);
}

static int tear_down(void **state)
{
    (void)state;
    free(plan);
    plan = NULL;
    return 0;
}

static const void *array(uint32_t offset)
{
    return (const unsigned char *)plan + offset;
}

static int32_t tiles_of_piece(const struct qr_decode_piece *piece, int32_t n_splits)
{
    int32_t end = (piece->first_split + n_splits) * 128;
    if (end > piece->n_keys)
        end = piece->n_keys;
    return (end - piece->first_split * 128 + 15) / 16;
}

/* The first split of which a sequence's last row sees a key. */
static int32_t first_split_of(int32_t seq, int sliding)
{
    int32_t before = context_length[seq] - attn.config.window;
    return sliding && before > 0 ? before / 128 : 0;
}

/* Splits of n from `first` on, whose group of 8 began before them. */
static int32_t count_separate(int32_t first, int32_t n)
{
    int32_t separate = 0;
    while (separate < n && (first + separate) % 8 != 0)
        separate++;
    return separate;
}

/* States that n splits leave: one for each group, and for each split of a group begun elsewhere. */
static int32_t count_states(int32_t first, int32_t n, bool is_separate)
{
    int32_t separate = is_separate ? count_separate(first, n) : 0, n_states = separate;
    for (int32_t i = separate; i < n; i++)
        n_states += i == separate || (first + i) % 8 == 0;
    return n_states;
}

/* Checks the pieces of a list; the most tiles that a block got. *n_states: of all that was cut. */
static int32_t check_pieces(int32_t n_seqs, int sliding, int32_t *n_states)
{
    static unsigned char dealt[MAX_SEQS][N_KV_HEADS][SPLITS];
    const int32_t *first = array(plan->decode[sliding].block_first);
    const struct qr_decode_piece *pieces = array(plan->decode[sliding].pieces);
    int32_t most = 0;

    *n_states = 0;
    memset(dealt, 0, sizeof(dealt));
    assert_int_equal(first[0], 0);
    for (int32_t b = 0; b < attn.n_ctas; b++) {
        int32_t tiles = 0, begin = 0;
        for (int32_t i = first[b]; i < first[b + 1]; begin = pieces[i++].end) {
            const struct qr_decode_piece *piece = &pieces[i];
            int32_t n = piece->end - begin;
            assert_true(n > 0);
            bool begins = piece->first_split == first_split_of(piece->row, sliding);
            bool ends = (piece->first_split + n) * 128 >= piece->n_keys;
            /* Only a block's first piece may start within a chain. */
            assert_true(begins || i == first[b]);
            for (int32_t j = 0; j < n; j++)
                dealt[piece->row][piece->kv_head][piece->first_split + j]++;
            if (begins && ends) {
                assert_int_equal(piece->state, -1);
            } else {
                assert_int_equal(piece->state, *n_states);
                *n_states += count_states(piece->first_split, n, !begins);
            }
            assert_int_equal(piece->n_separate, begins ? 0 : count_separate(piece->first_split, n));
            tiles += tiles_of_piece(piece, n);
        }
        most = tiles > most ? tiles : most;
    }
    assert_true(*n_states <= attn.max_states);
    for (int32_t s = 0; s < n_seqs; s++)
        for (int32_t h = 0; h < N_KV_HEADS; h++)
            for (int32_t j = 0; j < SPLITS; j++)
                assert_int_equal(dealt[s][h][j],
                                 j * 128 < context_length[s] && j >= first_split_of(s, sliding));
    return most;
}

/* Every state is folded once, in ascending order. */
static void check_merges(int sliding, int32_t n_states)
{
    const struct qr_merge_item *merges = array(plan->decode[sliding].merges);
    int32_t next = 0;
    for (int32_t i = 0; i < plan->decode[sliding].n_merges; i++) {
        assert_int_equal(merges[i].first_state, next);
        assert_true(merges[i].n_states >= 2);
        next += merges[i].n_states;
    }
    assert_int_equal(next, n_states);
}

/* The most tiles that a block of a list got. */
static int32_t check_list(int32_t n_seqs, int sliding)
{
    int32_t n_states;
    int32_t most = check_pieces(n_seqs, sliding, &n_states);
    check_merges(sliding, n_states);
    return most;
}

static int64_t total_tiles(int32_t n_seqs)
{
    int64_t total = 0;
    for (int32_t s = 0; s < n_seqs; s++)
        total += (context_length[s] + 15) / 16 * N_KV_HEADS;
    return total;
}

static void lengths(int32_t n_seqs, int32_t longest)
{
    for (int32_t s = 0; s < n_seqs; s++) {
        query_start[s + 1] = s + 1;
        context_length[s] = 1 + (s * 7919 + 100) % longest;
    }
}

static void runs_are_even(void **state)
{
    (void)state;
    static const int32_t longest[] = {100, 1000, 30000};
    for (size_t i = 0; i < 3; i++)
        for (int32_t n_seqs = 1; n_seqs <= MAX_SEQS; n_seqs += 9) {
            lengths(n_seqs, longest[i]);
            write_plan(n_seqs);
            int64_t share = total_tiles(n_seqs) / attn.n_ctas;
            assert_true(check_list(n_seqs, 0) <= share + 8); /* one split more */
        }
    /* One long and 63 short: what a static split of the batch does badly. */
    lengths(64, 100);
    context_length[17] = 30000;
    write_plan(64);
    assert_true(check_list(64, 0) <= total_tiles(64) / attn.n_ctas + 8);
}

static void few_states_mean_fewer_cuts(void **state)
{
    (void)state;
    lengths(MAX_SEQS, 30000);
    static const int32_t limits[] = {3000, 1000, 200, 0};
    for (size_t i = 0; i < 4; i++) {
        attn.max_states = limits[i];
        write_plan(MAX_SEQS);
        (void)check_list(MAX_SEQS, 0);
    }
    assert_int_equal(plan->decode[0].n_merges, 0);
}

/* A chain's first split may lie mostly ahead of the window, and is one all the same. */
static void windows_are_cut_like_whole_chains(void **state)
{
    (void)state;
    static const int32_t windows[] = {20, 64, 140, 200, 1024, 4096};
    attn.n_ctas = 130; /* no divisor of the chains */
    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        attn.config.window = windows[i];
        for (int32_t s = 0; s < MAX_SEQS; s++) {
            query_start[s + 1] = s + 1;
            context_length[s] = 128 * (3 + s % 40) + 5;
        }
        write_plan(MAX_SEQS);
        (void)check_list(MAX_SEQS, 0);
        (void)check_list(MAX_SEQS, 1);
    }
    /* All chains alike, a tile in the first split and one in the second, two chains a block. */
    attn.n_ctas = 132;
    attn.config.window = 20;
    for (int32_t s = 0; s < MAX_SEQS; s++)
        context_length[s] = 389;
    write_plan(MAX_SEQS);
    (void)check_list(MAX_SEQS, 1);
}

static void few_splits_use_the_first_blocks(void **state)
{
    (void)state;
    lengths(1, 100);
    context_length[0] = 1024; /* 8 splits, 4 heads */
    write_plan(1);
    const int32_t *first = array(plan->decode[0].block_first);
    for (int32_t b = 0; b < attn.n_ctas; b++)
        assert_int_equal(first[b + 1] > first[b], b < 32);
}

static void prefixes_are_shared_where_it_pays(void **state)
{
    (void)state;
    attn.config.no_ranges = false;
    attn.config.kv_type = QR_DTYPE_BF16;
    lengths(40, 1);
    for (int32_t s = 0; s < 40; s++) {
        context_length[s] = 1100 + s;
        if (s < 30) /* 1024 keys of 30 sequences; 30 pages of two others */
            memcpy(block_table[s], block_table[0], 64 * sizeof(int32_t));
    }
    memcpy(block_table[31], block_table[30], 30 * sizeof(int32_t));
    attn.config.cascade_saves = (int64_t)29 * 1024 * 2 * 2 * 128 * N_KV_HEADS;
    write_plan(40);
    const struct qr_prefill_item *items = array(plan->range_items);
    const struct qr_range_row *rows = array(plan->range_rows);
    assert_int_equal(plan->n_range_items,
                     16); /* 120 queries are 2; 64 items of a split, 100 blocks */
    assert_int_equal(plan->n_range_rows, 30);
    for (int32_t i = 0; i < 16; i++) {
        assert_int_equal(items[i].begin_key, i / 2 * 128);
        assert_int_equal(items[i].end_key, i / 2 * 128 + 128);
        assert_int_equal(items[i].part, i / 2);
        assert_int_equal(items[i].n_queries, i % 2 == 0 ? 56 : 64);
    }
    for (int32_t i = 0; i < 30; i++) {
        assert_int_equal(rows[i].row, i);
        assert_int_equal(rows[i].n_parts, 8);
        assert_int_equal(rows[i].parts, attn.max_states + i * 8 * N_KV_HEADS);
    }
    /* Of each chain one state more: the keys that are not shared. */
    const struct qr_merge_item *merges = array(plan->decode[0].merges);
    assert_true(plan->decode[0].n_merges >= 30 * N_KV_HEADS);
    for (int32_t i = 0; i < 30 * N_KV_HEADS; i++) {
        assert_int_equal(merges[i].row, i / N_KV_HEADS);
        assert_int_equal(merges[i].first_part, attn.max_states + i * 8);
        assert_int_equal(merges[i].n_parts, 8);
        assert_int_equal(merges[i].first_state, i);
        assert_int_equal(merges[i].n_states, 1);
    }
    attn.config.cascade_saves++;
    write_plan(40);
    assert_int_equal(plan->n_range_items, 0);
    attn.config.cascade_saves = 1;
    write_plan(40);
    assert_int_equal(plan->n_range_items, 16 + 3);
    items = array(plan->range_items);
    assert_int_equal(items[18].end_key, 384); /* 480 keys, in whole splits */
}

/* 10 sequences that have `n_keys` in common and a key of their own, or two, ... */
static void share(int32_t n_keys)
{
    attn.config.no_ranges = false;
    attn.config.kv_type = QR_DTYPE_BF16;
    attn.config.cascade_saves = 1;
    lengths(10, 1);
    for (int32_t s = 0; s < 10; s++) {
        context_length[s] = n_keys + 1 + s;
        memcpy(block_table[s], block_table[0], (size_t)(n_keys / PAGE) * sizeof(int32_t));
    }
    write_plan(10);
}

/* Ranges follow each other, and so do their parts; the number of parts. */
static int32_t check_ranges(int32_t n_keys)
{
    const struct qr_prefill_item *items = array(plan->range_items);
    int32_t key = 0, part = 0;

    for (int32_t n = 0; n < plan->n_range_items; n++) {
        int32_t n_splits = (items[n].end_key - key) / 128;
        assert_int_equal(items[n].begin_key, key);
        assert_int_equal(items[n].part, part);
        assert_true(!items[n].is_folded || (n == 0 && items[n].end_key % 1024 == 0));
        part += items[n].is_folded ? 1 : count_states(key / 128, n_splits, true);
        key = items[n].end_key;
    }
    assert_int_equal(key, n_keys);
    return part;
}

/* Prefixes are cut so that every block has work, but into no more parts than there is room for. */
static void prefixes_are_cut_to_fill_the_device(void **state)
{
    (void)state;
    static const struct {
        int32_t n_ctas, max_parts, n_keys, n_parts, n_ranges;
    } cases[] = {
        {4, 1 << 20, 4096, 4, 4},      /* 4 blocks, one for each KV head: groups in turn */
        {16, 1 << 20, 4096, 4, 4},     /* a group for each block */
        {32, 1 << 20, 4096, 20, 8},    /* halves of groups */
        {1000, 1 << 20, 4096, 32, 32}, /* no more than there are splits */
        {1000, 19 * 40, 4096, 4, 4},   /* no room for halves of groups */
        {1000, 20 * 40, 4096, 20, 8},
        {1000, 3 * 40, 4096, 3, 3}, /* two groups are one part */
        {1000, 2 * 40, 4096, 2, 2},
        {1000, 2 * 40, 4096 + 384, 2, 2}, /* what is left of the last group is not folded */
        {16, 1 << 20, 4096 + 384, 5, 5},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        attn.n_prefill_ctas = cases[i].n_ctas;
        attn.max_parts = cases[i].max_parts;
        share(cases[i].n_keys);
        const struct qr_range_row *rows = array(plan->range_rows);
        assert_int_equal(plan->n_range_items, cases[i].n_ranges);
        assert_int_equal(plan->n_range_ctas, cases[i].n_ctas);
        assert_int_equal(check_ranges(cases[i].n_keys), cases[i].n_parts);
        for (int32_t r = 0, parts = attn.max_states; r < 10; r++) {
            assert_int_equal(rows[r].parts, parts);
            assert_int_equal(rows[r].n_parts, cases[i].n_parts);
            parts += N_KV_HEADS * rows[r].n_parts;
            assert_true(parts <= attn.max_states + attn.max_parts);
        }
    }
}

/* Where parts, or the states of what is behind them, have no room, nothing is shared. */
static void without_room_nothing_is_shared(void **state)
{
    (void)state;
    attn.max_parts = 2 * 10 * N_KV_HEADS - 1;
    share(4096);
    assert_int_equal(plan->n_range_items, 0);
    attn.max_parts++;
    attn.max_states = 10 * N_KV_HEADS - 1;
    share(4096);
    assert_int_equal(plan->n_range_items, 0);
    attn.max_states++;
    share(4096);
    assert_int_equal(plan->n_range_items, 2);
    attn.max_states = 1000; /* two splits of the last group of some */
    share(4096 + 384);
    assert_int_equal(plan->n_range_items, 2);
}

/* Layers that slide do not see a prefix that their window has passed: nothing is left of it, and
 * what is left of the rows takes no more room than in the other layers. */
static void windows_behind_the_prefix_do_without_it(void **state)
{
    (void)state;
    attn.config.window = 1000;
    attn.n_prefill_ctas = 16; /* a part for each of four groups */
    attn.max_states = 10 * N_KV_HEADS * 3;
    share(4096);
    assert_int_equal(((const struct qr_merge_item *)array(plan->decode[1].merges))->n_parts, 4);
    for (int32_t s = 0; s < 10; s++)
        context_length[s] = 4096 + 2304 + s; /* windows begin within a group of splits */
    write_plan(10);
    for (int i = 0; i < 2; i++) {
        const struct qr_merge_item *merges = array(plan->decode[i].merges);
        for (int32_t m = 0; m < plan->decode[i].n_merges; m++)
            assert_int_equal(merges[m].n_parts, i == 0 ? 4 : 0);
    }
    assert_int_equal(plan->decode[0].n_merges, 10 * N_KV_HEADS);
}

/* Prefixes take half of each multiprocessor where reading the rest takes its time. */
static void prefixes_leave_room_for_a_long_rest(void **state)
{
    (void)state;
    attn.overlaps = true;
    share(4096);
    assert_int_equal(plan->n_range_ctas, attn.n_prefill_ctas);
    for (int32_t s = 0; s < 10; s++)
        context_length[s] += 4096;
    write_plan(10);
    assert_int_equal(plan->n_range_ctas, attn.n_sms);
    attn.overlaps = false;
    write_plan(10);
    assert_int_equal(plan->n_range_ctas, attn.n_prefill_ctas);
}

/* A sequence's rows from n_rows before its end on. */
static void prompt(int32_t n_rows, int32_t n_keys)
{
    attn.config.no_ranges = false;
    attn.config.kv_type = QR_DTYPE_BF16;
    attn.wide_rows = 128;
    query_start[1] = n_rows;
    context_length[0] = n_keys;
    write_plan(1);
}

/* All queries of n_rows rows see all keys once; every chain of every row is merged of its parts. */
static void check_rows_in_ranges(int32_t n_rows, int32_t n_keys)
{
    static unsigned char seen[1 << 16];
    const struct qr_prefill_item *items = array(plan->range_items);
    const struct qr_merge_item *merges = array(plan->decode[0].merges);
    int32_t n_splits = (n_keys + 127) / 128, n_parts = merges[0].n_parts;

    memset(seen, 0, sizeof(seen));
    for (int32_t i = 0; i < plan->n_range_items; i++)
        for (int32_t q = items[i].first_query; q < items[i].first_query + items[i].n_queries; q++)
            for (int32_t key = items[i].begin_key; key < items[i].end_key; key += 128)
                seen[q * n_splits + key / 128]++;
    for (int32_t i = 0; i < 4 * n_rows * n_splits; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(plan->n_range_rows, n_rows);
    assert_int_equal(plan->decode[0].n_merges, n_rows * N_KV_HEADS);
    for (int32_t i = 0; i < n_rows * N_KV_HEADS; i++) {
        assert_int_equal(merges[i].row, i / N_KV_HEADS);
        assert_int_equal(merges[i].n_states, 0);
        assert_int_equal(merges[i].n_parts, n_parts);
        assert_int_equal(merges[i].first_part, attn.max_states + i * n_parts);
    }
    assert_true(n_rows * N_KV_HEADS * n_parts <= attn.max_parts);
}

/* Where prefill would leave half of the blocks without work, the keys are cut, whether the step has
 * rows enough for warpgroups or not. */
static void few_rows_of_long_sequences_are_cut(void **state)
{
    (void)state;
    const uint32_t in_ranges = QR_ATTENTION_LAUNCHES_RANGES | QR_ATTENTION_LAUNCHES_DECODE;
    static const struct {
        int32_t n_rows, n_keys;
        uint32_t launches; /* 0: in ranges */
    } cases[] = {
        {40, 8000, 0},
        {2, 2048, 0},
        {192, 3000, 0}, /* 12 items, 48 of 100 blocks */
        {193, 3000, QR_ATTENTION_LAUNCHES_WIDE},
        {40, 2047, QR_ATTENTION_LAUNCHES_PREFILL},
        {130, 2047, QR_ATTENTION_LAUNCHES_WIDE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        prompt(cases[i].n_rows, cases[i].n_keys);
        assert_int_equal(attn.launches, cases[i].launches != 0 ? cases[i].launches : in_ranges);
        if (cases[i].launches == 0)
            check_rows_in_ranges(cases[i].n_rows, cases[i].n_keys);
    }
    attn.max_parts = 40 * N_KV_HEADS * 2; /* 7 groups are one part */
    prompt(40, 8000);
    check_rows_in_ranges(40, 8000);
    attn.max_parts--;
    prompt(40, 8000);
    assert_int_equal(attn.launches, QR_ATTENTION_LAUNCHES_PREFILL);
    attn.config.no_ranges = true;
    attn.max_parts = 1 << 20;
    write_plan(1);
    assert_int_equal(attn.launches, QR_ATTENTION_LAUNCHES_PREFILL);
}

/* Steps of many rows prefill by warpgroups, in larger items; whatever does it, each query is in one
 * item. */
static void steps_of_many_rows_are_wide(void **state)
{
    (void)state;
    static const struct {
        int32_t wide_rows, n_rows;
        bool is_wide;
    } cases[] = {{0, 500, false}, {128, 127, false}, {128, 128, true}, {128, 500, true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        attn.wide_rows = cases[i].wide_rows;
        query_start[1] = cases[i].n_rows;
        context_length[0] = 700;
        write_plan(1);
        assert_int_equal(attn.launches, cases[i].is_wide ? QR_ATTENTION_LAUNCHES_WIDE
                                                         : QR_ATTENTION_LAUNCHES_PREFILL);
        const struct qr_prefill_item *items = array(plan->prefill);
        int32_t most = cases[i].is_wide ? QR_WIDE_QUERIES : 64, next = 4 * cases[i].n_rows;
        for (int32_t n = 0; n < plan->n_prefill; n++) { /* the last ones first */
            assert_in_range(items[n].n_queries, 1, most);
            assert_int_equal(items[n].first_query + items[n].n_queries, next);
            next = items[n].first_query;
        }
        assert_int_equal(next, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(runs_are_even, set_up, tear_down),
        cmocka_unit_test_setup_teardown(few_states_mean_fewer_cuts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(windows_are_cut_like_whole_chains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(few_splits_use_the_first_blocks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prefixes_are_shared_where_it_pays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prefixes_are_cut_to_fill_the_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_room_nothing_is_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(windows_behind_the_prefix_do_without_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prefixes_leave_room_for_a_long_rest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(few_rows_of_long_sequences_are_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steps_of_many_rows_are_wide, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
