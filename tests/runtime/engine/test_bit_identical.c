/*
 * Design, decision 4, from end to end: the same 64 requests give the same tokens and
 * log-probabilities, compared with ==, however they are batched, chunked, paged,
 * threaded and preempted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cpu_features.h"
#include "tests/support/engine_runs.h"
#include "tests/support/testdata.h"

enum { N_REQUESTS = 64, OUTPUT_TOKENS = 40 };

static char model_path[QR_TEST_PATH_MAX];
static int32_t corpus[512]; /* real text: the full greedy story of the reference */
static size_t n_corpus;
static struct qr_run *baseline; /* [N_REQUESTS] each alone on the plainest engine */

/* Request number i: its own prompt length, sampling and seed; a few of them score their prompt. */
static struct qr_request *make_request(int32_t i)
{
    size_t length = (size_t)(1 + (i * 37) % 150);
    size_t from = i % 4 == 0 ? 0 : (size_t)(i * 5) % (n_corpus - length);
    struct qr_request *request = qr_run_request(corpus + from, length, OUTPUT_TOKENS + i % 7);
    struct qr_sampling_params *sampling = &request->sampling;

    request->ignore_eos = true;
    sampling->seed = (uint64_t)i * 7919;
    sampling->n_logprobs = 2;
    if (i % 3 == 1)
        qr_sampling_preset("creative", sampling);
    if (i % 3 == 2)
        qr_sampling_preset("chat", sampling);
    sampling->seed = (uint64_t)i * 7919;
    sampling->n_logprobs = 2;
    if (i % 4 > 1)
        sampling->top_k = 0; /* top-p of the whole vocabulary, where it is below 1 */
    if (i % 12 == 2)
        sampling->temperature = 8; /* of which more are left than a selection has */
    if (i % 5 == 1)
        sampling->repetition_penalty = 1.2f;
    if (i % 5 == 2)
        sampling->frequency_penalty = 0.5f;
    request->score_prompt = i % 8 == 3;
    return request;
}

static struct qr_engine_config plain_config(void)
{
    struct qr_engine_config config = qr_run_config(model_path);

    config.kv_memory = 64 << 20;
    return config;
}

/* The first `n` at once on an engine of this kind, compared with the baseline. */
static void check_some(const struct qr_engine_config *config, int32_t n, bool must_preempt)
{
    struct qr_engine_stats stats = qr_run_together(config, NULL, make_request, n, baseline);

    if (must_preempt) {
        printf("%lld recomputations, %lld tokens recomputed\n", (long long)stats.n_recomputed,
               (long long)stats.n_recomputed_tokens);
        assert_true(stats.n_recomputed > 0);
    }
}

static void check(const struct qr_engine_config *config, bool must_preempt)
{
    check_some(config, N_REQUESTS, must_preempt);
}

static int make_baseline(void **state)
{
    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        return 0;
    n_corpus = qr_run_story(corpus, 512);
    struct qr_engine_config config = plain_config();
    baseline = qr_run_each_alone(&config, make_request, N_REQUESTS);
    for (int32_t i = 0; i < N_REQUESTS; i++)
        assert_int_equal(baseline[i].n_tokens, OUTPUT_TOKENS + i % 7);
    return 0;
}

static int free_baseline(void **state)
{
    (void)state;
    qr_run_free_all(baseline, N_REQUESTS);
    return 0;
}

static void all_at_once(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = plain_config();
    check(&config, false);
}

static void any_chunk_size(void **state)
{
    static const int32_t chunks[] = {1, 7, 512};

    (void)state;
    if (baseline == NULL)
        return;
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        struct qr_engine_config config = plain_config();
        config.max_prefill_chunk = chunks[i];
        check(&config, false);
    }
}

/* Chunks as long as decodes may wait: how long depends on the machine, the bits do not. */
static void chunks_bounded_by_time(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = plain_config();
    config.max_stall_ms = 1;
    check(&config, false);
}

static void plans_made_ahead(void **state)
{
    const struct qr_engine_hook hook = {.plans_ahead = true};

    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = plain_config();
    config.max_prefill_chunk = 5;
    struct qr_engine_stats stats =
        qr_run_together(&config, &hook, make_request, N_REQUESTS, baseline);
    printf("%lld of %lld steps planned ahead\n", (long long)stats.n_planned_ahead,
           (long long)stats.n_steps);
    assert_true(stats.n_planned_ahead > stats.n_steps / 2);
}

static void any_page_size(void **state)
{
    static const int32_t page_sizes[] = {8, 16, 64, 256};

    (void)state;
    if (baseline == NULL)
        return;
    for (size_t i = 0; i < sizeof(page_sizes) / sizeof(page_sizes[0]); i++) {
        struct qr_engine_config config = plain_config();
        config.page_size = page_sizes[i];
        check(&config, false);
    }
}

static void any_number_of_threads(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = plain_config();
    config.n_threads = 2;
    check(&config, false);
    config.n_threads = 3; /* more than small machines have: they take turns */
    check_some(&config, 12, false);
}

static void a_pool_so_small_that_sequences_are_preempted(void **state)
{
    static const int32_t page_sizes[] = {8, 16, 32};

    (void)state;
    if (baseline == NULL)
        return;
    for (size_t i = 0; i < sizeof(page_sizes) / sizeof(page_sizes[0]); i++) {
        struct qr_engine_config config = plain_config();
        config.kv_memory = 0;
        config.page_size = page_sizes[i];
        config.kv_pages = 512 / page_sizes[i];
        config.discipline = QR_DISCIPLINE_RECOMPUTE; /* the one that never avoids it */
        config.max_prefill_chunk = 7;
        config.n_threads = 2;
        check(&config, true);
    }
}

/* Against runs alone with such pages; preempted ones are swapped to host memory or recomputed. */
static void pages_of_16_bits(void **state)
{
    static const enum qr_kv_dtype formats[] = {QR_KV_DTYPE_F16, QR_KV_DTYPE_BF16};

    (void)state;
    if (baseline == NULL)
        return;
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct qr_engine_config config = plain_config();
        config.kv_dtype = formats[i];
        struct qr_run *alone = qr_run_each_alone(&config, make_request, N_REQUESTS);
        config.kv_memory = 0;
        config.kv_pages = 32;
        config.swap_memory = 1 << 20;
        config.max_prefill_chunk = 7;
        config.n_threads = 2;
        struct qr_engine_stats stats =
            qr_run_together(&config, NULL, make_request, N_REQUESTS, alone);
        assert_true(stats.n_swapped > 0);
        qr_run_free_all(alone, N_REQUESTS);
    }
}

static void every_instruction_set(void **state)
{
    static const char *const names[] = {"scalar", "neon", "avx2", "avx512"};

    (void)state;
    if (baseline == NULL)
        return;
    for (int i = 0; i < 4; i++) {
        enum qr_isa isa;
        assert_true(qr_isa_parse(names[i], &isa));
        if (!qr_isa_supported(isa)) {
            printf("skipped: this processor has no %s\n", names[i]);
            continue;
        }
        struct qr_engine_config config = plain_config();
        config.isa = names[i];
        check_some(&config, 12, false); /* scalar code is slow */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(any_chunk_size),
        cmocka_unit_test(chunks_bounded_by_time),
        cmocka_unit_test(plans_made_ahead),
        cmocka_unit_test(any_page_size),
        cmocka_unit_test(any_number_of_threads),
        cmocka_unit_test(a_pool_so_small_that_sequences_are_preempted),
        cmocka_unit_test(pages_of_16_bits),
        cmocka_unit_test(every_instruction_set),
    };
    return cmocka_run_group_tests(tests, make_baseline, free_baseline);
}
