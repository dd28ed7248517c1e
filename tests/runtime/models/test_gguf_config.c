/* test_gguf_config.c - metadata of GGUF files as the settings of a model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/models/model.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/testdata.h"

struct integer {
    const char *key;
    uint32_t value;
};

/* A vocabulary alone, with this metadata beside a usual shape. scaling: of RoPE, NULL: none. */
static enum qr_status load_scaled(const char *architecture, const char *scaling,
                                  const struct integer *more, size_t n,
                                  struct qr_model_config *config, struct qr_error *err)
{
    static const struct integer shape[] = {
        {"context_length", 4096},    {"embedding_length", 64},    {"block_count", 2},
        {"feed_forward_length", 96}, {"attention.head_count", 8}, {"attention.head_count_kv", 4},
        {"vocab_size", 100},
    };
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;
    char path[QR_TEMP_PATH_MAX + 16], key[128];

    gguf_add_string(&gguf, "general.architecture", architecture);
    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
        bool is_replaced = false;
        for (size_t k = 0; k < n; k++)
            is_replaced |= strcmp(more[k].key, shape[i].key) == 0;
        snprintf(key, sizeof(key), "%s.%s", architecture, shape[i].key);
        if (!is_replaced)
            gguf_add_u32(&gguf, key, shape[i].value);
    }
    for (size_t i = 0; i < n; i++) {
        bool is_general = strncmp(more[i].key, "tokenizer.", 10) == 0;
        snprintf(key, sizeof(key), "%s%s%s", is_general ? "" : architecture, is_general ? "" : ".",
                 more[i].key);
        gguf_add_u32(&gguf, key, more[i].value);
    }
    if (scaling != NULL) {
        snprintf(key, sizeof(key), "%s.rope.scaling.type", architecture);
        gguf_add_string(&gguf, key, scaling);
    }
    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "m.gguf");
    gguf_free(&gguf);
    snprintf(path, sizeof(path), "%s/m.gguf", dir.path);
    enum qr_status status = qr_model_config_load(path, config, err);
    qr_temp_dir_remove(&dir);
    return status;
}

static enum qr_status load(const char *architecture, const struct integer *more, size_t n,
                           struct qr_model_config *config, struct qr_error *err)
{
    return load_scaled(architecture, NULL, more, n, config, err);
}

static void architectures_have_their_names(void **state)
{
    (void)state;
    static const struct integer experts[] = {{"expert_count", 8}, {"expert_used_count", 2}};
    static const struct integer window[] = {{"attention.sliding_window", 1000}};
    static const struct {
        const char *gguf;
        const struct integer *more;
        size_t n;
        const char *name;
    } cases[] = {
        {"llama", NULL, 0, "LlamaForCausalLM"},     {"llama", experts, 2, "MixtralForCausalLM"},
        {"llama", window, 1, "MistralForCausalLM"}, {"qwen2", NULL, 0, "Qwen2ForCausalLM"},
        {"qwen3", NULL, 0, "Qwen3ForCausalLM"},     {"qwen3moe", experts, 2, "Qwen3MoeForCausalLM"},
        {"phi3", NULL, 0, "Phi3ForCausalLM"},       {"gemma2", NULL, 0, "Gemma2ForCausalLM"},
        {"gpt2", NULL, 0, "GPT2LMHeadModel"},
    };
    struct qr_model_config config;
    struct qr_error err = {""};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (load(cases[i].gguf, cases[i].more, cases[i].n, &config, &err) != QR_OK)
            fail_msg("%s", err.message);
        assert_string_equal(config.architecture, cases[i].name);
        assert_int_equal(config.n_heads, 8);
        assert_int_equal(config.n_kv_heads, 4);
        assert_int_equal(config.head_dim, 8);
        assert_int_equal(config.vocab_size, 100);
        assert_int_equal(qr_model_check_supported(&config, "m", &err), QR_OK);
    }
    assert_int_equal(load("mamba", NULL, 0, &config, &err), QR_OK);
    assert_int_equal(qr_model_check_supported(&config, "m", &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"mamba\""));
}

static void ends_of_text_come_from_the_vocabulary(void **state)
{
    (void)state;
    static const struct integer ends[] = {{"tokenizer.ggml.bos_token_id", 7},
                                          {"tokenizer.ggml.eos_token_id", 3},
                                          {"tokenizer.ggml.eot_token_id", 5},
                                          {"tokenizer.ggml.eom_token_id", UINT32_MAX}};
    struct qr_model_config config;
    struct qr_error err = {""};

    assert_int_equal(load("qwen2", ends, 4, &config, &err), QR_OK);
    assert_int_equal(config.bos_id, 7);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[0], 3);
    assert_int_equal(config.eos_ids[1], 5);
}

static void scalings_of_rope_that_are_unknown_are_refused(void **state)
{
    (void)state;
    static const char *const unknown[] = {"sideways", "\xFF", "none\xFF", ""};
    struct qr_model_config config;
    struct qr_error err = {""};

    assert_int_equal(load_scaled("llama", "none", NULL, 0, &config, &err), QR_OK);
    assert_int_equal(qr_model_check_supported(&config, "m", &err), QR_OK);
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(load_scaled("llama", unknown[i], NULL, 0, &config, &err), QR_OK);
        assert_int_equal(qr_model_check_supported(&config, "m", &err), QR_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "rope scaling"));
    }
}

static void shapes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct integer change;
        const char *words;
    } bad[] = {
        {{"block_count", 0}, "num_hidden_layers is 0"},
        {{"embedding_length", UINT32_MAX}, "llama.embedding_length is 4294967295"},
        {{"attention.head_count", 7}, "num_key_value_heads"},
        {{"attention.head_count_kv", 3}, "no multiple of num_key_value_heads 3"},
        {{"attention.key_length", 7}, "head_dim"},
        {{"rope.dimension_count", 3}, "partial_rotary_factor"},
        {{"tokenizer.ggml.bos_token_id", 100}, "bos_token_id is 100"},
        {{"tokenizer.ggml.eos_token_id", 100}, "eos_token_id"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct qr_model_config config;
        struct qr_error err = {""};
        assert_int_not_equal(load("llama", &bad[i].change, 1, &config, &err), QR_OK);
        if (strstr(err.message, bad[i].words) == NULL || strstr(err.message, "m.gguf") == NULL)
            fail_msg("%s: \"%s\"", bad[i].change.key, err.message);
    }
}

static void real_vocabularies_have_the_shapes_of_their_models(void **state)
{
    (void)state;
    char path[QR_TEST_PATH_MAX];
    struct qr_model_config config;
    struct qr_error err = {""};

    if (!qr_testdata("tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf", path))
        return;
    assert_int_equal(qr_model_config_load(path, &config, &err), QR_OK);
    assert_int_equal(config.vocab_size, 32000);
    assert_int_equal(qr_model_config_n_parameters(&config), 6738415616);
    assert_int_equal(qr_model_config_kv_bytes_per_token(&config, 2), 512 << 10);
    assert_true(qr_testdata("tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf", path));
    assert_int_equal(qr_model_config_load(path, &config, &err), QR_OK);
    assert_int_equal(config.vocab_size, 50257);
    assert_int_equal(qr_model_config_n_parameters(&config), 124439808);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(architectures_have_their_names),
        cmocka_unit_test(ends_of_text_come_from_the_vocabulary),
        cmocka_unit_test(scalings_of_rope_that_are_unknown_are_refused),
        cmocka_unit_test(shapes_that_cannot_be_are_refused),
        cmocka_unit_test(real_vocabularies_have_the_shapes_of_their_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
