/*
 * test_selection.c - a token drawn from a selection is the token drawn from the row, and that is
 * the one that the filters over the whole row leave.
 */
#include "runtime/sampling/selection.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/ops.h"
#include "runtime/sampling/candidates.h"
#include "runtime/sampling/philox.h"
#include "runtime/sampling/sampler.h"

enum { VOCAB = 700 };

struct row {
    float logits[VOCAB];
    struct qr_token_logit sorted[VOCAB];
    struct qr_drawn_token drawn;
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

static double sum_of_weights(const struct row *row, double temperature)
{
    double sum = 0;

    for (int32_t i = 0; i < VOCAB; i++)
        sum += exp(((double)row->logits[i] - (double)row->sorted[0].logit) / temperature);
    return sum;
}

/* What a device finds that draws what nothing but a temperature decides. */
static void select_tokens(struct row *row, struct qr_logit_wish wish)
{
    struct qr_token_logit tokens[VOCAB];
    struct qr_selection drawn;

    for (int32_t i = 0; i < VOCAB; i++)
        row->sorted[i] = (struct qr_token_logit){row->logits[i], i};
    qsort(row->sorted, VOCAB, sizeof(row->sorted[0]), by_logit);
    row->selection = (struct qr_selection){.largest = row->sorted[0].logit,
                                           .sum_exp = (float)sum_of_weights(row, 1),
                                           .n = wish.n_tokens,
                                           .tokens = row->sorted};
    if (wish.token_id >= 0)
        row->selection.token_logit = row->logits[wish.token_id];
    if (wish.filter.temperature == 0)
        return;
    row->selection.sum_weights = sum_of_weights(row, (double)wish.filter.temperature);
    qr_host_select_row()(row->logits, VOCAB, wish, tokens, &row->drawn, &drawn);
    row->selection.n_drawn = drawn.n_drawn;
    row->selection.drawn = &row->drawn;
}

static void select_wished(struct row *row, const struct qr_sampling_params *params,
                          int32_t position)
{
    double uniform;

    select_tokens(row, qr_selection_wish(params, position, &uniform));
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

static struct qr_sampling_params filters_of(uint64_t key)
{
    struct qr_sampling_params params;

    qr_sampling_params_default(&params);
    params.seed = key;
    params.temperature = key % 5 == 0 ? 0 : 0.3f + (float)(key % 7) * 0.4f;
    params.top_k = key % 2 == 0 ? (int32_t)(key * 37 % 300) : 0;
    params.top_p = key % 3 == 0 ? 0.7f : 1;
    params.min_p = key % 4 < 2 ? 0.05f : 0;
    params.n_logprobs = (int32_t)(key % 6);
    return params;
}

/* Filters and draw over all of the row, in double. */
static int32_t token_by_definition(const struct row *row, const struct qr_sampling_params *params,
                                   int32_t position)
{
    const struct qr_candidate_filter filter = qr_selection_filter(params);
    struct qr_candidates *candidates;

    if (params->temperature == 0)
        return row->sorted[0].token_id;
    assert_int_equal(qr_candidates_create(VOCAB, &candidates), QR_OK);
    qr_candidates_filter(candidates, row->logits, &filter);
    int32_t id =
        qr_candidates_draw(candidates, qr_philox_uniform(params->seed, (uint64_t)position));
    qr_candidates_destroy(candidates);
    return id;
}

static void a_selection_gives_the_token_of_the_row(void **state)
{
    (void)state;
    static struct row row;
    const struct qr_sampler_selections selections = {.raw = &row.selection};
    struct qr_sampler *sampler;
    int n_enough = 0, n_short = 0;

    assert_int_equal(qr_sampler_create(VOCAB, qr_host_select_row(), &sampler), QR_OK);
    for (uint64_t key = 0; key < 4000; key++) {
        const struct qr_sampling_params params = filters_of(key);
        struct qr_sampler_input input = {.logits = row.logits,
                                         .history.n_output = (int32_t)(key % 11)};
        int32_t position = input.history.n_output;
        struct qr_sampled whole, selected;
        make_row(key, &row);
        select_wished(&row, &params, position);
        assert_int_equal(qr_sampler_sample(sampler, &params, &input, &whole), QR_OK);
        assert_int_equal(whole.token_id, token_by_definition(&row, &params, position));
        if (!qr_selection_is_enough(&row.selection, &params, VOCAB)) {
            n_short++;
            continue;
        }
        n_enough++;
        assert_int_equal(
            qr_sampler_sample_selected(sampler, &params, &selections, position, 0, &selected),
            QR_OK);
        assert_same_report(&whole, &selected);
    }
    assert_true(n_enough > 3000 && n_short > 100);
    qr_sampler_destroy(sampler);
}

enum { HISTORY = 60, N_BIAS = 3 };

/* What edits a row: by the key all of it, some of it, or nothing. */
struct editing {
    int32_t tokens[HISTORY];
    struct qr_logit_bias bias[N_BIAS];
    struct qr_sampling_params params;
    struct qr_token_history history; /* its counts are destroyed by who made it */
};

static void make_editing(uint64_t key, struct editing *editing)
{
    for (uint64_t i = 0; i < HISTORY; i++) /* some more than once */
        editing->tokens[i] = (int32_t)(qr_philox_uniform(key + 90000, i) * VOCAB / (i % 2 ? 9 : 1));
    for (uint64_t i = 0; i < N_BIAS; i++)
        editing->bias[i] = (struct qr_logit_bias){editing->tokens[5 + i], (float)i * 4 - 3};
    editing->params = filters_of(key);
    editing->params.repetition_penalty = key % 3 == 1 ? 1.3f : 1;
    editing->params.presence_penalty = key % 4 == 1 ? 0.6f : 0;
    editing->params.frequency_penalty = key % 5 < 2 ? -0.2f : 0;
    editing->params.n_logit_bias = key % 7 < 3 ? N_BIAS : 0;
    editing->params.logit_bias = editing->bias;
    editing->history = (struct qr_token_history){.prompt = editing->tokens,
                                                 .n_prompt = 20,
                                                 .output = editing->tokens + 20,
                                                 .n_output = HISTORY - 20,
                                                 .banned = editing->tokens + 30,
                                                 .n_banned = key % 6 == 0 ? 4 : 0};
    assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, VOCAB, &editing->history.counts),
                     QR_OK);
}

/* What a device finds in the row as its edits make it; tokens, unedited [VOCAB]. */
static void select_edited(const struct row *row, const struct qr_logit_wish *wish,
                          struct qr_token_logit *tokens, float *unedited,
                          struct qr_drawn_token *drawn, struct qr_selection *out)
{
    float edited[VOCAB];

    memcpy(edited, row->logits, sizeof(edited));
    for (int32_t i = 0; i < wish->n_edits; i++) {
        float *logit = &edited[wish->edits[i].token_id];
        *logit = qr_edit_logit(*logit, &wish->edits[i]);
    }
    qr_host_select_row()(edited, VOCAB, *wish, tokens, drawn, out);
    for (int32_t i = 0; i < out->n; i++)
        unedited[i] = row->logits[tokens[i].token_id];
    out->unedited = unedited;
    if (out->n_drawn > 0)
        drawn->unedited = row->logits[drawn->token_id];
}

static void an_edited_selection_gives_the_token_of_the_edited_row(void **state)
{
    (void)state;
    static struct row row;
    struct qr_selection edited;
    const struct qr_sampler_selections both = {.raw = &row.selection, .edited = &edited};
    struct qr_token_logit tokens[VOCAB];
    float unedited[VOCAB];
    struct qr_drawn_token drawn;
    struct qr_sampler *sampler;
    struct qr_logit_editor *editor;
    int n_enough = 0;

    assert_int_equal(qr_sampler_create(VOCAB, qr_host_select_row(), &sampler), QR_OK);
    assert_int_equal(qr_logit_editor_create(VOCAB, &editor), QR_OK);
    for (uint64_t key = 0; key < 2000; key++) {
        struct editing editing;
        struct qr_sampled whole, selected;
        make_row(key, &row);
        make_editing(key, &editing);
        struct qr_sampler_input input = {.logits = row.logits, .history = editing.history};
        double uniform;
        struct qr_logit_wish wish = qr_selection_wish(&editing.params, HISTORY, &uniform);
        wish.n_edits = qr_logit_edits_make(editor, &editing.params, &editing.history, &wish.edits);
        select_edited(&row, &wish, tokens, unedited, &drawn, &edited);
        select_tokens(&row, (struct qr_logit_wish){.n_tokens = wish.n_reported, .token_id = -1});
        assert_int_equal(qr_sampler_sample(sampler, &editing.params, &input, &whole), QR_OK);
        qr_token_counts_destroy(editing.history.counts); /* all edits are made */
        if (!qr_selection_is_enough(&edited, &editing.params, VOCAB))
            continue;
        n_enough++;
        assert_int_equal(
            qr_sampler_sample_selected(sampler, &editing.params, &both, HISTORY, 0, &selected),
            QR_OK);
        assert_same_report(&whole, &selected);
    }
    assert_true(n_enough > 1500);
    qr_logit_editor_destroy(editor);
    qr_sampler_destroy(sampler);
}

/* The tokens of a row that is steeper, so that few are left, or flat, so that more are than were
 * selected. */
static void what_top_p_leaves_of_all_is_known_or_said_not_to_be(void **state)
{
    (void)state;
    static struct row row;
    struct qr_sampling_params params;

    qr_sampling_params_default(&params);
    params.temperature = 0.7f;
    for (int32_t i = 0; i < VOCAB; i++)
        row.logits[i] = (float)-i; /* weights fall by e^(1 / 0.7) */
    params.top_p = 0.99f;          /* 1 - e^(-4 / 0.7) = 0.9967, of three tokens 0.9862 */
    select_wished(&row, &params, 0);
    assert_int_equal(row.selection.n, QR_SELECTION_MAX);
    assert_int_equal(qr_selection_kept(&row.selection, &params, VOCAB), 4);
    params.min_p = 0.05f; /* e^(-2 / 0.7) = 0.0574, e^(-3 / 0.7) = 0.0138 */
    assert_int_equal(qr_selection_kept(&row.selection, &params, VOCAB), 3);
    params.top_p = 1;
    assert_int_equal(qr_selection_kept(&row.selection, &params, VOCAB), 3);

    for (int32_t i = 0; i < VOCAB; i++)
        row.logits[i] = 1;
    select_wished(&row, &params, 0);
    assert_int_equal(qr_selection_kept(&row.selection, &params, VOCAB), 0);
    params.min_p = 0;
    params.top_p = 0.25f; /* 175 of 700 */
    select_wished(&row, &params, 0);
    assert_int_equal(qr_selection_kept(&row.selection, &params, VOCAB), 175);
    params.top_p = 0.5f;
    assert_int_equal(qr_selection_kept(&row.selection, &params, VOCAB), 0);
    for (int32_t i = 200; i < VOCAB; i++)
        row.logits[i] = -INFINITY;
    select_wished(&row, &params, 0);
    params.top_p = 0.9999999f; /* what has no weight is never needed */
    assert_in_range(qr_selection_kept(&row.selection, &params, VOCAB), 199, 200);
}

static void a_score_is_that_of_the_row(void **state)
{
    (void)state;
    static struct row row;
    struct qr_sampling_params params;

    qr_sampling_params_default(&params);
    for (int32_t id = 0; id < 50; id++) {
        struct qr_sampled scored;
        double sum = 0;
        params.n_logprobs = id % 21;
        make_row((uint64_t)id, &row);
        row.logits[id] = (float)(id % 9);
        select_tokens(&row, qr_selection_wish_to_score(&params, id));
        assert_int_equal(qr_sampler_score_selected(&row.selection, id, params.n_logprobs, &scored),
                         QR_OK);
        for (int32_t i = 0; i < VOCAB; i++)
            sum += exp((double)row.logits[i]);
        assert_true(fabs((double)scored.logprob - ((double)row.logits[id] - log(sum))) < 1e-5);
        assert_int_equal(scored.n_top, params.n_logprobs);
        for (int32_t i = 0; i < scored.n_top; i++)
            assert_int_equal(scored.top[i].token_id, row.sorted[i].token_id);
    }
}

static struct qr_logit_wish wish_of(const struct qr_sampling_params *params, double *uniform)
{
    return qr_selection_wish(params, 3, uniform);
}

static void as_little_is_wished_for_as_will_do(void **state)
{
    (void)state;
    struct qr_sampling_params params;
    double uniform = 2;

    qr_sampling_params_default(&params);
    params.temperature = 0;
    assert_int_equal(wish_of(&params, &uniform).n_tokens, 1);
    params.n_logprobs = 5;
    struct qr_logit_wish wish = wish_of(&params, &uniform);
    assert_true(wish.n_tokens == 5 && wish.n_draws == 0 && uniform == 2);
    params.temperature = 0.9f;
    wish = wish_of(&params, &uniform);
    assert_true(wish.n_tokens == 5 && wish.n_reported == 5 && wish.n_draws == 1);
    assert_true(wish.uniforms == &uniform && uniform == qr_philox_uniform(params.seed, 3));
    assert_true(wish.filter.temperature == 0.9f && qr_filter_leaves_all(&wish.filter));
    params.top_p = 0.9f;
    wish = wish_of(&params, &uniform);
    assert_true(wish.n_tokens == QR_SELECTION_MAX && wish.n_reported == 5);
    assert_true(!qr_filter_leaves_all(&wish.filter) && qr_filter_is_by_mass(&wish.filter));
    params.top_k = 40;
    wish = wish_of(&params, &uniform);
    assert_true(wish.n_tokens == 40 && wish.filter.top_k == 40 && wish.filter.top_p == 0.9f);
    assert_true(!qr_filter_leaves_all(&wish.filter) && !qr_filter_is_by_mass(&wish.filter));
    params.top_k = QR_SELECTION_MAX + 1;
    wish = wish_of(&params, &uniform);
    assert_true(wish.n_tokens == 0 && wish.n_reported == 5 && wish.n_draws == 1);
}

static void an_unsound_selection_is_an_error(void **state)
{
    (void)state;
    static struct row row;
    const struct qr_sampler_selections selections = {.raw = &row.selection};
    struct qr_sampling_params params;
    struct qr_sampler *sampler;
    struct qr_sampled out;

    qr_sampling_params_default(&params);
    params.temperature = 0;
    assert_int_equal(qr_sampler_create(VOCAB, qr_host_select_row(), &sampler), QR_OK);
    make_row(1, &row);
    select_wished(&row, &params, 0);
    row.selection.invalid = true;
    assert_int_equal(qr_sampler_sample_selected(sampler, &params, &selections, 0, 0, &out),
                     QR_ERR_DEVICE);
    row.selection.invalid = false;
    row.selection.largest = -INFINITY;
    assert_int_equal(qr_sampler_sample_selected(sampler, &params, &selections, 0, 0, &out),
                     QR_ERR_DEVICE);
    assert_int_equal(qr_sampler_score_selected(&row.selection, 0, 0, &out), QR_ERR_DEVICE);
    qr_sampler_destroy(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_selection_gives_the_token_of_the_row),
        cmocka_unit_test(an_edited_selection_gives_the_token_of_the_edited_row),
        cmocka_unit_test(what_top_p_leaves_of_all_is_known_or_said_not_to_be),
        cmocka_unit_test(a_score_is_that_of_the_row),
        cmocka_unit_test(as_little_is_wished_for_as_will_do),
        cmocka_unit_test(an_unsound_selection_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
