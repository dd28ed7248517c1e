/*
 * Models all of whose layers slide give their pages back, and nothing else changes: the same
 * requests, forks, beams and scored prompts included, give the same tokens and log-probabilities,
 * compared with ==, whether a page holds the whole context, so that none is ever given back, or
 * eight tokens, in pools that hold less than a sequence, in chunks of any length, with and without
 * the prefix cache, and preempted by swap to host or disk, by recomputation or by parking.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/support/engine_force.h"
#include "tests/support/engine_gate.h"
#include "tests/support/engine_runs.h"
#include "tests/support/sliding_model.h"

enum {
    CONTEXT = 256,
    PAGE = 8,
    N_REQUESTS = 18,
    MAX_OUTPUTS = 3,
    N_RUNS = N_REQUESTS * MAX_OUTPUTS,
    N_IDS = 512,
};

/* Under ThreadSanitizer every third combination has to do. */
#ifdef __SANITIZE_THREAD__
enum { STRIDE = 3 };
#else
enum { STRIDE = 1 };
#endif

static const char *const families[] = {"mistral", "phi3"}; /* windows of 7 and 11 keys */
enum { N_FAMILIES = 2 };

static struct qr_temp_dir dir;
static char model_paths[N_FAMILIES][SLIDING_MODEL_PATH_MAX];
static const char *model_path; /* of the family that is tested */
static int32_t ids[N_IDS];
static struct qr_run *baselines[N_FAMILIES]; /* [N_RUNS] */

/* Many begin alike; some have several outputs, some are beam searches, some score their prompt. */
static struct qr_request *make_request(int32_t i)
{
    size_t length = (size_t)(1 + (i * 53) % 130);
    size_t from = i % 4 != 3 ? 0 : (size_t)i * 5;
    struct qr_request *request = qr_run_request(ids + from, length, 20 + (i * 29) % 70);

    if (i % 6 == 4) {
        request->beam.width = 2 + i % 2;
        request->n = 1 + i % 2;
    } else {
        if (i % 3 != 0)
            qr_sampling_preset(i % 3 == 1 ? "creative" : "chat", &request->sampling);
        if (i % 4 == 1)
            request->n = 2 + i % 2;
        request->ignore_eos = true;
        request->score_prompt = i % 8 == 3;
    }
    request->sampling.seed = (uint64_t)i * 7919;
    request->sampling.n_logprobs = 2;
    return request;
}

/* One page holds a whole sequence: no window ever passes it. */
static struct qr_engine_config plain_config(void)
{
    struct qr_engine_config config = qr_run_config(model_path);

    config.page_size = CONTEXT;
    config.kv_pages = 64;
    config.prefix_cache = false;
    return config;
}

/* Pages of a few tokens, as many as one sequence holds at one time, and a few more. */
static struct qr_engine_config small_config(int32_t chunk, int32_t n_more)
{
    struct qr_engine_config config = plain_config();
    const struct qr_block_manager_config longest = {
        .page_size = PAGE, .max_seq_tokens = CONTEXT, .window = 11, .max_rows = chunk};

    config.page_size = PAGE;
    config.kv_pages = qr_block_manager_most_held(&longest) + n_more;
    config.max_prefill_chunk = chunk;
    config.prefix_cache = true;
    return config;
}

/* gate: opened once all are sent; NULL: one after the other. */
static void run_on(struct qr_engine *engine, struct qr_run *runs, struct engine_gate *gate)
{
    struct qr_stream *streams[N_REQUESTS];
    struct qr_waiter waiter;

    qr_waiter_init(&waiter);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        streams[i] = qr_run_submit(engine, &waiter, make_request(i), &runs[i * MAX_OUTPUTS]);
        if (gate == NULL)
            qr_run_wait(&waiter, &runs[i * MAX_OUTPUTS], 1);
    }
    if (gate != NULL)
        engine_gate_open(gate);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        qr_run_wait(&waiter, &runs[i * MAX_OUTPUTS], 1);
        qr_stream_unref(streams[i]);
    }
    qr_waiter_destroy(&waiter);
}

static struct qr_run *make_runs(void)
{
    struct qr_run *runs = qr_calloc(QR_ARENA_REQUEST, N_RUNS, sizeof(*runs));
    assert_non_null(runs);
    return runs;
}

static int set_up(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    for (int32_t i = 0; i < N_IDS; i++)
        ids[i] = (i * i * 31 + i * 7) % 251;
    for (int32_t family = 0; family < N_FAMILIES; family++) {
        sliding_model_make(&dir, families[family], CONTEXT, model_paths[family]);
        model_path = model_paths[family];
        baselines[family] = make_runs();
        struct qr_engine_config config = plain_config();
        struct qr_engine *engine = qr_run_engine(&config);
        run_on(engine, baselines[family], NULL);
        qr_engine_destroy(engine);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int32_t family = 0; family < N_FAMILIES; family++)
        qr_run_free_all(baselines[family], N_RUNS);
    qr_temp_dir_remove(&dir);
    return 0;
}

/* All requests at once; each must be as in the baseline. */
static struct qr_engine_stats press(const struct qr_engine_config *config, int32_t family,
                                    struct engine_force *force)
{
    struct qr_engine *engine = qr_run_engine(config);
    struct qr_run *runs = make_runs();
    const struct qr_run *baseline = baselines[family];
    struct qr_engine_stats stats;
    struct engine_gate gate;

    assert_int_equal(qr_engine_max_seq_tokens(engine), CONTEXT);
    struct qr_engine_hook hook = {.before_plan = engine_force_before_plan, .arg = force};
    engine_gate_close(&gate, engine, force != NULL ? &hook : NULL);
    run_on(engine, runs, &gate);
    for (int32_t i = 0; i < N_RUNS; i++) {
        assert_int_equal(runs[i].n_outputs, baseline[i].n_outputs);
        if (runs[i].n_outputs > 0)
            qr_run_assert_same(&runs[i], &baseline[i]);
    }
    qr_run_assert_pool_whole(engine);
    qr_engine_get_stats(engine, &stats);
    qr_engine_destroy(engine);
    engine_gate_destroy(&gate);
    qr_run_free_all(runs, N_RUNS);
    return stats;
}

static void print_figures(const char *what, int64_t n_forced, const struct qr_engine_stats *stats)
{
    printf("%s: %d pages, %lld forced; %lld swapped, %lld recomputed; %lld tokens again; %lld "
           "copies, %lld of %lld tokens found\n",
           what, stats->kv_pages, (long long)n_forced, (long long)stats->n_swapped,
           (long long)stats->n_recomputed, (long long)stats->n_recomputed_tokens,
           (long long)stats->n_copies, (long long)stats->n_hit_tokens,
           (long long)stats->n_lookup_tokens);
}

static const int32_t chunks[] = {1, 7, 512};

static void chunks_of_any_length_in_small_pools(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 3 * 2 * N_FAMILIES; i += STRIDE) {
        int32_t family = i / 6;
        model_path = model_paths[family];
        struct qr_engine_config config = small_config(chunks[i % 3], i / 3 % 2 * 6);
        config.prefix_cache = i / 3 % 2 == 0;
        struct qr_engine_stats stats = press(&config, family, NULL);
        print_figures(families[family], 0, &stats);
    }
}

static void every_discipline(void **state)
{
    static const enum qr_discipline disciplines[] = {
        QR_DISCIPLINE_COST, QR_DISCIPLINE_SWAP, QR_DISCIPLINE_RECOMPUTE, QR_DISCIPLINE_RESERVE};

    (void)state;
    for (int32_t i = 0; i < 8; i += STRIDE) {
        int32_t family = i % N_FAMILIES;
        model_path = model_paths[family];
        struct qr_engine_config config = small_config(7, 4);
        config.discipline = disciplines[i / 2];
        config.swap_memory = i / 2 < 2 ? 1 << 20 : 0;
        struct qr_engine_stats stats = press(&config, family, NULL);
        print_figures("natural", 0, &stats);
        assert_true(disciplines[i / 2] != QR_DISCIPLINE_SWAP || stats.n_swapped > 0);
        assert_true(disciplines[i / 2] != QR_DISCIPLINE_RECOMPUTE || stats.n_recomputed > 0);
    }
}

static void press_forced(enum engine_forcing forcing, enum qr_release how, int32_t i)
{
    struct engine_force *force = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*force));
    int32_t family = i % N_FAMILIES;

    assert_non_null(force);
    *force = (struct engine_force){.forcing = forcing, .how = how, .random_state = (uint64_t)i};
    model_path = model_paths[family];
    struct qr_engine_config config = small_config(chunks[i % 3], 8);
    config.prefix_cache = i / 2 % 2 == 0;
    if (i / 4 % 2 == 0) {
        config.swap_memory = 1 << 20;
    } else {
        config.swap_dir = dir.path;
        config.swap_disk = 4 << 20;
    }
    struct qr_engine_stats stats = press(&config, family, force);
    print_figures("forced", force->n_forced, &stats);
    assert_true(force->n_forced > 100);
    qr_free(force);
}

static void preempted_at_every_step(void **state)
{
    static const enum qr_release ways[] = {QR_RELEASE_FINISHED, QR_RELEASE_RESUMES,
                                           QR_RELEASE_SWAPPED, QR_RELEASE_PARKED};

    (void)state;
    for (int32_t i = 0; i < 24; i += STRIDE)
        press_forced(i / 12 == 0 ? FORCE_EVERY_TOKEN : FORCE_EVERY_STEP, ways[(i + i / 8) % 4], i);
}

static void preempted_at_random(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 8; i += STRIDE)
        press_forced(FORCE_AT_RANDOM, QR_RELEASE_FINISHED, i);
}

static struct qr_request *make_long(int32_t i)
{
    struct qr_request *request = qr_run_request(ids + 10 * i, 150, CONTEXT - 150);

    request->ignore_eos = true;
    request->sampling.n_logprobs = 2;
    return request;
}

/* 256 tokens in four pages of eight, which would hold 32 of them. */
static void a_sequence_is_longer_than_the_pool(void **state)
{
    (void)state;
    for (int32_t family = 0; family < N_FAMILIES; family++) {
        model_path = model_paths[family];
        struct qr_engine_config config = plain_config();
        struct qr_run *alone = qr_run_each_alone(&config, make_long, 1);
        config = small_config(5, 0);
        assert_int_equal(config.kv_pages, 4);
        struct qr_engine_stats stats = qr_run_together(&config, NULL, make_long, 1, alone);
        assert_int_equal(stats.kv_peak_pages, 4);
        assert_int_equal(stats.n_recomputed + stats.n_swapped, 0);
        qr_run_free_all(alone, 1);
    }
}

/* Five sequences of 32 pages each run beside each other in 24, and nobody gives way. */
static void a_pool_holds_more_sequences(void **state)
{
    enum { N_LONG = 5 };

    (void)state;
    model_path = model_paths[0];
    struct qr_engine_config config = plain_config();
    struct qr_run *alone = qr_run_each_alone(&config, make_long, N_LONG);
    config = small_config(5, 0);
    config.kv_pages = 24;
    struct qr_engine_stats stats = qr_run_together(&config, NULL, make_long, N_LONG, alone);
    assert_int_equal(stats.n_recomputed + stats.n_swapped, 0);
    assert_true(stats.n_steps < 2 * CONTEXT);
    qr_run_free_all(alone, N_LONG);
}

/* With memory to spare what was given back is still there: a conversation goes on at its end. */
static void what_was_passed_stays_cached_while_nobody_wants_the_room(void **state)
{
    struct qr_request *request;
    struct qr_run runs[2] = {{.n_outputs = 0}};
    int32_t all[CONTEXT];

    (void)state;
    model_path = model_paths[0];
    struct qr_engine_config config = small_config(16, 60);
    struct qr_engine *engine = qr_run_engine(&config);
    request = qr_run_request(ids, 100, 60);
    request->ignore_eos = true;
    qr_run_all(engine, &request, runs, 1);
    assert_int_equal(runs[0].n_tokens, 60);
    memcpy(all, ids, 100 * sizeof(*ids));
    memcpy(all + 100, runs[0].ids, 60 * sizeof(*ids));
    for (size_t n = 160; n > 20; n -= 35) {
        request = qr_run_request(all, n, 5);
        request->ignore_eos = true;
        qr_run_all(engine, &request, &runs[1], 1);
        assert_int_equal(runs[1].finish.usage.n_cached_tokens, n - 1);
        if (n >= 100 && n + 5 <= 160)
            assert_memory_equal(runs[1].ids, all + n, 5 * sizeof(*all));
        qr_run_free(&runs[1], 1);
    }
    qr_engine_destroy(engine);
    qr_run_free(runs, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_of_any_length_in_small_pools),
        cmocka_unit_test(every_discipline),
        cmocka_unit_test(preempted_at_every_step),
        cmocka_unit_test(preempted_at_random),
        cmocka_unit_test(a_sequence_is_longer_than_the_pool),
        cmocka_unit_test(a_pool_holds_more_sequences),
        cmocka_unit_test(what_was_passed_stays_cached_while_nobody_wants_the_room),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
