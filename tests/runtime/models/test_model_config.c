/* test_model_config.c - configs of real models, defaults, and numbers that are refused. */
#include "runtime/models/model_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/models/model.h"
#include "tests/support/config_changes.h"
#include "tests/support/temp_dir.h"
#include "tests/support/testdata.h"

static enum qr_status parse_changed(const char *changes, struct qr_model_config *config,
                                    struct qr_error *err)
{
    return qr_parse_changed_config("LlamaForCausalLM", changes, config, err);
}

static void absent_fields_take_their_defaults(void **state)
{
    (void)state;
    struct qr_model_config config;
    struct qr_error err;

    assert_int_equal(parse_changed("{}", &config, &err), QR_OK);
    assert_string_equal(config.architecture, "LlamaForCausalLM");
    assert_int_equal(config.n_kv_heads, 8);
    assert_int_equal(config.head_dim, 8);
    assert_true(config.rope.theta == 10000.0f);
    assert_true(config.norm_eps == 1e-6f);
    assert_false(config.tied_embeddings);
    assert_int_equal(config.bos_id, -1);
    assert_int_equal(config.n_eos, 0);
    assert_string_equal(config.unsupported, "");
}

static void fields_are_read_in_all_their_forms(void **state)
{
    (void)state;
    struct qr_model_config config;
    struct qr_error err;

    assert_int_equal(parse_changed("{\"eos_token_id\":7,\"head_dim\":16,\"num_key_value_heads\":2,"
                                   "\"rope_scaling\":null,\"rope_theta\":500000}",
                                   &config, &err),
                     QR_OK);
    assert_int_equal(config.n_eos, 1);
    assert_int_equal(config.eos_ids[0], 7);
    assert_int_equal(config.head_dim, 16);
    assert_int_equal(config.n_kv_heads, 2);
    assert_true(config.rope.theta == 500000.0f);
    assert_int_equal(parse_changed("{\"eos_token_id\":[7,9,7],\"tie_word_embeddings\":true,"
                                   "\"rope_scaling\":{\"rope_type\":\"default\"},"
                                   "\"rope_parameters\":{\"rope_type\":\"default\","
                                   "\"rope_theta\":250000.5}}",
                                   &config, &err),
                     QR_OK);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[1], 9);
    assert_true(config.tied_embeddings);
    assert_true(config.rope.theta == 250000.5f);
    assert_string_equal(config.unsupported, "");
}

static void wrong_values_name_field_value_and_range(void **state)
{
    (void)state;
    static const struct {
        const char *change;
        const char *words;
    } bad[] = {
        {"{\"vocab_size\":null}", "vocab_size is missing"},
        {"{\"vocab_size\":0}", "vocab_size is 0; it must be in [1, 16777216]"},
        {"{\"vocab_size\":99999999999}", "vocab_size is 99999999999"},
        {"{\"vocab_size\":\"100\"}", "vocab_size must be an integer"},
        {"{\"vocab_size\":100.0}", "vocab_size must be an integer"},
        {"{\"hidden_size\":-64}", "hidden_size is -64"},
        {"{\"hidden_size\":131073}", "hidden_size is 131073"},
        {"{\"hidden_size\":65}", "hidden_size 65 is no multiple of num_attention_heads 8"},
        {"{\"hidden_size\":72}", "head_dim (or hidden_size / num_attention_heads) is 9"},
        {"{\"hidden_size\":8192}", "is 1024; it must be an even number of at most 512"},
        {"{\"num_hidden_layers\":0}", "num_hidden_layers is 0"},
        {"{\"num_hidden_layers\":1025}", "num_hidden_layers is 1025"},
        {"{\"num_attention_heads\":0}", "num_attention_heads is 0"},
        {"{\"num_key_value_heads\":3}", "no multiple of num_key_value_heads 3"},
        {"{\"num_key_value_heads\":16}", "num_key_value_heads is 16; it must be in [1, 8]"},
        {"{\"intermediate_size\":1048577}", "intermediate_size is 1048577"},
        {"{\"max_position_embeddings\":0}", "max_position_embeddings is 0"},
        {"{\"head_dim\":7}", "is 7; it must be an even number"},
        {"{\"head_dim\":514}", "head_dim is 514"},
        {"{\"rms_norm_eps\":0}", "rms_norm_eps is 0"},
        {"{\"rms_norm_eps\":\"1e-5\"}", "rms_norm_eps"},
        {"{\"rope_theta\":-1.0}", "rope_theta is -1"},
        {"{\"rope_parameters\":{\"rope_theta\":0}}", "rope_theta is 0"},
        {"{\"tie_word_embeddings\":1}", "tie_word_embeddings must be true or false"},
        {"{\"bos_token_id\":100}", "bos_token_id is 100; it must be in [0, 99]"},
        {"{\"eos_token_id\":100}", "eos_token_id must be token ids in [0, 99]"},
        {"{\"eos_token_id\":[1,\"2\"]}", "eos_token_id"},
        {"{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", "more than 8"},
        {"{\"architectures\":[]}", "architectures"},
        {"{\"architectures\":\"LlamaForCausalLM\"}", "architectures"},
        {"{\"architectures\":[\"0123456789012345678901234567890123456789012345678901234567890123"
         "\"]}",
         "architectures"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct qr_model_config config;
        struct qr_error err;
        enum qr_status status = parse_changed(bad[i].change, &config, &err);
        if (status == QR_OK || strstr(err.message, bad[i].words) == NULL ||
            strstr(err.message, "config.json: ") != err.message)
            fail_msg("%s: %s \"%s\"", bad[i].change, qr_status_name(status), err.message);
    }
}

static void what_cannot_run_is_said_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *change;
        const char *words;
    } cases[] = {
        {"{\"rope_scaling\":{\"rope_type\":\"odd\",\"factor\":8}}", "type \"odd\""},
        {"{\"rope_parameters\":{\"rope_type\":7}}", "type \"(no string)\""},
        {"{\"hidden_act\":\"relu\"}", "hidden_act \"relu\""},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\"}}",
         "quantization_config of method \"gptq\""},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[64,128]}}",
         "weight_block_size"},
        {"{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":"
         "{\"group_0\":{\"weights\":{\"type\":\"int\",\"num_bits\":8}}}}}",
         "quantization_config of method \"compressed-tensors\""},
        {"{\"architectures\":[\"Gemma2ForCausalLM\"],\"head_dim\":8,\"sliding_window\":9,"
         "\"layer_types\":[\"odd\",\"full_attention\",\"full_attention\",\"full_attention\"]}",
         "layer_types[0] \"odd\""},
        {"{\"architectures\":[\"GPT2LMHeadModel\"],\"add_cross_attention\":true}",
         "add_cross_attention"},
        {"{\"architectures\":[\"OddForCausalLM\"]}", "known: LlamaForCausalLM"},
    };
    struct qr_model_config config;
    struct qr_error err;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse_changed(cases[i].change, &config, &err), QR_OK);
        assert_int_equal(qr_model_check_supported(&config, "dir", &err), QR_ERR_UNSUPPORTED);
        if (strstr(err.message, cases[i].words) == NULL)
            fail_msg("%s: \"%s\"", cases[i].change, err.message);
    }
    assert_int_equal(parse_changed("{\"sliding_window\":256,\"use_sliding_window\":false,"
                                   "\"attention_bias\":false}",
                                   &config, &err),
                     QR_OK);
    assert_int_equal(qr_model_check_supported(&config, "dir", &err), QR_OK);
}

static void fp8_weights_can_be_read(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "{\"quantization_config\":null}",
        "{\"quantization_config\":{\"quant_method\":\"fp8\",\"activation_scheme\":\"dynamic\"}}",
        "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}}",
        "{\"quantization_config\":{\"quant_method\":\"fbgemm_fp8\"}}",
        ("{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":"
         "{\"group_0\":{\"weights\":{\"type\":\"float\",\"num_bits\":8}}}}}"),
    };

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct qr_model_config config;
        struct qr_error err = {""};
        assert_int_equal(parse_changed(changes[i], &config, &err), QR_OK);
        if (qr_model_check_supported(&config, "dir", &err) != QR_OK)
            fail_msg("%s", err.message);
    }
}

static void text_that_is_no_object_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "[]", "null", "\x80", "{\"a\":1,\"a\":2}"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct qr_model_config config;
        struct qr_error err = {""};
        assert_int_equal(
            qr_model_config_parse("config.json", bad[i], strlen(bad[i]), &config, &err),
            QR_ERR_INVALID);
        assert_non_null(strstr(err.message, "config.json"));
    }
}

static void generation_config_adds_its_eos_ids(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    struct qr_model_config config;
    struct qr_error err = {""};
    static const char text[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":100,"
                               "\"hidden_size\":64,\"num_hidden_layers\":2,"
                               "\"num_attention_heads\":8,\"max_position_embeddings\":512}";
    static const char generation[] = "{\"eos_token_id\":[3,5]}";

    qr_temp_dir_make(&dir);
    assert_int_equal(qr_model_config_load(dir.path, &config, &err), QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "config.json"));
    qr_temp_dir_write(&dir, "config.json", text, strlen(text));
    assert_int_equal(qr_model_config_load(dir.path, &config, &err), QR_OK);
    assert_int_equal(config.n_eos, 0);
    qr_temp_dir_write(&dir, "generation_config.json", generation, strlen(generation));
    assert_int_equal(qr_model_config_load(dir.path, &config, &err), QR_OK);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_ids[1], 5);
    qr_temp_dir_write(&dir, "generation_config.json", "{", 1);
    assert_int_equal(qr_model_config_load(dir.path, &config, &err), QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "generation_config.json"));
    qr_temp_dir_remove(&dir);
}

static void real_configs_have_known_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t kv_bytes_fp16;
        int64_t n_parameters;
    } models[] = {
        {"llama-2-7b-hf", 512 << 10, 6738415616},
        {"llama-2-13b-hf", 800 << 10, 13015864320},
        {"llama-2-70b-chat-hf", 320 << 10, 68976648192},
        {"llama-3.1-8b", 128 << 10, 8030261248},
        {"llama-3.1-70b", 320 << 10, 70553706496},
        {"llama-3.2-3b", 112 << 10, 3212749824},
        {"mistral-7b-instruct-v0.3", 128 << 10, 7248023552},
        {"mixtral-8x7b", 128 << 10, 46702792704},
        {"gpt2", 36 << 10, 124439808},
        {"qwen2-1.5b-instruct", 28 << 10, 1543714304},
        {"qwen2.5-7b", 56 << 10, 7615616512},
        {"qwen2.5-14b", 192 << 10, 14770033664},
        {"qwen2.5-32b", 256 << 10, 32763876352},
        {"qwen3-4b-instruct-2507", 144 << 10, 4022468096},
        {"qwen3-8b", 144 << 10, 8190735360},
        {"qwen3-14b", 160 << 10, 14768307200},
        {"qwen3-32b", 256 << 10, 32762123264},
        {"qwen3-30b-a3b-moe", 96 << 10, 30532122624},
    };

    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        char relative[128];
        char path[QR_TEST_PATH_MAX];
        struct qr_model_config config;
        struct qr_error err = {""};
        snprintf(relative, sizeof(relative), "models/configs/%s.config.json", models[i].name);
        if (!qr_testdata(relative, path))
            return;
        if (qr_model_config_load(path, &config, &err) != QR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(qr_model_config_kv_bytes_per_token(&config, 2), models[i].kv_bytes_fp16);
        if (qr_model_config_n_parameters(&config) != models[i].n_parameters)
            fail_msg("%s has %lld parameters", models[i].name,
                     (long long)qr_model_config_n_parameters(&config));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_fields_take_their_defaults),
        cmocka_unit_test(fields_are_read_in_all_their_forms),
        cmocka_unit_test(wrong_values_name_field_value_and_range),
        cmocka_unit_test(what_cannot_run_is_said_by_name),
        cmocka_unit_test(fp8_weights_can_be_read),
        cmocka_unit_test(text_that_is_no_object_is_refused),
        cmocka_unit_test(generation_config_adds_its_eos_ids),
        cmocka_unit_test(real_configs_have_known_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
