/*
 * The engine against the published and computed outputs of stories260k: ids, text and
 * log-probabilities, from prompt text to streamed text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/engine_runs.h"
#include "tests/support/kernel_sets.h"
#include "tests/support/testdata.h"

static struct qr_engine *open_engine(const char *relative)
{
    char path[QR_TEST_PATH_MAX];
    struct qr_engine_config config;

    if (!qr_testdata(relative, path))
        return NULL;
    qr_engine_config_default(&config);
    config.model_path = path;
    return qr_run_engine(&config);
}

static size_t read_ids(const json_t *array, int32_t *ids)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return json_array_size(array);
}

static void assert_ids(const struct qr_run *run, const json_t *expected)
{
    assert_int_equal(run->n_tokens, json_array_size(expected));
    for (int32_t i = 0; i < run->n_tokens; i++)
        assert_int_equal(run->ids[i], json_integer_value(json_array_get(expected, (size_t)i)));
}

/* Greedy tokens after ids[n], past any end of text. */
static void run_greedy(struct qr_engine *engine, const int32_t *ids, size_t n, int32_t max_tokens,
                       struct qr_run *run)
{
    struct qr_request *request = qr_run_request(ids, n, max_tokens);

    request->ignore_eos = true;
    qr_run_all(engine, &request, run, 1);
}

static void the_published_text_comes_out_byte_for_byte(void **state)
{
    (void)state;
    char path[QR_TEST_PATH_MAX];
    char expected[2048];
    static struct qr_run run;
    struct qr_engine *engine = open_engine("models/stories260k/hf");
    if (engine == NULL)
        return;
    assert_true(qr_testdata("models/stories260k/expected_200steps_t0.txt", path));
    FILE *file = fopen(path, "rb");
    size_t n_bytes = fread(expected, 1, sizeof(expected), file);
    fclose(file);
    while (n_bytes > 0 && expected[n_bytes - 1] == '\n')
        n_bytes--;

    run_greedy(engine, (const int32_t[]){1}, 1, 200, &run);
    assert_int_equal(run.text.length, n_bytes);
    assert_memory_equal(run.text.data, expected, n_bytes);
    assert_int_equal(run.finish.reason, QR_FINISH_LENGTH);
    qr_run_free(&run, 1);
    qr_run_assert_pool_whole(engine);
    qr_engine_destroy(engine);
}

static void check_cases(struct qr_engine *engine, const json_t *cases, double tolerance)
{
    static struct qr_run run;
    int32_t ids[512];
    size_t index;
    json_t *item;

    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, index, item)
    {
        const json_t *logprobs = json_object_get(item, "greedy_logprobs");
        const char *prompt = json_string_value(json_object_get(item, "prompt"));
        struct qr_token_ids encoded = {.arena = QR_ARENA_REQUEST};
        struct qr_encode_options options = {.add_bos = true};
        size_t n = read_ids(json_object_get(item, "prompt_ids"), ids);

        assert_int_equal(qr_tokenizer_encode(qr_engine_tokenizer(engine), prompt, strlen(prompt),
                                             &options, &encoded, NULL),
                         QR_OK);
        assert_int_equal(encoded.count, n);
        assert_memory_equal(encoded.ids, ids, n * sizeof(*ids));
        qr_token_ids_free(&encoded);

        run_greedy(engine, ids, n, (int32_t)json_array_size(logprobs), &run);
        assert_ids(&run, json_object_get(item, "greedy_ids"));
        for (int32_t i = 0; i < run.n_tokens; i++) {
            double expected = json_real_value(json_array_get(logprobs, (size_t)i));
            assert_true((double)run.logprobs[i] - expected < tolerance &&
                        expected - (double)run.logprobs[i] < tolerance);
        }
        qr_run_free(&run, 1);
    }
}

static void every_case_of_the_reference(void **state)
{
    (void)state;
    struct qr_engine *engine = open_engine("models/stories260k/hf");
    if (engine == NULL)
        return;
    json_t *root = qr_testdata_json("models/stories260k/reference.json");
    check_cases(engine, json_object_get(root, "cases"), 1e-4);
    json_decref(root);
    qr_engine_destroy(engine);
}

static void every_case_of_the_sharded_bf16_checkpoint(void **state)
{
    (void)state;
    struct qr_engine *engine = open_engine("models/stories260k/hf-bf16-sharded");
    if (engine == NULL)
        return;
    json_t *root = qr_testdata_json("models/stories260k/reference.json");
    check_cases(engine, json_object_get(root, "cases_bf16_weights"),
                rounds_to_bf16(qr_isa_best()) ? 0.05 : 1e-4);
    json_decref(root);
    qr_engine_destroy(engine);
}

static void a_story_to_the_end_of_the_context(void **state)
{
    (void)state;
    static struct qr_run run;
    struct qr_engine *engine = open_engine("models/stories260k/hf");
    if (engine == NULL)
        return;
    json_t *root = qr_testdata_json("models/stories260k/reference.json");
    json_t *story = json_object_get(root, "full_context_greedy");

    run_greedy(engine, (const int32_t[]){1}, 1, QR_MAX_TOKENS_TO_CONTEXT, &run);
    assert_ids(&run, json_object_get(story, "ids"));
    assert_int_equal(run.finish.reason, QR_FINISH_LENGTH);
    double sum = 0;
    for (int32_t i = 0; i < run.n_tokens; i++)
        sum += (double)run.logprobs[i];
    double expected = json_real_value(json_object_get(story, "sum_logprob"));
    assert_true(sum - expected < 1e-2 && expected - sum < 1e-2);
    qr_run_free(&run, 1);
    json_decref(root);
    qr_engine_destroy(engine);
}

static void scoring_the_prompt_gives_what_generating_gave(void **state)
{
    (void)state;
    static struct qr_run generated, scored;
    int32_t ids[256] = {1};
    struct qr_engine *engine = open_engine("models/stories260k/hf");
    if (engine == NULL)
        return;
    run_greedy(engine, ids, 1, 200, &generated);
    memcpy(ids + 1, generated.ids, 200 * sizeof(*ids));

    struct qr_request *request = qr_run_request(ids, 201, 0);
    request->score_prompt = request->score_only = true;
    qr_run_all(engine, &request, &scored, 1);
    assert_int_equal(scored.n_tokens, 0);
    assert_int_equal(scored.n_scored, 200);
    for (int32_t i = 0; i < 200; i++)
        assert_true(scored.scores[i] == generated.logprobs[i]);
    qr_run_free(&generated, 1);
    qr_run_free(&scored, 1);
    qr_engine_destroy(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_text_comes_out_byte_for_byte),
        cmocka_unit_test(every_case_of_the_reference),
        cmocka_unit_test(every_case_of_the_sharded_bf16_checkpoint),
        cmocka_unit_test(a_story_to_the_end_of_the_context),
        cmocka_unit_test(scoring_the_prompt_gives_what_generating_gave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
