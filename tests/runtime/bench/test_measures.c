/* test_measures.c - the measurements of page operations and planning run through, in small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "runtime/bench/blockmgr.h"
#include "runtime/bench/planning.h"

static void test_each_page_operation_is_measured(void **state)
{
    (void)state;
    for (int cold = 0; cold <= 1; cold++) {
        double ns[QR_PAGE_OPERATIONS] = {0};
        assert_int_equal(qr_measure_page_operations(10000, cold == 1, ns), QR_OK);
        for (int i = 0; i < QR_PAGE_OPERATIONS; i++) {
            assert_true(ns[i] > 0);
            assert_true(strlen(qr_page_operation_name((enum qr_page_operation)i)) > 0);
        }
    }
}

static void test_planning_measures_steps_in_which_all_decode(void **state)
{
    struct qr_planning_times times;

    (void)state;
    assert_int_equal(qr_measure_planning(50, &times), QR_OK);
    assert_true(times.n_steps > 700);
    assert_true(times.plan_p50_ns > 0 && times.plan_p99_ns >= times.plan_p50_ns);
    assert_true(times.apply_p50_ns > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_page_operation_is_measured),
        cmocka_unit_test(test_planning_measures_steps_in_which_all_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
