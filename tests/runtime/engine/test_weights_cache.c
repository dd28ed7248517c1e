/*
 * test_weights_cache.c - a whole engine on the demo model, with matrices as they are and quantised:
 * packed, written to the cache and mapped from it they give the same tokens and log-probabilities,
 * with ==, alone and together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/engine_runs.h"
#include "tests/support/temp_dir.h"

enum { N_REQUESTS = 4, OUTPUT_TOKENS = 16 };

static struct qr_request *make_request(int32_t i)
{
    int32_t ids[24];
    size_t n = (size_t)(3 + i * 7 % 22);

    for (int32_t k = 0; k < (int32_t)n; k++)
        ids[k] = 1 + (k * 31 + i * 11) % 200;
    struct qr_request *request = qr_run_request(ids, n, OUTPUT_TOKENS);
    request->ignore_eos = true;
    request->sampling.n_logprobs = 2;
    return request;
}

static void kept_weights_give_the_same_tokens(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    char model[1024];

    snprintf(model, sizeof(model), "%s/models/demo", getenv("QUIRE_SOURCE_DIR"));
    qr_temp_dir_make(&dir);
    for (int quantize = QR_QUANTIZE_NONE; quantize <= QR_QUANTIZE_Q4_K; quantize++) {
        struct qr_engine_config config = qr_run_config(model);
        config.backend = "cpu";
        config.quantize = (enum qr_quantize)quantize;
        config.kv_pages = 64;
        struct qr_run *alone = qr_run_each_alone(&config, make_request, N_REQUESTS);
        assert_int_equal(alone[0].n_tokens, OUTPUT_TOKENS);
        config.weights_cache = dir.path;
        for (int32_t n_threads = 1; n_threads <= 3; n_threads++) { /* the first one writes */
            config.n_threads = n_threads;
            qr_run_together(&config, NULL, make_request, N_REQUESTS, alone);
        }
        qr_run_free_all(alone, N_REQUESTS);
    }
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kept_weights_give_the_same_tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
