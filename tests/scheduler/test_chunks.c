/* Bounds of prefill chunks, and the plans they lead to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/scheduler_rig.h"

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

static void chunks_are_as_long_as_decodes_may_wait(void **state)
{
    (void)state;
    static const struct qr_block_costs fast = {{10, 10}, {10, 10}, 100e3, 0};
    static const struct qr_block_costs slow = {{10, 10}, {10, 10}, 1e6, 0};
    const struct scheduler_rig_config config = {
        .page_count = 200,
        .scheduler = {.max_batch_tokens = 256,
                      .max_running = 4,
                      .max_waiting = 8,
                      .max_logit_rows = 4,
                      .max_stall_ms = 10},
    };
    struct scheduler_rig rig;

    scheduler_rig_open(&rig, &config);
    qr_scheduler_set_costs(rig.sched, &fast);
    scheduler_rig_add(&rig, 200); /* nobody waits for it */
    assert_string_equal(scheduler_rig_step(&rig), "0:0+200* +0");
    scheduler_rig_add(&rig, 130); /* 10 ms are 100 rows, of all prompts together */
    scheduler_rig_add(&rig, 200);
    assert_string_equal(scheduler_rig_step(&rig), "0:200+1* 1:0+100 +1");
    assert_string_equal(scheduler_rig_step(&rig), "0:201+1* 1:100+30* 2:0+70 +2");
    qr_scheduler_set_costs(rig.sched, &slow); /* 10 rows would be too few */
    assert_string_equal(scheduler_rig_step(&rig), "0:202+1* 1:130+1* 2:70+32");
    scheduler_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_may_be_bounded_so_that_prefills_share_a_step),
        cmocka_unit_test(chunks_are_as_long_as_decodes_may_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
