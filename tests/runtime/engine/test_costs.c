/* What computing costs, found in the times of steps that follow a known law. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/engine/costs.h"

static uint64_t random_state = 1;

static uint32_t next_random(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

/* A step of decodes, now and then with a chunk of a prefill. */
static void note_step(struct qr_step_costs *costs, double row_ns, double position_ns)
{
    int32_t n_rows = 1 + (int32_t)(next_random() % 32);
    int64_t positions = 0;

    for (int32_t i = 0; i < n_rows; i++)
        positions += next_random() % 4000;
    if (next_random() % 8 == 0) {
        int32_t chunk = (int32_t)(next_random() % 400);
        n_rows += chunk;
        positions += (int64_t)chunk * (chunk / 2 + (int32_t)(next_random() % 500));
    }
    double ns = 300000 + row_ns * n_rows + position_ns * (double)positions;
    ns *= 0.95 + 0.1 * (next_random() % 1000) / 1000.0;
    if (next_random() % 100 == 0)
        ns *= 50; /* the system did something else */
    qr_step_costs_note(costs, n_rows, positions, (int64_t)ns);
}

static void check_found(const struct qr_step_costs *costs, double row_ns, double position_ns)
{
    assert_true(fabs(qr_step_costs_row_ns(costs) / row_ns - 1) < 0.4);
    assert_true(fabs(qr_step_costs_row_position_ns(costs) / position_ns - 1) < 0.4);
}

static void costs_are_found_and_followed(void **state)
{
    struct qr_step_costs costs;

    (void)state;
    qr_step_costs_init(&costs);
    assert_true(qr_step_costs_row_ns(&costs) == 0);
    for (int i = 0; i < 3000; i++)
        note_step(&costs, 20000, 10);
    check_found(&costs, 20000, 10);
    for (int i = 0; i < 10000; i++)
        note_step(&costs, 5000, 3);
    check_found(&costs, 5000, 3);
}

/* Steps all alike tell one sum of the three; the estimates stay numbers, and not negative. */
static void steps_that_tell_nothing_do_no_harm(void **state)
{
    struct qr_step_costs costs;

    (void)state;
    qr_step_costs_init(&costs);
    for (int i = 0; i < 100000; i++)
        qr_step_costs_note(&costs, 1, 100, 1000000);
    assert_true(isfinite(qr_step_costs_row_ns(&costs)) && qr_step_costs_row_ns(&costs) >= 0);
    assert_true(isfinite(qr_step_costs_row_position_ns(&costs)) &&
                qr_step_costs_row_position_ns(&costs) >= 0);
    for (int i = 0; i < 5000; i++)
        note_step(&costs, 20000, 10);
    check_found(&costs, 20000, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_found_and_followed),
        cmocka_unit_test(steps_that_tell_nothing_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
