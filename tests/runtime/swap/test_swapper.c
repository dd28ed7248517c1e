#include "runtime/swap/swapper.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/swap/swapper_faults.h"
#include "tests/support/swap_rig.h"
#include "tests/support/temp_dir.h"

static struct qr_temp_dir dir;

static int make_dir(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    qr_temp_dir_remove(&dir);
    return 0;
}

/* Pages out and back in to other device pages, in both tiers at once, `n` at a time. */
static void check_round_trip(size_t page_bytes, int32_t n)
{
    enum { MAX = 64 };
    struct qr_transfer transfers[2 * MAX];
    struct qr_transfer_result results[2 * MAX];
    struct qr_swap_rig rig;

    qr_swap_rig_make(&rig, &(struct qr_swap_rig_config){.page_bytes = page_bytes,
                                                        .n_pages = 4 * n,
                                                        .host_slots = n,
                                                        .disk_slots = n,
                                                        .max_transfers = 2 * n,
                                                        .dir = dir.path});
    for (int32_t i = 0; i < 2 * n; i++)
        qr_swap_rig_fill(&rig, i, (uint64_t)i);
    for (int out = 1; out >= 0; out--) {
        for (int32_t i = 0; i < 2 * n; i++)
            transfers[i] = (struct qr_transfer){.id = i,
                                                .tier = i < n ? QR_TIER_HOST : QR_TIER_DISK,
                                                .out = out == 1,
                                                .page = out == 1 ? i : 4 * n - 1 - i,
                                                .slot = i % n};
        qr_swapper_submit(rig.swapper, transfers, 2 * n);
        for (int32_t n_ended = 0; n_ended < 2 * n;) {
            int32_t count = qr_swap_rig_wait(&rig, results, 2 * MAX);
            for (int32_t i = 0; i < count; i++)
                assert_true(results[i].ok);
            n_ended += count;
        }
    }
    for (int32_t i = 0; i < 2 * n; i++) {
        assert_true(qr_swap_rig_holds(&rig, i, (uint64_t)i));
        assert_true(qr_swap_rig_holds(&rig, 4 * n - 1 - i, (uint64_t)i));
    }
    qr_swap_rig_free(&rig);
}

static void pages_come_back_bit_for_bit(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 63, 1000, 4095, 4096, 4097, 40960, 1 << 20, (1 << 20) + 1};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_round_trip(sizes[i], 1);
        check_round_trip(sizes[i], 7);
    }
    check_round_trip(1000, 64); /* more than the disk has buffers */
    check_round_trip(40960, 64);
}

/* What a page held when it was moved counts, not what is written to it later. */
static void slots_keep_what_was_moved(void **state)
{
    (void)state;
    struct qr_swap_rig rig;

    qr_swap_rig_make(&rig, &(struct qr_swap_rig_config){.page_bytes = 5000,
                                                        .n_pages = 2,
                                                        .host_slots = 2,
                                                        .disk_slots = 2,
                                                        .max_transfers = 1,
                                                        .dir = dir.path});
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        for (uint64_t seed = 10; seed < 14; seed++) {
            qr_swap_rig_fill(&rig, 1, seed);
            assert_true(qr_swap_rig_move(&rig, (enum qr_tier)tier, true, 1, seed & 1));
            qr_swap_rig_fill(&rig, 1, 0);
            assert_true(qr_swap_rig_move(&rig, (enum qr_tier)tier, false, 0, seed & 1));
            assert_true(qr_swap_rig_holds(&rig, 0, seed));
            assert_true(qr_swap_rig_move(&rig, (enum qr_tier)tier, false, 0, seed & 1));
            assert_true(qr_swap_rig_holds(&rig, 0, seed)); /* more than once */
            if (seed > 10) {
                assert_true(qr_swap_rig_move(&rig, (enum qr_tier)tier, false, 0, !(seed & 1)));
                assert_true(qr_swap_rig_holds(&rig, 0, seed - 1)); /* the other slot */
            }
        }
    }
    qr_swap_rig_free(&rig);
}

/* ---- many at once, against an oracle ---- */

enum {
    WORLD_PAGES = 24,
    WORLD_SLOTS = 20, /* of each tier */
    WORLD_TRANSFERS = 23,
    WORLD_STEPS = 4000,
};

struct world {
    struct qr_swap_rig rig;
    uint64_t seed_of_page[WORLD_PAGES];
    bool page_busy[WORLD_PAGES];
    uint64_t seed_of_slot[QR_TIER_COUNT][WORLD_SLOTS]; /* 0: empty */
    bool slot_busy[QR_TIER_COUNT][WORLD_SLOTS];
    struct qr_transfer transfers[WORLD_TRANSFERS];
    bool id_busy[WORLD_TRANSFERS];
    int32_t n_busy;
    uint64_t next_seed;
    unsigned random;
};

static int32_t pick(struct world *world, int32_t below)
{
    world->random = world->random * 1664525u + 1013904223u;
    return (int32_t)((world->random >> 8) % (unsigned)below);
}

/* Submits one random transfer if what was drawn is free. */
static void submit_one(struct world *world)
{
    struct qr_transfer t = {.id = pick(world, WORLD_TRANSFERS),
                            .tier = (enum qr_tier)pick(world, QR_TIER_COUNT),
                            .out = pick(world, 2) == 1,
                            .page = pick(world, WORLD_PAGES),
                            .slot = pick(world, WORLD_SLOTS)};

    if (world->id_busy[t.id] || world->page_busy[t.page] || world->slot_busy[t.tier][t.slot] ||
        (!t.out && world->seed_of_slot[t.tier][t.slot] == 0))
        return;
    if (t.out) {
        world->seed_of_page[t.page] = ++world->next_seed;
        qr_swap_rig_fill(&world->rig, t.page, world->next_seed);
        world->seed_of_slot[t.tier][t.slot] = world->next_seed;
    }
    world->id_busy[t.id] = world->page_busy[t.page] = world->slot_busy[t.tier][t.slot] = true;
    world->transfers[t.id] = t;
    world->n_busy++;
    qr_swapper_submit(world->rig.swapper, &t, 1);
}

static void take_results(struct world *world, const struct qr_transfer_result *results, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const struct qr_transfer *t = &world->transfers[results[i].id];
        assert_true(world->id_busy[t->id]);
        assert_true(results[i].ok);
        if (!t->out)
            world->seed_of_page[t->page] = world->seed_of_slot[t->tier][t->slot];
        assert_true(qr_swap_rig_holds(&world->rig, t->page, world->seed_of_page[t->page]));
        world->id_busy[t->id] = world->page_busy[t->page] = world->slot_busy[t->tier][t->slot] =
            false;
        world->n_busy--;
    }
}

static void random_transfers_match_an_oracle(void **state)
{
    (void)state;
    static struct world world;
    struct qr_transfer_result results[WORLD_TRANSFERS];

    world = (struct world){.random = 1};
    qr_swap_rig_make(&world.rig, &(struct qr_swap_rig_config){.page_bytes = 3000,
                                                              .n_pages = WORLD_PAGES,
                                                              .host_slots = WORLD_SLOTS,
                                                              .disk_slots = WORLD_SLOTS,
                                                              .max_transfers = WORLD_TRANSFERS,
                                                              .dir = dir.path});
    for (int step = 0; step < WORLD_STEPS; step++) {
        int32_t burst = pick(&world, 12);
        for (int32_t i = 0; i < burst; i++)
            submit_one(&world);
        int32_t max = 1 + pick(&world, WORLD_TRANSFERS);
        if (world.n_busy > 0 && pick(&world, 4) == 0)
            take_results(&world, results, qr_swap_rig_wait(&world.rig, results, max));
        else
            take_results(&world, results, qr_swapper_poll(world.rig.swapper, results, max));
    }
    while (world.n_busy > 0)
        take_results(&world, results, qr_swap_rig_wait(&world.rig, results, WORLD_TRANSFERS));
    assert_true(world.next_seed > WORLD_STEPS / 4);
    qr_swap_rig_free(&world.rig);
}

/* ---- figures ---- */

static void transfers_are_counted_and_timed(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    struct qr_swapper_stats stats;

    qr_swap_rig_make(&rig, &(struct qr_swap_rig_config){.page_bytes = 10000,
                                                        .n_pages = 1,
                                                        .host_slots = 3,
                                                        .disk_slots = 2,
                                                        .max_transfers = 2,
                                                        .dir = dir.path});
    qr_swapper_get_stats(rig.swapper, &stats);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        assert_int_equal(stats.out[tier].n_pages + stats.in[tier].n_pages, 0);
        assert_int_equal(stats.out[tier].n_bytes + stats.in[tier].n_bytes, 0);
        assert_true(stats.out[tier].page_ns > 0);
        assert_true(stats.in[tier].page_ns > 0);
        assert_true(stats.out[tier].page_ns < 1e9);
    }
    for (int32_t slot = 0; slot < 3; slot++)
        assert_true(qr_swap_rig_move(&rig, QR_TIER_HOST, true, 0, slot));
    assert_true(qr_swap_rig_move(&rig, QR_TIER_HOST, false, 0, 2));
    assert_true(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 1));
    qr_swapper_get_stats(rig.swapper, &stats);
    assert_int_equal(stats.out[QR_TIER_HOST].n_pages, 3);
    assert_int_equal(stats.out[QR_TIER_HOST].n_bytes, 30000);
    assert_int_equal(stats.in[QR_TIER_HOST].n_pages, 1);
    assert_int_equal(stats.out[QR_TIER_DISK].n_pages, 1);
    assert_int_equal(stats.in[QR_TIER_DISK].n_pages, 0);
    assert_false(stats.disk_failed);
    qr_swap_rig_free(&rig);
}

static void the_average_follows_the_speed(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    struct qr_swapper_stats stats;
    const double slow_ns = 1e6;

    qr_swap_rig_make(&rig,
                     &(struct qr_swap_rig_config){
                         .page_bytes = 100, .n_pages = 1, .host_slots = 1, .max_transfers = 1});
    qr_swapper_set_delay(rig.swapper, (int64_t)slow_ns);
    for (int i = 0; i < 300; i++)
        assert_true(qr_swap_rig_move(&rig, QR_TIER_HOST, true, 0, 0));
    qr_swapper_get_stats(rig.swapper, &stats);
    assert_true(stats.out[QR_TIER_HOST].page_ns > 0.9 * slow_ns);
    assert_true(stats.in[QR_TIER_HOST].page_ns < 0.9 * slow_ns);
    qr_swapper_set_delay(rig.swapper, 0);
    for (int i = 0; i < 300; i++)
        assert_true(qr_swap_rig_move(&rig, QR_TIER_HOST, true, 0, 0));
    qr_swapper_get_stats(rig.swapper, &stats);
    assert_true(stats.out[QR_TIER_HOST].page_ns < 0.5 * slow_ns);
    qr_swap_rig_free(&rig);
}

/* ---- the end ---- */

static void submit_many(struct qr_swap_rig *rig, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        struct qr_transfer t = {.id = i,
                                .tier = (enum qr_tier)(i % QR_TIER_COUNT),
                                .out = true,
                                .page = i,
                                .slot = i / QR_TIER_COUNT};
        qr_swapper_submit(rig->swapper, &t, 1);
    }
}

/* With everything under way, held back, ended or not asked for; nothing is left behind. */
static void destroy_in_the_midst_leaves_nothing(void **state)
{
    (void)state;
    enum { N = 200 };
    int n_files = 0;
    uint64_t n_bytes = 0;

    for (int i = 0; i < 30; i++) {
        struct qr_swap_rig rig;
        qr_swap_rig_make(&rig, &(struct qr_swap_rig_config){.page_bytes = 40960,
                                                            .n_pages = N,
                                                            .host_slots = N,
                                                            .disk_slots = N,
                                                            .max_transfers = N,
                                                            .dir = dir.path});
        if (i % 3 == 1)
            qr_swapper_hold_results(rig.swapper, true);
        submit_many(&rig, N);
        if (i % 3 == 2)
            qr_swap_rig_wait(&rig, &(struct qr_transfer_result){0}, 1);
        qr_swap_rig_free(&rig);
        if (i == 0) {
            n_files = qr_swap_rig_open_files();
            n_bytes = qr_arena_bytes(QR_ARENA_ENGINE);
        }
    }
    assert_int_equal(qr_swap_rig_open_files(), n_files);
    assert_int_equal(qr_arena_bytes(QR_ARENA_ENGINE), n_bytes);
    qr_swapper_destroy(NULL);
}

/* Until so much memory of the host tier is pinned. */
static void wait_for_pinned(struct qr_swap_rig *rig, int32_t n_pieces)
{
    for (int ms = 0; ms < 60000; ms++) {
        pthread_mutex_lock(&rig->mutex);
        int32_t n_pinned = rig->n_pinned;
        pthread_mutex_unlock(&rig->mutex);
        if (n_pinned == n_pieces)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    fail_msg("%d pieces are pinned, not %d", rig->n_pinned, n_pieces);
}

/* 300 MiB in two pieces, and the buffers of the disk; what does not get there goes on as it was. */
static void memory_is_pinned_piece_by_piece(void **state)
{
    (void)state;
    enum { PAGE = 1 << 20, SLOTS = 300 };
    for (int32_t most = 1; most <= 4; most += 3) {
        struct qr_swap_rig rig;
        qr_swap_rig_make(&rig, &(struct qr_swap_rig_config){.page_bytes = PAGE,
                                                            .n_pages = 2,
                                                            .host_slots = SLOTS,
                                                            .disk_slots = 2,
                                                            .max_transfers = 2,
                                                            .dir = dir.path,
                                                            .most_pinned = most});
        wait_for_pinned(&rig, most < 3 ? most : 3);
        if (most == 4) {
            const char *first = rig.pinned[1].memory;
            assert_int_equal(rig.pinned[0].n_bytes, 2 * PAGE);
            assert_ptr_equal(rig.pinned[2].memory, first + rig.pinned[1].n_bytes);
            assert_int_equal(rig.pinned[1].n_bytes + rig.pinned[2].n_bytes, SLOTS * PAGE);
        }
        for (int32_t slot = 0; slot < SLOTS; slot += 255) {
            qr_swap_rig_fill(&rig, 0, (uint64_t)slot);
            assert_true(qr_swap_rig_move(&rig, QR_TIER_HOST, true, 0, slot));
            assert_true(qr_swap_rig_move(&rig, QR_TIER_HOST, false, 1, slot));
            assert_true(qr_swap_rig_holds(&rig, 1, (uint64_t)slot));
        }
        qr_swap_rig_free(&rig);
    }
}

static void held_results_come_when_released(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    struct qr_transfer_result results[8];

    qr_swap_rig_make(&rig, &(struct qr_swap_rig_config){.page_bytes = 100,
                                                        .n_pages = 8,
                                                        .host_slots = 4,
                                                        .disk_slots = 4,
                                                        .max_transfers = 8,
                                                        .dir = dir.path});
    qr_swapper_hold_results(rig.swapper, true);
    submit_many(&rig, 8);
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    assert_int_equal(qr_swapper_poll(rig.swapper, results, 8), 0);
    qr_swapper_hold_results(rig.swapper, false);
    for (int32_t n = 0; n < 8;)
        n += qr_swap_rig_wait(&rig, results, 8);
    qr_swap_rig_free(&rig);
}

/* ---- misuse ---- */

enum misuse {
    NO_MISUSE,
    SAME_ID,
    ID_OUT_OF_RANGE,
    IN_BEFORE_OUT_ENDED,
    OUT_OVER_OUT,
    IN_FROM_EMPTY_SLOT,
    IN_AFTER_FAILED_OUT,
    SLOT_OUT_OF_RANGE,
    MISUSE_COUNT,
};

static void commit(struct qr_swap_rig *rig, enum misuse misuse)
{
    const struct qr_transfer first = {.id = 0, .tier = QR_TIER_HOST, .out = true};
    const struct qr_swap_fault fault = {.kind = QR_SWAP_FAULT_ERROR, .error = EIO};
    struct qr_transfer next = {.id = 1, .tier = QR_TIER_HOST, .out = true, .page = 1, .slot = 1};

    if (misuse == IN_AFTER_FAILED_OUT) {
        qr_swapper_set_fault(rig->swapper, QR_TIER_HOST, true, &fault);
        qr_swap_rig_move(rig, QR_TIER_HOST, true, 0, 1);
    }
    qr_swapper_hold_results(rig->swapper, true);
    qr_swapper_submit(rig->swapper, &first, 1);
    next.id = misuse == SAME_ID ? 0 : misuse == ID_OUT_OF_RANGE ? 2 : 1;
    next.slot = misuse == IN_BEFORE_OUT_ENDED || misuse == OUT_OVER_OUT ? 0
                : misuse == SLOT_OUT_OF_RANGE                           ? 2
                                                                        : 1;
    next.out = misuse != IN_BEFORE_OUT_ENDED && misuse != IN_FROM_EMPTY_SLOT &&
               misuse != IN_AFTER_FAILED_OUT;
    qr_swapper_submit(rig->swapper, &next, 1);
}

/* Each ends the process: pages in the wrong place would be wrong tokens. */
static void misuse_is_caught(void **state)
{
    (void)state;

    for (int misuse = NO_MISUSE; misuse < MISUSE_COUNT; misuse++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct qr_swap_rig rig;
            close(STDERR_FILENO);
            qr_swap_rig_make(
                &rig, &(struct qr_swap_rig_config){
                          .page_bytes = 100, .n_pages = 2, .host_slots = 2, .max_transfers = 2});
            commit(&rig, (enum misuse)misuse);
            qr_swap_rig_free(&rig);
            _exit(EXIT_SUCCESS);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (misuse == NO_MISUSE)
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
        else
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_back_bit_for_bit),
        cmocka_unit_test(slots_keep_what_was_moved),
        cmocka_unit_test(random_transfers_match_an_oracle),
        cmocka_unit_test(transfers_are_counted_and_timed),
        cmocka_unit_test(the_average_follows_the_speed),
        cmocka_unit_test(destroy_in_the_midst_leaves_nothing),
        cmocka_unit_test(memory_is_pinned_piece_by_piece),
        cmocka_unit_test(held_results_come_when_released),
        cmocka_unit_test(misuse_is_caught),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
