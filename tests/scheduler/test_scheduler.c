/* The life of a sequence around the plans: create, add, remove, complete, the figures. */
#include "scheduler/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/block_heap.h"
#include "tests/support/scheduler_rig.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static const struct scheduler_rig_config two_at_a_time = {
    .page_count = 16,
    .scheduler = {.max_batch_tokens = 8, .max_running = 2, .max_waiting = 2, .max_logit_rows = 2},
};

static enum qr_status try_add(struct scheduler_rig *rig, int32_t n_prompt_tokens, qr_seq_id *id)
{
    const struct scheduler_world_request request = {.n_prompt = n_prompt_tokens,
                                                    .max_tokens =
                                                        n_prompt_tokens > 0 ? n_prompt_tokens : 1,
                                                    .n_target = n_prompt_tokens};

    return scheduler_world_add(rig->world, &request, id);
}

static void a_config_out_of_range_is_refused(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct qr_scheduler_config bad[10];

    scheduler_rig_open(&rig, &two_at_a_time);
    for (size_t i = 0; i < N_ELEMENTS(bad); i++)
        bad[i] = two_at_a_time.scheduler;
    bad[0].max_running = 0;
    bad[1].max_running = -1;
    bad[2].max_waiting = 0;
    bad[3].max_waiting = INT32_MAX;
    bad[4].max_batch_tokens = 1; /* fewer than max_running */
    bad[5].max_logit_rows = 1;
    bad[6].max_waiting = 3; /* the block manager has four slots */
    bad[7].max_running = 3;
    bad[8].max_prefill_chunk = -1;
    bad[9].max_stall_ms = -1;
    for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
        struct qr_scheduler *sched = rig.sched;
        assert_int_equal(qr_scheduler_create(&bad[i], rig.blocks, &sched), QR_ERR_INVALID);
        assert_null(sched);
    }
    scheduler_rig_close(&rig);
    qr_scheduler_destroy(NULL);
}

/* Each allocation of create fails once; then all find memory. */
static void memory_that_is_not_there_is_reported_and_nothing_leaks(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct qr_scheduler *sched;

    scheduler_rig_open(&rig, &two_at_a_time);
    int64_t n_live = block_heap_n_live();
    int64_t before = block_heap_n_allocations();
    assert_int_equal(qr_scheduler_create(&two_at_a_time.scheduler, rig.blocks, &sched), QR_OK);
    int64_t n_allocations = block_heap_n_allocations() - before;
    qr_scheduler_destroy(sched);
    assert_true(n_allocations > 5);
    for (int64_t n = 1; n <= n_allocations; n++) {
        sched = rig.sched;
        block_heap_fail_at(n);
        assert_int_equal(qr_scheduler_create(&two_at_a_time.scheduler, rig.blocks, &sched),
                         QR_ERR_NOMEM);
        assert_null(sched);
        assert_int_equal(block_heap_n_live(), n_live);
    }
    block_heap_fail_at(0);
    scheduler_rig_close(&rig);
}

static void nothing_allocates_after_create(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    int64_t before = block_heap_n_allocations();
    scheduler_rig_add(&rig, 20);
    scheduler_rig_add(&rig, 3);
    for (int n = 0; n < 10; n++)
        scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_step(&rig);
    assert_int_equal(block_heap_n_allocations(), before);
    scheduler_rig_close(&rig);
}

static void a_pool_that_cannot_hold_the_longest_sequence_is_refused(void **state)
{
    (void)state;
    struct qr_block_manager_config config = {
        .page_count = 4, .page_size = 8, .max_sequences = 4, .max_seq_tokens = 33};
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;

    assert_int_equal(qr_block_manager_create(&config, &blocks), QR_OK);
    assert_int_equal(qr_scheduler_create(&two_at_a_time.scheduler, blocks, &sched), QR_ERR_INVALID);
    assert_null(sched);
    qr_block_manager_destroy(blocks);

    config.max_seq_tokens = 32;
    assert_int_equal(qr_block_manager_create(&config, &blocks), QR_OK);
    assert_int_equal(qr_scheduler_create(&two_at_a_time.scheduler, blocks, &sched), QR_OK);
    qr_scheduler_destroy(sched);
    qr_block_manager_destroy(blocks);
}

static void a_prompt_out_of_range_is_refused(void **state)
{
    (void)state;
    static const int32_t bad[] = {0, -1, 17};
    struct scheduler_rig rig;
    struct scheduler_rig_config config = two_at_a_time;

    config.max_seq_tokens = 16;
    scheduler_rig_open(&rig, &config);
    for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
        qr_seq_id id = 5;
        assert_int_equal(try_add(&rig, bad[i], &id), QR_ERR_INVALID);
        assert_int_equal(id, -1);
    }
    scheduler_rig_add(&rig, 16);
    scheduler_rig_close(&rig);
}

static void the_queue_of_new_arrivals_is_bounded(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    qr_seq_id id;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add(&rig, 1);
    assert_int_equal(try_add(&rig, 1, &id), QR_ERR_QUEUE_FULL);
    assert_int_equal(id, -1);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+1* 1:0+1* +0 +1");
    assert_int_equal(scheduler_rig_add(&rig, 1), 2);
    assert_int_equal(scheduler_rig_add(&rig, 1), 3);
    assert_int_equal(try_add(&rig, 1, &id), QR_ERR_QUEUE_FULL);
    scheduler_world_remove(rig.world, 2);
    assert_int_equal(scheduler_rig_add(&rig, 1), 2); /* the slot is free again */
    scheduler_rig_close(&rig);
}

static void preempted_sequences_do_not_count_as_new_arrivals(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct qr_scheduler_stats stats;
    struct scheduler_rig_config config = two_at_a_time;
    qr_seq_id id;

    config.page_count = 3;
    config.scheduler.max_batch_tokens = 32;
    config.scheduler.max_waiting = 1;
    config.scheduler.discipline = QR_DISCIPLINE_RECOMPUTE;
    scheduler_rig_open(&rig, &config);
    scheduler_rig_add(&rig, 8);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8* +0");
    scheduler_rig_add(&rig, 7);
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1* 1:0+7* +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:9+1* 1:7+1*");
    assert_string_equal(scheduler_rig_step(&rig), "0:10+1* -1");
    assert_int_equal(scheduler_rig_add(&rig, 1), 2);
    assert_int_equal(try_add(&rig, 1, &id), QR_ERR_QUEUE_FULL);
    qr_scheduler_get_stats(rig.sched, &stats);
    assert_int_equal(stats.n_running, 1);
    assert_int_equal(stats.n_waiting, 2);
    scheduler_rig_close(&rig);
}

/* Paused sequences that lost their pages are the one way to run out of slots. */
static void without_a_free_slot_the_queue_is_full(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct scheduler_rig_config config = two_at_a_time;
    qr_seq_id id;

    config.scheduler.max_running = 1;
    config.scheduler.max_waiting = 1;
    scheduler_rig_open(&rig, &config);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+1* +0");
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+1* =0 +1");
    assert_int_equal(try_add(&rig, 1, &id), QR_ERR_QUEUE_FULL);
    scheduler_world_remove(rig.world, 0);
    assert_int_equal(try_add(&rig, 1, &id), QR_OK);
    assert_int_equal(id, 0);
    scheduler_rig_close(&rig);
}

static void removing_gives_pages_back_in_every_state(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 20);
    scheduler_rig_add(&rig, 3);
    scheduler_world_remove(rig.world, 1); /* waiting */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8 +0");
    assert_int_equal(scheduler_rig_available(&rig), 13);
    scheduler_world_remove(rig.world, 0); /* in the middle of its prefill */
    assert_int_equal(scheduler_rig_available(&rig), 16);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_world_remove(rig.world, 0); /* paused */
    assert_int_equal(scheduler_rig_available(&rig), 15);
    struct qr_scheduler_stats stats;
    qr_scheduler_get_stats(rig.sched, &stats);
    assert_int_equal(stats.n_paused, 0);
    assert_int_equal(stats.n_running, 1);
    scheduler_rig_close(&rig);
}

static void complete_skips_what_was_removed_since_the_plan(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 3);
    scheduler_rig_add(&rig, 7);
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+3* 1:0+5 +0 +1");
    scheduler_world_remove(rig.world, 0);
    assert_int_equal(scheduler_rig_add(&rig, 2), 0); /* the same slot, another sequence */
    scheduler_world_complete(rig.world);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_computed, 0);
    assert_int_equal(scheduler_rig_info(&rig, 0).state, QR_SEQ_WAITING);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 5);
    assert_string_equal(scheduler_rig_plan(&rig), "1:5+2* 0:0+2* +0");
    scheduler_world_remove(rig.world, 0);
    scheduler_world_remove(rig.world, 1);
    scheduler_world_complete(rig.world); /* nobody is left */
    assert_string_equal(scheduler_rig_plan(&rig), "");
    scheduler_rig_close(&rig);
}

static void a_plan_that_was_not_completed_is_planned_again(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 10);
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+8 +0");
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+8");
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+2*");
    scheduler_rig_close(&rig);
}

static void a_sequence_without_its_sampled_token_is_not_planned(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 2);
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+2* +0");
    scheduler_world_complete(rig.world);
    assert_string_equal(scheduler_rig_plan(&rig), "");
    scheduler_world_token(rig.world, 0);
    assert_string_equal(scheduler_rig_plan(&rig), "0:2+1*");
    scheduler_rig_close(&rig);
}

static void the_next_plan_is_made_while_rows_are_under_way(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 3);
    scheduler_rig_add(&rig, 7);
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+3* 1:0+5 +0 +1");
    scheduler_world_launch(rig.world);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_computed, 0);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_under_way, 3);
    assert_string_equal(scheduler_rig_plan(&rig), "0:3+1* 1:5+2*"); /* 0 as if its token had come */
    scheduler_world_complete(rig.world);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_computed, 3);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_under_way, 0);
    scheduler_world_token(rig.world, 0);
    scheduler_world_launch(rig.world);
    assert_string_equal(scheduler_rig_plan(&rig), "0:4+1* 1:7+1*");
    scheduler_world_complete(rig.world);
    scheduler_world_remove(rig.world, 0); /* it has ended: its row is left out */
    scheduler_world_token(rig.world, 1);
    scheduler_rig_compute(&rig);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 8);
    scheduler_rig_close(&rig);
}

/* What ends with the step, or may be forked after it, has no row in the next plan. */
static void who_may_not_go_on_waits_for_the_launched_step(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add_request(&rig, &(struct scheduler_world_request){.n_prompt = 3, .width = 2});
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+3* +0");
    scheduler_world_launch(rig.world);
    assert_string_equal(scheduler_rig_plan(&rig), "");
    scheduler_world_complete(rig.world);
    assert_int_equal(scheduler_world_fork(rig.world, 0, 50), 1);
    scheduler_world_remove(rig.world, 1);
    scheduler_world_remove(rig.world, 0);
    scheduler_rig_add_request(&rig,
                              &(struct scheduler_world_request){.n_prompt = 3, .max_tokens = 3});
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+3* +0");
    scheduler_world_launch(rig.world);
    assert_string_equal(scheduler_rig_plan(&rig), "");
    scheduler_world_complete(rig.world);
    assert_true(rig.world->seqs[0].awaits_token);
    assert_false(rig.world->seqs[0].token_ahead);
    scheduler_rig_close(&rig);
}

static void launched_rows_that_failed_are_abandoned(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &two_at_a_time);
    scheduler_rig_add(&rig, 3);
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+3* +0");
    scheduler_rig_add(&rig, 3);
    struct qr_plan launched = rig.world->plan;
    struct qr_plan plan;
    qr_scheduler_launch(rig.sched, &launched);
    qr_scheduler_plan(rig.sched, 2, &plan);
    assert_int_equal(plan.n_entries, 2);
    scheduler_world_remove(rig.world, 0);
    qr_scheduler_abandon(rig.sched, &launched);
    rig.world->is_planned = false;
    assert_string_equal(scheduler_rig_step(&rig),
                        "1:0+3*"); /* admitted by the plan that was left */
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 3);
    scheduler_rig_close(&rig);
}

static void the_figures_add_up(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct qr_scheduler_stats stats;
    struct scheduler_rig_config config = two_at_a_time;

    config.scheduler.max_running = 1;
    scheduler_rig_open(&rig, &config);
    rig.world->now_ns = 1000;
    scheduler_rig_add(&rig, 6);
    rig.world->now_ns = 1500;
    scheduler_rig_step(&rig);
    scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_world_pause(rig.world, 0, true); /* the same again changes nothing */
    scheduler_rig_add(&rig, 4);
    scheduler_rig_add(&rig, 4);
    rig.world->now_ns = 1800;
    assert_string_equal(scheduler_rig_step(&rig), "1:0+4* =0 +1");

    qr_scheduler_get_stats(rig.sched, &stats);
    assert_int_equal(stats.n_running, 1);
    assert_int_equal(stats.n_waiting, 2);
    assert_int_equal(stats.n_paused, 1);
    assert_int_equal(stats.head_wait_ns, 300); /* of sequence 2 */
    assert_int_equal(stats.n_parked, 1);
    assert_int_equal(stats.n_computed_rows, 11);
    assert_int_equal(stats.n_recomputed_tokens, 0); /* counted when they are computed */
    assert_int_equal(scheduler_rig_info(&rig, 0).n_parked, 1);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_parked, 0);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_computed, 0);
    assert_int_equal(scheduler_rig_info(&rig, 0).state, QR_SEQ_WAITING);
    assert_int_equal(scheduler_rig_info(&rig, 1).state, QR_SEQ_RUNNING);
    scheduler_world_remove(rig.world, 2);
    qr_scheduler_get_stats(rig.sched, &stats);
    assert_int_equal(stats.head_wait_ns, 0);
    scheduler_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_out_of_range_is_refused),
        cmocka_unit_test(memory_that_is_not_there_is_reported_and_nothing_leaks),
        cmocka_unit_test(nothing_allocates_after_create),
        cmocka_unit_test(a_pool_that_cannot_hold_the_longest_sequence_is_refused),
        cmocka_unit_test(a_prompt_out_of_range_is_refused),
        cmocka_unit_test(the_queue_of_new_arrivals_is_bounded),
        cmocka_unit_test(preempted_sequences_do_not_count_as_new_arrivals),
        cmocka_unit_test(without_a_free_slot_the_queue_is_full),
        cmocka_unit_test(removing_gives_pages_back_in_every_state),
        cmocka_unit_test(complete_skips_what_was_removed_since_the_plan),
        cmocka_unit_test(a_plan_that_was_not_completed_is_planned_again),
        cmocka_unit_test(a_sequence_without_its_sampled_token_is_not_planned),
        cmocka_unit_test(the_next_plan_is_made_while_rows_are_under_way),
        cmocka_unit_test(who_may_not_go_on_waits_for_the_launched_step),
        cmocka_unit_test(launched_rows_that_failed_are_abandoned),
        cmocka_unit_test(the_figures_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
