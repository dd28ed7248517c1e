/* What admission asks of sequences that give their pages back as a window passes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "scheduler/scheduler.h"
#include "tests/support/scheduler_rig.h"

/* Sequences of 25 pages in a pool of 8; each holds at most 4 at one time. */
static const struct scheduler_rig_config eight_pages = {
    .page_count = 8,
    .max_seq_tokens = 200,
    .window = 6,
    .scheduler = {.max_batch_tokens = 16,
                  .max_running = 2,
                  .max_waiting = 2,
                  .max_logit_rows = 2,
                  .max_prefill_chunk = 8},
};

/* Until all have their longest output, without a preemption; in how many steps. */
static int32_t run(struct scheduler_rig *rig)
{
    int32_t n_steps = 0;

    for (; *scheduler_rig_plan(rig) != '\0'; n_steps++) {
        assert_int_equal(rig->world->plan.n_preempted, 0);
        assert_true(n_steps < 1000);
        scheduler_rig_compute(rig);
    }
    return n_steps;
}

static void a_pool_has_to_hold_what_one_sequence_holds_at_one_time(void **state)
{
    struct qr_block_manager_config blocks = {.page_count = 4,
                                             .page_size = 8,
                                             .max_sequences = 4,
                                             .max_seq_tokens = 200,
                                             .window = 6,
                                             .max_rows = 8};
    struct qr_block_manager *mgr;
    struct qr_scheduler *sched;

    (void)state;
    assert_int_equal(qr_scheduler_max_rows(&eight_pages.scheduler), 8);
    assert_int_equal(qr_block_manager_most_held(&blocks), 4);
    for (int32_t i = 0; i < 3; i++) {
        blocks.page_count = i == 1 ? 3 : 4;
        blocks.max_rows = i == 2 ? 7 : 8; /* of the chunks of 8 that are planned */
        assert_int_equal(qr_block_manager_create(&blocks, &mgr), QR_OK);
        assert_int_equal(qr_scheduler_create(&eight_pages.scheduler, mgr, &sched),
                         i == 0 ? QR_OK : QR_ERR_INVALID);
        qr_scheduler_destroy(sched);
        qr_block_manager_destroy(mgr);
    }
}

/* Without a window not even one would be admitted. */
static void two_that_are_longer_than_the_pool_run_side_by_side(void **state)
{
    struct scheduler_rig rig;

    (void)state;
    struct scheduler_rig_config config = eight_pages;
    config.page_count = 10; /* one more for each that runs: what admission keeps back */
    scheduler_rig_open(&rig, &config);
    scheduler_rig_add(&rig, 100);
    scheduler_rig_add(&rig, 100);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8 1:0+8 +0 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+8 1:8+8");
    assert_int_equal(run(&rig), 11 + 100);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 200);
    scheduler_rig_close(&rig);
}

static void a_quota_counts_what_is_held_at_one_time(void **state)
{
    struct scheduler_rig rig;
    qr_seq_id id;
    const struct scheduler_world_request request = {
        .n_prompt = 150, .max_tokens = 200, .n_target = 200, .tenant = 1};

    (void)state;
    scheduler_rig_open(&rig, &eight_pages);
    qr_scheduler_set_tenant(rig.sched, 1, 1, 3);
    assert_int_equal(scheduler_world_add(rig.world, &request, &id), QR_ERR_UNSUPPORTED);
    qr_scheduler_set_tenant(rig.sched, 1, 1, 4);
    assert_int_equal(scheduler_world_add(rig.world, &request, &id), QR_OK);
    run(&rig);
    assert_int_equal(scheduler_rig_info(&rig, id).n_computed, 200);
    scheduler_rig_close(&rig);
}

/* The discipline that reserves the longest output reserves as many pages as it holds at one time.
 */
static void reserving_asks_for_no_more(void **state)
{
    struct scheduler_rig rig;

    (void)state;
    struct scheduler_rig_config config = eight_pages;
    config.scheduler.discipline = QR_DISCIPLINE_RESERVE;
    scheduler_rig_open(&rig, &config);
    scheduler_rig_add(&rig, 20);
    scheduler_rig_add(&rig, 20);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8 1:0+8 +0 +1");
    assert_int_equal(scheduler_rig_available(&rig), 0);
    run(&rig);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 200);
    scheduler_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_has_to_hold_what_one_sequence_holds_at_one_time),
        cmocka_unit_test(two_that_are_longer_than_the_pool_run_side_by_side),
        cmocka_unit_test(a_quota_counts_what_is_held_at_one_time),
        cmocka_unit_test(reserving_asks_for_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
