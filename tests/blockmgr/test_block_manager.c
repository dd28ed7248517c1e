/* What each call of the block manager promises, one rule a test; contents by shadow memory. */
#include "blockmgr/block_manager.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/block_heap.h"
#include "tests/support/block_trail.h"
#include "tests/support/block_world.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* 8 pages of 8 tokens, 4 slots for sequences of up to 5 pages, a small tier of each kind. */
static const struct qr_block_manager_config config = {.page_count = 8,
                                                      .page_size = 8,
                                                      .max_sequences = 4,
                                                      .max_seq_tokens = 40,
                                                      .tier_slots = {3, 2},
                                                      .max_transfers = 2,
                                                      .prefix_cache = true};

static struct block_world *make_world(void)
{
    block_trail_start();
    return block_world_create(&config);
}

static void assert_pages(const struct block_world *world, int32_t used, int32_t cached)
{
    struct qr_block_stats stats = block_world_stats(world);

    assert_int_equal(stats.used_pages, used);
    assert_int_equal(stats.cached_pages, cached);
    assert_int_equal(stats.free_pages, config.page_count - used - cached);
}

/* A prompt of document 0 up to `cut`, computed in full. */
static void start(struct block_world *world, int32_t seq, int32_t cut, int32_t branch,
                  int32_t n_prompt, int32_t salt)
{
    block_world_open(world, seq, 0, cut, branch, n_prompt, salt);
    assert_true(block_world_acquire(world, seq, n_prompt));
    assert_true(block_world_compute(world, seq, n_prompt));
}

static void append(struct block_world *world, int32_t seq)
{
    block_world_append(world, seq);
    assert_true(block_world_compute(world, seq, world->seqs[seq].n_known));
}

static void a_config_out_of_range_is_refused(void **state)
{
    (void)state;
    struct qr_block_manager_config bad[13];

    for (size_t i = 0; i < N_ELEMENTS(bad); i++)
        bad[i] = config;
    bad[0].page_count = 0;
    bad[1].page_count = -1;
    bad[2].page_size = 0;
    bad[3].page_size = 4;
    bad[4].page_size = 12;
    bad[5].page_size = 512;
    bad[6].page_size = -8;
    bad[7].max_sequences = 0;
    bad[8].max_seq_tokens = 0;
    bad[9].max_seq_tokens = -30;
    bad[10].tier_slots[QR_TIER_HOST] = -1;
    bad[11].tier_slots[QR_TIER_DISK] = -1;
    bad[12].max_transfers = 0; /* with tiers */
    for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
        struct qr_block_manager *mgr = (struct qr_block_manager *)&bad[i];
        assert_int_equal(qr_block_manager_create(&bad[i], &mgr), QR_ERR_INVALID);
        assert_null(mgr);
    }
    qr_block_manager_destroy(NULL);
}

/* Each allocation of create fails once; then all find memory. */
static void memory_that_is_not_there_is_reported_and_nothing_leaks(void **state)
{
    (void)state;
    int64_t n_live = block_heap_n_live();
    struct qr_block_manager *mgr;
    int64_t before = block_heap_n_allocations();

    assert_int_equal(qr_block_manager_create(&config, &mgr), QR_OK);
    int64_t n_allocations = block_heap_n_allocations() - before;
    qr_block_manager_destroy(mgr);
    assert_true(n_allocations > 10);
    for (int64_t n = 1; n <= n_allocations; n++) {
        mgr = (struct qr_block_manager *)&n;
        block_heap_fail_at(n);
        assert_int_equal(qr_block_manager_create(&config, &mgr), QR_ERR_NOMEM);
        assert_null(mgr);
        assert_int_equal(block_heap_n_live(), n_live);
    }
    block_heap_fail_at(0);
}

static void sizes_are_those_of_the_config(void **state)
{
    (void)state;
    struct block_world *world = make_world();
    struct qr_block_stats stats = block_world_stats(world);

    assert_int_equal(qr_block_manager_page_size(world->blocks), 8);
    assert_int_equal(qr_block_manager_page_count(world->blocks), 8);
    assert_int_equal(qr_block_manager_max_blocks(world->blocks), 5);
    assert_int_equal(qr_block_manager_max_sequences(world->blocks), 4);
    assert_int_equal(qr_block_manager_max_seq_tokens(world->blocks), 40);
    assert_int_equal(stats.tier_slots[QR_TIER_HOST], 3);
    assert_int_equal(stats.tier_slots[QR_TIER_DISK], 2);
    assert_int_equal(stats.free_pages, 8);
    block_world_destroy(world);
}

/* Nothing that runs allocates. */
static void nothing_allocates_after_create(void **state)
{
    (void)state;
    struct block_world *world = make_world();
    int64_t before = block_heap_n_allocations();

    start(world, 0, 20, 0, 20, 0);
    block_world_fork(world, 0, 1, 5);
    append(world, 1);
    append(world, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    assert_true(block_world_acquire(world, 0, 21));
    block_world_finish(world, 1);
    assert_int_equal(block_heap_n_allocations(), before);
    block_world_destroy(world);
}

static void pages_are_promised_first_and_taken_when_written(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    block_world_open(world, 0, 0, 33, 0, 33, 0);
    assert_true(block_world_acquire(world, 0, 34)); /* five pages */
    assert_pages(world, 0, 0);
    assert_int_equal(qr_block_manager_available_pages(world->blocks), 3);
    assert_int_equal(qr_block_manager_pages_needed(world->blocks, 0, 0, 33), 0);
    assert_true(block_world_compute(world, 0, 10));
    assert_pages(world, 2, 0);
    assert_int_equal(qr_block_manager_available_pages(world->blocks), 3);
    assert_true(block_world_compute(world, 0, 33));
    assert_pages(world, 5, 0);

    block_world_open(world, 1, 1, 33, 0, 33, 0); /* another document: five pages more */
    assert_false(block_world_acquire(world, 1, 33));
    block_world_open(world, 2, 1, 20, 0, 20, 0);
    assert_true(block_world_acquire(world, 2, 20));
    assert_int_equal(qr_block_manager_available_pages(world->blocks), 0);
    assert_int_equal(qr_block_manager_pages_needed(world->blocks, 2, 0, 25), 1);
    block_world_release(world, 2, QR_RELEASE_FINISHED); /* a promise is given back, too */
    assert_int_equal(qr_block_manager_available_pages(world->blocks), 3);
    block_world_destroy(world);
}

static void an_acquisition_leaves_the_pages_that_it_is_told_to(void **state)
{
    (void)state;
    struct block_world *world = make_world();
    struct qr_acquired acquired;

    block_world_open(world, 0, 0, 20, 0, 20, 0); /* three pages */
    assert_int_equal(qr_block_manager_acquire(world->blocks, 0, 20, 20, 6, &acquired),
                     QR_ERR_NO_PAGES);
    assert_int_equal(qr_block_manager_n_blocks(world->blocks, 0), 0);
    assert_int_equal(qr_block_manager_acquire(world->blocks, 0, 20, 20, 5, &acquired), QR_OK);
    assert_int_equal(acquired.n_cached, 0);
    qr_block_manager_release(world->blocks, 0, 0, QR_RELEASE_FINISHED);
    block_world_destroy(world);
}

static void a_prompt_that_begins_alike_finds_full_pages_and_the_last_one(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 20, 0, 20, 0); /* two pages and four tokens */
    block_world_open(world, 1, 0, 30, 1, 30, 0);
    assert_true(block_world_acquire(world, 1, 30));
    assert_int_equal(world->seqs[1].n_computed, 16); /* its last page is not known yet */
    assert_int_equal(qr_block_manager_block_table(world->blocks, 1)[1],
                     qr_block_manager_block_table(world->blocks, 0)[1]);
    block_world_release(world, 1, QR_RELEASE_FINISHED);
    block_world_finish(world, 0);
    assert_pages(world, 0, 3);
    assert_true(block_world_acquire(world, 1, 30));
    assert_int_equal(world->seqs[1].n_computed, 20);
    assert_int_equal(block_world_stats(world).n_copies, 0);
    append(world, 1); /* writes on in the page: nobody else has it */
    assert_int_equal(block_world_stats(world).n_copies, 0);
    block_world_destroy(world);
}

static void the_last_token_is_always_left_to_be_computed(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 16, 0, 16, 0);
    block_world_finish(world, 0);
    block_world_open(world, 1, 0, 16, 0, 16, 0);
    assert_true(block_world_acquire(world, 1, 16));
    assert_int_equal(world->seqs[1].n_computed, 15);
    assert_true(block_world_compute(world, 1, 16)); /* in a copy, merged when it is full */
    assert_pages(world, 2, 0);
    assert_int_equal(block_world_stats(world).n_merged, 1);
    block_world_destroy(world);
}

/* The first tokens of a page are as good as a page of so many tokens; the copy is one page. */
static void a_prompt_that_parts_within_a_page_copies_it(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 16, 0, 16, 0);
    block_world_open(world, 1, 0, 13, 1, 20, 0);
    assert_true(block_world_acquire(world, 1, 20));
    assert_int_equal(world->seqs[1].n_computed, 13);
    assert_true(block_world_compute(world, 1, 20));
    assert_int_equal(block_world_stats(world).n_copies, 1);
    assert_pages(world, 4, 0);
    block_world_destroy(world);
}

static void other_salts_share_nothing(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 20, 0, 20, 0);
    block_world_finish(world, 0);
    block_world_open(world, 1, 0, 20, 0, 20, 1);
    assert_true(block_world_acquire(world, 1, 20));
    assert_int_equal(world->seqs[1].n_computed, 0);
    assert_true(block_world_compute(world, 1, 20));
    assert_pages(world, 3, 3);
    block_world_destroy(world);
}

/* Without the prefix cache a sequence still finds its own blocks after a preemption. */
static void without_the_prefix_cache_only_the_own_blocks_are_found(void **state)
{
    (void)state;
    struct qr_block_manager_config alone = config;
    alone.prefix_cache = false;
    block_trail_start();
    struct block_world *world = block_world_create(&alone);

    start(world, 0, 20, 0, 20, 0);
    start(world, 1, 20, 0, 20, 0);
    assert_pages(world, 6, 0);
    block_world_release(world, 0, QR_RELEASE_RESUMES);
    assert_pages(world, 3, 3);
    assert_true(block_world_acquire(world, 0, 21));
    assert_int_equal(world->seqs[0].n_computed, 19);
    block_world_finish(world, 0);
    block_world_finish(world, 1);
    assert_pages(world, 0, 0); /* nothing is kept for others */
    block_world_destroy(world);
}

static void forks_share_all_and_copy_one_page_each_but_the_first_writer(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 20, 0, 20, 0);
    for (int32_t seq = 1; seq < 4; seq++)
        block_world_fork(world, 0, seq, seq);
    assert_pages(world, 3, 0);
    for (int32_t seq = 0; seq < 4; seq++) {
        append(world, seq);
        assert_pages(world, 3 + seq, 0);
        assert_int_equal(block_world_stats(world).n_copies, seq);
    }
    block_world_destroy(world);
}

static void a_page_under_way_is_copied_before_it_is_written(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 12, 0, 12, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_start_transfers(world);
    assert_int_equal(block_shadow_n_under_way(world->shadow), 2);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 13)); /* back before it has left */
    assert_int_equal(world->seqs[0].n_computed, 12);
    assert_true(block_world_compute(world, 0, 13));
    assert_int_equal(block_world_stats(world).n_copies, 1);
    block_world_end_transfer(world, 0, true);
    block_world_end_transfer(world, 1, true);
    block_world_check(world, true);
    block_world_destroy(world);
}

static void equal_pages_computed_at_the_same_time_are_merged(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    block_world_open(world, 0, 0, 20, 0, 20, 0);
    block_world_open(world, 1, 0, 20, 0, 20, 0);
    assert_true(block_world_acquire(world, 0, 20));
    assert_true(block_world_acquire(world, 1, 20));
    assert_true(block_world_compute(world, 0, 20));
    assert_true(block_world_compute(world, 1, 20));
    assert_pages(world, 4, 0); /* two that are full, and the last of each */
    assert_int_equal(block_world_stats(world).n_merged, 2);
    block_world_destroy(world);
}

/* From the end of a sequence to its beginning, so that a beginning is left. */
static void cached_pages_go_from_the_end(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 40, 0, 40, 0);
    block_world_finish(world, 0);
    assert_pages(world, 0, 5);
    start(world, 1, 0, 1, 40, 0); /* three free ones, and two that were cached */
    assert_pages(world, 5, 3);
    assert_int_equal(block_world_stats(world).n_evicted, 2);
    assert_int_equal(block_world_stats(world).n_lost, 2);
    block_world_finish(world, 1);
    block_world_open(world, 2, 0, 40, 0, 40, 0);
    assert_true(block_world_acquire(world, 2, 40));
    assert_int_equal(world->seqs[2].n_computed, 24);
    block_world_destroy(world);
}

/* What was used more often stays. */
static void what_was_used_more_stays_longer(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    for (int n = 0; n < 8; n++) {
        start(world, 0, 8, 0, 9, 0); /* page 1 of document 0 */
        block_world_finish(world, 0);
    }
    for (int32_t branch = 1; branch <= 3; branch++) { /* 15 pages pass through */
        start(world, 1, 0, branch, 40, 0);
        block_world_finish(world, 1);
    }
    block_world_open(world, 0, 0, 8, 0, 9, 0);
    assert_true(block_world_acquire(world, 0, 9));
    assert_int_equal(world->seqs[0].n_computed, 8);
    block_world_destroy(world);
}

/* What a preempted sequence will want again is kept rather than what has finished. */
static void what_will_be_wanted_again_stays_longer(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 24, 0, 24, 0);
    block_world_release(world, 0, QR_RELEASE_RESUMES);
    start(world, 1, 0, 1, 24, 0);
    block_world_finish(world, 1);
    start(world, 2, 0, 2, 32, 0); /* two free pages, two of those that finished */
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 25));
    assert_int_equal(world->seqs[0].n_computed, 24);
    block_world_destroy(world);
}

static void parked_pages_go_first_and_to_a_lower_tier(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 16, 0, 16, 0);
    start(world, 1, 0, 1, 16, 0);
    block_world_release(world, 0, QR_RELEASE_PARKED);
    assert_int_equal(qr_block_manager_leaving_pages(world->blocks), 2);
    block_world_move_all(world, true);
    assert_int_equal(qr_block_manager_leaving_pages(world->blocks), 0);
    assert_int_equal(block_world_stats(world).n_pages_out[QR_TIER_HOST], 2);
    block_world_finish(world, 1);
    start(world, 2, 0, 2, 40, 0); /* four free pages and one */
    assert_int_equal(block_world_stats(world).n_evicted, 1);
    assert_int_equal(block_world_stats(world).n_lost, 0); /* it has a copy below */
    block_world_destroy(world);
}

static void a_swapped_sequence_is_loaded_again(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 24, 0, 24, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    assert_int_equal(block_world_stats(world).tier_used[QR_TIER_HOST], 3);
    start(world, 1, 0, 1, 40, 0);
    start(world, 2, 0, 2, 24, 0); /* the whole pool */
    assert_pages(world, 8, 0);
    block_world_append(world, 0);
    assert_false(block_world_acquire(world, 0, 25));
    block_world_finish(world, 1);
    assert_true(block_world_acquire(world, 0, 25));
    assert_true(world->seqs[0].is_loading);
    assert_int_equal(world->seqs[0].n_computed, 24);
    assert_int_equal(block_world_poll(world, 0), QR_LOAD_UNDER_WAY);
    block_world_move_all(world, true);
    assert_int_equal(block_world_poll(world, 0), QR_LOAD_DONE);
    assert_true(block_world_compute(world, 0, 25));
    assert_int_equal(block_world_stats(world).n_pages_in[QR_TIER_HOST], 3);
    block_world_destroy(world);
}

/* Host memory first, then the disk. */
static void what_finds_no_room_in_host_memory_goes_to_disk(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 40, 0, 40, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    assert_int_equal(block_world_stats(world).n_pages_out[QR_TIER_HOST], 3);
    assert_int_equal(block_world_stats(world).n_pages_out[QR_TIER_DISK], 2);
    block_world_destroy(world);
}

/* Loading is weighed against computing: a dear load is not begun. */
static void what_is_cheaper_to_compute_is_not_loaded(void **state)
{
    (void)state;
    static const struct qr_block_costs dear = {
        .page_out_ns = {1e6, 1e6}, .page_in_ns = {1e6, 1e6}, .row_ns = 1};
    struct block_world *world = make_world();

    start(world, 0, 24, 0, 24, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    start(world, 1, 0, 1, 40, 0);
    start(world, 2, 0, 2, 24, 0);
    block_world_finish(world, 1);
    qr_block_manager_set_costs(world->blocks, &dear);
    assert_true(block_world_acquire(world, 0, 25));
    assert_int_equal(world->seqs[0].n_computed, 0);
    assert_false(world->seqs[0].is_loading);
    block_world_destroy(world);
}

static void a_page_that_cannot_be_read_is_computed_again(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 24, 0, 24, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    start(world, 1, 0, 1, 40, 0);
    start(world, 2, 0, 2, 24, 0);
    block_world_finish(world, 1);
    block_world_finish(world, 2);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 25));
    block_world_start_transfers(world); /* the first two of three */
    qr_page_id first_page = qr_block_manager_block_table(world->blocks, 0)[0];
    int32_t first = block_shadow_transfer(world->shadow, 0)->page == first_page ? 0 : 1;
    block_world_end_transfer(world, 1 - first, false);
    assert_int_equal(block_world_poll(world, 0), QR_LOAD_UNDER_WAY);
    block_world_end_transfer(world, first, true);
    assert_int_equal(block_world_poll(world, 0), QR_LOAD_FAILED);
    assert_int_equal(block_world_stats(world).n_failed_in[QR_TIER_HOST], 1);
    assert_true(block_world_acquire(world, 0, 25)); /* what came is there, the rest is computed */
    assert_int_equal(world->seqs[0].n_computed, 8);
    assert_false(world->seqs[0].is_loading);
    assert_true(block_world_compute(world, 0, 25));
    block_world_destroy(world);
}

static void a_page_that_cannot_be_written_stays_where_it_is(void **state)
{
    (void)state;
    struct block_world *world = make_world();

    start(world, 0, 16, 0, 16, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, false);
    assert_pages(world, 0, 2);
    assert_int_equal(block_world_stats(world).n_failed_out[QR_TIER_HOST], 2);
    assert_int_equal(block_world_stats(world).tier_used[QR_TIER_HOST], 0);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 17));
    assert_int_equal(world->seqs[0].n_computed, 16);
    block_world_destroy(world);
}

static void a_closed_tier_takes_nothing_and_still_gives(void **state)
{
    (void)state;
    struct block_world *world = make_world();
    struct qr_release_estimate estimate;

    start(world, 0, 16, 0, 16, 0);
    block_world_release(world, 0, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    start(world, 1, 0, 1, 24, 0);
    qr_block_manager_close_tier(world->blocks, QR_TIER_HOST);
    qr_block_manager_close_tier(world->blocks, QR_TIER_DISK);
    qr_block_manager_estimate(world->blocks, 1, 24, &estimate);
    assert_true(isinf(estimate.swap_ns));
    assert_int_equal(estimate.n_freed, 3);
    block_world_release(world, 1, QR_RELEASE_SWAPPED);
    block_world_move_all(world, true);
    assert_int_equal(block_world_stats(world).n_pages_out[QR_TIER_HOST], 2);
    start(world, 2, 0, 2, 40, 0);
    start(world, 3, 0, 3, 24, 0); /* everything else is gone */
    block_world_finish(world, 2);
    block_world_append(world, 0);
    assert_true(block_world_acquire(world, 0, 17));
    assert_int_equal(world->seqs[0].n_computed, 16);
    block_world_move_all(world, true);
    assert_int_equal(block_world_poll(world, 0), QR_LOAD_DONE);
    block_world_destroy(world);
}

static void an_estimate_counts_what_would_be_freed_moved_and_computed(void **state)
{
    (void)state;
    static const struct qr_block_costs costs = {
        .page_out_ns = {100, 1000}, .page_in_ns = {50, 500}, .row_ns = 10, .row_position_ns = 1};
    struct block_world *world = make_world();
    struct qr_release_estimate estimate;

    qr_block_manager_set_costs(world->blocks, &costs);
    start(world, 0, 20, 0, 20, 0);
    block_world_fork(world, 0, 1, 1);
    append(world, 1); /* the first to write keeps the page: it holds one with the parent */
    append(world, 0);
    qr_block_manager_estimate(world->blocks, 0, 21, &estimate);
    assert_int_equal(estimate.n_freed, 1); /* its copy of the last page */
    assert_int_equal(estimate.n_dirty, 1);
    assert_true(estimate.swap_ns == 150);
    assert_true(estimate.recompute_ns == 5 * (10 + 18)); /* rows 16 to 20 */
    block_world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_out_of_range_is_refused),
        cmocka_unit_test(memory_that_is_not_there_is_reported_and_nothing_leaks),
        cmocka_unit_test(sizes_are_those_of_the_config),
        cmocka_unit_test(nothing_allocates_after_create),
        cmocka_unit_test(pages_are_promised_first_and_taken_when_written),
        cmocka_unit_test(an_acquisition_leaves_the_pages_that_it_is_told_to),
        cmocka_unit_test(a_prompt_that_begins_alike_finds_full_pages_and_the_last_one),
        cmocka_unit_test(the_last_token_is_always_left_to_be_computed),
        cmocka_unit_test(a_prompt_that_parts_within_a_page_copies_it),
        cmocka_unit_test(other_salts_share_nothing),
        cmocka_unit_test(without_the_prefix_cache_only_the_own_blocks_are_found),
        cmocka_unit_test(forks_share_all_and_copy_one_page_each_but_the_first_writer),
        cmocka_unit_test(a_page_under_way_is_copied_before_it_is_written),
        cmocka_unit_test(equal_pages_computed_at_the_same_time_are_merged),
        cmocka_unit_test(cached_pages_go_from_the_end),
        cmocka_unit_test(what_was_used_more_stays_longer),
        cmocka_unit_test(what_will_be_wanted_again_stays_longer),
        cmocka_unit_test(parked_pages_go_first_and_to_a_lower_tier),
        cmocka_unit_test(a_swapped_sequence_is_loaded_again),
        cmocka_unit_test(what_finds_no_room_in_host_memory_goes_to_disk),
        cmocka_unit_test(what_is_cheaper_to_compute_is_not_loaded),
        cmocka_unit_test(a_page_that_cannot_be_read_is_computed_again),
        cmocka_unit_test(a_page_that_cannot_be_written_stays_where_it_is),
        cmocka_unit_test(a_closed_tier_takes_nothing_and_still_gives),
        cmocka_unit_test(an_estimate_counts_what_would_be_freed_moved_and_computed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
