/* test_trace.c - each format is read as it is written, and its errors name the place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/bench/trace.h"
#include "tests/support/testdata.h"

static const char azure[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                            "2023-11-16 23:59:59.5000000,374,44\r\n"
                            "2023-11-17 00:00:01,396,0\r\n";
static const char mooncake[] =
    "{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 7, \"hash_ids\": [5, 6, 7]}\n"
    "{\"timestamp\": 2, \"input_length\": 1030, \"output_length\": 9, \"hash_ids\": [5, 6, 8]}\n";
static const char sharegpt[] = "{\"input_toks\": 3, \"output_toks\": 2, \"arrival_time_ns\": 70, "
                               "\"input_tok_ids\": [9, 8, 7]}\n";
static const char lengths[] = "num_prefill_tokens,num_decode_tokens\n10,1\n20,2\n30,3\n";

static void parse(const char *text, enum qr_trace_format format,
                  const struct qr_trace_options *options, struct qr_trace *trace)
{
    struct qr_error err = {""};

    if (qr_trace_parse("t", text, strlen(text), format, options, trace, &err) != QR_OK)
        fail_msg("%s", err.message);
}

static void assert_fails(const char *text, enum qr_trace_format format, const char *message)
{
    const struct qr_trace_options options = {0};
    struct qr_error err = {""};
    struct qr_trace trace;

    assert_int_equal(qr_trace_parse("t", text, strlen(text), format, &options, &trace, &err),
                     QR_ERR_INVALID);
    assert_null(trace.requests);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", message, err.message);
}

static void test_azure_counts_from_its_first_arrival(void **state)
{
    const struct qr_trace_options options = {0};
    struct qr_trace trace;

    (void)state;
    parse(azure, QR_TRACE_AZURE, &options, &trace);
    assert_int_equal(trace.n_requests, 2);
    assert_int_equal(trace.requests[0].arrival_ns, 0);
    assert_int_equal(trace.requests[1].arrival_ns, 1500000000);
    assert_int_equal(trace.requests[0].n_prompt, 374);
    assert_int_equal(trace.requests[0].n_output, 44);
    assert_int_equal(trace.requests[1].n_output, 1);
    qr_trace_free(&trace);
}

static void test_options_change_times_and_lengths(void **state)
{
    const struct qr_trace_options divided = {.divide = 10, .context = 20, .speed = 3};
    const struct qr_trace_options exchanged = {.exchange = true, .n_requests = 1};
    struct qr_trace trace;

    (void)state;
    parse(azure, QR_TRACE_AZURE, &divided, &trace);
    assert_int_equal(trace.requests[1].arrival_ns, 500000000);
    assert_int_equal(trace.requests[0].n_prompt, 16); /* 37, cut by 21 to 20 with the output */
    assert_int_equal(trace.requests[0].n_output, 4);
    assert_int_equal(trace.requests[1].n_prompt, 19);
    assert_int_equal(trace.requests[1].n_output, 1);
    qr_trace_free(&trace);

    parse(azure, QR_TRACE_AZURE, &exchanged, &trace);
    assert_int_equal(trace.n_requests, 1);
    assert_int_equal(trace.requests[0].n_prompt, 44);
    assert_int_equal(trace.requests[0].n_output, 374);
    assert_int_equal(qr_trace_max_tokens(&trace), 418);
    assert_int_equal(qr_trace_max_output(&trace), 374);
    qr_trace_free(&trace);
}

static void test_long_output_is_cut_to_half_of_the_context(void **state)
{
    const struct qr_trace_options options = {.context = 100};
    struct qr_trace trace;

    (void)state;
    parse("t\n2023-11-16 00:00:00,400,300\n", QR_TRACE_AZURE, &options, &trace);
    assert_int_equal(trace.requests[0].n_prompt, 50);
    assert_int_equal(trace.requests[0].n_output, 50);
    qr_trace_free(&trace);
}

/* Where two prompts part. */
static int32_t common_prefix(const struct qr_trace *trace, int32_t high)
{
    static int32_t a[1100], b[1100];
    int32_t n = 0;

    qr_trace_prompt(trace, 0, 0, high, a);
    qr_trace_prompt(trace, 1, 0, high, b);
    while (n < trace->requests[1].n_prompt && a[n] == b[n])
        n++;
    return n;
}

static void test_mooncake_shares_equal_blocks(void **state)
{
    const struct qr_trace_options whole = {0};
    const struct qr_trace_options divided = {.divide = 10, .seed = 7};
    struct qr_trace trace;

    (void)state;
    parse(mooncake, QR_TRACE_MOONCAKE, &whole, &trace);
    assert_int_equal(trace.requests[1].arrival_ns, 2000000);
    assert_int_equal(common_prefix(&trace, 1 << 30), 1024);
    qr_trace_free(&trace);

    parse(mooncake, QR_TRACE_MOONCAKE, &divided, &trace);
    assert_int_equal(trace.requests[0].n_prompt, 110);
    assert_int_equal(common_prefix(&trace, 1 << 30), 103);
    qr_trace_free(&trace);
}

static void test_sharegpt_has_its_own_ids(void **state)
{
    const struct qr_trace_options options = {0};
    struct qr_trace trace;
    int32_t ids[3];

    (void)state;
    parse(sharegpt, QR_TRACE_SHAREGPT, &options, &trace);
    qr_trace_prompt(&trace, 0, 100, 108, ids);
    assert_int_equal(ids[0], 101);
    assert_int_equal(ids[1], 100);
    assert_int_equal(ids[2], 107);
    qr_trace_free(&trace);
}

static void test_lengths_are_drawn_by_the_seed(void **state)
{
    struct qr_trace_options options = {.n_requests = 200, .rate = 50, .seed = 1};
    struct qr_trace first, again, other;
    size_t n_bytes = sizeof(first.requests[0]) * 200;
    int32_t n_of[4] = {0};

    (void)state;
    parse(lengths, QR_TRACE_LENGTHS, &options, &first);
    parse(lengths, QR_TRACE_LENGTHS, &options, &again);
    options.seed = 2;
    parse(lengths, QR_TRACE_LENGTHS, &options, &other);
    assert_memory_equal(first.requests, again.requests, n_bytes);
    assert_memory_not_equal(first.requests, other.requests, n_bytes);
    for (int32_t i = 0; i < 200; i++) {
        assert_int_equal(first.requests[i].n_prompt, 10 * first.requests[i].n_output);
        n_of[first.requests[i].n_output]++;
    }
    for (int i = 1; i <= 3; i++)
        assert_true(n_of[i] > 40);
    /* 200 arrivals at 50 a second. */
    assert_true(first.requests[199].arrival_ns > 3000000000 &&
                first.requests[199].arrival_ns < 5500000000);
    assert_int_equal(common_prefix(&first, 50000), 0);
    qr_trace_free(&first);
    qr_trace_free(&again);
    qr_trace_free(&other);
}

static void test_errors_name_line_and_value(void **state)
{
    (void)state;
    assert_fails("h\n2023-11-16 00:00:00,12,x9\n", QR_TRACE_AZURE,
                 "t:2: GeneratedTokens at \"x9\"");
    assert_fails("h\n2023-11-16 00:00:00,1,1\nnoon,1,1\n", QR_TRACE_AZURE, "t:3: \"noon,1,1\"");
    assert_fails("h\n2023-11-16 00:00:00;1\n", QR_TRACE_AZURE, "t:2: no comma at \";1\"");
    assert_fails("h\n", QR_TRACE_AZURE, "t: it holds no request");
    assert_fails("{\"timestamp\": 0}\n", QR_TRACE_MOONCAKE, "t:1: input_length");
    assert_fails("{\"timestamp\": -1}\n", QR_TRACE_MOONCAKE, "t:1: timestamp");
    assert_fails("[]\n", QR_TRACE_MOONCAKE, "t:1: no JSON object");
    assert_fails("{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, "
                 "\"hash_ids\": [1, -2]}",
                 QR_TRACE_MOONCAKE, "hash_ids[1]");
    assert_fails("{\"input_toks\": 4, \"output_toks\": 2, \"arrival_time_ns\": 0, "
                 "\"input_tok_ids\": [1]}",
                 QR_TRACE_SHAREGPT, "input_tok_ids has 1 ids, and input_toks is 4");
    assert_fails(lengths, QR_TRACE_LENGTHS, "name a rate");
}

/* As the readme of the test data counts them. */
static void test_real_traces(void **state)
{
    static const struct {
        const char *path;
        enum qr_trace_format format;
        int32_t n_requests;
        int32_t max_output;
    } files[] = {
        {"traces/azure-2023/AzureLLMInferenceTrace_conv.csv", QR_TRACE_AZURE, 19366, 1000},
        {"traces/mooncake/conversation_trace.jsonl", QR_TRACE_MOONCAKE, 12031, 2000},
        {"traces/sharegpt/sharegpt-llama-3.1-8b-300-sps10.jsonl", QR_TRACE_SHAREGPT, 300, 0},
        {"traces/sharegpt/sharegpt_8k_filtered_stats_llama2_tokenizer.csv", QR_TRACE_LENGTHS, 30731,
         1024},
    };
    char path[QR_TEST_PATH_MAX];
    struct qr_error err = {""};

    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const struct qr_trace_options options = {.rate =
                                                     files[i].format == QR_TRACE_LENGTHS ? 1.0 : 0};
        struct qr_trace trace;
        if (!qr_testdata(files[i].path, path))
            continue;
        if (qr_trace_read(path, files[i].format, &options, &trace, &err) != QR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(trace.n_requests, files[i].n_requests);
        if (files[i].max_output > 0)
            assert_int_equal(qr_trace_max_output(&trace), files[i].max_output);
        qr_trace_free(&trace);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_azure_counts_from_its_first_arrival),
        cmocka_unit_test(test_options_change_times_and_lengths),
        cmocka_unit_test(test_long_output_is_cut_to_half_of_the_context),
        cmocka_unit_test(test_mooncake_shares_equal_blocks),
        cmocka_unit_test(test_sharegpt_has_its_own_ids),
        cmocka_unit_test(test_lengths_are_drawn_by_the_seed),
        cmocka_unit_test(test_errors_name_line_and_value),
        cmocka_unit_test(test_real_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
