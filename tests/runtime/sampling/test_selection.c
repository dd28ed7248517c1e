/* A token drawn from a selection is the token drawn from the row. */
#include "runtime/sampling/selection.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sampling/philox.h"
#include "runtime/sampling/sampler.h"

enum { VOCAB = 700 };

struct row {
    float logits[VOCAB];
    struct qr_token_logit sorted[VOCAB];
    struct qr_selection selection;
};

/* Coarse steps, so that many logits are equal; some are -inf. */
static void make_row(uint64_t key, struct row *row)
{
    for (uint64_t i = 0; i < VOCAB; i++) {
        double u = qr_philox_uniform(key, i);
        row->logits[i] = u < 0.05 ? -INFINITY : (float)(floor(u * 60) / 8);
    }
}

static int by_logit(const void *a, const void *b)
{
    const struct qr_token_logit *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token_id < y->token_id ? -1 : 1;
}

static void select_tokens(struct row *row, int32_t n, int32_t asked)
{
    float sum = 0;

    for (int32_t i = 0; i < VOCAB; i++)
        row->sorted[i] = (struct qr_token_logit){row->logits[i], i};
    qsort(row->sorted, VOCAB, sizeof(row->sorted[0]), by_logit);
    for (int32_t i = 0; i < VOCAB; i++)
        sum += expf(row->logits[i] - row->sorted[0].logit);
    row->selection = (struct qr_selection){.largest = row->sorted[0].logit,
                                           .sum_exp = sum,
                                           .token_logit = row->logits[asked],
                                           .n = n,
                                           .tokens = row->sorted};
}

static void assert_same_report(const struct qr_sampled *a, const struct qr_sampled *b)
{
    assert_int_equal(a->token_id, b->token_id);
    assert_true(fabsf(a->logprob - b->logprob) < 1e-4f);
    assert_int_equal(a->n_top, b->n_top);
    for (int32_t i = 0; i < a->n_top; i++) {
        assert_int_equal(a->top[i].token_id, b->top[i].token_id);
        assert_true(fabsf(a->top[i].logprob - b->top[i].logprob) < 1e-4f);
    }
}

static void a_selection_gives_the_token_of_the_row(void **state)
{
    (void)state;
    static struct row row;
    struct qr_sampler *sampler;

    assert_int_equal(qr_sampler_create(VOCAB, &sampler), QR_OK);
    for (uint64_t key = 0; key < 2000; key++) {
        struct qr_sampling_params params;
        struct qr_sampled whole, selected;
        qr_sampling_params_default(&params);
        params.seed = key;
        params.temperature = key % 5 == 0 ? 0 : 0.3f + (float)(key % 7) * 0.4f;
        params.top_k = (int32_t)(key * 37 % 256) + 1;
        params.top_p = key % 3 == 0 ? 0.7f : 1;
        params.min_p = key % 4 == 0 ? 0.05f : 0;
        params.n_logprobs = (int32_t)(key % 6);
        make_row(key, &row);
        int32_t wanted = qr_selection_wanted(&params, 0);
        assert_in_range(wanted, 1, QR_SELECTION_MAX);
        select_tokens(&row, wanted, 0);
        struct qr_sampler_input input = {.logits = row.logits, .n_output = (int32_t)(key % 11)};
        assert_int_equal(qr_sampler_sample(sampler, &params, &input, &whole), QR_OK);
        assert_int_equal(
            qr_sampler_sample_selected(sampler, &params, &row.selection, input.n_output, &selected),
            QR_OK);
        assert_same_report(&whole, &selected);
    }
    qr_sampler_destroy(sampler);
}

static void a_score_is_that_of_the_row(void **state)
{
    (void)state;
    static struct row row;
    struct qr_sampling_params params;
    struct qr_sampler *sampler;

    qr_sampling_params_default(&params);
    assert_int_equal(qr_sampler_create(VOCAB, &sampler), QR_OK);
    for (int32_t id = 0; id < 50; id++) {
        struct qr_sampled whole, selected;
        params.n_logprobs = id % 21;
        make_row((uint64_t)id, &row);
        row.logits[id] = (float)(id % 9);
        select_tokens(&row, qr_selection_wanted_to_score(&params), id);
        assert_int_equal(qr_sampler_score(sampler, row.logits, id, params.n_logprobs, &whole),
                         QR_OK);
        assert_int_equal(
            qr_sampler_score_selected(&row.selection, id, params.n_logprobs, &selected), QR_OK);
        assert_same_report(&whole, &selected);
    }
    qr_sampler_destroy(sampler);
}

static void what_a_selection_cannot_tell_wants_the_row(void **state)
{
    (void)state;
    const struct qr_logit_bias bias = {1, 2.0f};
    struct qr_sampling_params greedy, params;

    qr_sampling_params_default(&greedy);
    greedy.temperature = 0;
    assert_int_equal(qr_selection_wanted(&greedy, 0), 1);
    assert_int_equal(qr_selection_wanted(&greedy, 1), 0);
    params = greedy;
    params.n_logprobs = 5;
    assert_int_equal(qr_selection_wanted(&params, 0), 5);
    params = greedy;
    params.n_logit_bias = 1;
    params.logit_bias = &bias;
    assert_int_equal(qr_selection_wanted(&params, 0), 0);
    params = greedy;
    params.repetition_penalty = 1.1f;
    assert_int_equal(qr_selection_wanted(&params, 0), 0);
    params = greedy;
    params.presence_penalty = 0.1f;
    assert_int_equal(qr_selection_wanted(&params, 0), 0);
    params = greedy;
    params.frequency_penalty = -0.1f;
    assert_int_equal(qr_selection_wanted(&params, 0), 0);
    params = greedy;
    params.temperature = 1;
    params.top_p = 0.9f;
    assert_int_equal(qr_selection_wanted(&params, 0), 0);
    params.top_k = 40;
    assert_int_equal(qr_selection_wanted(&params, 0), 40);
    params.top_k = QR_SELECTION_MAX + 1;
    assert_int_equal(qr_selection_wanted(&params, 0), 0);
}

static void an_unsound_selection_is_an_error(void **state)
{
    (void)state;
    static struct row row;
    struct qr_sampling_params params;
    struct qr_sampler *sampler;
    struct qr_sampled out;

    qr_sampling_params_default(&params);
    params.temperature = 0;
    assert_int_equal(qr_sampler_create(VOCAB, &sampler), QR_OK);
    make_row(1, &row);
    select_tokens(&row, 1, 0);
    row.selection.invalid = true;
    assert_int_equal(qr_sampler_sample_selected(sampler, &params, &row.selection, 0, &out),
                     QR_ERR_DEVICE);
    row.selection.invalid = false;
    row.selection.largest = -INFINITY;
    assert_int_equal(qr_sampler_sample_selected(sampler, &params, &row.selection, 0, &out),
                     QR_ERR_DEVICE);
    assert_int_equal(qr_sampler_score_selected(&row.selection, 0, 0, &out), QR_ERR_DEVICE);
    qr_sampler_destroy(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_selection_gives_the_token_of_the_row),
        cmocka_unit_test(a_score_is_that_of_the_row),
        cmocka_unit_test(what_a_selection_cannot_tell_wants_the_row),
        cmocka_unit_test(an_unsound_selection_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
