/*
 * A model all of whose layers slide, on a CUDA device: pages that were given back are in no block
 * table, and the bits are those of an engine whose pages hold the whole context. On the emulator,
 * which sees every read outside the pool, or on the machine's device with
 * QUIRE_CUDA_PLATFORM=real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/cuda_platform.h"
#include "tests/support/engine_force.h"
#include "tests/support/engine_runs.h"
#include "tests/support/sliding_model.h"

enum { CONTEXT = 256, N_REQUESTS = 4 };

static struct qr_temp_dir dir;
static char model_path[SLIDING_MODEL_PATH_MAX];
static int32_t ids[200];
static struct qr_run *alone;

/* One prompt is longer than a split of 128 keys; two begin alike. */
static struct qr_request *make_request(int32_t i)
{
    static const size_t lengths[N_REQUESTS] = {9, 33, 40, 140};
    struct qr_request *request = qr_run_request(ids, lengths[i], 10 + 3 * i);

    request->ignore_eos = true;
    if (i % 2 == 1)
        qr_sampling_preset("creative", &request->sampling);
    request->sampling.seed = (uint64_t)i * 7919;
    request->sampling.n_logprobs = 2;
    request->score_prompt = i == 2;
    return request;
}

static struct qr_engine_config plain_config(void)
{
    struct qr_engine_config config = qr_run_config(model_path);

    config.backend = qr_test_cuda_is_real() ? "cuda" : "cuda-emulated";
    config.max_running = 4;
    config.max_batch_tokens = 64;
    config.page_size = CONTEXT;
    config.kv_pages = 8;
    return config;
}

static int set_up(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    for (int32_t i = 0; i < 200; i++)
        ids[i] = (i * i * 31 + i * 7) % 251;
    sliding_model_make(&dir, "mistral", CONTEXT, model_path);
    struct qr_engine_config config = plain_config();
    alone = qr_run_each_alone(&config, make_request, N_REQUESTS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    qr_run_free_all(alone, N_REQUESTS);
    qr_temp_dir_remove(&dir);
    return 0;
}

static void pages_given_back_are_not_missed(void **state)
{
    static struct engine_force force;
    const struct qr_engine_hook hook = {.before_plan = engine_force_before_plan, .arg = &force};

    (void)state;
    struct qr_engine_config config = plain_config();
    config.page_size = 8;
    config.max_prefill_chunk = 20;
    config.kv_pages = 12;
    qr_run_together(&config, NULL, make_request, N_REQUESTS, alone);
    force = (struct engine_force){.forcing = FORCE_AT_RANDOM, .random_state = 5};
    config.swap_memory = 1 << 20;
    qr_run_together(&config, &hook, make_request, N_REQUESTS, alone);
    assert_true(force.n_forced > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_given_back_are_not_missed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
