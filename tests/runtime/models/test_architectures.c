/*
 * test_architectures.c - every architecture gives the logits of transformers in F32, greedy
 * decoding chooses its tokens, and no bit depends on chunks, neighbours, threads or instructions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu_features.h"
#include "tests/support/architecture_fixtures.h"

/* The whole sequence in chunks, and beside another one, must repeat `wanted` bit for bit. */
static void check_bits(struct model_rig *rig, const struct architecture_fixture *fixture,
                       const float *wanted)
{
    static const int32_t chunks[] = {5, MODEL_RIG_TOKENS};
    size_t vocab = (size_t)rig->vocab_size;
    float *found = calloc(MODEL_RIG_TOKENS * vocab, sizeof(float));
    float *other = calloc(MODEL_RIG_TOKENS * vocab, sizeof(float));
    int32_t reversed[MODEL_RIG_TOKENS];
    int32_t n = fixture->n_tokens;

    assert_true(found != NULL && other != NULL);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        memset(found, 0, MODEL_RIG_TOKENS * vocab * sizeof(float));
        model_rig_run(rig, fixture->ids, n, chunks[i], found);
        assert_memory_equal(found, wanted, fixture->n_floats * sizeof(float));
    }
    for (int32_t i = 0; i < n; i++)
        reversed[i] = fixture->ids[n - 1 - i];
    for (int32_t first = 0; first < n; first += 4) {
        int32_t count = first + 4 > n ? n - first : 4;
        struct model_piece pieces[2] = {{reversed, first, count, model_rig_pages_b, other},
                                        {fixture->ids, first, count, model_rig_pages_a, found}};
        model_rig_step(rig, pieces, 2);
    }
    assert_memory_equal(found, wanted, fixture->n_floats * sizeof(float));
    free(found);
    free(other);
}

static void check_architecture(const char *name)
{
    struct architecture_fixture fixture;
    float *first = NULL;

    architecture_fixture_load(name, &fixture);
    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (!qr_isa_supported((enum qr_isa)isa)) {
            print_message("skipped: %s is not supported here\n", qr_isa_name((enum qr_isa)isa));
            continue;
        }
        struct model_rig rig;
        float tolerance = architecture_fixture_tolerance(name, (enum qr_isa)isa);
        model_rig_open(&rig, fixture.dir, "cpu", qr_isa_name((enum qr_isa)isa), 1 + isa);
        float *found = architecture_fixture_check(&rig, name, &fixture, tolerance);
        if (first == NULL)
            first = found;
        if (tolerance == architecture_fixture_tolerance(name, QR_ISA_SCALAR))
            assert_memory_equal(found, first, fixture.n_floats * sizeof(float));
        check_bits(&rig, &fixture, found);
        if (found != first)
            free(found);
        model_rig_close(&rig);
    }
    free(first);
    free(fixture.logits);
}

static void logits_and_tokens_are_those_of_transformers(void **state)
{
    (void)state;
    for (int i = 0; architecture_fixture_names[i] != NULL; i++)
        check_architecture(architecture_fixture_names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_tokens_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
