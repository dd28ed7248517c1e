/* Each rule of planning, admission and preemption, with the exact plans it leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/scheduler_rig.h"

/* Pages hold 8 tokens. */
static void open_rig(struct scheduler_rig *rig, int32_t page_count, int32_t max_batch_tokens,
                     int32_t max_running)
{
    const struct scheduler_rig_config config = {
        .page_count = page_count,
        .scheduler = {.max_batch_tokens = max_batch_tokens,
                      .max_running = max_running,
                      .max_waiting = 8,
                      .max_logit_rows = 4},
    };
    scheduler_rig_open(rig, &config);
}

static void step_n(struct scheduler_rig *rig, int32_t n_steps)
{
    for (int32_t i = 0; i < n_steps; i++)
        scheduler_rig_step(rig);
}

static void a_prompt_is_prefilled_in_chunks_and_then_decoded(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 4, 2);
    assert_string_equal(scheduler_rig_step(&rig), "");
    scheduler_rig_add(&rig, 6);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+4 +0");
    assert_string_equal(scheduler_rig_step(&rig), "0:4+2*");
    assert_string_equal(scheduler_rig_step(&rig), "0:6+1*");
    assert_string_equal(scheduler_rig_step(&rig), "0:7+1*");
    scheduler_rig_close(&rig);
}

static void a_long_prompt_does_not_stall_decodes(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 4, 2);
    scheduler_rig_add(&rig, 2);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+2* +0");
    scheduler_rig_add(&rig, 11);
    assert_string_equal(scheduler_rig_step(&rig), "0:2+1* 1:0+3 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:3+1* 1:3+3");
    assert_string_equal(scheduler_rig_step(&rig), "0:4+1* 1:6+3");
    assert_string_equal(scheduler_rig_step(&rig), "0:5+1* 1:9+2*");
    assert_string_equal(scheduler_rig_step(&rig), "0:6+1* 1:11+1*");
    scheduler_rig_close(&rig);
}

static void prefills_share_what_is_left_oldest_first(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 8, 3);
    scheduler_rig_add(&rig, 5);
    scheduler_rig_add(&rig, 6);
    scheduler_rig_add(&rig, 5);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+5* 1:0+3 +0 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:5+1* 1:3+3* 2:0+4 +2");
    assert_string_equal(scheduler_rig_step(&rig), "0:6+1* 1:6+1* 2:4+1*");
    scheduler_rig_close(&rig);
}

static void a_chunk_may_be_bounded_so_that_prefills_share_a_step(void **state)
{
    (void)state;
    const struct scheduler_rig_config config = {
        .page_count = 16,
        .scheduler = {.max_batch_tokens = 8,
                      .max_running = 3,
                      .max_waiting = 8,
                      .max_logit_rows = 4,
                      .max_prefill_chunk = 3},
    };
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &config);
    scheduler_rig_add(&rig, 5);
    scheduler_rig_add(&rig, 6);
    scheduler_rig_add(&rig, 5);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+3 1:0+3 2:0+2 +0 +1 +2");
    assert_string_equal(scheduler_rig_step(&rig), "0:3+2* 1:3+3* 2:2+3*");
    scheduler_rig_close(&rig);
}

/* A prefill is one of the max_running, so the decodes are fewer than max_batch_tokens. */
static void a_prefill_gets_a_row_when_the_batch_is_as_small_as_it_may_be(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 3, 3);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+1* 1:0+1* +0 +1");
    scheduler_rig_add(&rig, 3);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "0:1+1* 1:1+1* 2:0+1 +2");
    assert_string_equal(scheduler_rig_step(&rig), "0:2+1* 1:2+1* 2:1+1");
    assert_string_equal(scheduler_rig_step(&rig), "0:3+1* 1:3+1* 2:2+1*");
    assert_string_equal(scheduler_rig_step(&rig), "0:4+1* 1:4+1* 2:3+1*");
    scheduler_rig_close(&rig);
}

static void logit_rows_are_bounded(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 16, 3); /* four logit rows */
    scheduler_rig_add_scored(&rig, 6);
    scheduler_rig_add(&rig, 3);
    scheduler_rig_add_scored(&rig, 2);
    /* The row of 1 that samples would be the fifth, and any row of 2. */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+4 1:0+2 +0 +1");
    assert_string_equal(scheduler_rig_step(&rig), "1:2+1* 0:4+2* 2:0+1 +2");
    assert_string_equal(scheduler_rig_step(&rig), "0:6+1* 1:3+1* 2:1+1*");
    scheduler_rig_close(&rig);
}

static void a_recomputed_score_counts_its_prompt_rows_and_the_sampling_one(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 16, 1); /* four logit rows */
    scheduler_rig_add_scored(&rig, 4);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+4* +0");
    assert_string_equal(scheduler_rig_step(&rig), "0:4+1*");
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+1* -0 +1");
    scheduler_world_remove(rig.world, 1);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+5 +0"); /* six are known */
    assert_string_equal(scheduler_rig_step(&rig), "0:5+1*");
    scheduler_rig_close(&rig);
}

static void admission_needs_the_pages_of_all_known_tokens_and_one(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 64, 4);
    scheduler_rig_add(&rig, 8);  /* two pages */
    scheduler_rig_add(&rig, 15); /* two pages */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8* 1:0+15* +0 +1");
    assert_int_equal(scheduler_rig_available(&rig), 0);
    scheduler_world_remove(rig.world, 1);
    scheduler_rig_add(&rig, 16); /* three pages: one too many */
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1*");
    assert_int_equal(scheduler_rig_available(&rig), 2); /* none was taken */
    scheduler_rig_close(&rig);
}

static void nobody_overtakes_the_head_of_the_queue(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 64, 4);
    scheduler_rig_add(&rig, 8);
    scheduler_rig_add(&rig, 16);
    scheduler_rig_add(&rig, 1); /* would fit beside 0 */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8* +0");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1*");
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+16* 2:0+1* +1 +2");
    scheduler_rig_close(&rig);
}

static void no_more_than_max_running_run(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 64, 2);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+1* 1:0+1* +0 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:1+1* 1:1+1*");
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "1:2+1* 2:0+1* +2");
    scheduler_rig_close(&rig);
}

static void a_sequence_may_grow_to_the_whole_pool(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 2, 64, 1);
    scheduler_rig_add(&rig, 15);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+15* +0");
    assert_string_equal(scheduler_rig_plan(&rig), "0:15+1*");
    scheduler_world_remove(rig.world, 0);
    scheduler_rig_add(&rig, 16); /* no room for one more, nor any use for it */
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+16* +0");
    scheduler_rig_close(&rig);
}

static void a_decode_without_a_page_preempts_the_last_admitted(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 64, 3);
    for (int i = 0; i < 3; i++)
        scheduler_rig_add(&rig, 7); /* a page each */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+7* 1:0+7* 2:0+7* +0 +1 +2");
    assert_string_equal(scheduler_rig_step(&rig), "0:7+1* 1:7+1* 2:7+1*");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1* 1:8+1* -2");
    scheduler_rig_add(&rig, 1); /* 3: comes after the preempted ones */
    step_n(&rig, 7);
    assert_string_equal(scheduler_rig_step(&rig), "0:16+1* -1");
    assert_int_equal(scheduler_rig_available(&rig), 1);
    assert_string_equal(scheduler_rig_step(&rig), "0:17+1*"); /* 3 would fit: no overtaking */
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+17* +1"); /* older than 2 */
    scheduler_world_remove(rig.world, 1);
    assert_string_equal(scheduler_rig_step(&rig), "2:0+9* 3:0+1* +2 +3");
    scheduler_rig_close(&rig);
}

static void the_last_admitted_gives_way_itself(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 3, 64, 2);
    scheduler_rig_add(&rig, 14); /* two pages */
    scheduler_rig_add(&rig, 7);  /* one */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+14* 1:0+7* +0 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:14+1* 1:7+1*");
    assert_string_equal(scheduler_rig_step(&rig), "0:15+1* -1");
    assert_string_equal(scheduler_rig_step(&rig), "0:16+1*");
    scheduler_rig_close(&rig);
}

static void a_prefill_may_be_the_victim(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 3, 3, 2);
    scheduler_rig_add(&rig, 7);
    step_n(&rig, 3); /* the prompt in chunks of three */
    scheduler_rig_add(&rig, 12);
    assert_string_equal(scheduler_rig_step(&rig), "0:7+1* 1:0+2 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1* -1");
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 0);
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+3 +1");
    scheduler_rig_close(&rig);
}

/* The older one is never preempted, the younger one not again before the older has gone. */
static void two_sequences_do_not_preempt_each_other_in_turn(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 64, 2);
    scheduler_rig_add(&rig, 8);
    scheduler_rig_add(&rig, 8);
    step_n(&rig, 24);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_computed, 31);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_recomputed, 0);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_recomputed, 1);
    assert_int_equal(scheduler_rig_info(&rig, 1).state, QR_SEQ_WAITING);
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+17* +1");
    step_n(&rig, 14);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 31);
    scheduler_rig_close(&rig);
}

static void a_paused_sequence_keeps_its_pages_and_its_place(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 8, 2);
    scheduler_rig_add(&rig, 10);
    scheduler_rig_add(&rig, 2);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8 +0");
    scheduler_world_pause(rig.world, 0, true);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+2* +1");
    assert_string_equal(scheduler_rig_step(&rig), "1:2+1*");
    assert_int_equal(qr_block_manager_n_blocks(rig.blocks, 0), 2);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "1:3+1* 0:8+2*");
    assert_string_equal(scheduler_rig_step(&rig), "0:10+1* 1:4+1*");
    scheduler_world_pause(rig.world, 0, true);
    scheduler_world_pause(rig.world, 1, true);
    assert_string_equal(scheduler_rig_step(&rig), "");
    scheduler_rig_close(&rig);
}

static void a_paused_arrival_lets_others_pass(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 8, 3);
    scheduler_rig_add(&rig, 1);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+1* +1");
    scheduler_rig_add(&rig, 1);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "1:1+1* 0:0+1* 2:0+1* +0 +2");
    scheduler_rig_close(&rig);
}

static void a_preempted_paused_sequence_does_not_block_the_queue(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 3, 64, 3);
    scheduler_rig_add(&rig, 7);  /* one page */
    scheduler_rig_add(&rig, 14); /* two */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+7* 1:0+14* +0 +1");
    scheduler_world_pause(rig.world, 1, true);
    assert_string_equal(scheduler_rig_step(&rig), "0:7+1*");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1* -1");
    scheduler_rig_add(&rig, 3);
    assert_string_equal(scheduler_rig_step(&rig), "0:9+1* 2:0+3* +2");
    scheduler_world_pause(rig.world, 1, false);
    assert_string_equal(scheduler_rig_step(&rig), "0:10+1* 2:3+1*"); /* now it waits for pages */
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "2:4+1* 1:0+15* +1");
    assert_string_equal(scheduler_rig_step(&rig), "1:15+1* 2:5+1*"); /* as old as it was */
    scheduler_rig_close(&rig);
}

static void paused_sequences_give_way_when_nothing_else_can_run(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 4, 64, 3);
    scheduler_rig_add(&rig, 8); /* two pages */
    scheduler_rig_add(&rig, 5); /* one */
    scheduler_rig_add(&rig, 8); /* two: waits */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8* 1:0+5* +0 +1");
    scheduler_world_pause(rig.world, 0, true);
    assert_string_equal(scheduler_rig_step(&rig), "1:5+1*"); /* something runs: 0 stays */
    scheduler_world_pause(rig.world, 1, true);
    assert_string_equal(scheduler_rig_step(&rig), "2:0+8* -1 +2"); /* no more than needed */
    assert_int_equal(scheduler_rig_info(&rig, 0).state, QR_SEQ_RUNNING);
    scheduler_rig_close(&rig);
}

static void paused_sequences_give_up_their_places_too(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 64, 1);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_add(&rig, 1);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+1* -0 +1");
    scheduler_rig_close(&rig);
}

static void the_oldest_that_can_run_takes_pages_from_paused_ones(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 3, 64, 2);
    scheduler_rig_add(&rig, 14); /* two pages */
    scheduler_rig_add(&rig, 7);  /* one */
    scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    assert_string_equal(scheduler_rig_step(&rig), "1:7+1*");
    assert_string_equal(scheduler_rig_step(&rig), "1:8+1* -0");
    scheduler_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_prefilled_in_chunks_and_then_decoded),
        cmocka_unit_test(a_long_prompt_does_not_stall_decodes),
        cmocka_unit_test(prefills_share_what_is_left_oldest_first),
        cmocka_unit_test(a_chunk_may_be_bounded_so_that_prefills_share_a_step),
        cmocka_unit_test(a_prefill_gets_a_row_when_the_batch_is_as_small_as_it_may_be),
        cmocka_unit_test(logit_rows_are_bounded),
        cmocka_unit_test(a_recomputed_score_counts_its_prompt_rows_and_the_sampling_one),
        cmocka_unit_test(admission_needs_the_pages_of_all_known_tokens_and_one),
        cmocka_unit_test(nobody_overtakes_the_head_of_the_queue),
        cmocka_unit_test(no_more_than_max_running_run),
        cmocka_unit_test(a_sequence_may_grow_to_the_whole_pool),
        cmocka_unit_test(a_decode_without_a_page_preempts_the_last_admitted),
        cmocka_unit_test(the_last_admitted_gives_way_itself),
        cmocka_unit_test(a_prefill_may_be_the_victim),
        cmocka_unit_test(two_sequences_do_not_preempt_each_other_in_turn),
        cmocka_unit_test(a_paused_sequence_keeps_its_pages_and_its_place),
        cmocka_unit_test(a_paused_arrival_lets_others_pass),
        cmocka_unit_test(a_preempted_paused_sequence_does_not_block_the_queue),
        cmocka_unit_test(paused_sequences_give_way_when_nothing_else_can_run),
        cmocka_unit_test(paused_sequences_give_up_their_places_too),
        cmocka_unit_test(the_oldest_that_can_run_takes_pages_from_paused_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
