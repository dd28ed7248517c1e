/*
 * Several outputs of one request, with ==: n outputs are the same requests alone with the
 * derived seeds, best_of returns the best of them, and beam search finds what a plain
 * search over the forward pass finds, which knows no scheduler, no pages and no forks.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/models/model.h"
#include "runtime/sampling/philox.h"
#include "tests/support/engine_runs.h"
#include "tests/support/testdata.h"

enum { VOCAB = 512, PAGE_SIZE = 16, N_PAGES = 8, MAX_LENGTH = PAGE_SIZE * N_PAGES };

static const int32_t prompt[] = {1, 403, 407, 261, 378}; /* "Once upon a time" */
enum { N_PROMPT = sizeof(prompt) / sizeof(prompt[0]) };

/* The plain search is slow under ThreadSanitizer: every third has to do. */
#ifdef __SANITIZE_THREAD__
enum { STRIDE = 3 };
#else
enum { STRIDE = 1 };
#endif

static char model_path[QR_TEST_PATH_MAX];
static struct qr_engine *engine; /* NULL: no test data */

static int open_engine(void **state)
{
    struct qr_engine_config config;

    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        return 0;
    qr_engine_config_default(&config);
    config.model_path = model_path;
    config.n_threads = 1;
    config.isa = "avx2";
    if (!qr_isa_supported(QR_ISA_AVX2))
        config.isa = "scalar";
    config.kv_pages = 256;
    engine = qr_run_engine(&config);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    qr_engine_destroy(engine);
    return 0;
}

static struct qr_request *sampled(int32_t max_tokens, uint64_t seed)
{
    struct qr_request *request = qr_run_request(prompt, N_PROMPT, max_tokens);

    qr_sampling_preset("creative", &request->sampling);
    request->sampling.seed = seed;
    request->sampling.n_logprobs = 2;
    return request;
}

static void run_outputs(struct qr_request *request, struct qr_run *runs)
{
    qr_run_outputs(engine, request, runs);
    qr_run_assert_pool_whole(engine);
}

static struct qr_run *make_runs(int32_t n)
{
    struct qr_run *runs = qr_calloc(QR_ARENA_REQUEST, (size_t)n, sizeof(*runs));

    assert_non_null(runs);
    return runs;
}

static void free_runs(struct qr_run *runs, int32_t n)
{
    qr_run_free(runs, n);
    qr_free(runs);
}

static void n_outputs_are_those_of_the_derived_seeds(void **state)
{
    enum { N = 7 };
    (void)state;
    if (engine == NULL)
        return;
    struct qr_run *together = make_runs(N);
    struct qr_request *request = sampled(90, 42); /* longer than the ring of a stream */
    request->n = N;
    run_outputs(request, together);
    for (int32_t i = 0; i < N; i++) {
        struct qr_run *alone = make_runs(1);
        assert_true(together[i].finish.seed == qr_philox_output_seed(42, (uint32_t)i));
        run_outputs(sampled(90, together[i].finish.seed), alone);
        qr_run_assert_same(&together[i], alone);
        assert_true(together[i].finish.sum_logprob == alone->finish.sum_logprob);
        assert_int_equal(together[i].finish.usage.n_output_tokens, together[i].n_tokens);
        free_runs(alone, 1);
    }
    assert_int_equal(together[0].finish.seed, 42);
    assert_memory_not_equal(together[0].ids, together[1].ids, 40 * sizeof(int32_t));
    free_runs(together, N);
}

static void outputs_that_end_with_the_first_token(void **state)
{
    (void)state;
    if (engine == NULL)
        return;
    struct qr_run *runs = make_runs(4);
    struct qr_request *request = sampled(1, 3);
    request->n = 4;
    run_outputs(request, runs);
    for (int32_t i = 0; i < 4; i++) {
        assert_int_equal(runs[i].n_tokens, 1);
        assert_int_equal(runs[i].finish.reason, QR_FINISH_LENGTH);
    }
    free_runs(runs, 4);
}

/* A stop string in some of them, and at different places. */
static void outputs_end_at_their_own_stops(void **state)
{
    struct qr_error err;

    (void)state;
    if (engine == NULL)
        return;
    struct qr_run *runs = make_runs(6);
    struct qr_request *request = sampled(60, 11);
    request->n = 6;
    assert_int_equal(qr_request_add_stop_string(request, "She", &err), QR_OK);
    run_outputs(request, runs);
    for (int32_t i = 0; i < 6; i++) {
        struct qr_run *alone = make_runs(1);
        request = sampled(60, runs[i].finish.seed);
        assert_int_equal(qr_request_add_stop_string(request, "She", &err), QR_OK);
        run_outputs(request, alone);
        qr_run_assert_same(&runs[i], alone);
        free_runs(alone, 1);
    }
    free_runs(runs, 6);
}

static double mean_logprob(const struct qr_run *run)
{
    return run->finish.sum_logprob / run->n_tokens;
}

static void best_of_returns_the_likeliest_best_first(void **state)
{
    enum { BEST_OF = 9, N = 3 };
    (void)state;
    if (engine == NULL)
        return;
    struct qr_error err;
    struct qr_run *all = make_runs(BEST_OF);
    struct qr_request *request = sampled(80, 5);
    request->n = BEST_OF;
    assert_int_equal(qr_request_add_stop_string(request, "named", &err), QR_OK);
    run_outputs(request, all);

    struct qr_run *best = make_runs(N);
    request = sampled(80, 5);
    request->n = N;
    request->best_of = BEST_OF;
    assert_int_equal(qr_request_add_stop_string(request, "named", &err), QR_OK);
    run_outputs(request, best);
    bool used[BEST_OF] = {false};
    for (int32_t i = 0; i < N; i++) {
        int32_t winner = -1;
        for (int32_t j = 0; j < BEST_OF; j++) {
            if (!used[j] && (winner < 0 || mean_logprob(&all[j]) > mean_logprob(&all[winner])))
                winner = j;
        }
        used[winner] = true;
        qr_run_assert_same(&best[i], &all[winner]);
        assert_true(best[i].finish.seed == all[winner].finish.seed);
    }
    free_runs(best, N);
    free_runs(all, BEST_OF);
}

static void the_prompt_is_scored_once(void **state)
{
    (void)state;
    if (engine == NULL)
        return;
    struct qr_run *runs = make_runs(3);
    struct qr_request *request = sampled(5, 1);
    request->n = 3;
    request->score_prompt = true;
    run_outputs(request, runs);
    assert_int_equal(runs[0].n_scored, N_PROMPT - 1);
    assert_int_equal(runs[1].n_scored, 0);
    assert_int_equal(runs[2].n_scored, 0);
    free_runs(runs, 3);
}

/* ---- the oracle: beam search over logits of whole sequences, each computed anew ---- */

struct oracle {
    struct qr_device *dev;
    struct qr_model *model;
    struct qr_kv_geometry kv;
    float *kv_pool;
};

struct hypothesis {
    int32_t ids[MAX_LENGTH]; /* output */
    int32_t n;
    double sum;
    double score;
};

struct candidate {
    int32_t beam;
    int32_t token;
    double sum;
};

static void open_oracle(struct oracle *oracle)
{
    struct qr_error err = {""};
    struct qr_device_config device = {.n_threads = 1,
                                      .isa = qr_isa_supported(QR_ISA_AVX2) ? "avx2" : "scalar"};
    struct qr_model_limits limits = {
        .max_rows = MAX_LENGTH, .max_logit_rows = 1, .max_seqs = 1, .page_size = PAGE_SIZE};

    assert_int_equal(qr_device_open("cpu", &device, &oracle->dev, &err), QR_OK);
    assert_int_equal(qr_model_open(model_path, oracle->dev, &limits, &oracle->model, &err), QR_OK);
    const struct qr_model_config *shape = qr_model_get_config(oracle->model);
    oracle->kv = (struct qr_kv_geometry){.n_layers = shape->n_layers,
                                         .n_kv_heads = shape->n_kv_heads,
                                         .head_dim = shape->head_dim,
                                         .page_size = PAGE_SIZE};
    oracle->kv_pool = oracle->dev->ops->alloc(
        oracle->dev, N_PAGES * qr_kv_page_bytes(oracle->dev, &oracle->kv), QR_MEMORY_KV);
    assert_non_null(oracle->kv_pool);
}

static void close_oracle(struct oracle *oracle)
{
    oracle->dev->ops->free(oracle->dev, oracle->kv_pool);
    qr_model_close(oracle->model);
    qr_device_close(oracle->dev);
}

/* logprobs[VOCAB] of the token after the prompt and ids[n]; what is in banned[n_banned] is out. */
static void next_logprobs(struct oracle *oracle, const int32_t *ids, int32_t n,
                          const int32_t *banned, int32_t n_banned, double *logprobs)
{
    int32_t tokens[MAX_LENGTH];
    int32_t positions[MAX_LENGTH];
    int32_t pages[N_PAGES];
    float logits[VOCAB];
    int32_t length = N_PROMPT + n;
    struct qr_error err;

    memcpy(tokens, prompt, sizeof(prompt));
    memcpy(tokens + N_PROMPT, ids, (size_t)n * sizeof(*ids));
    for (int32_t i = 0; i < length; i++)
        positions[i] = i;
    for (int32_t i = 0; i < N_PAGES; i++)
        pages[i] = i;
    struct qr_batch batch = {.n_rows = length,
                             .token_ids = tokens,
                             .positions = positions,
                             .attention = {.n_seqs = 1,
                                           .query_start = (const int32_t[]){0, length},
                                           .context_length = (const int32_t[]){length},
                                           .block_table = pages,
                                           .block_table_stride = N_PAGES},
                             .n_logit_rows = 1,
                             .logit_rows = (const int32_t[]){length - 1}};
    assert_int_equal(qr_model_forward(oracle->model, &batch, &oracle->kv, oracle->kv_pool, &err),
                     QR_OK);
    memcpy(logits, qr_model_logit_row(oracle->model, 0).logits, VOCAB * sizeof(float));
    for (int32_t i = 0; i < n_banned; i++)
        logits[banned[i]] = -INFINITY;
    double largest = -INFINITY;
    for (int32_t i = 0; i < VOCAB; i++)
        largest = fmax(largest, (double)logits[i]);
    double sum = 0;
    for (int32_t i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i] - largest);
    for (int32_t i = 0; i < VOCAB; i++)
        logprobs[i] = (double)logits[i] - (largest + log(sum));
}

static int by_sum(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;

    if (x->sum != y->sum)
        return x->sum < y->sum ? 1 : -1;
    if (x->beam != y->beam)
        return x->beam - y->beam;
    return x->token - y->token;
}

static int by_score(const void *a, const void *b)
{
    double x = ((const struct hypothesis *)a)->score;
    double y = ((const struct hypothesis *)b)->score;

    return x < y ? 1 : x > y ? -1 : 0;
}

struct search {
    struct qr_beam_params params;
    int32_t max_tokens;
    int32_t min_tokens;
    const int32_t *stops;
    int32_t n_stops;
    struct hypothesis done[QR_MAX_WIDTH + 1]; /* best first */
    int32_t n_done;
};

static void add_done(struct search *search, const struct hypothesis *from, int32_t token,
                     double sum)
{
    struct hypothesis *added = &search->done[search->n_done++];

    *added = *from;
    added->ids[added->n++] = token;
    added->sum = sum;
    added->score = sum / pow(added->n, (double)search->params.length_penalty);
    qsort(search->done, (size_t)search->n_done, sizeof(*search->done), by_score);
    if (search->n_done > search->params.width)
        search->n_done--;
}

static bool is_stop(const struct search *search, int32_t token)
{
    for (int32_t i = 0; i < search->n_stops; i++) {
        if (search->stops[i] == token)
            return true;
    }
    return false;
}

/* As Transformers' beam_search with one batch item and no cache. */
static void plain_search(struct oracle *oracle, struct search *search)
{
    int32_t width = search->params.width;
    static struct hypothesis beams[QR_MAX_WIDTH], next[QR_MAX_WIDTH];
    static struct candidate candidates[QR_MAX_WIDTH * VOCAB];
    static double logprobs[VOCAB];
    int32_t n_beams = 1;

    beams[0] = (struct hypothesis){.n = 0};
    for (int32_t length = 1; length <= search->max_tokens; length++) {
        size_t n = 0;
        for (int32_t b = 0; b < n_beams; b++) {
            bool banned = length - 1 < search->min_tokens;
            next_logprobs(oracle, beams[b].ids, beams[b].n, search->stops,
                          banned ? search->n_stops : 0, logprobs);
            for (int32_t t = 0; t < VOCAB; t++) {
                if (logprobs[t] > -INFINITY)
                    candidates[n++] = (struct candidate){b, t, beams[b].sum + logprobs[t]};
            }
        }
        qsort(candidates, n, sizeof(candidates[0]), by_sum);
        int32_t n_next = 0;
        for (size_t rank = 0; rank < n && n_next < width; rank++) {
            const struct candidate *c = &candidates[rank];
            if (!is_stop(search, c->token)) {
                next[n_next] = beams[c->beam];
                next[n_next].ids[next[n_next].n++] = c->token;
                next[n_next++].sum = c->sum;
            } else if (rank < (size_t)width) {
                add_done(search, &beams[c->beam], c->token, c->sum);
            }
        }
        double attainable = candidates[0].sum / pow(length, (double)search->params.length_penalty);
        if (search->n_done == width &&
            (search->params.early_stopping || search->done[width - 1].score >= attainable))
            return;
        n_beams = n_next;
        memcpy(beams, next, (size_t)n_next * sizeof(next[0]));
    }
    for (int32_t b = 0; b < n_beams; b++) {
        beams[b].n--;
        add_done(search, &beams[b], beams[b].ids[beams[b].n], beams[b].sum);
    }
}

static void compare_with_oracle(struct search *search, int32_t n, bool ignore_eos)
{
    struct oracle oracle;
    struct qr_error err;
    struct qr_run *runs = make_runs(n);
    struct qr_request *request = qr_run_request(prompt, N_PROMPT, search->max_tokens);

    request->beam = search->params;
    request->n = n;
    request->min_tokens = search->min_tokens;
    request->ignore_eos = ignore_eos;
    request->sampling.n_logprobs = 2;
    for (int32_t i = ignore_eos ? 0 : 1; i < search->n_stops; i++)
        assert_int_equal(qr_request_add_stop_token(request, search->stops[i], &err), QR_OK);
    run_outputs(request, runs);

    open_oracle(&oracle);
    plain_search(&oracle, search);
    close_oracle(&oracle);
    assert_true(search->n_done >= n);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(runs[i].n_tokens, search->done[i].n);
        assert_memory_equal(runs[i].ids, search->done[i].ids,
                            (size_t)runs[i].n_tokens * sizeof(int32_t));
        /* Sums of logarithms that were rounded to float one by one, and know of no ban. */
        if (search->min_tokens == 0)
            assert_true(fabs(runs[i].finish.sum_logprob - search->done[i].sum) <
                        1e-6 * (1 + fabs(search->done[i].sum)));
        assert_int_equal(runs[i].finish.reason, is_stop(search, runs[i].ids[runs[i].n_tokens - 1])
                                                    ? QR_FINISH_STOP
                                                    : QR_FINISH_LENGTH);
    }
    free_runs(runs, n);
}

/* Ids 426 "." and 432 "," come often, so that hypotheses end at many lengths. */
static const int32_t stops[] = {2, 426, 432}; /* the first is the model's end of text */

static void beams_are_those_of_a_plain_search(void **state)
{
    static const struct qr_beam_params params[] = {
        {1, 1, false}, {2, 1, false},    {3, 1, true},    {4, 0, false}, {4, 2, false},
        {4, -1, true}, {5, 0.5f, false}, {8, 1.5f, true}, {16, 1, false}};

    (void)state;
    if (engine == NULL)
        return;
    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i += STRIDE) {
        for (int32_t n_stops = 0; n_stops <= 3; n_stops++) {
            struct search search = {.params = params[i],
                                    .max_tokens = 24,
                                    .min_tokens = i % 3 == 1 ? 5 : 0,
                                    .stops = stops,
                                    .n_stops = n_stops};
            compare_with_oracle(&search, (params[i].width + 1) / 2, n_stops == 0);
        }
    }
}

static void a_long_search(void **state)
{
    (void)state;
    if (engine == NULL)
        return;
    struct search search = {
        .params = {4, 1, false}, .max_tokens = 100, .stops = stops, .n_stops = 1};
    compare_with_oracle(&search, 4, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(n_outputs_are_those_of_the_derived_seeds),
        cmocka_unit_test(outputs_that_end_with_the_first_token),
        cmocka_unit_test(outputs_end_at_their_own_stops),
        cmocka_unit_test(best_of_returns_the_likeliest_best_first),
        cmocka_unit_test(the_prompt_is_scored_once),
        cmocka_unit_test(beams_are_those_of_a_plain_search),
        cmocka_unit_test(a_long_search),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
