/*
 * test_cuda_architectures.c - every architecture that runs on CUDA gives the logits of transformers
 * in F32 there too, and greedy decoding chooses its tokens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "tests/support/architecture_fixtures.h"
#include "tests/support/cuda_platform.h"

/* AddressSanitizer makes the emulated kernels slow: every third architecture has to do. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 3 };
#else
enum { STRIDE = 1 };
#endif

/* Launches start as early as they may: what a kernel reads before it waits for the one ahead of it
 * would be missing. `seed` says which of a row of launches are overtaken. */
static void launch_early(uint64_t seed)
{
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    settings.late_streams = true;
    settings.seed = seed;
    qr_emulator_set(&settings);
}

static void launch_in_order(void)
{
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);
}

/* The rest of the bits' independence is tested with the kernels and the engine. */
static void check_architecture(const char *name)
{
    struct architecture_fixture fixture;
    struct model_rig rig;

    architecture_fixture_load(name, &fixture);
    model_rig_open(&rig, fixture.dir, qr_test_cuda_is_real() ? "cuda" : "cuda-emulated", "auto", 1);
    float *found = architecture_fixture_check(&rig, name, &fixture, 1e-4f);
    float *chunked = calloc(MODEL_RIG_TOKENS * (size_t)rig.vocab_size, sizeof(float));
    assert_non_null(chunked);
    for (uint64_t seed = 0; seed < 3; seed++) {
        memset(chunked, 0xff, fixture.n_floats * sizeof(float));
        if (seed > 0)
            launch_early(seed);
        model_rig_run(&rig, fixture.ids, fixture.n_tokens, 9, chunked);
        launch_in_order();
        assert_memory_equal(chunked, found, fixture.n_floats * sizeof(float));
    }
    free(chunked);
    free(found);
    free(fixture.logits);
    model_rig_close(&rig);
}

static void logits_and_tokens_are_those_of_transformers(void **state)
{
    /* A head_dim of 10; activations that are BF16, as the weights are. */
    static const char *const left_out[] = {"llama", "llama-bf16"};

    int n = 0;

    (void)state;
    while (architecture_fixture_names[n] != NULL)
        n++;
    for (int i = STRIDE - 1; i < n; i += STRIDE) {
        bool runs = true;
        for (size_t k = 0; k < sizeof(left_out) / sizeof(left_out[0]); k++)
            runs = runs && strcmp(architecture_fixture_names[i], left_out[k]) != 0;
        if (runs)
            check_architecture(architecture_fixture_names[i]);
        else
            print_message("left out: %s\n", architecture_fixture_names[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_tokens_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
