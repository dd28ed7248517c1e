/*
 * The forward pass against published weights: logits computed in double by an
 * independent program, on every instruction set that runs here, and with == however
 * the rows are cut into steps (design, decision 4).
 */
#include "runtime/models/model.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu_features.h"
#include "tests/support/kernel_sets.h"
#include "tests/support/model_rig.h"
#include "tests/support/testdata.h"

enum { N_TOKENS = 32, VOCAB = 512 };

static void open_rig(struct model_rig *rig, const char *dir, const char *isa, int32_t n_threads)
{
    model_rig_open(rig, dir, "cpu", isa, n_threads);
    assert_int_equal(rig->vocab_size, VOCAB);
}

/* The whole sequence in steps of `chunk` tokens, logits [N_TOKENS][VOCAB]. */
static void run_chunked(struct model_rig *rig, const int32_t *ids, int32_t chunk, float *logits)
{
    memset(logits, 0, N_TOKENS * VOCAB * sizeof(float));
    model_rig_run(rig, ids, N_TOKENS, chunk, logits);
}

static json_t *load_reference(int32_t ids[N_TOKENS])
{
    json_t *reference = qr_testdata_json("models/stories260k/reference.json");
    if (reference == NULL)
        return NULL;
    json_t *list = json_object_get(json_object_get(reference, "logits_matrix"), "ids");
    assert_int_equal(json_array_size(list), N_TOKENS);
    for (int32_t i = 0; i < N_TOKENS; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return reference;
}

static void assert_close(const float *found, const float *wanted, int32_t n, float tolerance)
{
    float worst = model_rig_distance(found, wanted, (size_t)n);
    if (worst > tolerance)
        fail_msg("the largest difference is %g, wanted at most %g", (double)worst,
                 (double)tolerance);
}

static void logits_match_the_reference_on_every_isa(void **state)
{
    (void)state;
    int32_t ids[N_TOKENS];
    char dir[QR_TEST_PATH_MAX];
    char path[QR_TEST_PATH_MAX];
    static float wanted[N_TOKENS * VOCAB];
    static float first[N_TOKENS * VOCAB];
    static float found[N_TOKENS * VOCAB];

    if (!qr_testdata("models/stories260k/hf", dir) ||
        !qr_testdata("models/stories260k/logits_32x512.f32", path))
        return;
    json_t *reference = load_reference(ids);
    assert_non_null(reference);
    json_decref(reference);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(wanted, sizeof(float), N_TOKENS * VOCAB, file), N_TOKENS * VOCAB);
    fclose(file);

    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (!qr_isa_supported((enum qr_isa)isa)) {
            print_message("skipped: %s is not supported here\n", qr_isa_name((enum qr_isa)isa));
            continue;
        }
        struct model_rig rig;
        open_rig(&rig, dir, qr_isa_name((enum qr_isa)isa), 2);
        run_chunked(&rig, ids, N_TOKENS, found);
        model_rig_close(&rig);
        assert_close(found, wanted, N_TOKENS * VOCAB, 1e-4f);
        if (isa == QR_ISA_SCALAR)
            memcpy(first, found, sizeof(first));
        assert_memory_equal(found, first, sizeof(first)); /* and all sets agree bit for bit */
    }
}

static void logits_do_not_depend_on_chunks_neighbours_or_threads(void **state)
{
    (void)state;
    static const int32_t chunks[] = {1, 2, 5, 7, 8, 31};
    int32_t ids[N_TOKENS];
    int32_t reversed[N_TOKENS];
    char dir[QR_TEST_PATH_MAX];
    static float whole[N_TOKENS * VOCAB];
    static float other[N_TOKENS * VOCAB];
    static float found[N_TOKENS * VOCAB];

    if (!qr_testdata("models/stories260k/hf", dir))
        return;
    json_t *reference = load_reference(ids);
    assert_non_null(reference);
    json_decref(reference);
    for (int32_t i = 0; i < N_TOKENS; i++)
        reversed[i] = ids[N_TOKENS - 1 - i];

    struct model_rig rig;
    open_rig(&rig, dir, "auto", 1);
    run_chunked(&rig, ids, N_TOKENS, whole);
    for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
        run_chunked(&rig, ids, chunks[c], found);
        assert_memory_equal(found, whole, sizeof(whole));
    }
    model_rig_close(&rig);

    open_rig(&rig, dir, "auto", 3);
    for (int32_t first = 0; first < N_TOKENS; first += 4) {
        struct model_piece pieces[2] = {{reversed, first, 4, model_rig_pages_b, other},
                                        {ids, first, 4, model_rig_pages_a, found}};
        model_rig_step(&rig, pieces, 2);
    }
    model_rig_close(&rig);
    assert_memory_equal(found, whole, sizeof(whole));
}

/* Logits after a prompt against a case's first ones. */
static void check_case(struct model_rig *rig, json_t *test_case, float tolerance)
{
    json_t *prompt = json_object_get(test_case, "prompt_ids");
    json_t *list = json_object_get(test_case, "first_step_logits_0_8");
    int32_t n = (int32_t)json_array_size(prompt);
    int32_t ids[N_TOKENS];
    static float logits[N_TOKENS * VOCAB];
    float wanted[8];

    if (n > N_TOKENS)
        return;
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(prompt, (size_t)i));
    assert_int_equal(json_array_size(list), 8);
    for (size_t i = 0; i < 8; i++)
        wanted[i] = (float)json_number_value(json_array_get(list, i));
    struct model_piece piece = {ids, 0, n, model_rig_pages_a, logits};
    model_rig_step(rig, &piece, 1);
    const float *last = logits + (size_t)(n - 1) * VOCAB;
    assert_close(last, wanted, 8, tolerance);

    json_t *greedy = json_object_get(test_case, "greedy_ids");
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        best = last[i] > last[best] ? i : best;
    assert_int_equal(best, json_integer_value(json_array_get(greedy, 0)));
}

static void sharded_bf16_weights_match_their_reference(void **state)
{
    (void)state;
    int32_t ids[N_TOKENS];
    char dir[QR_TEST_PATH_MAX];

    if (!qr_testdata("models/stories260k/hf-bf16-sharded", dir))
        return;
    json_t *reference = load_reference(ids);
    assert_non_null(reference);
    json_t *cases = json_object_get(reference, "cases_bf16_weights");
    assert_true(json_array_size(cases) > 0);
    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (!qr_isa_supported((enum qr_isa)isa))
            continue;
        struct model_rig rig;
        open_rig(&rig, dir, qr_isa_name((enum qr_isa)isa), 1);
        assert_int_equal(qr_model_n_parameters(rig.model), 260032);
        assert_int_equal(qr_model_weight_bytes(rig.model), 2 * 260032);
        for (size_t i = 0; i < json_array_size(cases); i++)
            check_case(&rig, json_array_get(cases, i),
                       rounds_to_bf16((enum qr_isa)isa) ? 0.05f : 1e-4f);
        model_rig_close(&rig);
    }
    json_decref(reference);
}

static void bos_step_matches_the_reference(void **state)
{
    (void)state;
    int32_t ids[N_TOKENS];
    char dir[QR_TEST_PATH_MAX];
    static float logits[N_TOKENS * VOCAB];
    float wanted[VOCAB];

    if (!qr_testdata("models/stories260k/hf", dir))
        return;
    json_t *reference = load_reference(ids);
    assert_non_null(reference);
    json_t *list = json_object_get(json_object_get(reference, "bos_step"), "logits_all");
    assert_int_equal(json_array_size(list), VOCAB);
    for (size_t i = 0; i < VOCAB; i++)
        wanted[i] = (float)json_number_value(json_array_get(list, i));
    struct model_rig rig;
    open_rig(&rig, dir, "auto", 1);
    struct model_piece piece = {ids, 0, 1, model_rig_pages_b, logits};
    model_rig_step(&rig, &piece, 1);
    assert_close(logits, wanted, VOCAB, 1e-4f);
    model_rig_close(&rig);
    json_decref(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_match_the_reference_on_every_isa),
        cmocka_unit_test(logits_do_not_depend_on_chunks_neighbours_or_threads),
        cmocka_unit_test(sharded_bf16_weights_match_their_reference),
        cmocka_unit_test(bos_step_matches_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
