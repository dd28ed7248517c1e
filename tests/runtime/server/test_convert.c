/* Requests of quire.v1 to the engine's: defaults, every field, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/server/convert.h"
#include "runtime/server/message.h"

#define SAMPLING_HAS(name) QUIRE__V1__SAMPLING_OPTIONS__HAS_##name##_##name
#define REQUEST_HAS(name)  QUIRE__V1__GENERATE_REQUEST__HAS_##name##_##name
#define STOPPING_HAS(name) QUIRE__V1__STOPPING_OPTIONS__HAS_##name##_##name

enum { MAX_SEQ_TOKENS = 100 };

static uint32_t prompt_ids[] = {1, 20, 300};

/* A valid request of three token ids, whose parts a test changes. */
struct fixture {
    Quire__V1__GenerateRequest request;
    Quire__V1__TokenIds ids;
    Quire__V1__SamplingOptions sampling;
    Quire__V1__StoppingOptions stopping;
    Quire__V1__OutputOptions output;
    bool wants_logprobs;
    const char *field;
    struct qr_error err;
};

static void init(struct fixture *fx)
{
    memset(fx, 0, sizeof(*fx));
    quire__v1__generate_request__init(&fx->request);
    quire__v1__token_ids__init(&fx->ids);
    quire__v1__sampling_options__init(&fx->sampling);
    quire__v1__stopping_options__init(&fx->stopping);
    quire__v1__output_options__init(&fx->output);
    fx->ids.ids = prompt_ids;
    fx->ids.n_ids = 3;
    fx->request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    fx->request.token_ids = &fx->ids;
    fx->request.sampling = &fx->sampling;
    fx->request.stopping = &fx->stopping;
    fx->request.output = &fx->output;
}

/* Through bytes, as a server gets it. Token ids need no tokenizer. */
static enum qr_status convert(struct fixture *fx, struct qr_request **out)
{
    grpc_byte_buffer *buffer = qr_message_pack(&fx->request.base);
    ProtobufCMessage *message = qr_message_unpack(&quire__v1__generate_request__descriptor, buffer);

    grpc_byte_buffer_destroy(buffer);
    assert_non_null(message);
    enum qr_status status =
        qr_convert_generate_request((Quire__V1__GenerateRequest *)message, NULL, MAX_SEQ_TOKENS,
                                    out, &fx->wants_logprobs, &fx->field, &fx->err);
    qr_message_free(message);
    return status;
}

static struct qr_request *convert_good(struct fixture *fx)
{
    struct qr_request *request = NULL;

    if (convert(fx, &request) != QR_OK)
        fail_msg("%s: %s", fx->field, fx->err.message);
    assert_null(fx->field);
    return request;
}

static void expect_bad(struct fixture *fx, const char *field)
{
    struct qr_request *request = (struct qr_request *)fx; /* anything but NULL */

    assert_int_equal(convert(fx, &request), QR_ERR_INVALID);
    assert_null(request);
    assert_string_equal(fx->field, field);
    assert_true(strlen(fx->err.message) > 10);
}

static void test_what_is_left_out_gets_its_default(void **state)
{
    struct fixture fx;
    struct qr_sampling_params defaults;

    (void)state;
    init(&fx);
    fx.request.sampling = NULL;
    fx.request.stopping = NULL;
    fx.request.output = NULL;
    qr_sampling_params_default(&defaults);
    struct qr_request *request = convert_good(&fx);
    defaults.seed = request->sampling.seed; /* drawn */
    assert_memory_equal(&request->sampling, &defaults, sizeof(defaults));
    assert_int_equal(request->n_prompt, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(request->prompt_ids[i], prompt_ids[i]);
    assert_int_equal(request->max_tokens, QR_MAX_TOKENS_TO_CONTEXT);
    assert_int_equal(request->min_tokens, 0);
    assert_false(request->ignore_eos || request->include_stop || request->show_special);
    assert_false(request->score_prompt || request->score_only || fx.wants_logprobs);
    qr_request_destroy(request);
}

static void test_empty_messages_are_as_good_as_none(void **state)
{
    struct fixture fx;

    (void)state;
    init(&fx);
    struct qr_request *request = convert_good(&fx);
    assert_true(request->sampling.temperature == 1.0f);
    assert_true(request->sampling.top_p == 1.0f);
    assert_true(request->sampling.repetition_penalty == 1.0f);
    assert_int_equal(request->max_tokens, QR_MAX_TOKENS_TO_CONTEXT);
    qr_request_destroy(request);
}

static void test_zero_is_not_unset(void **state)
{
    struct fixture fx;

    (void)state;
    init(&fx);
    fx.sampling.has_temperature_case = SAMPLING_HAS(TEMPERATURE);
    fx.sampling.has_seed_case = SAMPLING_HAS(SEED);
    fx.sampling.has_top_p_case = SAMPLING_HAS(TOP_P);
    fx.sampling.has_logprobs_case = SAMPLING_HAS(LOGPROBS);
    struct qr_request *request = convert_good(&fx);
    assert_true(request->sampling.temperature == 0);
    assert_true(request->sampling.top_p == 0);
    assert_int_equal(request->sampling.seed, 0);
    assert_int_equal(request->sampling.n_logprobs, 0);
    assert_true(fx.wants_logprobs);
    qr_request_destroy(request);
}

static void test_sampling_fields(void **state)
{
    struct fixture fx;
    Quire__V1__SamplingOptions__LogitBiasEntry bias[2];
    Quire__V1__SamplingOptions__LogitBiasEntry *biases[] = {&bias[0], &bias[1]};

    (void)state;
    init(&fx);
    for (int i = 0; i < 2; i++) {
        quire__v1__sampling_options__logit_bias_entry__init(&bias[i]);
        bias[i].key = (uint32_t)(7 + i);
        bias[i].value = -1.5f * (float)(i + 1);
    }
    fx.sampling.n_logit_bias = 2;
    fx.sampling.logit_bias = biases;
    fx.sampling.has_temperature_case = SAMPLING_HAS(TEMPERATURE);
    fx.sampling.temperature = 0.25f;
    fx.sampling.has_top_k_case = SAMPLING_HAS(TOP_K);
    fx.sampling.top_k = 11;
    fx.sampling.has_min_p_case = SAMPLING_HAS(MIN_P);
    fx.sampling.min_p = 0.125f;
    fx.sampling.has_repetition_penalty_case = SAMPLING_HAS(REPETITION_PENALTY);
    fx.sampling.repetition_penalty = 1.25f;
    fx.sampling.has_presence_penalty_case = SAMPLING_HAS(PRESENCE_PENALTY);
    fx.sampling.presence_penalty = 0.5f;
    fx.sampling.has_frequency_penalty_case = SAMPLING_HAS(FREQUENCY_PENALTY);
    fx.sampling.frequency_penalty = -0.5f;
    fx.sampling.has_seed_case = SAMPLING_HAS(SEED);
    fx.sampling.seed = UINT64_MAX;
    struct qr_request *request = convert_good(&fx);
    const struct qr_sampling_params *params = &request->sampling;
    assert_true(params->temperature == 0.25f && params->min_p == 0.125f);
    assert_true(params->repetition_penalty == 1.25f);
    assert_true(params->presence_penalty == 0.5f && params->frequency_penalty == -0.5f);
    assert_int_equal(params->top_k, 11);
    assert_true(params->seed == UINT64_MAX);
    assert_int_equal(params->n_logit_bias, 2);
    assert_int_equal(params->logit_bias[1].token_id, 8);
    assert_true(params->logit_bias[1].bias == -3.0f);
    qr_request_destroy(request);
}

static void test_a_field_wins_over_the_preset(void **state)
{
    struct fixture fx;
    struct qr_sampling_params creative;

    (void)state;
    qr_sampling_params_default(&creative);
    assert_true(qr_sampling_preset("creative", &creative));
    init(&fx);
    fx.sampling.preset = QUIRE__V1__SAMPLING_PRESET__SAMPLING_PRESET_CREATIVE;
    fx.sampling.has_temperature_case = SAMPLING_HAS(TEMPERATURE);
    fx.sampling.temperature = 0.125f;
    struct qr_request *request = convert_good(&fx);
    assert_true(request->sampling.temperature == 0.125f);
    assert_true(request->sampling.top_p == creative.top_p);
    assert_int_equal(request->sampling.top_k, creative.top_k);
    qr_request_destroy(request);
}

static void test_drawn_seeds_differ_and_fit_a_double(void **state)
{
    struct fixture fx;
    uint64_t seeds[8];

    (void)state;
    init(&fx);
    for (int i = 0; i < 8; i++) {
        struct qr_request *request = convert_good(&fx);
        seeds[i] = request->sampling.seed;
        assert_true(seeds[i] < UINT64_C(1) << 53);
        for (int j = 0; j < i; j++)
            assert_true(seeds[i] != seeds[j]);
        qr_request_destroy(request);
    }
}

static void test_stopping_fields(void **state)
{
    struct fixture fx;
    ProtobufCBinaryData stop[] = {{3, (uint8_t *)"end"}, {4, (uint8_t *)"\xF0\x9F\x98\x80"}};
    uint32_t ids[] = {5, 6};

    (void)state;
    init(&fx);
    fx.stopping.n_stop = 2;
    fx.stopping.stop = stop;
    fx.stopping.n_stop_token_ids = 2;
    fx.stopping.stop_token_ids = ids;
    fx.stopping.has_max_tokens_case = STOPPING_HAS(MAX_TOKENS);
    fx.stopping.max_tokens = UINT32_MAX;
    fx.stopping.has_min_tokens_case = STOPPING_HAS(MIN_TOKENS);
    fx.stopping.min_tokens = 2;
    fx.stopping.has_ignore_eos_case = STOPPING_HAS(IGNORE_EOS);
    fx.stopping.ignore_eos = true;
    struct qr_request *request = convert_good(&fx);
    assert_int_equal(request->max_tokens, INT32_MAX);
    assert_int_equal(request->min_tokens, 2);
    assert_int_equal(request->n_stop_strings, 2);
    assert_string_equal(request->stop_strings[1], "\xF0\x9F\x98\x80");
    assert_int_equal(request->n_stop_token_ids, 2);
    assert_int_equal(request->stop_token_ids[1], 6);
    assert_true(request->ignore_eos);
    assert_false(request->include_stop);
    qr_request_destroy(request);
}

static void test_scoring_without_output(void **state)
{
    struct fixture fx;

    (void)state;
    init(&fx);
    fx.stopping.has_max_tokens_case = STOPPING_HAS(MAX_TOKENS);
    expect_bad(&fx, "stopping.max_tokens");
    fx.output.has_prompt_logprobs_case =
        QUIRE__V1__OUTPUT_OPTIONS__HAS_PROMPT_LOGPROBS_PROMPT_LOGPROBS;
    fx.output.prompt_logprobs = true;
    fx.field = NULL;
    struct qr_request *request = convert_good(&fx);
    assert_true(request->score_prompt && request->score_only);
    qr_request_destroy(request);
}

static void test_bad_prompts(void **state)
{
    struct fixture fx;
    uint32_t huge[] = {1, UINT32_MAX};

    (void)state;
    init(&fx);
    fx.ids.ids = huge;
    fx.ids.n_ids = 2;
    expect_bad(&fx, "token_ids");
    init(&fx);
    fx.request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT__NOT_SET;
    expect_bad(&fx, "prompt");
}

static void test_bad_stops(void **state)
{
    uint8_t long_text[QR_MAX_STOP_BYTES + 1];
    ProtobufCBinaryData bad[] = {
        {0, (uint8_t *)""},
        {3, (uint8_t *)"a\0b"},
        {2, (uint8_t *)"\xC3("},
        {sizeof(long_text), long_text},
    };
    ProtobufCBinaryData many[QR_MAX_STOP_STRINGS + 1];
    struct fixture fx;

    (void)state;
    memset(long_text, 'x', sizeof(long_text));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        init(&fx);
        fx.stopping.n_stop = 1;
        fx.stopping.stop = &bad[i];
        expect_bad(&fx, "stopping.stop");
    }
    init(&fx);
    fx.stopping.n_stop = sizeof(many) / sizeof(many[0]);
    fx.stopping.stop = many;
    for (size_t i = 0; i < fx.stopping.n_stop; i++)
        many[i] = (ProtobufCBinaryData){1, (uint8_t *)"x"};
    expect_bad(&fx, "stopping.stop");
}

static void test_other_bad_fields(void **state)
{
    struct fixture fx;
    char long_id[65];

    (void)state;
    init(&fx);
    memset(long_id, 'x', 64);
    long_id[64] = '\0';
    fx.request.request_id = long_id;
    expect_bad(&fx, "request_id");
    init(&fx);
    fx.request.request_id = (char *)"\xFF";
    expect_bad(&fx, "request_id");
    init(&fx);
    fx.sampling.preset = (Quire__V1__SamplingPreset)77;
    expect_bad(&fx, "sampling.preset");
    init(&fx);
    fx.sampling.has_top_k_case = SAMPLING_HAS(TOP_K);
    fx.sampling.top_k = UINT32_C(1) << 31;
    expect_bad(&fx, "sampling.top_k");
}

static void test_field_paths(void **state)
{
    (void)state;
    assert_string_equal(qr_convert_field_path("top_p"), "sampling.top_p");
    assert_string_equal(qr_convert_field_path("stop"), "stopping.stop");
    assert_string_equal(qr_convert_field_path("stop_token_ids"), "stopping.stop_token_ids");
    assert_string_equal(qr_convert_field_path("prompt"), "prompt");
}

static void test_small_messages_cannot_take_much_memory(void **state)
{
    enum { N_FIELDS = 1 << 20 };
    uint8_t *bytes = qr_malloc(QR_ARENA_NETWORK, 2 * N_FIELDS);

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < N_FIELDS; i++) {
        bytes[2 * i] = 0x4A; /* an empty entry of logit_bias, again and again */
        bytes[2 * i + 1] = 0;
    }
    assert_null(
        qr_message_unpack_bytes(&quire__v1__sampling_options__descriptor, bytes, 2 * N_FIELDS));
    ProtobufCMessage *few =
        qr_message_unpack_bytes(&quire__v1__sampling_options__descriptor, bytes, 200);
    assert_non_null(few);
    assert_int_equal(((Quire__V1__SamplingOptions *)few)->n_logit_bias, 100);
    qr_message_free(few);
    qr_free(bytes);
}

static void test_outputs_and_scheduling(void **state)
{
    struct fixture fx;
    Google__Protobuf__Duration objective = GOOGLE__PROTOBUF__DURATION__INIT;

    (void)state;
    init(&fx);
    struct qr_request *request = convert_good(&fx);
    assert_int_equal(request->n, 1);
    assert_int_equal(request->best_of, 0);
    assert_int_equal(request->beam.width, 0);
    assert_int_equal(request->priority, 0);
    assert_string_equal(request->tenant, "");
    assert_int_equal(request->n_salt_bytes, 0);
    assert_int_equal(request->first_token_ns, 0);
    qr_request_destroy(request);

    fx.request.has_n_case = REQUEST_HAS(N);
    fx.request.n = 3;
    fx.request.has_best_of_case = REQUEST_HAS(BEST_OF);
    fx.request.best_of = 5;
    fx.request.has_priority_case = REQUEST_HAS(PRIORITY);
    fx.request.priority = -7;
    fx.request.tenant.data = (uint8_t *)"team";
    fx.request.tenant.len = 4;
    fx.request.cache_salt.data = (uint8_t *)"a\0b";
    fx.request.cache_salt.len = 3;
    objective.seconds = 2;
    objective.nanos = 500000000;
    fx.request.first_token_objective = &objective;
    request = convert_good(&fx);
    assert_int_equal(request->n, 3);
    assert_int_equal(request->best_of, 5);
    assert_int_equal(qr_request_width(request), 5);
    assert_true(qr_request_is_withheld(request));
    assert_int_equal(request->priority, -7);
    assert_string_equal(request->tenant, "team");
    assert_int_equal(request->n_salt_bytes, 3);
    assert_memory_equal(request->cache_salt, "a\0b", 3);
    assert_true(request->first_token_ns == INT64_C(2500000000));
    qr_request_destroy(request);
}

static void test_beam_search(void **state)
{
    struct fixture fx;
    Quire__V1__BeamSearch beam = QUIRE__V1__BEAM_SEARCH__INIT;

    (void)state;
    init(&fx);
    fx.request.beam_search = &beam;
    expect_bad(&fx, "beam_search.beam_width");
    beam.has_beam_width_case = QUIRE__V1__BEAM_SEARCH__HAS_BEAM_WIDTH_BEAM_WIDTH;
    expect_bad(&fx, "beam_search.beam_width"); /* 0 */
    beam.beam_width = 4;
    struct qr_request *request = convert_good(&fx);
    assert_int_equal(request->beam.width, 4);
    assert_true(request->beam.length_penalty == 1);
    assert_false(request->beam.early_stopping);
    qr_request_destroy(request);
    beam.has_length_penalty_case = QUIRE__V1__BEAM_SEARCH__HAS_LENGTH_PENALTY_LENGTH_PENALTY;
    beam.length_penalty = 0;
    beam.has_early_stopping_case = QUIRE__V1__BEAM_SEARCH__HAS_EARLY_STOPPING_EARLY_STOPPING;
    beam.early_stopping = true;
    request = convert_good(&fx);
    assert_true(request->beam.length_penalty == 0);
    assert_true(request->beam.early_stopping);
    qr_request_destroy(request);
}

static void test_bad_scheduling(void **state)
{
    struct fixture fx;
    Google__Protobuf__Duration objective = GOOGLE__PROTOBUF__DURATION__INIT;
    uint8_t text[65];

    (void)state;
    memset(text, 'x', sizeof(text));
    init(&fx);
    fx.request.has_best_of_case = REQUEST_HAS(BEST_OF);
    expect_bad(&fx, "best_of"); /* 0 */
    init(&fx);
    fx.request.has_n_case = REQUEST_HAS(N);
    fx.request.n = UINT32_MAX;
    expect_bad(&fx, "n");
    init(&fx);
    fx.request.tenant = (ProtobufCBinaryData){.len = 64, .data = text};
    expect_bad(&fx, "tenant");
    fx.request.tenant = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"a\0b"};
    expect_bad(&fx, "tenant");
    fx.request.tenant = (ProtobufCBinaryData){.len = 2, .data = (uint8_t *)"a\xff"};
    expect_bad(&fx, "tenant");
    init(&fx);
    fx.request.cache_salt = (ProtobufCBinaryData){.len = 65, .data = text};
    expect_bad(&fx, "cache_salt");
    init(&fx);
    fx.request.first_token_objective = &objective;
    expect_bad(&fx, "first_token_objective"); /* 0 */
    objective.seconds = -1;
    expect_bad(&fx, "first_token_objective");
    objective.seconds = INT64_MAX;
    expect_bad(&fx, "first_token_objective");
    objective.seconds = 1;
    objective.nanos = 1000000000;
    expect_bad(&fx, "first_token_objective");
}

static void check_bad(struct qr_request *request, const char *field)
{
    struct qr_request_limits limits = {.vocab_size = 512, .max_seq_tokens = 100, .max_width = 8};
    const char *at = NULL;
    struct qr_error err;

    assert_int_equal(qr_request_check(request, &limits, &at, &err), QR_ERR_INVALID);
    assert_string_equal(at, field);
    assert_true(strlen(err.message) > 10);
}

/* The ranges and combinations that are left to qr_request_check. */
static void test_checks_of_outputs(void **state)
{
    struct qr_request_limits limits = {.vocab_size = 512, .max_seq_tokens = 100, .max_width = 8};
    const char *field;
    struct qr_error err;
    struct qr_request *request = qr_request_create();

    (void)state;
    assert_int_equal(qr_request_set_prompt(request, (const int32_t[]){1}, 1), QR_OK);
    request->n = 0;
    check_bad(request, "n");
    request->n = 9; /* more than the server runs */
    check_bad(request, "n");
    request->n = 3;
    request->best_of = 2;
    check_bad(request, "best_of");
    request->best_of = 9;
    check_bad(request, "best_of");
    request->best_of = 0;
    request->score_prompt = request->score_only = true;
    check_bad(request, "n");
    request->score_prompt = request->score_only = false;
    assert_int_equal(qr_request_check(request, &limits, &field, &err), QR_OK);

    request->beam.width = 2; /* less than n */
    check_bad(request, "n");
    request->beam.width = 9;
    check_bad(request, "beam_width");
    request->beam.width = 4;
    assert_int_equal(qr_request_check(request, &limits, &field, &err), QR_OK);
    request->best_of = 4;
    check_bad(request, "best_of");
    request->best_of = 0;
    request->beam.length_penalty = 11;
    check_bad(request, "length_penalty");
    request->beam.length_penalty = __builtin_nanf("");
    check_bad(request, "length_penalty");
    request->beam.length_penalty = 1;
    request->sampling.temperature = 0.5f;
    check_bad(request, "temperature");
    request->sampling.temperature = 0;
    request->sampling.top_k = 5;
    check_bad(request, "top_k");
    request->sampling.top_k = 0;
    request->sampling.top_p = 0.5f;
    check_bad(request, "top_p");
    request->sampling.top_p = 1;
    request->sampling.min_p = 0.5f;
    check_bad(request, "min_p");
    request->sampling.min_p = 0;
    assert_int_equal(qr_request_add_stop_string(request, "x", &err), QR_OK);
    check_bad(request, "stop");
    request->beam.width = 0;
    request->priority = 11;
    check_bad(request, "priority");
    request->priority = -11;
    check_bad(request, "priority");
    request->priority = 0;
    request->first_token_ns = INT64_C(86401) * 1000000000;
    check_bad(request, "first_token_objective");
    qr_request_destroy(request);
    assert_string_equal(qr_convert_field_path("beam_width"), "beam_search.beam_width");
    assert_string_equal(qr_convert_field_path("n"), "n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_left_out_gets_its_default),
        cmocka_unit_test(test_empty_messages_are_as_good_as_none),
        cmocka_unit_test(test_zero_is_not_unset),
        cmocka_unit_test(test_sampling_fields),
        cmocka_unit_test(test_a_field_wins_over_the_preset),
        cmocka_unit_test(test_drawn_seeds_differ_and_fit_a_double),
        cmocka_unit_test(test_stopping_fields),
        cmocka_unit_test(test_scoring_without_output),
        cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_bad_stops),
        cmocka_unit_test(test_other_bad_fields),
        cmocka_unit_test(test_field_paths),
        cmocka_unit_test(test_small_messages_cannot_take_much_memory),
        cmocka_unit_test(test_outputs_and_scheduling),
        cmocka_unit_test(test_beam_search),
        cmocka_unit_test(test_bad_scheduling),
        cmocka_unit_test(test_checks_of_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
