/*
 * test_engine_architectures.c - a whole engine on every architecture, with synthetic weights:
 * requests together in a pool that is too small for them, cut into chunks, sharing prefixes,
 * preempted, give with == what each gives alone.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/architecture_fixtures.h"
#include "tests/support/engine_runs.h"
#include "tests/support/temp_dir.h"

enum { N_REQUESTS = 12, VOCAB = 300, OUTPUT_TOKENS = 24 };

static char model[QR_TEMP_PATH_MAX + 64];
static struct qr_temp_dir dir;

/* Two in three begin alike, so that they share pages. */
static struct qr_request *make_request(int32_t i)
{
    int32_t ids[24];
    size_t n = (size_t)(3 + i * 7 % 22);

    for (int32_t k = 0; k < (int32_t)n; k++)
        ids[k] = (k * 31 + (i % 3 == 2 ? i : 0) * 11) % VOCAB;
    struct qr_request *request = qr_run_request(ids, n, OUTPUT_TOKENS);
    request->ignore_eos = true;
    request->sampling.n_logprobs = 2;
    request->sampling.seed = (uint64_t)i;
    if (i % 2 == 1)
        qr_sampling_preset("creative", &request->sampling);
    return request;
}

static struct qr_engine_config config_of(const char *name)
{
    struct architecture_fixture fixture;
    char path[600];

    architecture_fixture_load(name, &fixture);
    free(fixture.logits);
    snprintf(path, sizeof(path), "%s/config.json", fixture.dir);
    json_t *shape = json_load_file(path, 0, NULL);
    assert_non_null(shape);
    json_object_set_new(shape, "vocab_size", json_integer(VOCAB)); /* all bytes are tokens */
    char *text = json_dumps(shape, 0);
    qr_temp_dir_write(&dir, "config.json", text, strlen(text));
    free(text);
    json_decref(shape);
    snprintf(model, sizeof(model), "synthetic:%s/config.json,f32", dir.path);
    struct qr_engine_config config = qr_run_config(model);
    config.max_running = N_REQUESTS;
    config.page_size = 8;
    config.max_context = 56;
    config.kv_pages = 128;
    return config;
}

static void requests_together_are_as_each_alone(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    for (int i = 0; architecture_fixture_names[i] != NULL; i++) {
        struct qr_engine_config config = config_of(architecture_fixture_names[i]);
        config.prefix_cache = false;
        struct qr_run *alone = qr_run_each_alone(&config, make_request, N_REQUESTS);
        assert_int_equal(alone[0].n_tokens, OUTPUT_TOKENS);
        config.prefix_cache = true;
        config.n_threads = 2;
        config.max_prefill_chunk = 7;
        config.kv_pages = 16;
        struct qr_engine_stats stats =
            qr_run_together(&config, NULL, make_request, N_REQUESTS, alone);
        assert_true(stats.n_recomputed + stats.n_swapped > 0);
        qr_run_free_all(alone, N_REQUESTS);
    }
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_together_are_as_each_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
