/*
 * The whole engine on a CUDA device: published tokens come out, and the same bits whatever the
 * batch, the chunks, the pages and preemption. On the emulator, so with few and short requests,
 * or on the machine's device with QUIRE_CUDA_PLATFORM=real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/engine/engine_hooks.h"
#include "runtime/engine/generation.h"
#include "scheduler/force.h"
#include "tests/support/cuda_engine.h"
#include "tests/support/engine_runs.h"
#include "tests/support/temp_dir.h"
#include "tests/support/testdata.h"

/* The longest prompt has more keys than a split; AddressSanitizer makes the kernels too slow. */
#ifdef __SANITIZE_ADDRESS__
enum { LONGEST_PROMPT = 40, PUBLISHED_TOKENS = 8, GROWING_TOKENS = 22 };
#else
enum { LONGEST_PROMPT = 130, PUBLISHED_TOKENS = 30, GROWING_TOKENS = 36 };
#endif

enum { N_REQUESTS = 4, OUTPUT_TOKENS = 5 };

static char model_path[QR_TEST_PATH_MAX];
static int32_t story[512]; /* the greedy story of the reference, BOS first */
static size_t n_story;
static struct qr_run *baseline; /* [N_REQUESTS] each alone */
static struct qr_temp_dir swap_dir;

/* One prompt is longer than a split of 128 keys; greedy and drawn. */
static struct qr_request *make_request(int32_t i)
{
    static const size_t lengths[N_REQUESTS] = {1, 17, 9, LONGEST_PROMPT};
    size_t from = i % 2 == 0 ? 0 : (size_t)i * 11;
    struct qr_request *request = qr_run_request(story + from, lengths[i], OUTPUT_TOKENS + i % 3);

    request->ignore_eos = true;
    if (i % 3 == 1)
        qr_sampling_preset("creative", &request->sampling);
    if (i == 3) { /* more tokens are left than a selection has */
        request->sampling.temperature = 8;
        request->sampling.top_p = 0.9f;
    }
    if (i % 3 == 2)
        request->sampling.repetition_penalty = 1.2f; /* rows are edited */
    request->sampling.seed = (uint64_t)i * 7919;
    request->sampling.n_logprobs = 2;
    request->score_prompt = i == 2;
    return request;
}

/* All at once, and the same as each alone. */
static struct qr_engine_stats check(const struct qr_engine_config *config,
                                    const struct qr_engine_hook *hook)
{
    return qr_run_together(config, hook, make_request, N_REQUESTS, baseline);
}

static int make_baseline(void **state)
{
    (void)state;
    if (!qr_testdata("models/stories260k/hf", model_path))
        return 0;
    qr_temp_dir_make(&swap_dir);
    n_story = qr_run_story(story, 512);
    assert_true(n_story > 200);
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    baseline = qr_run_each_alone(&config, make_request, N_REQUESTS);
    for (int32_t i = 0; i < N_REQUESTS; i++)
        assert_int_equal(baseline[i].n_tokens, OUTPUT_TOKENS + i % 3);
    return 0;
}

static int free_baseline(void **state)
{
    (void)state;
    if (baseline != NULL)
        qr_temp_dir_remove(&swap_dir);
    qr_run_free_all(baseline, N_REQUESTS);
    return 0;
}

/* The weights are F32, and so is all that is computed: the tokens are those of the reference. */
static void the_published_tokens_come_out(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    struct qr_engine *engine = qr_run_engine(&config);
    struct qr_request *request = qr_run_request(story, 1, PUBLISHED_TOKENS);
    struct qr_run *run = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*run));

    assert_non_null(run);
    qr_run_all(engine, &request, run, 1);
    assert_int_equal(run->n_tokens, PUBLISHED_TOKENS);
    assert_memory_equal(run->ids, story + 1, PUBLISHED_TOKENS * sizeof(int32_t));
    qr_run_free(run, 1);
    qr_free(run);
    qr_engine_destroy(engine);
}

static void all_at_once(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    struct qr_engine_stats stats = check(&config, NULL);
    assert_true(stats.n_planned_ahead > stats.n_steps / 2);
}

static void any_chunk_size(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    config.max_prefill_chunk = 7;
    check(&config, NULL);
}

static void any_page_size(void **state)
{
    static const int32_t page_sizes[] = {8, 256};

    (void)state;
    for (size_t i = 0; i < 2 && baseline != NULL; i++) {
        struct qr_engine_config config = qr_run_cuda_config(model_path);
        config.page_size = page_sizes[i];
        config.kv_pages = 1024 / page_sizes[i];
        check(&config, NULL);
    }
}

static void without_the_prefix_cache(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    config.prefix_cache = false;
    check(&config, NULL);
}

/* ---- preemption ---- */

struct force {
    enum qr_release how;
    int32_t n_forced;
    const struct qr_generation *done[N_REQUESTS];
};

/* Each sequence once, after its second token. */
static void force_before_plan(void *arg, struct qr_scheduler *sched,
                              struct qr_generation *const *by_slot, int32_t n_slots)
{
    struct force *force = arg;

    for (int32_t slot = 0; slot < n_slots; slot++) {
        const struct qr_generation *seq = by_slot[slot];
        struct qr_seq_info info;
        bool done = seq == NULL || qr_generation_n_output(seq) < 2;
        if (!done) {
            qr_scheduler_get_info(sched, slot, &info);
            done = info.state != QR_SEQ_RUNNING;
        }
        for (int32_t i = 0; i < force->n_forced && !done; i++)
            done = force->done[i] == seq;
        if (done)
            continue;
        force->done[force->n_forced++] = seq;
        qr_scheduler_force_preempt(sched, slot, force->how);
    }
}

/* Every request is preempted in this way on its way, and gives the same bits. */
static struct qr_engine_stats check_preempted(const struct qr_engine_config *config,
                                              enum qr_release how)
{
    struct force force = {.how = how};
    const struct qr_engine_hook hook = {.before_plan = force_before_plan, .arg = &force};
    struct qr_engine_stats stats = check(config, &hook);

    assert_int_equal(force.n_forced, N_REQUESTS);
    return stats;
}

static void preempted_by_recompute(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    config.prefix_cache = false;
    struct qr_engine_stats stats = check_preempted(&config, QR_RELEASE_FINISHED);
    assert_true(stats.n_recomputed_tokens > 0);
}

/* How many pages have moved by the end is a matter of time (test_cuda_pages moves them all). */
static void preempted_by_swap(void **state)
{
    (void)state;
    if (baseline == NULL)
        return;
    struct qr_engine_config config = qr_run_cuda_config(model_path);
    config.page_size = 8;
    config.kv_pages = 19;
    config.swap_memory = 1 << 20;
    check_preempted(&config, QR_RELEASE_SWAPPED);
}

/* 5 or 6 pages of 8 tokens at first, and at least 8 at the end. */
static struct qr_request *make_growing_request(int32_t i)
{
    struct qr_request *request = qr_run_request(story + i, (size_t)(40 + i), GROWING_TOKENS);

    request->ignore_eos = true;
    request->sampling.seed = (uint64_t)i;
    return request;
}

/* From the device through pinned memory to a file and back, with and without memory that keeps some
 * pages beside it: three sequences find room at first, of which one has to go as they grow. */
static void growing_sequences_are_swapped_to_disk(void **state)
{
    static const int64_t host_bytes[] = {0, 64 << 10};
    struct qr_engine_config config = qr_run_cuda_config(model_path);

    (void)state;
    if (baseline == NULL)
        return;
    struct qr_run *alone = qr_run_each_alone(&config, make_growing_request, N_REQUESTS);
    config.page_size = 8;
    config.kv_pages = 21;
    config.discipline = QR_DISCIPLINE_SWAP;
    config.swap_dir = swap_dir.path;
    config.swap_disk = 16 << 20;
    for (size_t i = 0; i < sizeof(host_bytes) / sizeof(host_bytes[0]); i++) {
        config.swap_memory = host_bytes[i];
        struct qr_engine_stats stats =
            qr_run_together(&config, NULL, make_growing_request, N_REQUESTS, alone);
        const struct qr_tier_stats *disk = &stats.tiers[QR_TIER_DISK];
        print_message("%lld swapped; disk %lld pages out, %lld in; host %lld out, %lld in\n",
                      (long long)stats.n_swapped, (long long)disk->n_out, (long long)disk->n_in,
                      (long long)stats.tiers[QR_TIER_HOST].n_out,
                      (long long)stats.tiers[QR_TIER_HOST].n_in);
        assert_true(stats.n_swapped > 0);
        assert_true(disk->n_out > 0);
        assert_true(disk->n_in + stats.tiers[QR_TIER_HOST].n_in > 0);
        assert_int_equal(disk->n_failed_out + disk->n_failed_in + disk->n_bad_checksums, 0);
    }
    qr_run_free_all(alone, N_REQUESTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_tokens_come_out),
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(any_chunk_size),
        cmocka_unit_test(any_page_size),
        cmocka_unit_test(without_the_prefix_cache),
        cmocka_unit_test(preempted_by_recompute),
        cmocka_unit_test(preempted_by_swap),
        cmocka_unit_test(growing_sequences_are_swapped_to_disk),
    };
    return cmocka_run_group_tests(tests, make_baseline, free_baseline);
}
