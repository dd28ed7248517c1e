#include "blockmgr/block_manager.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* 6 pages of 8 tokens, 3 slots, sequences up to 30 tokens: 4 pages. */
static const struct qr_block_manager_config small_config = {
    .page_count = 6, .page_size = 8, .max_sequences = 3, .max_seq_tokens = 30};

static struct qr_block_manager *make_manager(void)
{
    struct qr_block_manager *mgr;

    assert_int_equal(qr_block_manager_create(&small_config, &mgr), QR_OK);
    return mgr;
}

static void assert_stats(const struct qr_block_manager *mgr, int32_t used_pages, int64_t used_slots)
{
    struct qr_block_stats stats;

    qr_block_manager_stats(mgr, &stats);
    assert_int_equal(stats.page_count, 6);
    assert_int_equal(stats.used_pages, used_pages);
    assert_int_equal(stats.free_pages, 6 - used_pages);
    assert_int_equal(stats.used_slots, used_slots);
    assert_int_equal(stats.wasted_slots, 8 * used_pages - used_slots);
    assert_int_equal(qr_block_manager_free_pages(mgr), stats.free_pages);
}

static void a_config_out_of_range_is_refused(void **state)
{
    (void)state;
    struct qr_block_manager_config bad[10];

    for (size_t i = 0; i < N_ELEMENTS(bad); i++)
        bad[i] = small_config;
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
    for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
        struct qr_block_manager *mgr = (struct qr_block_manager *)&bad[i];
        assert_int_equal(qr_block_manager_create(&bad[i], &mgr), QR_ERR_INVALID);
        assert_null(mgr);
    }
    qr_block_manager_destroy(NULL);
}

/* A sanitizer's allocator ends the process where jemalloc returns NULL. */
#ifdef QUIRE_JEMALLOC
static void tables_that_no_machine_holds_are_out_of_memory(void **state)
{
    (void)state;
    struct qr_block_manager_config huge = {
        .page_count = 1, .page_size = 8, .max_sequences = 1 << 20, .max_seq_tokens = INT32_MAX};
    struct qr_block_manager *mgr = (struct qr_block_manager *)&huge;

    assert_int_equal(qr_block_manager_create(&huge, &mgr), QR_ERR_NOMEM);
    assert_null(mgr);
}
#endif

static void sizes_are_those_of_the_config(void **state)
{
    (void)state;
    struct qr_block_manager *mgr = make_manager();

    assert_int_equal(qr_block_manager_page_size(mgr), 8);
    assert_int_equal(qr_block_manager_page_count(mgr), 6);
    assert_int_equal(qr_block_manager_max_blocks(mgr), 4);
    assert_int_equal(qr_block_manager_max_sequences(mgr), 3);
    assert_int_equal(qr_block_manager_max_seq_tokens(mgr), 30);
    assert_stats(mgr, 0, 0);
    qr_block_manager_destroy(mgr);
}

static void reserving_takes_a_page_at_each_boundary_and_never_shrinks(void **state)
{
    (void)state;
    struct qr_block_manager *mgr = make_manager();
    static const int32_t steps[][3] = {/* n_tokens, pages then, slots then */
                                       {0, 0, 0}, {1, 1, 1},   {8, 1, 8},   {9, 2, 9},
                                       {3, 2, 9}, {17, 3, 17}, {30, 4, 30}, {30, 4, 30}};

    for (size_t i = 0; i < N_ELEMENTS(steps); i++) {
        int32_t before = qr_block_manager_n_blocks(mgr, 1);
        assert_int_equal(qr_block_manager_pages_needed(mgr, 1, steps[i][0]), steps[i][1] - before);
        assert_int_equal(qr_block_manager_reserve(mgr, 1, steps[i][0]), QR_OK);
        assert_int_equal(qr_block_manager_n_blocks(mgr, 1), steps[i][1]);
        assert_stats(mgr, steps[i][1], steps[i][2]);
    }
    assert_int_equal(qr_block_manager_n_blocks(mgr, 0), 0);
    assert_int_equal(qr_block_manager_n_blocks(mgr, 2), 0);
    qr_block_manager_destroy(mgr);
}

static void reserving_is_all_or_nothing(void **state)
{
    (void)state;
    struct qr_block_manager *mgr = make_manager();

    assert_int_equal(qr_block_manager_reserve(mgr, 0, 30), QR_OK);
    assert_int_equal(qr_block_manager_reserve(mgr, 1, 5), QR_OK);
    assert_int_equal(qr_block_manager_pages_needed(mgr, 1, 17), 2);
    assert_int_equal(qr_block_manager_reserve(mgr, 1, 17), QR_ERR_NO_PAGES);
    assert_int_equal(qr_block_manager_n_blocks(mgr, 1), 1);
    assert_stats(mgr, 5, 35);
    assert_int_equal(qr_block_manager_reserve(mgr, 1, 16), QR_OK);
    assert_stats(mgr, 6, 46);
    qr_block_manager_destroy(mgr);
}

static void growing_keeps_the_pages_and_no_page_is_in_two_tables(void **state)
{
    (void)state;
    struct qr_block_manager *mgr = make_manager();
    const int32_t *a = qr_block_manager_block_table(mgr, 0);
    const int32_t *b = qr_block_manager_block_table(mgr, 2);

    assert_int_equal(qr_block_manager_reserve(mgr, 0, 10), QR_OK);
    assert_int_equal(qr_block_manager_reserve(mgr, 2, 16), QR_OK);
    assert_int_equal(qr_block_manager_reserve(mgr, 0, 25), QR_OK);
    assert_ptr_equal(qr_block_manager_block_table(mgr, 0), a);
    static const int32_t expected_a[] = {0, 1, 4, 5};
    static const int32_t expected_b[] = {2, 3};
    assert_memory_equal(a, expected_a, sizeof(expected_a));
    assert_memory_equal(b, expected_b, sizeof(expected_b));
    qr_block_manager_destroy(mgr);
}

static void release_gives_everything_back_and_is_harmless_twice(void **state)
{
    (void)state;
    struct qr_block_manager *mgr = make_manager();

    assert_int_equal(qr_block_manager_reserve(mgr, 0, 30), QR_OK);
    assert_int_equal(qr_block_manager_reserve(mgr, 1, 9), QR_OK);
    qr_block_manager_release(mgr, 0);
    assert_stats(mgr, 2, 9);
    qr_block_manager_release(mgr, 0);
    assert_stats(mgr, 2, 9);
    assert_int_equal(qr_block_manager_reserve(mgr, 2, 26), QR_OK);
    assert_stats(mgr, 6, 35);
    qr_block_manager_release(mgr, 1);
    qr_block_manager_release(mgr, 2);
    assert_stats(mgr, 0, 0);
    qr_block_manager_destroy(mgr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_out_of_range_is_refused),
#ifdef QUIRE_JEMALLOC
        cmocka_unit_test(tables_that_no_machine_holds_are_out_of_memory),
#endif
        cmocka_unit_test(sizes_are_those_of_the_config),
        cmocka_unit_test(reserving_takes_a_page_at_each_boundary_and_never_shrinks),
        cmocka_unit_test(reserving_is_all_or_nothing),
        cmocka_unit_test(growing_keeps_the_pages_and_no_page_is_in_two_tables),
        cmocka_unit_test(release_gives_everything_back_and_is_harmless_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
