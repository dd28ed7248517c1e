/* Sequences whose rows see a window of keys: what they give back, and how they are found again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockmgr/block_manager.h"
#include "tests/support/block_trail.h"
#include "tests/support/block_world.h"

/* Rows see 10 keys; a sequence holds 5 pages at one time, at most. */
static const struct qr_block_manager_config config = {.page_count = 12,
                                                      .page_size = 8,
                                                      .max_sequences = 4,
                                                      .max_seq_tokens = 200,
                                                      .tier_slots = {3, 2},
                                                      .max_transfers = 2,
                                                      .window = 10,
                                                      .max_rows = 16,
                                                      .prefix_cache = true};

static struct block_world *make_world(const struct qr_block_manager_config *with)
{
    block_trail_start();
    return block_world_create(with);
}

/* In chunks of max_rows. */
static void compute_up_to(struct block_world *world, int32_t seq, int32_t n_tokens)
{
    while (world->seqs[seq].n_computed < n_tokens) {
        int32_t end = world->seqs[seq].n_computed + world->config.max_rows;
        assert_true(block_world_compute(world, seq, end < n_tokens ? end : n_tokens));
        block_world_check(world, true);
    }
}

static void start(struct block_world *world, int32_t seq, int32_t cut, int32_t branch,
                  int32_t n_prompt)
{
    block_world_open(world, seq, 0, cut, branch, n_prompt, 0);
    assert_true(block_world_acquire(world, seq, n_prompt));
    compute_up_to(world, seq, n_prompt);
}

static void append(struct block_world *world, int32_t seq, int32_t n_tokens)
{
    for (int32_t i = 0; i < n_tokens; i++) {
        block_world_append(world, seq);
        assert_true(block_world_compute(world, seq, world->seqs[seq].n_known));
    }
}

/* Other sequences pass through the pool until what may go has gone. */
static void take_all_pages(struct block_world *world, int32_t seq)
{
    for (int32_t branch = 100; branch < 106; branch++) {
        start(world, seq, 0, branch, 190);
        block_world_finish(world, seq);
    }
}

/* Sequence 0 holds the end of 60 tokens, the beginning of which was lost to others. */
static struct block_world *make_lost_beginning(void)
{
    struct block_world *world = make_world(&config);

    start(world, 0, 60, 0, 60);
    take_all_pages(world, 1);
    return world;
}

static int32_t first_block(const struct block_world *world, int32_t seq)
{
    return qr_block_manager_first_block(world->blocks, seq);
}

static void a_config_out_of_range_is_refused(void **state)
{
    (void)state;
    struct qr_block_manager_config bad[3] = {config, config, config};
    struct qr_block_manager *mgr;

    bad[0].window = -1;
    bad[1].max_rows = 0;
    bad[2].max_rows = -5;
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(qr_block_manager_create(&bad[i], &mgr), QR_ERR_INVALID);
}

static void a_window_as_long_as_a_sequence_is_none(void **state)
{
    (void)state;
    struct qr_block_manager_config whole = config;
    whole.window = whole.max_seq_tokens = 90;
    struct block_world *world = make_world(&whole);

    assert_int_equal(qr_block_manager_most_held(&whole), 12);
    assert_int_equal(qr_block_manager_max_rows(world->blocks), 90);
    block_world_open(world, 0, 0, 90, 0, 90, 0);
    assert_true(block_world_acquire(world, 0, 90));
    assert_true(block_world_compute(world, 0, 90));
    assert_int_equal(first_block(world, 0), 0);
    block_world_destroy(world);
}

static void what_is_held_at_one_time_depends_on_the_window_and_the_chunk(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    assert_int_equal(qr_block_manager_most_held(&config), 5);
    assert_int_equal(qr_block_manager_pages_for(world->blocks, 17), 3);
    assert_int_equal(qr_block_manager_pages_for(world->blocks, 200), 5);
    assert_int_equal(qr_block_manager_max_blocks(world->blocks), 25);
    assert_int_equal(qr_block_manager_max_rows(world->blocks), 16);
    block_world_destroy(world);
}

/* The row at position 60 sees keys from 51 on, in block 6; the block before it stays as well. */
static void pages_that_the_window_has_passed_are_cached(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    start(world, 0, 60, 0, 60);
    assert_int_equal(first_block(world, 0), 5);
    assert_int_equal(qr_block_manager_n_blocks(world->blocks, 0), 8);
    assert_int_equal(qr_block_manager_block_table(world->blocks, 0)[4], -1);
    assert_int_equal(block_world_stats(world).used_pages, 3);
    assert_int_equal(block_world_stats(world).cached_pages, 5);
    start(world, 1, 40, 1, 44); /* what follows the common beginning sees its end only */
    assert_int_equal(first_block(world, 1), 3);
    assert_int_equal(block_world_stats(world).n_hit_tokens, 40);
    block_world_destroy(world);
}

static void a_sequence_is_longer_than_the_pool(void **state)
{
    (void)state;
    struct qr_block_manager_config small = config;
    small.page_count = 5;
    struct block_world *world = make_world(&small);

    start(world, 0, 180, 0, 180); /* 23 pages */
    append(world, 0, 20);
    assert_int_equal(first_block(world, 0), 22);
    block_world_destroy(world);
}

/* While a prompt is computed, what the window passes is promised for the rest of it. */
static void a_prompt_keeps_its_promise(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    block_world_open(world, 0, 0, 190, 0, 190, 0);
    assert_true(block_world_acquire(world, 0, 191));
    assert_int_equal(qr_block_manager_available_pages(world->blocks), 7);
    while (world->seqs[0].n_computed < 160) {
        compute_up_to(world, 0, world->seqs[0].n_computed + 16);
        assert_int_equal(qr_block_manager_available_pages(world->blocks), 7);
    }
    compute_up_to(world, 0, 190);
    assert_int_equal(qr_block_manager_promised_pages(world->blocks, 0), 0);
    assert_int_equal(qr_block_manager_available_pages(world->blocks), 9);
    block_world_destroy(world);
}

static void a_preempted_sequence_finds_its_end(void **state)
{
    (void)state;
    struct block_world *world = make_lost_beginning();

    block_world_release(world, 0, QR_RELEASE_RESUMES);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 61));
    assert_int_equal(world->seqs[0].n_computed, 60);
    assert_int_equal(first_block(world, 0), 6);
    compute_up_to(world, 0, 61);
    block_world_finish(world, 0);

    start(world, 2, 60, 0, 60); /* nobody else has use for an end without its beginning */
    assert_true(block_world_stats(world).n_lost > 5);
    block_world_destroy(world);
}

static void a_swapped_end_is_loaded_again(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    start(world, 0, 60, 0, 60);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    assert_int_equal(block_world_stats(world).n_pages_out[QR_TIER_HOST], 3);
    take_all_pages(world, 1);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 61));
    assert_int_equal(world->seqs[0].n_computed, 60);
    assert_true(world->seqs[0].is_loading);
    block_world_destroy(world);
}

/* The end alone is of no use once its first page is gone: all is computed anew. */
static void an_end_without_what_its_window_needs_is_not_used(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    start(world, 0, 60, 0, 60);
    block_world_release(world, 0, QR_RELEASE_FINISHED);
    take_all_pages(world, 1);
    assert_true(block_world_acquire(world, 0, 60));
    assert_int_equal(world->seqs[0].n_computed, 0);
    compute_up_to(world, 0, 60);
    block_world_destroy(world);
}

/* Another prompt goes on where the first stands, though its beginning is gone. */
static void an_end_is_shared_without_its_beginning(void **state)
{
    (void)state;
    struct block_world *world = make_lost_beginning();

    block_world_open(world, 2, 0, 60, 0, 60, 0);
    assert_true(block_world_acquire(world, 2, 60));
    assert_int_equal(world->seqs[2].n_computed, 56);
    assert_int_equal(first_block(world, 2), 5);
    assert_int_equal(qr_block_manager_block_table(world->blocks, 0)[6],
                     qr_block_manager_block_table(world->blocks, 2)[6]);
    block_world_destroy(world);
}

/* The ghosts of what was lost have contents again: what hangs below them is still found. */
static void what_is_computed_again_takes_the_place_of_ghosts(void **state)
{
    (void)state;
    struct block_world *world = make_lost_beginning();

    block_world_open(world, 2, 0, 44, 7, 60, 0); /* parts from it in block 5 */
    assert_true(block_world_acquire(world, 2, 60));
    assert_int_equal(world->seqs[2].n_computed, 0);
    compute_up_to(world, 2, 60);
    block_world_open(world, 3, 0, 60, 0, 60, 0);
    assert_true(block_world_acquire(world, 3, 60));
    assert_int_equal(world->seqs[3].n_computed, 56);
    block_world_destroy(world);
}

static void forks_give_back_each_on_its_own(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    start(world, 0, 60, 0, 60);
    block_world_fork(world, 0, 1, 1);
    assert_int_equal(first_block(world, 1), 5);
    append(world, 1, 30);
    assert_int_equal(first_block(world, 0), 5);
    assert_int_equal(first_block(world, 1), 9);
    append(world, 0, 1);
    assert_int_equal(block_world_stats(world).n_copies, 1);
    block_world_release(world, 0, QR_RELEASE_RESUMES);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 62));
    assert_int_equal(world->seqs[0].n_computed, 61);
    block_world_destroy(world);
}

/* A page that others have passed cannot be read: they go on, and are not found again. */
static void a_page_that_cannot_be_read_harms_nobody_who_has_passed_it(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);

    start(world, 0, 16, 0, 16);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 17));
    compute_up_to(world, 0, 17);
    append(world, 0, 40);
    take_all_pages(world, 1);

    block_world_open(world, 2, 0, 16, 7, 24, 0);
    assert_true(block_world_acquire(world, 2, 24));
    assert_true(world->seqs[2].is_loading);
    block_world_start_transfers(world);
    for (int32_t id = 0; id < config.max_transfers; id++)
        if (block_shadow_is_under_way(world->shadow, id))
            block_world_end_transfer(world, id, false);
    assert_int_equal(block_world_poll(world, 2), QR_LOAD_FAILED);
    append(world, 0, 20);
    block_world_release(world, 0, QR_RELEASE_RESUMES);
    block_world_check(world, true);
    assert_true(block_world_acquire(world, 0, world->seqs[0].n_known));
    assert_int_equal(world->seqs[0].n_computed, 0);
    compute_up_to(world, 0, world->seqs[0].n_known);
    block_world_destroy(world);
}

/* There are records for 204 blocks: three sequences with 100 each are more than can be known. */
static void sequences_are_forgotten_when_there_are_too_many_ghosts(void **state)
{
    (void)state;
    struct qr_block_manager_config narrow = config;
    narrow.max_seq_tokens = 800;
    narrow.tier_slots[QR_TIER_HOST] = narrow.tier_slots[QR_TIER_DISK] = 0;
    narrow.window = 1;
    narrow.max_rows = 8;
    struct block_world *world = make_world(&narrow);
    int32_t n_forgotten = 0;

    for (int32_t seq = 0; seq < 3; seq++) {
        block_world_open(world, seq, 0, 0, seq, 780, 0);
        assert_true(block_world_acquire(world, seq, 780));
    }
    for (int32_t n = 8; n <= 776; n += 8)
        for (int32_t seq = 0; seq < 3; seq++)
            compute_up_to(world, seq, n);
    block_world_fork(world, 0, 3, 9);
    for (int32_t seq = 0; seq < 3; seq++) {
        compute_up_to(world, seq, 780);
        block_world_release(world, seq, QR_RELEASE_RESUMES);
        block_world_append(world, seq);
        assert_true(block_world_acquire(world, seq, 781));
        n_forgotten += world->seqs[seq].n_computed < 770;
        compute_up_to(world, seq, 781);
    }
    assert_true(n_forgotten > 0);
    compute_up_to(world, 3, 780);
    block_world_destroy(world);
}

static void an_estimate_counts_what_is_held(void **state)
{
    (void)state;
    struct block_world *world = make_world(&config);
    static const struct qr_block_costs costs = {
        .page_out_ns = {100, 1000}, .page_in_ns = {50, 500}, .row_ns = 10, .row_position_ns = 1};
    struct qr_release_estimate estimate;

    qr_block_manager_set_costs(world->blocks, &costs);
    start(world, 0, 60, 0, 60);
    qr_block_manager_estimate(world->blocks, 0, 60, &estimate);
    assert_int_equal(estimate.n_freed, 3);
    assert_true(estimate.swap_ns == 3 * 150);
    /* From the first token on; rows beyond the window read ten keys. */
    assert_true(estimate.recompute_ns == 60 * 10 + 45 + 50 * 10);
    block_world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_out_of_range_is_refused),
        cmocka_unit_test(a_window_as_long_as_a_sequence_is_none),
        cmocka_unit_test(what_is_held_at_one_time_depends_on_the_window_and_the_chunk),
        cmocka_unit_test(pages_that_the_window_has_passed_are_cached),
        cmocka_unit_test(a_sequence_is_longer_than_the_pool),
        cmocka_unit_test(a_prompt_keeps_its_promise),
        cmocka_unit_test(a_preempted_sequence_finds_its_end),
        cmocka_unit_test(a_swapped_end_is_loaded_again),
        cmocka_unit_test(an_end_without_what_its_window_needs_is_not_used),
        cmocka_unit_test(an_end_is_shared_without_its_beginning),
        cmocka_unit_test(what_is_computed_again_takes_the_place_of_ghosts),
        cmocka_unit_test(forks_give_back_each_on_its_own),
        cmocka_unit_test(a_page_that_cannot_be_read_harms_nobody_who_has_passed_it),
        cmocka_unit_test(sequences_are_forgotten_when_there_are_too_many_ghosts),
        cmocka_unit_test(an_estimate_counts_what_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
