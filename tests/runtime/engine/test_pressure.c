/*
 * Memory pressure changes nothing but time: the same requests, forks, beams and slow
 * readers included, give the same tokens and log-probabilities, compared with ==, when
 * sequences are preempted at every token or at random, by swap to host or disk, by
 * recomputation or by parking, with and without the prefix cache, and when the tiers fail.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/engine/engine_hooks.h"
#include "runtime/swap/swapper_faults.h"
#include "tests/support/engine_force.h"
#include "tests/support/engine_gate.h"
#include "tests/support/engine_runs.h"
#include "tests/support/temp_dir.h"
#include "tests/support/testdata.h"

enum {
    N_REQUESTS = 40,
    MAX_OUTPUTS = 4,
    N_RUNS = N_REQUESTS * MAX_OUTPUTS,
};

/* Under ThreadSanitizer every third combination has to do. */
#ifdef __SANITIZE_THREAD__
enum { STRIDE = 3 };
#else
enum { STRIDE = 1 };
#endif

static char model_path[QR_TEST_PATH_MAX];
static struct qr_temp_dir swap_dir;
static int32_t corpus[512]; /* real text: the full greedy story of the reference */
static size_t n_corpus;
static struct qr_run *baseline; /* [N_RUNS] each request alone on the plainest engine */

/*
 * Request number i. Many begin alike, so that they share pages; some are longer than a
 * stream's ring, some have several outputs, some are beam searches, some score their prompt.
 */
static struct qr_request *make_request(int32_t i)
{
    size_t length = (size_t)(1 + (i * 37) % 150);
    size_t from = i % 4 != 3 ? 0 : (size_t)(i * 5) % (n_corpus - length);
    int32_t max_tokens = i % 5 == 2 ? 100 + i : 20 + i % 17;
    struct qr_request *request = qr_run_request(corpus + from, length, max_tokens);
    struct qr_sampling_params *sampling = &request->sampling;

    if (i % 6 == 4) {
        request->beam.width = 2 + i % 3;
        request->n = 1 + i % 2;
    } else {
        if (i % 3 != 0)
            qr_sampling_preset(i % 3 == 1 ? "creative" : "chat", sampling);
        if (i % 4 == 1) {
            request->n = 2 + i % 3;
            request->best_of = i % 8 == 5 ? request->n + 2 : 0;
        }
        request->ignore_eos = true;
        request->score_prompt = i % 8 == 3;
    }
    sampling->seed = (uint64_t)i * 7919;
    sampling->n_logprobs = 2;
    return request;
}

static struct qr_engine_config plain_config(void)
{
    struct qr_engine_config config = qr_run_config(model_path);

    config.kv_pages = 512;
    config.max_running = 64;
    return config;
}

/* Room for one of the longest requests, or two or three others, at one time. */
static struct qr_engine_config small_config(void)
{
    struct qr_engine_config config = plain_config();

    config.max_context = 304;
    config.kv_pages = 19;
    config.max_prefill_chunk = 48;
    return config;
}

static int make_baseline(void **state)
{
    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        return 0;
    n_corpus = qr_run_story(corpus, 512);
    struct qr_engine_config config = plain_config();
    config.prefix_cache = false;
    struct qr_engine *engine = qr_run_engine(&config);
    struct qr_waiter waiter;
    baseline = qr_calloc(QR_ARENA_REQUEST, N_RUNS, sizeof(*baseline));
    assert_non_null(baseline);
    qr_waiter_init(&waiter);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        struct qr_run *run = &baseline[i * MAX_OUTPUTS];
        struct qr_stream *stream = qr_run_submit(engine, &waiter, make_request(i), run);
        qr_run_wait(&waiter, run, 1);
        qr_stream_unref(stream);
    }
    qr_waiter_destroy(&waiter);
    qr_engine_destroy(engine);
    qr_temp_dir_make(&swap_dir);
    return 0;
}

static int free_baseline(void **state)
{
    (void)state;
    if (baseline == NULL)
        return 0;
    qr_run_free(baseline, N_RUNS);
    qr_free(baseline);
    qr_temp_dir_remove(&swap_dir);
    return 0;
}

/* ---- running ---- */

struct pressure {
    struct qr_engine_config config;
    int32_t first; /* of the requests, */
    int32_t step;  /* and every how manieth of them */
    enum engine_forcing forcing;
    enum qr_release how;
    bool slow_readers;
    bool plans_ahead;
    void (*prepare)(struct qr_engine *engine); /* before the first request; may be NULL */
    void (*during)(struct qr_engine *engine);  /* while they run; may be NULL */
};

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static bool is_over(const struct qr_run *run)
{
    for (int32_t i = 0; i < run->n_outputs; i++) {
        if (!run[i].finished)
            return false;
    }
    return true;
}

/* Nobody reads until somebody is parked for it; then one stream after the other, now and then. */
static void read_slowly(struct qr_engine *engine, struct qr_stream **streams, struct qr_run *runs)
{
    struct qr_engine_stats stats = {.n_parked = 0};
    int32_t n_open = 1;

    for (int32_t i = 0; i < 6000 && stats.n_parked == 0; i++) {
        sleep_ms(5);
        qr_engine_get_stats(engine, &stats);
    }
    for (int32_t turn = 0; n_open > 0; turn++) {
        n_open = 0;
        for (int32_t i = 0; i < N_REQUESTS; i++) {
            if (streams[i] == NULL || is_over(&runs[i * MAX_OUTPUTS]))
                continue;
            n_open++;
            if ((i + turn) % 3 == 0)
                qr_run_collect(streams[i]);
        }
        sleep_ms(2);
    }
}

static void run_all(struct qr_engine *engine, struct engine_gate *gate,
                    const struct pressure *pressure, struct qr_run *runs)
{
    struct qr_stream *streams[N_REQUESTS] = {NULL};
    struct qr_waiter waiter;

    qr_waiter_init(&waiter);
    for (int32_t i = pressure->first; i < N_REQUESTS; i += pressure->step)
        streams[i] = qr_run_submit(engine, &waiter, make_request(i), &runs[i * MAX_OUTPUTS]);
    engine_gate_open(gate);
    if (pressure->during != NULL)
        pressure->during(engine);
    if (pressure->slow_readers)
        read_slowly(engine, streams, runs);
    for (int32_t i = pressure->first; i < N_REQUESTS; i += pressure->step) {
        qr_run_wait(&waiter, &runs[i * MAX_OUTPUTS], 1);
        qr_stream_unref(streams[i]);
    }
    qr_waiter_destroy(&waiter);
}

static void compare(const struct pressure *pressure, const struct qr_run *runs)
{
    for (int32_t i = pressure->first; i < N_REQUESTS; i += pressure->step) {
        const struct qr_run *run = &runs[i * MAX_OUTPUTS];
        assert_int_equal(run->n_outputs, baseline[i * MAX_OUTPUTS].n_outputs);
        for (int32_t k = 0; k < run->n_outputs; k++) {
            qr_run_assert_same(&run[k], &baseline[i * MAX_OUTPUTS + k]);
            assert_true(run[k].finish.seed == baseline[i * MAX_OUTPUTS + k].finish.seed);
        }
    }
}

/* Runs the requests and compares; the figures of the run are in *stats, how often it was forced
 * is returned. */
static int64_t press(const struct pressure *pressure, struct qr_engine_stats *stats)
{
    struct qr_engine *engine = qr_run_engine(&pressure->config);
    struct engine_force *force = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*force));
    struct qr_run *runs = qr_calloc(QR_ARENA_REQUEST, N_RUNS, sizeof(*runs));
    struct engine_gate gate;

    assert_true(force != NULL && runs != NULL);
    force->forcing = pressure->forcing;
    force->how = pressure->how;
    force->random_state = 88172645463325252u + (uint64_t)pressure->first;
    bool forces = pressure->forcing != FORCE_NOBODY;
    struct qr_engine_hook hook = {.before_plan = forces ? engine_force_before_plan : NULL,
                                  .arg = force,
                                  .plans_ahead = pressure->plans_ahead};
    engine_gate_close(&gate, engine, &hook);
    if (pressure->prepare != NULL)
        pressure->prepare(engine);
    run_all(engine, &gate, pressure, runs);
    compare(pressure, runs);
    qr_run_assert_pool_whole(engine);
    qr_engine_get_stats(engine, stats);
    int64_t n_forced = force->n_forced;
    qr_engine_destroy(engine);
    engine_gate_destroy(&gate);
    qr_run_free(runs, N_RUNS);
    qr_free(runs);
    qr_free(force);
    return n_forced;
}

static void print_figures(const char *what, int64_t n_forced, const struct qr_engine_stats *stats)
{
    const struct qr_tier_stats *host = &stats->tiers[QR_TIER_HOST];
    const struct qr_tier_stats *disk = &stats->tiers[QR_TIER_DISK];

    printf("%s: %lld forced; %lld swapped, %lld recomputed, %lld parked; %lld tokens again; %lld "
           "copies, %lld merged, %lld of %lld tokens found; host %lld out %lld in, disk %lld out "
           "%lld in\n",
           what, (long long)n_forced, (long long)stats->n_swapped, (long long)stats->n_recomputed,
           (long long)stats->n_parked, (long long)stats->n_recomputed_tokens,
           (long long)stats->n_copies, (long long)stats->n_merged, (long long)stats->n_hit_tokens,
           (long long)stats->n_lookup_tokens, (long long)host->n_out, (long long)host->n_in,
           (long long)disk->n_out, (long long)disk->n_in);
}

/* ---- tests ---- */

static void with_host(struct qr_engine_config *config)
{
    config->swap_memory = 16 << 20;
}

static void with_disk(struct qr_engine_config *config)
{
    config->swap_dir = swap_dir.path;
    config->swap_disk = 16 << 20;
}

static void every_discipline(void **state)
{
    static const enum qr_discipline disciplines[] = {
        QR_DISCIPLINE_COST, QR_DISCIPLINE_SWAP, QR_DISCIPLINE_RECOMPUTE, QR_DISCIPLINE_RESERVE};
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    for (int i = 0; i < 8; i += STRIDE) {
        struct pressure pressure = {.config = small_config(), .step = 1};
        pressure.config.discipline = disciplines[i / 2];
        pressure.config.prefix_cache = i % 2 == 0;
        if (i / 2 < 2)
            with_host(&pressure.config);
        press(&pressure, &stats);
        print_figures("natural", 0, &stats);
        assert_true(disciplines[i / 2] != QR_DISCIPLINE_SWAP || stats.n_swapped > 0);
        assert_true(disciplines[i / 2] != QR_DISCIPLINE_RECOMPUTE || stats.n_recomputed > 0);
    }
}

static void preempted_at_every_token(void **state)
{
    static const enum qr_release ways[] = {QR_RELEASE_FINISHED, QR_RELEASE_RESUMES,
                                           QR_RELEASE_SWAPPED, QR_RELEASE_PARKED};
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    for (int32_t i = 0; i < 16; i += STRIDE) {
        struct pressure pressure = {.config = small_config(),
                                    .first = i % 5,
                                    .step = 5,
                                    .forcing = FORCE_EVERY_TOKEN,
                                    .how = ways[i % 4]};
        pressure.config.prefix_cache = i / 4 % 2 == 0;
        if (i / 8 == 0)
            with_host(&pressure.config);
        else
            with_disk(&pressure.config);
        int64_t n_forced = press(&pressure, &stats);
        print_figures("every token", n_forced, &stats);
        assert_true(n_forced > 100);
    }
}

static void preempted_at_random(void **state)
{
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    for (int32_t i = 0; i < 6; i += STRIDE) {
        struct pressure pressure = {.config = small_config(),
                                    .first = i % 2,
                                    .step = 2,
                                    .forcing = FORCE_AT_RANDOM,
                                    .slow_readers = i % 3 == 2};
        pressure.config.prefix_cache = i % 2 == 0;
        if (i / 2 != 1)
            with_host(&pressure.config);
        if (i / 2 != 0)
            with_disk(&pressure.config);
        int64_t n_forced = press(&pressure, &stats);
        print_figures("at random", n_forced, &stats);
        assert_true(n_forced > 100);
    }
}

/* The next plan is made while a step is computed, as with a GPU. */
static void plans_made_ahead(void **state)
{
    static const enum engine_forcing forcing[] = {FORCE_NOBODY, FORCE_AT_RANDOM, FORCE_EVERY_TOKEN};
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    for (int32_t i = 0; i < 6; i++) {
        struct pressure pressure = {.config = small_config(),
                                    .first = i % 2,
                                    .step = 1 + i % 3,
                                    .forcing = forcing[i % 3],
                                    .how = i < 3 ? QR_RELEASE_SWAPPED : QR_RELEASE_RESUMES,
                                    .slow_readers = i == 3,
                                    .plans_ahead = true};
        pressure.config.prefix_cache = i != 1;
        if (i % 2 == 0)
            with_host(&pressure.config);
        if (i < 2)
            with_disk(&pressure.config);
        int64_t n_forced = press(&pressure, &stats);
        print_figures("planned ahead", n_forced, &stats);
        printf("%lld of %lld steps planned ahead\n", (long long)stats.n_planned_ahead,
               (long long)stats.n_steps);
        assert_true(stats.n_planned_ahead > stats.n_steps / 10); /* beams fork at every step */
    }
}

static void readers_that_are_parked(void **state)
{
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    for (int32_t i = 0; i < 4; i++) {
        struct pressure pressure = {.config = small_config(), .step = 1, .slow_readers = true};
        pressure.config.prefix_cache = i % 2 == 0;
        if (i / 2 == 0)
            with_host(&pressure.config);
        press(&pressure, &stats);
        print_figures("slow readers", 0, &stats);
        assert_true(stats.n_parked > 0);
    }
}

static void set_faults(struct qr_engine *engine, enum qr_tier tier, bool out,
                       enum qr_swap_fault_kind kind, int64_t first, int64_t period)
{
    struct qr_swap_fault fault = {.kind = kind, .error = EIO, .first = first, .period = period};

    qr_swapper_set_fault(qr_engine_swapper(engine), tier, out, &fault);
}

static void corrupt_some(struct qr_engine *engine)
{
    set_faults(engine, QR_TIER_HOST, false, QR_SWAP_FAULT_CORRUPT, 1, 2);
    set_faults(engine, QR_TIER_DISK, false, QR_SWAP_FAULT_CORRUPT, 1, 2);
}

/* Returns how many pages were read and found to be damaged; all of them counted as such. */
static int64_t press_damaged(bool disk)
{
    struct pressure pressure = {.config = small_config(), .step = 1, .prepare = corrupt_some};
    struct qr_engine_stats stats;

    pressure.config.discipline = QR_DISCIPLINE_SWAP;
    if (disk)
        with_disk(&pressure.config);
    else
        with_host(&pressure.config);
    int64_t n_forced = press(&pressure, &stats);
    print_figures("damaged", n_forced, &stats);
    const struct qr_tier_stats *tier = &stats.tiers[disk ? QR_TIER_DISK : QR_TIER_HOST];
    assert_int_equal(tier->n_failed_in, tier->n_bad_checksums);
    assert_false(tier->closed);
    return tier->n_bad_checksums;
}

/* What a slow disk holds may be cheaper to compute again, by what was measured: then once more. */
static void damaged_pages_are_recomputed_and_counted(void **state)
{
    enum { ATTEMPTS = 10 };

    (void)state;
    if (baseline == NULL)
        return;
    for (int disk = 0; disk < 2; disk++) {
        int64_t n_damaged = 0;
        for (int i = 0; i < ATTEMPTS && n_damaged == 0; i++)
            n_damaged = press_damaged(disk != 0);
        assert_true(n_damaged > 0);
    }
}

static void fail_later(struct qr_engine *engine)
{
    set_faults(engine, QR_TIER_DISK, true, QR_SWAP_FAULT_ERROR, 20, 1);
}

/* A disk that fails for good while pages are on it, with and without memory beside it. */
static void a_disk_that_breaks_is_closed(void **state)
{
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    for (int32_t i = 0; i < 2; i++) {
        struct pressure pressure = {.config = small_config(), .step = 1, .prepare = fail_later};
        pressure.config.discipline = QR_DISCIPLINE_SWAP;
        with_disk(&pressure.config);
        if (i == 1)
            pressure.config.swap_memory = 256 << 10; /* soon full */
        press(&pressure, &stats);
        print_figures("broken disk", 0, &stats);
        assert_true(stats.tiers[QR_TIER_DISK].closed);
        assert_true(stats.tiers[QR_TIER_DISK].n_failed_out >= QR_SWAP_FAILURES_TO_BREAK);
    }
}

static void fail_reads(struct qr_engine *engine)
{
    set_faults(engine, QR_TIER_HOST, false, QR_SWAP_FAULT_ERROR, 0, 2);
    set_faults(engine, QR_TIER_HOST, true, QR_SWAP_FAULT_ERROR, 3, 4);
}

static void memory_that_fails_now_and_then(void **state)
{
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    struct pressure pressure = {
        .config = small_config(), .step = 2, .forcing = FORCE_AT_RANDOM, .prepare = fail_reads};
    with_host(&pressure.config);
    press(&pressure, &stats);
    print_figures("failing memory", 0, &stats);
    assert_true(stats.tiers[QR_TIER_HOST].n_failed_in > 0);
    assert_true(stats.tiers[QR_TIER_HOST].n_failed_out > 0);
}

static void make_slow(struct qr_engine *engine)
{
    qr_swapper_set_delay(qr_engine_swapper(engine), 200000);
}

/* Requests that are cancelled while their pages are on the way. */
static void cancelled_in_the_middle_of_a_transfer(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = small_config();
    config.discipline = QR_DISCIPLINE_SWAP;
    with_host(&config);
    with_disk(&config);
    struct qr_engine *engine = qr_run_engine(&config);
    struct engine_force *force = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*force));
    struct qr_run *runs = qr_calloc(QR_ARENA_REQUEST, N_RUNS, sizeof(*runs));
    struct qr_stream *streams[N_REQUESTS];
    struct qr_waiter waiter;
    assert_true(force != NULL && runs != NULL);
    force->forcing = FORCE_AT_RANDOM;
    struct qr_engine_hook hook = {.before_plan = engine_force_before_plan, .arg = force};
    qr_engine_set_hook(engine, &hook);
    make_slow(engine);
    qr_waiter_init(&waiter);
    for (int32_t round = 0; round < 4; round++) {
        for (int32_t i = 0; i < N_REQUESTS; i++)
            streams[i] = qr_run_submit(engine, &waiter, make_request(i), &runs[i * MAX_OUTPUTS]);
        for (int32_t i = 0; i < N_REQUESTS; i++) {
            if ((i + round) % 2 == 0)
                sleep_ms(1 + round);
            qr_stream_cancel(streams[i]);
        }
        for (int32_t i = 0; i < N_REQUESTS; i++) {
            qr_run_wait(&waiter, &runs[i * MAX_OUTPUTS], 1);
            qr_stream_unref(streams[i]);
        }
        qr_run_free(runs, N_RUNS);
        qr_run_assert_pool_whole(engine);
    }
    /* And an engine that ends while pages are on the way. */
    for (int32_t i = 0; i < N_REQUESTS; i++)
        streams[i] = qr_run_submit(engine, &waiter, make_request(i), &runs[i * MAX_OUTPUTS]);
    sleep_ms(20);
    qr_engine_destroy(engine);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        qr_run_wait(&waiter, &runs[i * MAX_OUTPUTS], 1);
        qr_stream_unref(streams[i]);
    }
    qr_waiter_destroy(&waiter);
    qr_run_free(runs, N_RUNS);
    qr_free(runs);
    qr_free(force);
}

/* Ten times more than the pool holds, forks and slow readers included: all finish, the same. */
static void ten_times_too_much(void **state)
{
    struct qr_engine_stats stats;

    (void)state;
    if (baseline == NULL)
        return;
    struct pressure pressure = {.config = small_config(), .step = 1, .slow_readers = true};
    with_host(&pressure.config);
    with_disk(&pressure.config);
    press(&pressure, &stats);
    print_figures("ten times too much", 0, &stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_discipline),
        cmocka_unit_test(preempted_at_every_token),
        cmocka_unit_test(preempted_at_random),
        cmocka_unit_test(plans_made_ahead),
        cmocka_unit_test(readers_that_are_parked),
        cmocka_unit_test(damaged_pages_are_recomputed_and_counted),
        cmocka_unit_test(a_disk_that_breaks_is_closed),
        cmocka_unit_test(memory_that_fails_now_and_then),
        cmocka_unit_test(cancelled_in_the_middle_of_a_transfer),
        cmocka_unit_test(ten_times_too_much),
    };
    return cmocka_run_group_tests(tests, make_baseline, free_baseline);
}
