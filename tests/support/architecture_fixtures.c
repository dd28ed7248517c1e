/* architecture_fixtures.c - see architecture_fixtures.h. */
#include "tests/support/architecture_fixtures.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mapped_file.h"
#include "tests/support/kernel_sets.h"

const char *const architecture_fixture_names[] = {
    "llama",     "llama-bf16",    "llama-biases-linear",
    "llama3",    "llama-dynamic", "llama-yarn",
    "mistral",   "mixtral",       "qwen2",
    "qwen3",     "qwen3-moe",     "phi3",
    "phi3-long", "gemma2",        "gpt2",
    NULL};

void architecture_fixture_load(const char *name, struct architecture_fixture *fixture)
{
    char path[600];
    struct qr_mapped_file file;
    json_error_t error;
    const char *root = getenv("QUIRE_SOURCE_DIR");

    snprintf(fixture->dir, sizeof(fixture->dir), "%s/tests/runtime/models/data/%s",
             root != NULL ? root : ".", name);
    snprintf(path, sizeof(path), "%s/expected.json", fixture->dir);
    json_t *expected = json_load_file(path, 0, &error);
    if (expected == NULL)
        fail_msg("%s: %s", path, error.text);
    const json_t *ids = json_object_get(expected, "ids");
    fixture->n_prompt = (int32_t)json_integer_value(json_object_get(expected, "n_prompt"));
    fixture->n_tokens = (int32_t)json_array_size(ids);
    assert_in_range(fixture->n_tokens, fixture->n_prompt + 32, MODEL_RIG_TOKENS);
    for (int32_t i = 0; i < fixture->n_tokens; i++)
        fixture->ids[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    json_decref(expected);

    snprintf(path, sizeof(path), "%s/logits.f32", fixture->dir);
    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    fixture->n_floats = file.size / sizeof(float);
    fixture->logits = malloc(file.size);
    assert_non_null(fixture->logits);
    memcpy(fixture->logits, file.data, file.size);
    qr_mapped_file_close(&file);
}

float architecture_fixture_tolerance(const char *name, enum qr_isa isa)
{
    return strcmp(name, "llama-bf16") == 0 && rounds_to_bf16(isa) ? 0.15f : 1e-4f;
}

static int32_t largest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

float *architecture_fixture_check(struct model_rig *rig, const char *name,
                                  const struct architecture_fixture *fixture, float tolerance)
{
    size_t vocab = (size_t)rig->vocab_size;
    float *found = calloc(MODEL_RIG_TOKENS * vocab, sizeof(float));
    struct model_piece prompt = {fixture->ids, 0, fixture->n_prompt, model_rig_pages_a, found};

    assert_non_null(found);
    assert_int_equal(fixture->n_floats, (size_t)fixture->n_tokens * vocab);
    model_rig_step(rig, &prompt, 1);
    for (int32_t i = fixture->n_prompt; i < fixture->n_tokens; i++) {
        assert_int_equal(largest(found + (size_t)(i - 1) * vocab, rig->vocab_size),
                         fixture->ids[i]);
        struct model_piece token = {fixture->ids, i, 1, model_rig_pages_a, found};
        model_rig_step(rig, &token, 1);
    }
    float worst = model_rig_distance(found, fixture->logits, fixture->n_floats);
    if (worst > tolerance)
        fail_msg("%s: the largest difference is %g, wanted at most %g", name, (double)worst,
                 (double)tolerance);
    return found;
}
