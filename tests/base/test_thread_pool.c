#include "base/thread_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

enum { MAX_ITEMS = 1000 };

struct tally {
    int64_t grain;
    int32_t n_threads;
    int32_t times[MAX_ITEMS]; /* written without atomics: TSan sees an item run twice */
    atomic_int n_bad_pieces;
    atomic_int n_pieces;
};

static void count_items(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct tally *tally = arg;

    if (first >= last || last - first > tally->grain || first % tally->grain != 0 || worker < 0 ||
        worker >= tally->n_threads)
        atomic_fetch_add(&tally->n_bad_pieces, 1);
    for (int64_t i = first; i < last; i++)
        tally->times[i]++;
    atomic_fetch_add(&tally->n_pieces, 1);
}

static struct qr_thread_pool *make_pool(int32_t n_threads)
{
    struct qr_thread_pool *pool;
    assert_int_equal(qr_thread_pool_create(n_threads, &pool), QR_OK);
    assert_int_equal(qr_thread_pool_size(pool), n_threads);
    return pool;
}

static void check_run(struct qr_thread_pool *pool, int64_t n_items, int64_t grain)
{
    static struct tally tally;

    tally = (struct tally){.grain = grain, .n_threads = qr_thread_pool_size(pool)};
    qr_thread_pool_run(pool, n_items, grain, count_items, &tally);
    for (int64_t i = 0; i < MAX_ITEMS; i++)
        assert_int_equal(tally.times[i], i < n_items);
    assert_int_equal(tally.n_bad_pieces, 0);
    assert_int_equal(tally.n_pieces, (n_items + grain - 1) / grain);
}

static void every_item_runs_once(void **state)
{
    (void)state;
    const int64_t n_items[] = {0, 1, 2, 3, 7, 64, 999, 1000};
    const int64_t grains[] = {1, 2, 3, 64, 1000, INT64_C(1) << 40};

    for (int32_t n_threads = 1; n_threads <= 5; n_threads++) {
        struct qr_thread_pool *pool = make_pool(n_threads);
        for (size_t n = 0; n < sizeof(n_items) / sizeof(n_items[0]); n++)
            for (size_t g = 0; g < sizeof(grains) / sizeof(grains[0]); g++)
                check_run(pool, n_items[n], grains[g]);
        qr_thread_pool_destroy(pool);
    }
}

/* Runs in quick succession: a worker that comes late must not join the next run with
 * what it read of the one before. */
static void runs_follow_each_other_closely(void **state)
{
    (void)state;
    const int32_t sizes[] = {2, 3, 8};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct qr_thread_pool *pool = make_pool(sizes[s]);
        for (int i = 0; i < 2000; i++)
            check_run(pool, 1 + i % 37, 1 + i % 3);
        qr_thread_pool_destroy(pool);
    }
}

static void sleep_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
}

static void block_until_both(void *arg, int64_t first, int64_t last, int32_t worker)
{
    atomic_int *arrived = arg;
    (void)first;
    (void)last;
    (void)worker;
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 2)
        nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
}

/* Each of two items waits for the other: only two threads can finish them, also after
 * the workers have gone to sleep. */
static void workers_take_part(void **state)
{
    (void)state;
    struct qr_thread_pool *pool = make_pool(2);

    for (int i = 0; i < 3; i++) {
        atomic_int arrived = 0;
        qr_thread_pool_run(pool, 2, 1, block_until_both, &arrived);
        assert_int_equal(arrived, 2);
        sleep_a_moment();
    }
    qr_thread_pool_destroy(pool);
}

static int64_t cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

static void idle_workers_use_no_processor_time(void **state)
{
    (void)state;
    struct qr_thread_pool *pool = make_pool(2);

    check_run(pool, 10, 1);
    int64_t before = cpu_ns();
    sleep_a_moment();
    assert_true(cpu_ns() - before < 20 * 1000 * 1000);
    qr_thread_pool_destroy(pool);
}

static void number_of_threads_is_checked(void **state)
{
    (void)state;
    struct qr_thread_pool *pool;

    assert_int_equal(qr_thread_pool_create(0, &pool), QR_ERR_INVALID);
    assert_null(pool);
    assert_int_equal(qr_thread_pool_create(1025, &pool), QR_ERR_INVALID);
    assert_null(pool);
    qr_thread_pool_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(runs_follow_each_other_closely),
        cmocka_unit_test(workers_take_part),
        cmocka_unit_test(idle_workers_use_no_processor_time),
        cmocka_unit_test(number_of_threads_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
