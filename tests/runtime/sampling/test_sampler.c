#include "runtime/sampling/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/ops/ops.h"

enum { VOCAB = 5 };

static struct qr_sampling_params greedy(void)
{
    struct qr_sampling_params params;
    qr_sampling_params_default(&params);
    params.temperature = 0;
    return params;
}

static enum qr_status sample(const struct qr_sampling_params *params,
                             const struct qr_sampler_input *input, struct qr_sampled *out)
{
    struct qr_sampler_input counted = *input;
    struct qr_sampler *sampler;
    assert_int_equal(qr_sampler_create(VOCAB, qr_host_select_row(), &sampler), QR_OK);
    assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, VOCAB, &counted.history.counts),
                     QR_OK);
    enum qr_status status = qr_sampler_sample(sampler, params, &counted, out);
    qr_token_counts_destroy(counted.history.counts);
    qr_sampler_destroy(sampler);
    return status;
}

static int32_t token_of(const struct qr_sampling_params *params,
                        const struct qr_sampler_input *input)
{
    struct qr_sampled out;
    assert_int_equal(sample(params, input, &out), QR_OK);
    return out.token_id;
}

static void greedy_takes_the_first_of_the_largest(void **state)
{
    (void)state;
    const float logits[VOCAB] = {1, 3, -2, 3, 0};
    struct qr_sampling_params params = greedy();

    for (params.seed = 0; params.seed < 10; params.seed++)
        assert_int_equal(token_of(&params, &(struct qr_sampler_input){.logits = logits}), 1);
}

/* Token 0 leads token 1 (1.6) while its penalized logit stays above. */
static void penalties_are_as_computed_by_hand(void **state)
{
    (void)state;
    const float logits[VOCAB] = {3.0f, 1.6f, -5, -5, -5};
    const int32_t thrice[] = {0, 0, 0}, twice[] = {0, 4, 0};
    const struct qr_sampler_input prompt_only = {
        .logits = logits, .history.prompt = thrice, .history.n_prompt = 3};
    const struct qr_sampler_input output_thrice = {
        .logits = logits, .history.output = thrice, .history.n_output = 3};
    const struct qr_sampler_input output_twice = {
        .logits = logits, .history.output = twice, .history.n_output = 3};
    struct qr_sampling_params params = greedy();

    params.repetition_penalty = 1.8f; /* 3 / 1.8 = 1.67, once however often it came */
    assert_int_equal(token_of(&params, &prompt_only), 0);
    assert_int_equal(token_of(&params, &output_thrice), 0);
    params.repetition_penalty = 1.9f; /* 1.58 */
    assert_int_equal(token_of(&params, &prompt_only), 1);
    assert_int_equal(token_of(&params, &output_thrice), 1);

    params = greedy();
    params.presence_penalty = 1.5f; /* 1.5, of the output alone */
    assert_int_equal(token_of(&params, &prompt_only), 0);
    assert_int_equal(token_of(&params, &output_twice), 1);
    params.presence_penalty = 1.3f; /* 1.7 */
    assert_int_equal(token_of(&params, &output_thrice), 0);

    params = greedy();
    params.frequency_penalty = 0.5f; /* twice: 2.0, three times: 1.5 */
    assert_int_equal(token_of(&params, &prompt_only), 0);
    assert_int_equal(token_of(&params, &output_twice), 0);
    assert_int_equal(token_of(&params, &output_thrice), 1);

    params.presence_penalty = 0.3f; /* twice: 3 - 1.0 - 0.3 = 1.7 */
    assert_int_equal(token_of(&params, &output_twice), 0);
    params.presence_penalty = 0.5f; /* 1.5 */
    assert_int_equal(token_of(&params, &output_twice), 1);
}

/* -1 * 2 = -2 falls below -1.5; divided it would rise to -0.5. */
static void repetition_moves_negative_logits_down(void **state)
{
    (void)state;
    const float logits[VOCAB] = {-1.0f, -1.5f, -5, -5, -5};
    const int32_t prompt[] = {0};
    struct qr_sampling_params params = greedy();

    params.repetition_penalty = 2.0f;
    assert_int_equal(token_of(&params, &(struct qr_sampler_input){.logits = logits,
                                                                  .history.prompt = prompt,
                                                                  .history.n_prompt = 1}),
                     1);
}

/* Edits of one call must not reach the next one on the same sampler. */
static void penalties_leave_nothing_behind(void **state)
{
    (void)state;
    const float logits[VOCAB] = {3.0f, 1.6f, -5, -5, -5};
    const int32_t thrice[] = {0, 0, 0};
    struct qr_sampling_params params = greedy();
    struct qr_sampler_input input = {
        .logits = logits,
        .history = {.prompt = thrice, .n_prompt = 2, .output = thrice, .n_output = 3}};
    struct qr_sampler *sampler;
    struct qr_sampled out;

    params.repetition_penalty = 1.1f;
    params.presence_penalty = 0.1f;
    params.frequency_penalty = 0.3f; /* 3 / 1.1 - 0.1 - 0.9 = 1.73 */
    assert_int_equal(qr_sampler_create(VOCAB, qr_host_select_row(), &sampler), QR_OK);
    assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, VOCAB, &input.history.counts), QR_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(qr_sampler_sample(sampler, &params, &input, &out), QR_OK);
        assert_int_equal(out.token_id, 0);
    }
    qr_token_counts_destroy(input.history.counts);
    qr_sampler_destroy(sampler);
}

static void bias_and_bans_move_the_choice(void **state)
{
    (void)state;
    const float logits[VOCAB] = {1, 2, 3, 4, 5};
    const int32_t banned[] = {4, 3};
    const struct qr_logit_bias bias[] = {{0, 3.5f}, {2, 100}};
    struct qr_sampler_input input = {
        .logits = logits, .history.banned = banned, .history.n_banned = 2};
    struct qr_sampling_params params = greedy();

    assert_int_equal(token_of(&params, &input), 2);
    params.logit_bias = bias;
    params.n_logit_bias = 1;
    assert_int_equal(token_of(&params, &input), 0);
    params.n_logit_bias = 2;
    assert_int_equal(token_of(&params, &input), 2);

    /* At any temperature, and however the dice fall. */
    params.temperature = 100;
    for (params.seed = 0; params.seed < 200; params.seed++)
        assert_true(token_of(&params, &input) < 3);

    const int32_t all[] = {0, 1, 2, 3, 4};
    struct qr_sampled out;
    input.history.banned = all;
    input.history.n_banned = VOCAB;
    assert_int_equal(sample(&params, &input, &out), QR_ERR_DEVICE);
}

static void a_draw_depends_on_seed_and_position_alone(void **state)
{
    (void)state;
    const float logits[VOCAB] = {1, 1, 1, 1, 1};
    const int32_t tokens[40] = {0};
    struct qr_sampling_params params;
    int n_different = 0;

    qr_sampling_params_default(&params);
    for (int32_t i = 0; i < 40; i++) {
        params.seed = 5;
        int32_t first = token_of(&params, &(struct qr_sampler_input){.logits = logits,
                                                                     .history.prompt = tokens,
                                                                     .history.n_prompt = 40});
        int32_t same = token_of(&params, &(struct qr_sampler_input){.logits = logits,
                                                                    .history.prompt = tokens,
                                                                    .history.n_prompt = 40 - i,
                                                                    .history.output = tokens,
                                                                    .history.n_output = i});
        assert_int_equal(first, same);
        params.seed = 6 + (uint64_t)i;
        n_different +=
            first != token_of(&params, &(struct qr_sampler_input){.logits = logits,
                                                                  .history.prompt = tokens,
                                                                  .history.n_prompt = 40});
    }
    assert_true(n_different > 20);
}

/* e^logit are 1, 2, 4, 1, 8: probabilities in sixteenths, whatever shapes the draw. */
static void logprobs_are_those_of_the_raw_logits(void **state)
{
    (void)state;
    const float ln2 = 0.69314718f;
    const float logits[VOCAB] = {0, ln2, 2 * ln2, 0, 3 * ln2};
    const int32_t ids[VOCAB] = {4, 2, 1, 0, 3}, banned[] = {4};
    const double sixteenths[VOCAB] = {8, 4, 2, 1, 1};
    struct qr_sampling_params params = greedy();
    struct qr_sampled out;

    params.repetition_penalty = 1.5f;
    params.n_logprobs = QR_MAX_LOGPROBS;
    assert_int_equal(sample(&params,
                            &(struct qr_sampler_input){.logits = logits,
                                                       .history.prompt = ids,
                                                       .history.n_prompt = 2,
                                                       .history.banned = banned,
                                                       .history.n_banned = 1},
                            &out),
                     QR_OK);
    assert_int_equal(out.token_id, 2); /* 2 ln 2 / 1.5 is still the largest */
    assert_true(fabs((double)out.logprob - log(4.0 / 16)) < 1e-6);
    assert_int_equal(out.n_top, VOCAB);
    for (int i = 0; i < VOCAB; i++) {
        assert_int_equal(out.top[i].token_id, ids[i]);
        assert_true(fabs((double)out.top[i].logprob - log(sixteenths[i] / 16)) < 1e-6);
    }

    params.n_logprobs = 2;
    assert_int_equal(sample(&params, &(struct qr_sampler_input){.logits = logits}, &out), QR_OK);
    assert_int_equal(out.n_top, 2);
    assert_int_equal(out.top[0].token_id, 4);
    assert_int_equal(out.top[1].token_id, 2);
}

static enum qr_status score(const float *logits, int32_t token_id, int32_t n_logprobs,
                            struct qr_sampled *out)
{
    const struct qr_sampling_params params = {.n_logprobs = n_logprobs};
    struct qr_token_logit tokens[VOCAB];
    struct qr_selection selection;

    qr_host_select_row()(logits, VOCAB, qr_selection_wish_to_score(&params, token_id), tokens, NULL,
                         &selection);
    return qr_sampler_score_selected(&selection, token_id, n_logprobs, out);
}

static void score_is_the_logprob_of_a_given_token(void **state)
{
    (void)state;
    const float logits[VOCAB] = {1000, 1000, 1000, 1000, -1000};
    struct qr_sampled out;

    assert_int_equal(score(logits, 3, 0, &out), QR_OK);
    assert_int_equal(out.token_id, 3);
    assert_int_equal(out.n_top, 0);
    assert_true(fabs((double)out.logprob - log(0.25)) < 1e-6);
    assert_int_equal(score(logits, 4, 1, &out), QR_OK);
    assert_true(fabs((double)out.logprob + 2000 - log(0.25)) < 1e-3);
    assert_int_equal(out.top[0].token_id, 0);
}

static void broken_logits_never_make_a_token(void **state)
{
    (void)state;
    const float broken[][VOCAB] = {
        {1, 2, NAN, 3, 4},
        {NAN, NAN, NAN, NAN, NAN},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {1, INFINITY, 2, 3, 4},
        {5, 4, 3, 2, NAN},
    };
    struct qr_sampling_params params = greedy();
    struct qr_sampled out;

    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        for (params.temperature = 0; params.temperature < 2; params.temperature++)
            assert_int_equal(sample(&params, &(struct qr_sampler_input){.logits = broken[i]}, &out),
                             QR_ERR_DEVICE);
    }
}

static void ranks_are_by_adjusted_logits_and_report_the_raw_ones(void **state)
{
    (void)state;
    const float logits[VOCAB] = {1, 3, -INFINITY, 3, 2};
    const struct qr_logit_bias bias = {4, 5};
    const int32_t banned[] = {1};
    struct qr_sampling_params params = greedy();
    struct qr_sampler_input input = {.logits = logits};
    struct qr_ranked ranked[VOCAB];
    struct qr_sampled row, scored;
    struct qr_sampler *sampler;
    int32_t n;

    params.n_logprobs = 2;
    assert_int_equal(qr_sampler_create(VOCAB, qr_host_select_row(), &sampler), QR_OK);
    assert_int_equal(qr_sampler_rank(sampler, &params, &input, 3, ranked, &n, &row), QR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ranked[0].token_id, 1); /* of equals, the lower id */
    assert_int_equal(ranked[1].token_id, 3);
    assert_int_equal(ranked[2].token_id, 4);
    assert_true(ranked[0].score == ranked[1].score && (float)ranked[0].score == ranked[0].logprob);
    assert_int_equal(row.n_top, 2);
    assert_int_equal(row.top[0].token_id, 1);

    params.n_logit_bias = 1;
    params.logit_bias = &bias;
    input.history.banned = banned;
    input.history.n_banned = 1;
    assert_int_equal(qr_sampler_rank(sampler, &params, &input, VOCAB, ranked, &n, &row), QR_OK);
    assert_int_equal(n, 3); /* one is banned, one has no probability */
    assert_int_equal(ranked[0].token_id, 4);
    assert_int_equal(ranked[1].token_id, 3);
    assert_int_equal(ranked[2].token_id, 0);
    double sum = exp(7) + exp(3) + exp(1);
    assert_true(fabs(ranked[0].score - (7 - log(sum))) < 1e-6); /* summed up in floats */
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(score(logits, ranked[i].token_id, 0, &scored), QR_OK);
        assert_true(ranked[i].logprob == scored.logprob);
    }
    assert_int_equal(row.top[0].token_id, 1); /* the model's own */
    const float broken[VOCAB] = {NAN, 1, 2, 3, 4};
    input.logits = broken;
    assert_int_equal(qr_sampler_rank(sampler, &params, &input, 3, ranked, &n, &row), QR_ERR_DEVICE);
    assert_int_equal(n, 0);
    qr_sampler_destroy(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(penalties_are_as_computed_by_hand),
        cmocka_unit_test(repetition_moves_negative_logits_down),
        cmocka_unit_test(penalties_leave_nothing_behind),
        cmocka_unit_test(bias_and_bans_move_the_choice),
        cmocka_unit_test(a_draw_depends_on_seed_and_position_alone),
        cmocka_unit_test(logprobs_are_those_of_the_raw_logits),
        cmocka_unit_test(score_is_the_logprob_of_a_given_token),
        cmocka_unit_test(ranks_are_by_adjusted_logits_and_report_the_raw_ones),
        cmocka_unit_test(broken_logits_never_make_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
