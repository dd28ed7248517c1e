/*
 * Tokens that a CUDA device draws: those of the processor, whatever changes or filters a row, and
 * though nothing but these tokens crosses the bus. On the emulator, or on the machine's device with
 * QUIRE_CUDA_PLATFORM=real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cuda/emulator/emulator.h"
#include "runtime/sampling/philox.h"
#include "tests/support/cuda_engine.h"
#include "tests/support/cuda_platform.h"
#include "tests/support/engine_runs.h"
#include "tests/support/testdata.h"

enum { OUTPUT_TOKENS = 5, VOCAB_BYTES = 512 * 4 };

static char model_path[QR_TEST_PATH_MAX];
static int32_t story[512]; /* the greedy story of the reference, BOS first */

static int find_model(void **state)
{
    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        model_path[0] = '\0';
    else
        assert_true(qr_run_story(story, 512) > 200);
    return 0;
}

/* What is left to draw from: all, few tokens, more than a selection has (300 of 512 by number, some
 * 460 by weight), some of each, and of edited rows. */
static struct qr_sampling_params filters_of(int32_t i)
{
    struct qr_sampling_params params;

    qr_sampling_params_default(&params);
    params.temperature = 1.3f;
    params.seed = (uint64_t)(100 + i);
    params.n_logprobs = 2;
    params.top_k = i == 1 ? 20 : i == 2 || i == 7 ? 300 : 0;
    params.top_p = i == 3 || i == 6 ? 0.9f : i == 7 ? 0.97f : 1;
    params.min_p = i == 4 ? 0.05f : i == 7 ? 0.0001f : 0;
    params.repetition_penalty = i == 5 || i == 6 ? 1.3f : 1;
    if (i == 2 || i == 6 || i == 7)
        params.temperature = 30;
    return params;
}

enum { N_FILTERS = 8, N_OUTPUTS = 3 };

static struct qr_request *make_filtered(int32_t i)
{
    struct qr_request *request = qr_run_request(story + 3 * i, 9, OUTPUT_TOKENS);

    request->ignore_eos = true;
    request->sampling = filters_of(i);
    return request;
}

/* Weights and rows are F32 on both: the tokens are those that the processor draws. */
static void check_against_processor(qr_run_make_fn make, int32_t n)
{
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    struct qr_run *there = qr_run_each_alone(&config, make, n);
    config.backend = "cpu";
    struct qr_run *here = qr_run_each_alone(&config, make, n);
    for (int32_t i = 0; i < n; i++) {
        assert_true(here[i].n_tokens > 0);
        assert_int_equal(there[i].n_tokens, here[i].n_tokens);
        assert_memory_equal(there[i].ids, here[i].ids, (size_t)here[i].n_tokens * sizeof(int32_t));
    }
    config = qr_run_cuda_config(model_path);
    qr_run_together(&config, NULL, make, n, there);
    qr_run_free_all(there, n);
    qr_run_free_all(here, n);
}

static void filtered_draws_are_those_of_the_processor(void **state)
{
    (void)state;
    if (model_path[0] == '\0')
        return;
    check_against_processor(make_filtered, N_FILTERS);
}

/* All that changes rows before they are drawn from, by draws, greedily and by a search. */
static struct qr_request *make_edited_request(int32_t i)
{
    struct qr_request *request = qr_run_request(story, (size_t)(5 + 6 * i), OUTPUT_TOKENS + 2);
    struct qr_sampling_params *sampling = &request->sampling;
    struct qr_error err;

    sampling->temperature = i % 2 == 0 ? 0 : 1;
    sampling->seed = (uint64_t)i;
    sampling->n_logprobs = i % 3;
    sampling->repetition_penalty = i % 4 == 1 ? 1.4f : 1;
    sampling->frequency_penalty = i % 4 == 2 ? 0.7f : 0;
    sampling->presence_penalty = i == 3 ? -0.5f : 0;
    sampling->top_p = i == 5 ? 0.8f : 1;
    sampling->top_k = i == 7 ? 12 : 0;
    for (int32_t id = 255; id < 300 && i % 3 == 0; id += 5)
        assert_int_equal(qr_request_add_logit_bias(request, id, (float)(id % 7) - 2, &err), QR_OK);
    request->min_tokens = i % 2 == 0 ? 4 : 0; /* until then its end is banned */
    if (i == 6)
        request->beam.width = 3;
    return request;
}

static void edited_rows_give_the_tokens_of_the_processor(void **state)
{
    (void)state;
    if (model_path[0] == '\0')
        return;
    check_against_processor(make_edited_request, 8);
}

/* Their first tokens are drawn from one row, each by its own seed; every one is as if alone. */
static void outputs_of_one_request_are_those_of_their_seeds(void **state)
{
    (void)state;
    if (model_path[0] == '\0')
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    struct qr_engine *engine = qr_run_engine(&config);
    struct qr_run *runs = qr_calloc(QR_ARENA_REQUEST, N_OUTPUTS + 1, sizeof(*runs));
    struct qr_run *alone = &runs[N_OUTPUTS];

    assert_non_null(runs);
    for (int32_t i = 0; i < N_FILTERS; i++) {
        struct qr_request *request = make_filtered(i);
        request->n = N_OUTPUTS;
        qr_run_outputs(engine, request, runs);
        for (int32_t output = 0; output < N_OUTPUTS; output++) {
            request = make_filtered(i);
            request->sampling.seed =
                qr_philox_output_seed(request->sampling.seed, (uint32_t)output);
            qr_run_outputs(engine, request, alone);
            qr_run_assert_same(&runs[output], alone);
            qr_run_free(alone, 1);
        }
        qr_run_free(runs, N_OUTPUTS);
    }
    qr_free(runs);
    qr_engine_destroy(engine);
}

/* In a step of one row: the head of its selection, two reported tokens, what was drawn; and of an
 * edited row a second one. A row is 2 KiB here, half a megabyte in a large vocabulary. */
static void only_tokens_cross_the_bus(void **state)
{
    (void)state;
    if (model_path[0] == '\0' || qr_test_cuda_is_real())
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    config.prefix_cache = false;
    struct qr_engine *engine = qr_run_engine(&config);

    for (int32_t i = 0; i < N_FILTERS; i++) {
        struct qr_run run;
        struct qr_request *request = make_filtered(i);
        int64_t before = qr_emulator_bytes_to_host();
        qr_run_outputs(engine, request, &run);
        int64_t n_bytes = qr_emulator_bytes_to_host() - before;
        assert_int_equal(run.n_tokens, OUTPUT_TOKENS);
        print_message("%lld bytes a token\n", (long long)(n_bytes / OUTPUT_TOKENS));
        assert_in_range(n_bytes / OUTPUT_TOKENS, 12 + 4, VOCAB_BYTES / 16);
        qr_run_free(&run, 1);
    }
    qr_engine_destroy(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filtered_draws_are_those_of_the_processor),
        cmocka_unit_test(edited_rows_give_the_tokens_of_the_processor),
        cmocka_unit_test(outputs_of_one_request_are_those_of_their_seeds),
        cmocka_unit_test(only_tokens_cross_the_bus),
    };
    return cmocka_run_group_tests(tests, find_model, NULL);
}
