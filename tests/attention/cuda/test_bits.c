/* A row has the same bits in whatever company, place, partition and kernel it is computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/cuda_attention_case.h"
#include "tests/support/cuda_platform.h"

static const struct cuda_case base_case = {
    .n_heads = 8,
    .n_kv_heads = 2,
    .head_dim = 64,
    .page_size = 16,
    .activation = QR_DTYPE_BF16,
    .kv_type = QR_DTYPE_BF16,
    .n_seqs = 5,
    .seqs = {{1, 700, 1, 0, 0},
             {2, 300, 20, 0, 0},
             {3, 129, 1, 0, 0},
             {4, 256, 1, 0, 0},
             {5, 9, 1, 0, 0}},
};

/* Shapes whose kernels differ. */
static const struct {
    enum qr_dtype activation, kv;
    int32_t head_dim, n_heads, n_kv_heads, window;
    float soft_cap;
} shapes[] = {
    {QR_DTYPE_BF16, QR_DTYPE_BF16, 128, 8, 2, 0, 0.0f},
    {QR_DTYPE_F16, QR_DTYPE_E4M3, 64, 2, 1, 0, 0.0f},
    {QR_DTYPE_F16, QR_DTYPE_F16, 96, 12, 1, 140, 4.0f},
    {QR_DTYPE_BF16, QR_DTYPE_E4M3, 80, 4, 2, 30, 0.0f},
    {QR_DTYPE_BF16, QR_DTYPE_BF16, 256, 9, 1, 0, 0.0f},
    {QR_DTYPE_F32, QR_DTYPE_F32, 8, 4, 2, 0, 0.0f},
};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static struct cuda_case with_shape(struct cuda_case test, int shape)
{
    test.activation = shapes[shape].activation;
    test.kv_type = shapes[shape].kv;
    test.head_dim = shapes[shape].head_dim;
    test.n_heads = shapes[shape].n_heads;
    test.n_kv_heads = shapes[shape].n_kv_heads;
    test.window = shapes[shape].window;
    test.soft_cap = shapes[shape].soft_cap;
    return test;
}

/* The row of sequence `id` at `position`; NULL: the case does not compute it. */
static const float *find_row(const struct cuda_case *test, const float *out, uint32_t id,
                             int32_t position)
{
    int32_t row = 0;
    for (int32_t s = 0; s < test->n_seqs; row += test->seqs[s++].n_rows) {
        int32_t first = test->seqs[s].context_length - test->seqs[s].n_rows;
        if (test->seqs[s].id == id && position >= first && position < test->seqs[s].context_length)
            return out + (size_t)((row + position - first) * test->n_heads * test->head_dim);
    }
    return NULL;
}

/* Rows that both compute are equal; the number of them. */
static int32_t compare(const struct cuda_case *a, const float *out_a, const struct cuda_case *b,
                       const float *out_b, const char *what)
{
    int32_t n = 0;
    for (int32_t s = 0; s < a->n_seqs; s++)
        for (int32_t r = 0; r < a->seqs[s].n_rows; r++) {
            int32_t position = a->seqs[s].context_length - a->seqs[s].n_rows + r;
            const float *row_a = find_row(a, out_a, a->seqs[s].id, position);
            const float *row_b = find_row(b, out_b, a->seqs[s].id, position);
            if (row_b == NULL)
                continue;
            n++;
            if (memcmp(row_a, row_b, (size_t)(a->n_heads * a->head_dim) * sizeof(float)) != 0)
                fail_msg("%s: sequence %u, position %d has other bits", what, a->seqs[s].id,
                         position);
        }
    return n;
}

/* Runs both; at least `least` rows are in both. */
static void check_equal(const struct cuda_case *a, const struct qr_emulator_settings *settings_a,
                        const struct cuda_case *b, const struct qr_emulator_settings *settings_b,
                        int32_t least, const char *what)
{
    struct cuda_case_run run_a = cuda_case_run(a, settings_a);
    struct cuda_case_run run_b = cuda_case_run(b, settings_b);
    int32_t n = compare(a, run_a.out, b, run_b.out, what);
    if (n < least)
        fail_msg("%s: %d rows were compared, not %d", what, n, least);
    free(run_a.out);
    free(run_b.out);
}

static void schedules_and_capabilities(void **state)
{
    (void)state;
    struct qr_emulator_settings usual = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct cuda_case test = with_shape(base_case, shape);
        struct cuda_case_run run = cuda_case_run(&test, &usual);
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct qr_emulator_settings other = usual;
            other.seed = seed * 7;
            other.async = (enum qr_emulator_async)(seed % 3);
            other.late_streams = seed % 2 != 0;
            other.capability = seed < 2 ? 80 : 90;
            struct cuda_case_run again = cuda_case_run(&test, &other);
            assert_int_equal(compare(&test, run.out, &test, again.out, "schedule"), 24);
            free(again.out);
        }
        free(run.out);
    }
}

/* The same plan, whatever runs first and whenever copies land and products are computed. */
static void warpgroups_in_every_schedule(void **state)
{
    (void)state;
    for (int d = 64; d <= 128; d += 64) {
        struct cuda_case test = base_case;
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        test.head_dim = d;
        test.wide = true;
        test.seqs[1].n_rows = 70; /* of a group of 4: two items and a part of one, 300 keys */
        struct cuda_case_run run = cuda_case_run(&test, &settings);
        for (uint64_t seed = 1; seed < 5; seed++) {
            settings.seed = seed;
            settings.async = (enum qr_emulator_async)(seed % 3);
            struct cuda_case_run again = cuda_case_run(&test, &settings);
            assert_true((again.launches & QR_ATTENTION_LAUNCHES_WIDE) != 0);
            assert_int_equal(compare(&test, run.out, &test, again.out, "schedule"), 74);
            free(again.out);
        }
        free(run.out);
    }
}

static void number_of_blocks(void **state)
{
    (void)state;
    static const int32_t numbers[] = {1, 2, 3, 7, 40};
    struct qr_emulator_settings usual = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct cuda_case test = with_shape(base_case, shape);
        struct cuda_case_run run = cuda_case_run(&test, &usual);
        bool cut = false;
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            struct qr_emulator_settings other = usual;
            other.n_sms = numbers[i];
            struct cuda_case_run again = cuda_case_run(&test, &other);
            assert_int_equal(compare(&test, run.out, &test, again.out, "blocks"), 24);
            cut |= again.n_states > again.n_merges;
            free(again.out);
        }
        assert_true(cut || shapes[shape].kv == QR_DTYPE_F32);
        free(run.out);
    }
}

static void pages_and_placement(void **state)
{
    (void)state;
    struct qr_emulator_settings usual = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES; shape++)
        for (int32_t page_size = 8; page_size <= 256; page_size *= 4) {
            struct cuda_case test = with_shape(base_case, shape), other = test;
            other.page_size = page_size;
            other.placement = (uint32_t)page_size;
            check_equal(&test, &usual, &other, &usual, 24, "page size");
        }
}

/* Alone, in another order, and with others between. */
static void neighbours(void **state)
{
    (void)state;
    struct qr_emulator_settings usual = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct cuda_case test = with_shape(base_case, shape);
        for (int32_t s = 0; s < test.n_seqs; s++) {
            struct cuda_case alone = test;
            alone.n_seqs = 1;
            alone.seqs[0] = test.seqs[s];
            check_equal(&alone, &usual, &test, &usual, test.seqs[s].n_rows, "alone");
        }
        struct cuda_case crowd = test;
        crowd.n_seqs = 9;
        for (int32_t s = 0; s < 9; s++)
            crowd.seqs[s] =
                s % 2 == 0 ? test.seqs[4 - s / 2]
                           : (struct cuda_case_seq){(uint32_t)(50 + s), 60 * s, 1 + s % 4, 0, 0};
        check_equal(&test, &usual, &crowd, &usual, 24, "crowd");
    }
}

/* The rows of a prompt, chunk by chunk of any size, and one at a time. */
static void decode_and_prefill(void **state)
{
    (void)state;
    struct qr_emulator_settings usual = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct cuda_case prefill = with_shape(base_case, shape), part = prefill;
        prefill.n_seqs = 1;
        prefill.seqs[0] = (struct cuda_case_seq){8, 290, 60, 0, 0};
        struct cuda_case_run run = cuda_case_run(&prefill, &usual);
        assert_int_equal(run.launches & QR_ATTENTION_LAUNCHES_DECODE, 0);
        part.n_seqs = 3;
        for (int32_t position = 230; position < 290; position += 12) {
            part.seqs[0] = (struct cuda_case_seq){8, position + 1, 1, 0, 0};
            part.seqs[1] = (struct cuda_case_seq){8, position + 2, 1, 0, 0};
            part.seqs[2] = (struct cuda_case_seq){8, position + 10, 8, 0, 0};
            struct cuda_case_run again = cuda_case_run(&part, &usual);
            assert_true(compare(&part, again.out, &prefill, run.out, "decode") >= 10);
            free(again.out);
        }
        free(run.out);
    }
}

static void cascade_on_and_off(void **state)
{
    (void)state;
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES - 1; shape++) {
        struct cuda_case on = with_shape(base_case, shape), off;
        on.ranges = true;
        on.n_seqs = 8;
        for (int32_t s = 0; s < on.n_seqs; s++) /* two prefixes; the last sequence has neither */
            on.seqs[s] = (struct cuda_case_seq){(uint32_t)(20 + s), 720 + 37 * s, s == 4 ? 5 : 1,
                                                s % 3 == 0 ? 100 : 101,
                                                s == 7       ? 0
                                                : s % 3 == 0 ? 272
                                                             : 700};
        off = on;
        off.ranges = false;
        static const int32_t n_sms[] = {1, 3, 10}; /* prefixes whole, in ranges, in splits */
        for (size_t i = 0; i < sizeof(n_sms) / sizeof(n_sms[0]); i++) {
            settings.n_sms = n_sms[i];
            struct cuda_case_run with = cuda_case_run(&on, &settings);
            struct cuda_case_run without = cuda_case_run(&off, &settings);
            assert_true((with.launches & QR_ATTENTION_LAUNCHES_RANGES) != 0);
            assert_true((without.launches & QR_ATTENTION_LAUNCHES_RANGES) == 0);
            assert_int_equal(compare(&on, with.out, &off, without.out, "cascade"), 12);
            free(with.out);
            free(without.out);
        }
    }
}

/* Splits are folded in groups of 8, groups into a total; here are two and more, and prefixes that
 * end with one, and within one. */
static const struct cuda_case_seq long_seqs[] = {
    {1, 2500, 1, 100, 2176}, {2, 2180, 1, 100, 2176}, {3, 3300, 1, 100, 2176},
    {4, 1900, 1, 101, 1024}, {5, 1050, 1, 101, 1024}, {6, 2300, 1, 0, 0},
};
enum { N_LONG = sizeof(long_seqs) / sizeof(long_seqs[0]) };

/* The same rows, `out`, as the last ones of three; and those over all keys, or in ranges of them,
 * beside rows that decode and prompts that are too short for ranges. */
static void check_long_prefill(const struct cuda_case *test, const float *out)
{
    static const struct {
        int32_t n_sms, n_parts;
    } ways[] = {{40, 0}, {400, 0}, {40, 7}};
    const uint32_t prefills = QR_ATTENTION_LAUNCHES_PREFILL,
                   in_ranges = QR_ATTENTION_LAUNCHES_RANGES;
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    struct cuda_case prefill = *test;
    for (int32_t s = 0; s < N_LONG; s++)
        prefill.seqs[s].n_rows = s == 1 || s == 2 ? 1 : 3;
    struct cuda_case_run whole = cuda_case_run(&prefill, &settings);
    assert_int_equal(whole.launches & (prefills | in_ranges), prefills);
    assert_int_equal(compare(test, out, &prefill, whole.out, "prefill"), N_LONG);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct cuda_case ranges = prefill;
        ranges.ranges = true;
        ranges.n_parts = ways[i].n_parts;
        settings.n_sms = ways[i].n_sms;
        settings.late_streams = i % 2 == 0;
        struct cuda_case_run run = cuda_case_run(&ranges, &settings);
        assert_int_equal(run.launches & (prefills | in_ranges), prefills | in_ranges);
        assert_true(run.n_merges >= 6); /* rows of two sequences */
        assert_int_equal(compare(&prefill, whole.out, &ranges, run.out, "ranges"), 14);
        free(run.out);
    }
    free(whole.out);
}

static void check_long(const struct cuda_case *test)
{
    static const struct {
        bool ranges;
        int32_t n_sms, n_parts;
    } ways[] = {{false, 3, 0}, {false, 50, 0}, {true, 1, 0}, {true, 4, 0},
                {true, 40, 0}, {true, 4, 2},   {true, 4, 3}};
    struct qr_emulator_settings usual = qr_emulator_default_settings(), settings = usual;
    usual.n_sms = 1; /* hardly anything is cut */
    struct cuda_case_run whole = cuda_case_run(test, &usual);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct cuda_case other = *test;
        other.ranges = ways[i].ranges;
        other.n_parts = ways[i].n_parts;
        settings.n_sms = ways[i].n_sms;
        settings.capability = i % 2 == 0 ? 90 : 80;
        settings.late_streams = i % 2 == 0; /* launches start as early as they may */
        settings.seed = i / 2;
        struct cuda_case_run run = cuda_case_run(&other, &settings);
        assert_int_equal((run.launches & QR_ATTENTION_LAUNCHES_RANGES) != 0, ways[i].ranges);
        assert_int_equal(compare(test, whole.out, &other, run.out, "cut elsewhere"), N_LONG);
        free(run.out);
    }
    check_long_prefill(test, whole.out);
    free(whole.out);
}

static void several_groups_of_splits(void **state)
{
    (void)state;
    static const int32_t windows[] = {0, 1100};
    for (int shape = 0; shape < N_SHAPES - 1; shape++) {
        struct cuda_case test = with_shape(base_case, shape);
        test.n_heads = test.n_heads / test.n_kv_heads;
        test.n_kv_heads = 1;
        test.n_seqs = N_LONG;
        memcpy(test.seqs, long_seqs, sizeof(long_seqs));
        for (size_t w = 0; w < (shape == 0 ? 2 : 1); w++) {
            test.window = windows[w];
            check_long(&test);
        }
    }
}

/* The merge knows the factors of 128 states at a time. */
static void more_states_than_the_merge_takes_at_a_time(void **state)
{
    (void)state;
    static const int32_t n_sms[] = {70, 75, 200}; /* pieces of one split or two; of one */
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    struct cuda_case test = base_case;
    test.n_heads = test.n_kv_heads = test.n_seqs = 1;
    test.seqs[0] = (struct cuda_case_seq){7, 20000, 1, 0, 0};
    settings.n_sms = 1;
    struct cuda_case_run whole = cuda_case_run(&test, &settings);
    for (size_t i = 0; i < sizeof(n_sms) / sizeof(n_sms[0]); i++) {
        settings.n_sms = n_sms[i];
        struct cuda_case_run run = cuda_case_run(&test, &settings);
        assert_true(run.n_states > 128 || qr_test_cuda_is_real());
        assert_int_equal(compare(&test, whole.out, &test, run.out, "many states"), 1);
        free(run.out);
    }
    free(whole.out);
}

static void graphs_replay_with_another_plan(void **state)
{
    (void)state;
    struct qr_emulator_settings usual = qr_emulator_default_settings();
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct cuda_case test = with_shape(base_case, shape), replayed;
        test.seqs[1].n_rows = 1;
        replayed = test;
        replayed.replayed = true;
        check_equal(&test, &usual, &replayed, &usual, 5, "replay");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_and_capabilities),
        cmocka_unit_test(warpgroups_in_every_schedule),
        cmocka_unit_test(number_of_blocks),
        cmocka_unit_test(pages_and_placement),
        cmocka_unit_test(neighbours),
        cmocka_unit_test(decode_and_prefill),
        cmocka_unit_test(cascade_on_and_off),
        cmocka_unit_test(several_groups_of_splits),
        cmocka_unit_test(more_states_than_the_merge_takes_at_a_time),
        cmocka_unit_test(graphs_replay_with_another_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
