/*
 * test_gguf_models.c - models as GGUF files: each architecture gives the bits that it gives from
 * safetensors, and weights in blocks those of the same weights as F32; where products round the
 * activations, about those, and the same bits in every run.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/cpu/packed.h"
#include "tests/support/architecture_fixtures.h"
#include "tests/support/gguf_block_models.h"
#include "tests/support/gguf_model.h"
#include "tests/support/testdata.h"

/* The logits of ids[n], for the caller to free(). */
static float *logits_of(const char *path, const char *isa, int32_t n_threads, const int32_t *ids,
                        int32_t n, int32_t chunk)
{
    struct model_rig rig;

    model_rig_open(&rig, path, "cpu", isa, n_threads);
    float *logits = calloc((size_t)MODEL_RIG_TOKENS * (size_t)rig.vocab_size, sizeof(float));
    assert_non_null(logits);
    model_rig_run(&rig, ids, n, chunk, logits);
    model_rig_close(&rig);
    return logits;
}

static void check_architecture(const char *name)
{
    struct architecture_fixture fixture;
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;
    char path[QR_TEMP_PATH_MAX + 16];
    struct model_rig rig;

    architecture_fixture_load(name, &fixture);
    gguf_from_model(fixture.dir, &gguf);
    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "model.gguf");
    snprintf(path, sizeof(path), "%s/model.gguf", dir.path);
    model_rig_open(&rig, path, "cpu", "auto", 2);
    float *found = architecture_fixture_check(&rig, name, &fixture,
                                              architecture_fixture_tolerance(name, qr_isa_best()));
    model_rig_close(&rig);
    if (strcmp(name, "llama3") != 0 && strcmp(name, "gemma2") != 0) { /* their factors are F32 */
        float *wanted =
            logits_of(fixture.dir, "auto", 1, fixture.ids, fixture.n_tokens, MODEL_RIG_TOKENS);
        assert_memory_equal(found, wanted, fixture.n_floats * sizeof(float));
        free(wanted);
    }
    free(found);
    free(fixture.logits);
    gguf_free(&gguf);
    qr_temp_dir_remove(&dir);
}

static void architectures_give_the_logits_of_their_safetensors(void **state)
{
    (void)state;
    for (int i = 0; architecture_fixture_names[i] != NULL; i++)
        if (strcmp(architecture_fixture_names[i], "llama-dynamic") != 0) /* GGUF has no such */
            check_architecture(architecture_fixture_names[i]);
}

/* ---- weights in blocks ---- */

enum { VOCAB = GGUF_BLOCK_MODEL_VOCAB, N_IDS = 20 };

static void check_about(const float *found, const float *exact)
{
    double difference = 0.0;
    double size = 0.0;

    for (int i = 0; i < N_IDS * VOCAB; i++) {
        difference += fabs((double)found[i] - (double)exact[i]);
        size += fabs((double)exact[i]);
    }
    assert_true(difference < size / 50);
}

static void check_blocks(enum qr_dtype dtype)
{
    static const struct {
        const char *isa;
        int32_t n_threads;
        int32_t chunk;
    } runs[] = {{"auto", 1, N_IDS}, {"scalar", 2, 7}, {"auto", 3, 1}};
    struct qr_temp_dir dir;
    char blocks[QR_TEMP_PATH_MAX + 16], plain[QR_TEMP_PATH_MAX + 16];
    int32_t ids[N_IDS];

    qr_temp_dir_make(&dir);
    gguf_write_block_models(&dir, dtype, QR_DTYPE_F32);
    snprintf(blocks, sizeof(blocks), "%s/blocks.gguf", dir.path);
    snprintf(plain, sizeof(plain), "%s/plain.gguf", dir.path);
    for (int i = 0; i < N_IDS; i++)
        ids[i] = i * 7 % VOCAB;
    float *wanted = logits_of(plain, "auto", 1, ids, N_IDS, N_IDS);
    if (qr_packs(dtype)) {
        float *exact = wanted;
        wanted = logits_of(blocks, "auto", 2, ids, N_IDS, N_IDS);
        check_about(wanted, exact);
        free(exact);
    }
    for (int i = 1; i < VOCAB; i++)
        assert_true(wanted[i] != wanted[0]); /* the model does compute something */
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        float *found = logits_of(blocks, runs[i].isa, runs[i].n_threads, ids, N_IDS, runs[i].chunk);
        if (memcmp(found, wanted, N_IDS * VOCAB * sizeof(float)) != 0)
            fail_msg("%s, %s in chunks of %d: other logits", qr_dtype_name(dtype), runs[i].isa,
                     runs[i].chunk);
        free(found);
    }
    free(wanted);
    qr_temp_dir_remove(&dir);
}

static void blocks_give_the_logits_of_their_values(void **state)
{
    (void)state;
    for (int dtype = QR_DTYPE_Q4_0; dtype < QR_DTYPE_END; dtype++)
        check_blocks((enum qr_dtype)dtype);
}

static void a_real_file_gives_the_logits_of_its_safetensors(void **state)
{
    (void)state;
    char gguf[QR_TEST_PATH_MAX], hf[QR_TEST_PATH_MAX];
    const int32_t ids[] = {1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421};
    int32_t n = sizeof(ids) / sizeof(ids[0]);

    if (!qr_testdata("models/stories260k/stories260K.gguf", gguf) ||
        !qr_testdata("models/stories260k/hf", hf))
        return;
    float *found = logits_of(gguf, "auto", 2, ids, n, n);
    float *wanted = logits_of(hf, "auto", 2, ids, n, n);
    assert_memory_equal(found, wanted, (size_t)n * 512 * sizeof(float));
    free(found);
    free(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(architectures_give_the_logits_of_their_safetensors),
        cmocka_unit_test(blocks_give_the_logits_of_their_values),
        cmocka_unit_test(a_real_file_gives_the_logits_of_its_safetensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
