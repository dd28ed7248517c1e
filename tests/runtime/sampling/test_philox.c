#include "runtime/sampling/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The known answers that the authors publish with Random123 (philox4x32, 10 rounds). */
static void published_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4];
        uint64_t key;
        uint32_t answer[4];
    } cases[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         0xffffffffffffffff,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qr_philox_block counter;
        for (int w = 0; w < 4; w++)
            counter.word[w] = cases[i].counter[w];
        struct qr_philox_block got = qr_philox(counter, cases[i].key);
        for (int w = 0; w < 4; w++)
            assert_int_equal(got.word[w], cases[i].answer[w]);
    }
}

static void uniform_values_fill_the_unit_interval(void **state)
{
    (void)state;
    enum { N = 100000, BINS = 10 };
    int bins[BINS] = {0};

    for (uint64_t position = 0; position < N; position++) {
        double u = qr_philox_uniform(7, position);
        assert_true(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
    }
    for (int i = 0; i < BINS; i++) /* six standard deviations */
        assert_true(bins[i] > N / BINS - 570 && bins[i] < N / BINS + 570);
}

static void both_halves_of_seed_and_position_count(void **state)
{
    (void)state;
    double u = qr_philox_uniform(1, 1);

    assert_true(u == qr_philox_uniform(1, 1));
    assert_true(u != qr_philox_uniform(2, 1));
    assert_true(u != qr_philox_uniform(1 + (UINT64_C(1) << 32), 1));
    assert_true(u != qr_philox_uniform(1, 2));
    assert_true(u != qr_philox_uniform(1, 1 + (UINT64_C(1) << 32)));
}

static void outputs_have_seeds_of_their_own(void **state)
{
    (void)state;
    enum { N = 64 };
    uint64_t seeds[2 * N];

    for (uint32_t i = 0; i < N; i++) {
        seeds[i] = qr_philox_output_seed(7, i);
        seeds[N + i] = qr_philox_output_seed(8, i);
    }
    assert_true(seeds[0] == 7 && seeds[N] == 8);
    assert_true(qr_philox_output_seed(UINT64_MAX, 0) == UINT64_MAX);
    for (int i = 0; i < 2 * N; i++) {
        assert_true(seeds[i] < UINT64_C(1) << 53);
        for (int j = 0; j < i; j++)
            assert_true(seeds[i] != seeds[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_answers),
        cmocka_unit_test(uniform_values_fill_the_unit_interval),
        cmocka_unit_test(both_halves_of_seed_and_position_count),
        cmocka_unit_test(outputs_have_seeds_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
