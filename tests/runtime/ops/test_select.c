/*
 * test_select.c - what is drawn from a row of logits, on every instruction set: the largest against
 * a sorted row, the sum in double, the draw against its definition; and with == against one
 * another.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sampling/philox.h"
#include "tests/support/kernel_sets.h"

enum { MAX_VOCAB = 5000 };

static const int32_t vocab_sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 700, 1023, 1025, 2049, 5000};

struct row {
    int32_t n;
    float logits[MAX_VOCAB];
    struct qr_token_logit sorted[MAX_VOCAB];
};

static int by_logit(const void *a, const void *b)
{
    const struct qr_token_logit *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token_id < y->token_id ? -1 : 1;
}

/* Coarse steps in some rows, so that many logits are equal; some are -inf, some -0. */
static void make_row(uint64_t key, int32_t n, struct row *row)
{
    row->n = n;
    for (int32_t i = 0; i < n; i++) {
        double u = qr_philox_uniform(key, (uint64_t)i);
        double logit = key % 2 == 0 ? floor(u * 60) / 4 - 5 : 20 * u - 8;
        row->logits[i] = u < 0.05 && i > 0 ? -INFINITY : (float)logit;
        if (logit == 0 && i % 2 == 0)
            row->logits[i] = -0.0f;
        row->sorted[i] = (struct qr_token_logit){row->logits[i], i};
    }
    qsort(row->sorted, (size_t)n, sizeof(row->sorted[0]), by_logit);
}

static double weight_of(const struct row *row, int32_t id, double temperature)
{
    return exp(((double)row->logits[id] - (double)row->sorted[0].logit) / temperature);
}

static double sum_of_weights(const struct row *row, int32_t n, double temperature)
{
    double sum = 0;

    for (int32_t id = 0; id < n; id++)
        sum += weight_of(row, id, temperature);
    return sum;
}

/* The uniform number lies within the token's part of the distribution, but for rounding. */
static void assert_drawn(const struct row *row, const struct qr_logit_wish *wish,
                         const struct qr_token_logit *drawn)
{
    double total = sum_of_weights(row, row->n, (double)wish->temperature);
    double before = sum_of_weights(row, drawn->token_id, (double)wish->temperature) / total;
    double after = sum_of_weights(row, drawn->token_id + 1, (double)wish->temperature) / total;

    assert_true(drawn->logit == row->logits[drawn->token_id] && drawn->logit > -INFINITY);
    assert_true(wish->uniform >= before - 1e-5 && wish->uniform <= after + 1e-5);
}

static void assert_selected(const struct row *row, const struct qr_logit_wish *wish,
                            const struct qr_selection *found)
{
    int32_t n = wish->n_tokens < row->n ? wish->n_tokens : row->n;

    assert_false(found->invalid);
    assert_true(found->largest == row->sorted[0].logit);
    double sum = sum_of_weights(row, row->n, 1);
    assert_true(fabs((double)found->sum_exp - sum) <= 1e-6 * sum);
    assert_true(found->token_logit == row->logits[wish->token_id]);
    assert_int_equal(found->n, n);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(found->tokens[i].token_id, row->sorted[i].token_id);
        assert_true(found->tokens[i].logit == row->sorted[i].logit);
    }
    assert_int_equal(found->is_drawn, wish->temperature > 0 && wish->uniform >= 0);
    if (wish->temperature > 0) {
        double total = sum_of_weights(row, row->n, (double)wish->temperature);
        assert_true(fabs(found->sum_weights - total) <= 1e-6 * total);
    }
    if (found->is_drawn)
        assert_drawn(row, wish, &found->drawn);
}

static void selections_are_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    static const int32_t counts[] = {1, 0, 2, 7, 50, QR_SELECTION_MAX};
    static struct row row;
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);

    for (uint64_t key = 0; key < 130; key++) {
        struct qr_token_logit tokens[QR_SELECTION_MAX];
        struct qr_selection first = {.n = 0}, found;
        make_row(key, vocab_sizes[key % 13], &row);
        struct qr_logit_wish wish = {.n_tokens = counts[key % 6],
                                     .token_id = (int32_t)key % row.n,
                                     .temperature = key % 3 == 0 ? 0 : 0.5f + (float)(key % 4) / 2,
                                     .uniform = qr_philox_uniform(key, 1 << 20)};
        if (key % 10 == 4)
            wish.uniform = key % 20 == 4 ? 0 : 0x1.fffffffffffffp-1;
        if (key % 7 == 5)
            wish.uniform = QR_NO_DRAW;
        for (int s = 0; s < n_sets; s++) {
            sets[s]->select(row.logits, row.n, wish, tokens, &found);
            assert_selected(&row, &wish, &found);
            if (s == 0)
                first = found;
            assert_true(found.sum_exp == first.sum_exp);
            assert_true(found.sum_weights == first.sum_weights);
            assert_int_equal(found.drawn.token_id, first.drawn.token_id);
        }
    }
}

/* Wherever it stands: in a block, behind the last one, before the largest or behind it. */
static void what_is_no_number_is_told(void **state)
{
    (void)state;
    static struct row row;
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);
    struct qr_token_logit tokens[4];
    struct qr_selection found;

    for (int32_t i = 0; i < 2 * 130; i++) {
        struct qr_logit_wish wish = {.n_tokens = 4, .token_id = -1, .temperature = 1};
        make_row(1, 130, &row);
        row.logits[i / 2] = i % 2 == 0 ? NAN : INFINITY;
        for (int s = 0; s < n_sets; s++) {
            sets[s]->select(row.logits, row.n, wish, tokens, &found);
            assert_true(found.invalid && !found.is_drawn && found.sum_weights == 0);
        }
    }
    for (int32_t i = 0; i < 130; i++)
        row.logits[i] = -INFINITY;
    for (int s = 0; s < n_sets; s++) {
        struct qr_logit_wish wish = {.n_tokens = 1, .token_id = -1, .temperature = 1};
        sets[s]->select(row.logits, row.n, wish, tokens, &found);
        assert_true(!found.invalid && found.largest == -INFINITY && !found.is_drawn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections_are_right_and_the_same_on_every_set),
        cmocka_unit_test(what_is_no_number_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
