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
static void assert_drawn(const struct row *row, double temperature, double uniform,
                         const struct qr_drawn_token *drawn)
{
    double total = sum_of_weights(row, row->n, temperature);
    double before = sum_of_weights(row, drawn->token_id, temperature) / total;
    double after = sum_of_weights(row, drawn->token_id + 1, temperature) / total;

    assert_true(drawn->logit == row->logits[drawn->token_id] && drawn->logit > -INFINITY);
    assert_true(drawn->unedited == drawn->logit);
    assert_true(uniform >= before - 1e-5 && uniform <= after + 1e-5);
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
    const struct qr_candidate_filter *filter = &wish->filter;
    bool of_all = filter->top_k == 0 && filter->temperature > 0;
    if (of_all) {
        double total = sum_of_weights(row, row->n, (double)filter->temperature);
        assert_true(fabs(found->sum_weights - total) <= 1e-6 * total);
    }
    bool draws = of_all && filter->top_p == 1 && filter->min_p == 0;
    assert_int_equal(found->n_drawn, draws ? wish->n_draws : 0);
    for (int32_t i = 0; i < found->n_drawn; i++)
        assert_drawn(row, (double)filter->temperature, wish->uniforms[i], &found->drawn[i]);
}

enum { N_DRAWS = 3 };

/* By the key greedy, drawn from all once or several times, or left to the host by one filter. */
static struct qr_logit_wish make_wish(uint64_t key, int32_t n, double *uniforms)
{
    static const int32_t counts[] = {1, 0, 2, 7, 50, QR_SELECTION_MAX};
    struct qr_logit_wish wish = {
        .token_id = (int32_t)key % n,
        .n_tokens = counts[key % 6],
        .n_draws = key % 5 == 0 ? N_DRAWS : 1,
        .uniforms = uniforms,
        .filter = {.temperature = key % 3 == 0 ? 0 : 0.5f + (float)(key % 4) / 2,
                   .top_k = key % 7 == 5 ? 20 : 0,
                   .top_p = key % 7 == 4 ? 0.9f : 1,
                   .min_p = key % 7 == 3 ? 0.1f : 0}};

    for (uint64_t i = 0; i < N_DRAWS; i++)
        uniforms[i] = qr_philox_uniform(key, (1 << 20) + i);
    if (key % 10 == 4)
        uniforms[0] = key % 20 == 4 ? 0 : 0x1.fffffffffffffp-1;
    return wish;
}

static void selections_are_right_and_the_same_on_every_set(void **state)
{
    (void)state;
    static struct row row;
    const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX];
    int n_sets = kernel_sets(sets);

    for (uint64_t key = 0; key < 210; key++) {
        struct qr_token_logit tokens[QR_SELECTION_MAX];
        struct qr_drawn_token drawn[N_DRAWS], first_drawn[N_DRAWS];
        struct qr_selection first = {.n = 0}, found;
        double uniforms[N_DRAWS];
        make_row(key, vocab_sizes[key % 13], &row);
        struct qr_logit_wish wish = make_wish(key, row.n, uniforms);
        for (int s = 0; s < n_sets; s++) {
            sets[s]->select(row.logits, row.n, wish, tokens, drawn, &found);
            assert_selected(&row, &wish, &found);
            if (s == 0) {
                first = found;
                memcpy(first_drawn, drawn, sizeof(drawn));
            }
            assert_true(found.sum_exp == first.sum_exp);
            assert_true(found.sum_weights == first.sum_weights);
            for (int32_t i = 0; i < found.n_drawn; i++)
                assert_int_equal(drawn[i].token_id, first_drawn[i].token_id);
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
    struct qr_drawn_token drawn;
    struct qr_selection found;
    const double uniform = 0.5;
    const struct qr_logit_wish wish = {.token_id = -1,
                                       .n_tokens = 4,
                                       .n_draws = 1,
                                       .uniforms = &uniform,
                                       .filter = {.temperature = 1, .top_p = 1}};

    for (int32_t i = 0; i < 2 * 130; i++) {
        make_row(1, 130, &row);
        row.logits[i / 2] = i % 2 == 0 ? NAN : INFINITY;
        for (int s = 0; s < n_sets; s++) {
            sets[s]->select(row.logits, row.n, wish, tokens, &drawn, &found);
            assert_true(found.invalid && found.n_drawn == 0 && found.sum_weights == 0);
        }
    }
    for (int32_t i = 0; i < 130; i++)
        row.logits[i] = -INFINITY;
    for (int s = 0; s < n_sets; s++) {
        sets[s]->select(row.logits, row.n, wish, tokens, &drawn, &found);
        assert_true(!found.invalid && found.largest == -INFINITY && found.n_drawn == 0);
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
