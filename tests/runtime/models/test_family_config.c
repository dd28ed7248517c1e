/*
 * test_family_config.c - what config.json says of each architecture beyond its shape: defaults that
 * differ, switches, windows, experts, and the ways to stretch RoPE. That the meaning is right is
 * tested by test_architectures.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/models/model.h"
#include "tests/support/config_changes.h"

static struct qr_model_config parsed(const char *architecture, const char *changes)
{
    struct qr_model_config config;
    struct qr_error err;

    if (qr_parse_changed_config(architecture, changes, &config, &err) != QR_OK ||
        qr_model_check_supported(&config, "config.json", &err) != QR_OK)
        fail_msg("%s %s: %s", architecture, changes, err.message);
    return config;
}

/* A bit for each of the first layers. */
static uint32_t layers_of(const struct qr_layer_set *set)
{
    uint32_t bits = 0;
    for (int32_t i = 0; i < 4; i++)
        bits |= (uint32_t)qr_layer_set_has(set, i) << i;
    return bits;
}

static void architectures_have_their_own_defaults(void **state)
{
    (void)state;
    struct qr_model_config config = parsed("LlamaForCausalLM", "{}");
    assert_int_equal(config.activation, QR_ACTIVATION_SILU);
    assert_false(config.has_qkv_bias || config.has_o_bias || config.has_mlp_bias);
    assert_true(config.attention_scale == 1.0f / sqrtf(8.0f) && config.embedding_factor == 1.0f);
    assert_int_equal(config.rope.rotary_dim, 8);

    config = parsed("Qwen2ForCausalLM", "{}");
    assert_true(config.has_qkv_bias && !config.has_o_bias && !config.tied_embeddings);
    config = parsed("Qwen3ForCausalLM", "{}");
    assert_int_equal(config.head_dim, 128);

    config = parsed("Gemma2ForCausalLM", "{\"query_pre_attn_scalar\":64}");
    assert_int_equal(config.head_dim, 256);
    assert_true(config.tied_embeddings && config.norm_weight_offset == 1.0f);
    assert_true(config.attention_soft_cap == 50.0f && config.logit_soft_cap == 30.0f);
    assert_true(config.embedding_factor == 8.0f && config.attention_scale == 0.125f);
    assert_int_equal(config.activation, QR_ACTIVATION_GELU_TANH);
    config = parsed("Gemma2ForCausalLM", "{\"final_logit_softcapping\":null}");
    assert_true(config.logit_soft_cap == 0.0f);

    config = parsed("GPT2LMHeadModel", "{}");
    assert_int_equal(config.rope.rotary_dim, 0);
    assert_true(config.tied_embeddings && config.has_qkv_bias && config.has_mlp_bias);
    assert_true(config.norm_eps == 1e-5f);
    assert_int_equal(config.activation, QR_ACTIVATION_GELU_TANH);
}

static void windows_are_of_the_right_layers(void **state)
{
    (void)state;
    static const struct {
        const char *architecture;
        const char *changes;
        int32_t window;
        uint32_t layers;
    } cases[] = {
        {"LlamaForCausalLM", "{\"sliding_window\":64}", 0, 0}, /* LLaMA has none */
        {"MistralForCausalLM", "{\"sliding_window\":64}", 64, 0xF},
        {"MistralForCausalLM", "{\"sliding_window\":null}", 0, 0},
        {"MistralForCausalLM", "{\"sliding_window\":512}", 0, 0}, /* nothing reaches it */
        {"MixtralForCausalLM", "{\"num_local_experts\":8,\"sliding_window\":7}", 7, 0xF},
        {"MixtralForCausalLM", "{\"num_local_experts\":8}", 0, 0},
        {"Qwen2ForCausalLM", "{\"sliding_window\":64,\"max_window_layers\":2}", 0, 0},
        {"Qwen2ForCausalLM",
         "{\"sliding_window\":64,\"use_sliding_window\":true,\"max_window_layers\":3}", 64, 0x8},
        {"Gemma2ForCausalLM", "{\"sliding_window\":64}", 64, 0x5},
        {"Gemma2ForCausalLM",
         "{\"sliding_window\":64,\"layer_types\":[\"full_attention\",\"sliding_attention\","
         "\"full_attention\",\"full_attention\"]}",
         64, 0x2},
        {"Phi3ForCausalLM", "{\"sliding_window\":100}", 100, 0xF},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qr_model_config config = parsed(cases[i].architecture, cases[i].changes);
        if (config.window != cases[i].window || layers_of(&config.sliding) != cases[i].layers)
            fail_msg("%s %s: window %d, layers %x", cases[i].architecture, cases[i].changes,
                     config.window, layers_of(&config.sliding));
    }
}

static void experts_are_of_the_right_layers(void **state)
{
    (void)state;
    struct qr_model_config config = parsed("MixtralForCausalLM", "{\"num_local_experts\":8}");
    assert_int_equal(config.n_experts, 8);
    assert_int_equal(config.n_experts_used, 2);
    assert_int_equal(config.expert_size, 172);
    assert_true(config.renormalizes_experts);
    assert_int_equal(layers_of(&config.dense), 0);

    config = parsed("Qwen3MoeForCausalLM",
                    "{\"num_experts\":16,\"num_experts_per_tok\":4,\"moe_intermediate_size\":24,"
                    "\"decoder_sparse_step\":2,\"mlp_only_layers\":[1]}");
    assert_int_equal(config.n_experts_used, 4);
    assert_int_equal(config.expert_size, 24);
    assert_false(config.renormalizes_experts);
    assert_int_equal(layers_of(&config.dense), 0x7);
}

static void ropes_are_read_in_both_forms(void **state)
{
    (void)state;
    struct qr_model_config config =
        parsed("LlamaForCausalLM", "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}}");
    assert_int_equal(config.rope.kind, QR_ROPE_LINEAR);
    assert_true(config.rope.factor == 4.0f && config.rope.theta == 10000.0f);
    assert_int_equal(config.max_position, 2048); /* four times the length of the training */

    config = parsed("LlamaForCausalLM",
                    "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":5000.0,"
                    "\"factor\":4.0,\"original_max_position_embeddings\":128}}");
    assert_int_equal(config.rope.kind, QR_ROPE_YARN);
    assert_int_equal(config.rope.original_max_position, 128);
    assert_int_equal(config.max_position, 512); /* stated after the stretch */
    assert_true(config.rope.theta == 5000.0f);
    assert_true(fabsf(config.rope.attention_factor - 1.1386294f) < 1e-6f);

    config =
        parsed("LlamaForCausalLM", "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
                                   "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                                   "\"original_max_position_embeddings\":64}}");
    assert_int_equal(config.rope.kind, QR_ROPE_LLAMA3);
    assert_int_equal(config.max_position, 512);

    config = parsed("Phi3ForCausalLM",
                    "{\"partial_rotary_factor\":0.5,\"original_max_position_embeddings\":256,"
                    "\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1.5],"
                    "\"long_factor\":[2,3]}}");
    assert_int_equal(config.rope.kind, QR_ROPE_LONG);
    assert_int_equal(config.rope.rotary_dim, 4);
    assert_true(config.rope.is_long && config.rope.long_factors[1] == 3.0f);
}

static void wrong_values_name_field_and_value(void **state)
{
    (void)state;
    static const struct {
        const char *architecture;
        const char *changes;
        const char *words;
    } bad[] = {
        {"MistralForCausalLM", "{\"sliding_window\":0}", "sliding_window is 0"},
        {"MistralForCausalLM", "{\"sliding_window\":\"64\"}", "sliding_window must be an integer"},
        {"MixtralForCausalLM", "{}", "num_local_experts is missing"},
        {"MixtralForCausalLM", "{\"num_local_experts\":1}",
         "num_experts_per_tok 2 is more than the 1"},
        {"MixtralForCausalLM", "{\"num_local_experts\":2000}", "num_local_experts is 2000"},
        {"Qwen3MoeForCausalLM", "{\"num_experts\":8,\"mlp_only_layers\":[4]}",
         "mlp_only_layers must be layers in [0, 3]"},
        {"Gemma2ForCausalLM", "{\"sliding_window\":9,\"layer_types\":[\"full_attention\"]}",
         "layer_types must be an array of 4 strings"},
        {"Gemma2ForCausalLM", "{\"final_logit_softcapping\":-1}", "final_logit_softcapping is -1"},
        {"Gemma2ForCausalLM", "{\"query_pre_attn_scalar\":0}", "query_pre_attn_scalar is 0"},
        {"LlamaForCausalLM", "{\"attention_bias\":1}", "attention_bias must be true or false"},
        {"LlamaForCausalLM", "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}}",
         "factor is 0.5"},
        {"LlamaForCausalLM", "{\"partial_rotary_factor\":0.4}", "must be an even number"},
        {"LlamaForCausalLM",
         "{\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4.0,"
         "\"high_freq_factor\":4.0}}",
         "low_freq_factor 4 must be below"},
        {"Phi3ForCausalLM",
         "{\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1],\"long_factor\":[1,1,1,1]}}",
         "short_factor must be an array of 4 numbers"},
        {"Phi3ForCausalLM",
         "{\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1,1,\"1\",1],"
         "\"long_factor\":[1,1,1,1]}}",
         "short_factor[2] is 0"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct qr_model_config config;
        struct qr_error err;
        enum qr_status status =
            qr_parse_changed_config(bad[i].architecture, bad[i].changes, &config, &err);
        if (status == QR_OK || strstr(err.message, bad[i].words) == NULL ||
            strstr(err.message, "config.json: ") != err.message)
            fail_msg("%s: %s \"%s\"", bad[i].changes, qr_status_name(status), err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(architectures_have_their_own_defaults),
        cmocka_unit_test(windows_are_of_the_right_layers),
        cmocka_unit_test(experts_are_of_the_right_layers),
        cmocka_unit_test(ropes_are_read_in_both_forms),
        cmocka_unit_test(wrong_values_name_field_and_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
