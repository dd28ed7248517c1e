/* Each rule of planning, admission and preemption, with the exact plans it leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/scheduler_rig.h"

/* Pages hold 8 tokens. */
static void open_with(struct scheduler_rig *rig, enum qr_discipline discipline, int32_t page_count,
                      int32_t host_slots, int32_t max_batch_tokens, int32_t max_running)
{
    const struct scheduler_rig_config config = {
        .page_count = page_count,
        .host_slots = host_slots,
        .scheduler = {.max_batch_tokens = max_batch_tokens,
                      .max_running = max_running,
                      .max_waiting = 8,
                      .max_logit_rows = 4,
                      .discipline = discipline},
    };
    scheduler_rig_open(rig, &config);
}

static void open_rig(struct scheduler_rig *rig, int32_t page_count, int32_t max_batch_tokens,
                     int32_t max_running)
{
    open_with(rig, QR_DISCIPLINE_COST, page_count, 0, max_batch_tokens, max_running);
}

/* Admits as soon as the prompt fits; the last gives way. */
static void open_recompute_rig(struct scheduler_rig *rig, int32_t page_count,
                               int32_t max_batch_tokens, int32_t max_running)
{
    open_with(rig, QR_DISCIPLINE_RECOMPUTE, page_count, 0, max_batch_tokens, max_running);
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
    assert_string_equal(scheduler_rig_step(&rig), "1:0+1* =0 +1");
    scheduler_world_remove(rig.world, 1);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "0:5+1* +0"); /* scored already: found again */
    scheduler_rig_close(&rig);
}

static void admission_needs_the_pages_of_all_known_tokens_and_one(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_recompute_rig(&rig, 4, 64, 4);
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

    open_recompute_rig(&rig, 4, 64, 4);
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

    open_recompute_rig(&rig, 4, 64, 3);
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
    assert_string_equal(scheduler_rig_step(&rig),
                        "1:8+9* +1"); /* older than 2; a full page is left */
    scheduler_world_remove(rig.world, 1);
    assert_string_equal(scheduler_rig_step(&rig), "2:0+9* 3:0+1* +2 +3");
    scheduler_rig_close(&rig);
}

static void the_last_admitted_gives_way_itself(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_recompute_rig(&rig, 3, 64, 2);
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

    open_recompute_rig(&rig, 3, 3, 2);
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

    open_recompute_rig(&rig, 4, 64, 2);
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

/* Where costs are weighed, an admission leaves one page for each that runs. */
static void an_admission_leaves_a_page_for_each_that_runs(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 5, 64, 4);
    scheduler_rig_add(&rig, 8);  /* two pages */
    scheduler_rig_add(&rig, 15); /* two pages, and one must stay: just so */
    scheduler_rig_add(&rig, 1);  /* would leave none of two */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8* 1:0+15* +0 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:8+1* 1:15+1*");
    scheduler_world_remove(rig.world, 1);
    assert_string_equal(scheduler_rig_step(&rig), "0:9+1* 2:0+1* +2");
    scheduler_rig_close(&rig);
}

static void a_paused_sequence_is_parked_and_comes_back_by_its_rank(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 8, 2);
    scheduler_rig_add(&rig, 10);
    scheduler_rig_add(&rig, 2);
    scheduler_rig_add(&rig, 2);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+8 +0");
    scheduler_world_pause(rig.world, 0, true);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+2* 2:0+2* =0 +1 +2");
    assert_int_equal(scheduler_rig_info(&rig, 0).state, QR_SEQ_WAITING);
    assert_int_equal(scheduler_rig_info(&rig, 0).n_parked, 1);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "1:2+1* 2:2+1*"); /* both places are taken */
    scheduler_world_remove(rig.world, 1);
    assert_string_equal(scheduler_rig_step(&rig),
                        "2:3+1* 0:8+2* +0"); /* its page was there still */
    scheduler_world_pause(rig.world, 0, true);
    scheduler_world_pause(rig.world, 2, true);
    assert_string_equal(scheduler_rig_step(&rig), "=0 =2");
    assert_string_equal(scheduler_rig_step(&rig), "");
    scheduler_rig_close(&rig);
}

/* Its pages leave for host memory at once, and are loaded when its reader reads again. */
static void a_parked_sequence_is_moved_out_and_loaded_again(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_with(&rig, QR_DISCIPLINE_COST, 4, 8, 64, 2);
    scheduler_rig_add(&rig, 12);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+12* +0");
    scheduler_world_pause(rig.world, 0, true);
    assert_string_equal(scheduler_rig_step(&rig), "=0 >2");
    scheduler_rig_end_transfers(&rig, true);
    scheduler_rig_add(&rig, 30); /* the whole pool */
    assert_string_equal(scheduler_rig_step(&rig), "1:0+30* +1");
    scheduler_world_remove(rig.world, 1);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "+0 <2");
    assert_int_equal(scheduler_rig_info(&rig, 0).state, QR_SEQ_LOADING);
    assert_string_equal(scheduler_rig_step(&rig), ""); /* nothing else to run */
    scheduler_rig_end_transfers(&rig, true);
    assert_string_equal(scheduler_rig_step(&rig), "0:12+1*");
    scheduler_rig_close(&rig);
}

static void others_run_while_one_loads(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_with(&rig, QR_DISCIPLINE_COST, 8, 8, 64, 2);
    scheduler_rig_add(&rig, 12);
    scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_step(&rig);
    scheduler_rig_end_transfers(&rig, true);
    scheduler_rig_add(&rig, 60); /* the whole pool */
    assert_string_equal(scheduler_rig_step(&rig), "1:0+60* +1");
    scheduler_world_remove(rig.world, 1);
    scheduler_rig_add(&rig, 3);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+3* +1");
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "1:3+1* +0 <2");
    assert_string_equal(scheduler_rig_step(&rig), "1:4+1*");
    scheduler_rig_end_transfers(&rig, true);
    assert_string_equal(scheduler_rig_step(&rig), "0:12+1* 1:5+1*");
    scheduler_rig_close(&rig);
}

static void what_could_not_be_loaded_is_computed(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct qr_scheduler_stats stats;

    open_with(&rig, QR_DISCIPLINE_COST, 4, 8, 64, 2);
    scheduler_rig_add(&rig, 12);
    scheduler_rig_step(&rig);
    scheduler_world_pause(rig.world, 0, true);
    scheduler_rig_step(&rig);
    scheduler_rig_end_transfers(&rig, true);
    scheduler_rig_add(&rig, 30);
    scheduler_rig_step(&rig);
    scheduler_world_remove(rig.world, 1);
    scheduler_world_pause(rig.world, 0, false);
    assert_string_equal(scheduler_rig_step(&rig), "+0 <2");
    scheduler_rig_end_transfers(&rig, false);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+13* -0 +0");
    qr_scheduler_get_stats(rig.sched, &stats);
    assert_int_equal(stats.n_load_failures, 1);
    assert_int_equal(stats.n_recomputed_tokens, 12);
    scheduler_rig_close(&rig);
}

static void priorities_go_first_whenever_they_come(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 64, 1);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add_request(&rig,
                              &(struct scheduler_world_request){.n_prompt = 2, .priority = -1});
    scheduler_rig_add(&rig, 3);
    scheduler_rig_add_request(&rig,
                              &(struct scheduler_world_request){.n_prompt = 4, .priority = 2});
    assert_string_equal(scheduler_rig_step(&rig), "3:0+4* +3");
    scheduler_world_remove(rig.world, 3);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+1* +0");
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "2:0+3* +2");
    scheduler_world_remove(rig.world, 2);
    assert_string_equal(scheduler_rig_step(&rig), "1:0+2* +1");
    scheduler_rig_close(&rig);
}

/* A sequence of lower priority makes room, one that is equal does not. */
static void lower_priorities_make_room_for_an_arrival(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 8, 64, 4);
    scheduler_rig_add(&rig, 24); /* four pages */
    scheduler_rig_add(&rig, 6);  /* one */
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+24* 1:0+6* +0 +1");
    scheduler_world_complete(rig.world);
    scheduler_world_token(rig.world, 1); /* the token of 0 is not there yet */
    scheduler_rig_add(&rig, 20);         /* three pages, and two to stay */
    assert_string_equal(scheduler_rig_step(&rig), "1:6+1*");
    scheduler_rig_add_request(&rig,
                              &(struct scheduler_world_request){.n_prompt = 20, .priority = 1});
    assert_string_equal(scheduler_rig_step(&rig), "1:7+1*"); /* it finds no room */
    assert_string_equal(scheduler_rig_step(&rig), "1:8+1* 3:0+20* -0 +3");
    scheduler_rig_close(&rig);
}

/* Also one that decodes: before its next row is planned. */
static void a_decode_of_lower_priority_makes_room(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 8, 64, 4);
    scheduler_rig_add(&rig, 40); /* six pages with its next token */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+40* +0");
    scheduler_rig_add_request(&rig,
                              &(struct scheduler_world_request){.n_prompt = 20, .priority = 1});
    assert_string_equal(scheduler_rig_step(&rig), "0:40+1*");
    assert_string_equal(scheduler_rig_step(&rig), "1:0+20* -0 +1");
    scheduler_rig_close(&rig);
}

/* A tenant's next arrival starts where its last one finishes: the other's comes between. */
static void tenants_take_turns(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    const struct scheduler_world_request of_one = {.n_prompt = 8, .max_tokens = 16, .tenant = 1};
    const struct scheduler_world_request of_two = {.n_prompt = 8, .max_tokens = 16, .tenant = 2};

    open_rig(&rig, 16, 64, 1);
    for (int n = 0; n < 3; n++)
        scheduler_rig_add_request(&rig, &of_one); /* 0, 1, 2 */
    for (int n = 0; n < 3; n++)
        scheduler_rig_add_request(&rig, &of_two); /* 3, 4, 5 */
    static const char *const plans[] = {"0:0+8* +0", "3:0+8* +3", "1:0+8* +1",
                                        "4:0+8* +4", "2:0+8* +2", "5:0+8* +5"};
    static const qr_seq_id order[] = {0, 3, 1, 4, 2, 5};
    for (int n = 0; n < 6; n++) {
        assert_string_equal(scheduler_rig_step(&rig), plans[n]);
        scheduler_world_remove(rig.world, order[n]);
    }
    scheduler_rig_close(&rig);
}

static void a_weight_is_a_share(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    const struct scheduler_world_request of_one = {.n_prompt = 8, .max_tokens = 16, .tenant = 1};
    const struct scheduler_world_request of_two = {.n_prompt = 8, .max_tokens = 16, .tenant = 2};

    open_rig(&rig, 16, 64, 1);
    qr_scheduler_set_tenant(rig.sched, 2, 2, 0);
    for (int n = 0; n < 3; n++)
        scheduler_rig_add_request(&rig, &of_one); /* start at 0, 16, 32 */
    for (int n = 0; n < 4; n++)
        scheduler_rig_add_request(&rig, &of_two); /* start at 0, 8, 16, 24 */
    static const qr_seq_id order[] = {0, 3, 4, 1, 5, 6, 2};
    for (int n = 0; n < 7; n++) {
        scheduler_rig_step(&rig);
        assert_int_equal(rig.world->plan.n_admitted, 1);
        assert_int_equal(rig.world->plan.admitted[0], order[n]);
        for (int k = 0; k < 8; k++) /* to the end: all that was asked for is used */
            scheduler_rig_step(&rig);
        scheduler_world_remove(rig.world, order[n]);
    }
    scheduler_rig_close(&rig);
}

static void a_tenant_at_its_quota_is_passed_over(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct scheduler_world_request request = {.n_prompt = 10, .max_tokens = 16, .tenant = 1};
    qr_seq_id id;

    open_rig(&rig, 16, 64, 4);
    qr_scheduler_set_tenant(rig.sched, 1, 1, 3);
    scheduler_rig_add_request(&rig, &request);
    scheduler_rig_add_request(&rig, &request); /* two pages more: one too many */
    scheduler_rig_add(&rig, 10);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+10* 2:0+10* +0 +2");
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "2:10+1* 1:0+10* +1");
    request.max_tokens = 25; /* four pages: never */
    request.n_target = 25;
    assert_int_equal(scheduler_world_add(rig.world, &request, &id), QR_ERR_UNSUPPORTED);
    scheduler_rig_close(&rig);
}

/* It would miss its time if it waited for half of it; the next goes by rank. */
static void an_urgent_arrival_goes_first_but_never_twice_in_a_row(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    const int64_t ms = 1000 * 1000;
    const struct scheduler_world_request urgent = {
        .n_prompt = 1, .max_tokens = 8, .first_token_ns = 100 * ms, .tenant = 1};
    const struct scheduler_world_request other = {
        .n_prompt = 1, .max_tokens = 8, .first_token_ns = 100 * ms, .tenant = 2};

    open_rig(&rig, 16, 64, 1);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_step(&rig);
    scheduler_rig_add(&rig, 1); /* 1 */
    scheduler_rig_add(&rig, 1); /* 2 */
    scheduler_rig_add_request(&rig, &urgent);
    scheduler_rig_add_request(&rig, &other);
    rig.world->now_ns = 60 * ms;
    scheduler_world_remove(rig.world, 0);
    assert_string_equal(scheduler_rig_step(&rig), "3:0+1* +3");
    scheduler_world_remove(rig.world, 3);
    scheduler_rig_step(&rig);
    assert_int_equal(rig.world->plan.admitted[0], 4); /* by rank: its tenant has used least */
    scheduler_rig_close(&rig);
}

/* Forks share all; the parent writes on, the child copies one page. */
static void a_fork_copies_the_last_page(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 16, 64, 3);
    scheduler_rig_add_request(&rig, &(struct scheduler_world_request){.n_prompt = 12, .width = 3});
    assert_string_equal(scheduler_rig_plan(&rig), "0:0+12* +0");
    scheduler_world_complete(rig.world);
    assert_int_equal(scheduler_world_fork(rig.world, 0, 50), 1);
    assert_int_equal(scheduler_world_fork(rig.world, 0, 51), 2);
    assert_false(scheduler_world_can_fork(rig.world, 0));
    for (qr_seq_id id = 0; id < 3; id++)
        scheduler_world_token(rig.world, id);
    assert_string_equal(scheduler_rig_step(&rig), "0:12+1* 1:12+1* 2:12+1* #2");
    assert_string_equal(scheduler_rig_step(&rig), "0:13+1* 1:13+1* 2:13+1*");
    assert_string_equal(scheduler_rig_plan(&rig), "0:14+1* 1:14+1* 2:14+1*");
    scheduler_world_remove(rig.world, 1);
    scheduler_world_complete(rig.world);
    scheduler_rig_close(&rig);
}

/* Slots that a width sets aside are nobody else's until end_forks. */
static void a_width_sets_slots_aside(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    struct scheduler_world_request wide = {
        .n_prompt = 1, .max_tokens = 8, .n_target = 8, .width = 3};
    qr_seq_id id;

    open_rig(&rig, 16, 64, 3); /* eight may wait */
    assert_int_equal(scheduler_world_add(rig.world, &wide, &id), QR_OK);
    assert_int_equal(scheduler_world_add(rig.world, &wide, &id), QR_OK);
    assert_int_equal(scheduler_world_add(rig.world, &wide, &id), QR_ERR_QUEUE_FULL);
    scheduler_rig_add(&rig, 1);
    scheduler_rig_add(&rig, 1);
    assert_int_equal(scheduler_world_add(rig.world, &wide, &id), QR_ERR_QUEUE_FULL);
    scheduler_rig_close(&rig);
}

static void shared_prompts_are_computed_once(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    const struct scheduler_rig_config config = {
        .page_count = 16,
        .prefix_cache = true,
        .scheduler = {.max_batch_tokens = 64,
                      .max_running = 4,
                      .max_waiting = 8,
                      .max_logit_rows = 4},
    };
    const struct scheduler_world_request chat = {.document = 1, .cut = 20, .n_prompt = 24};

    scheduler_rig_open(&rig, &config);
    scheduler_rig_add_request(&rig, &chat);
    assert_string_equal(scheduler_rig_step(&rig), "0:0+24* +0");
    scheduler_rig_add_request(&rig, &chat);
    assert_string_equal(scheduler_rig_step(&rig), "0:24+1* 1:20+4* +1 #1");
    assert_int_equal(scheduler_rig_info(&rig, 1).n_cached_prompt_tokens, 20);
    scheduler_rig_close(&rig);
}

static void the_maximum_is_reserved_where_that_is_the_discipline(void **state)
{
    (void)state;
    struct scheduler_rig rig;
    const struct scheduler_world_request request = {.n_prompt = 4, .max_tokens = 32};

    open_with(&rig, QR_DISCIPLINE_RESERVE, 10, 0, 64, 4);
    for (int n = 0; n < 3; n++)
        scheduler_rig_add_request(&rig, &request); /* four pages each */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+4* 1:0+4* +0 +1");
    assert_int_equal(scheduler_rig_available(&rig), 2);
    step_n(&rig, 27);
    assert_int_equal(scheduler_rig_available(&rig), 2); /* and nobody was preempted */
    assert_int_equal(scheduler_rig_info(&rig, 0).n_computed, 31);
    assert_int_equal(scheduler_rig_info(&rig, 1).n_computed, 31);
    scheduler_rig_close(&rig);
}

/* Two decodes outgrow the pool; costs say how the second gives way. */
static void grow_until_one_gives_way(struct scheduler_rig *rig, const struct qr_block_costs *costs)
{
    open_with(rig, QR_DISCIPLINE_COST, 10, 10, 64, 2);
    qr_scheduler_set_costs(rig->sched, costs);
    scheduler_rig_add(rig, 8);
    scheduler_rig_add(rig, 8);
    for (int n = 0; n < 60 && rig->world->plan.n_preempted == 0; n++) {
        scheduler_rig_step(rig);
        scheduler_rig_end_transfers(rig, true);
    }
    assert_int_equal(rig->world->plan.n_preempted, 1);
    assert_int_equal(rig->world->plan.preempted[0].seq, 1);
    assert_int_equal(rig->world->plan.preempted[0].for_seq, 0);
}

static void where_moving_costs_less_the_victim_is_swapped(void **state)
{
    (void)state;
    static const struct qr_block_costs costs = {{10, 10}, {10, 10}, 1000, 0};
    struct scheduler_rig rig;

    grow_until_one_gives_way(&rig, &costs);
    assert_int_equal(rig.world->plan.preempted[0].how, QR_RELEASE_SWAPPED);
    /* Ahead of need: both have a page for their next rows still. */
    assert_true(rig.world->plan.n_entries == 1 && rig.world->plan.entries[0].seq == 0);
    scheduler_rig_close(&rig);
}

static void where_computing_costs_less_the_victim_is_recomputed(void **state)
{
    (void)state;
    static const struct qr_block_costs costs = {{1e6, 1e6}, {1e6, 1e6}, 1, 0};
    struct scheduler_rig rig;

    grow_until_one_gives_way(&rig, &costs);
    assert_int_equal(rig.world->plan.preempted[0].how, QR_RELEASE_RESUMES);
    scheduler_rig_close(&rig);
}

/* An admission is good for 32 rows: the cheaper victim is spared, the older one goes. */
static void one_just_admitted_is_spared(void **state)
{
    (void)state;
    struct scheduler_rig rig;

    open_rig(&rig, 12, 64, 3);
    scheduler_rig_add(&rig, 24);
    scheduler_rig_step(&rig);
    scheduler_rig_add(&rig, 8);
    scheduler_rig_step(&rig);
    step_n(&rig, 20);
    scheduler_rig_add(&rig, 1);
    for (int n = 0; n < 40 && rig.world->plan.n_preempted == 0; n++)
        scheduler_rig_step(&rig);
    assert_int_equal(rig.world->plan.n_preempted, 1);
    assert_int_equal(rig.world->plan.preempted[0].seq, 1); /* 2 ran fewer than 32 rows */
    scheduler_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_prefilled_in_chunks_and_then_decoded),
        cmocka_unit_test(a_long_prompt_does_not_stall_decodes),
        cmocka_unit_test(prefills_share_what_is_left_oldest_first),
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
        cmocka_unit_test(a_paused_arrival_lets_others_pass),
        cmocka_unit_test(an_admission_leaves_a_page_for_each_that_runs),
        cmocka_unit_test(a_paused_sequence_is_parked_and_comes_back_by_its_rank),
        cmocka_unit_test(a_parked_sequence_is_moved_out_and_loaded_again),
        cmocka_unit_test(others_run_while_one_loads),
        cmocka_unit_test(what_could_not_be_loaded_is_computed),
        cmocka_unit_test(priorities_go_first_whenever_they_come),
        cmocka_unit_test(lower_priorities_make_room_for_an_arrival),
        cmocka_unit_test(a_decode_of_lower_priority_makes_room),
        cmocka_unit_test(tenants_take_turns),
        cmocka_unit_test(a_weight_is_a_share),
        cmocka_unit_test(a_tenant_at_its_quota_is_passed_over),
        cmocka_unit_test(an_urgent_arrival_goes_first_but_never_twice_in_a_row),
        cmocka_unit_test(a_fork_copies_the_last_page),
        cmocka_unit_test(a_width_sets_slots_aside),
        cmocka_unit_test(shared_prompts_are_computed_once),
        cmocka_unit_test(the_maximum_is_reserved_where_that_is_the_discipline),
        cmocka_unit_test(where_moving_costs_less_the_victim_is_swapped),
        cmocka_unit_test(where_computing_costs_less_the_victim_is_recomputed),
        cmocka_unit_test(one_just_admitted_is_spared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
