/*
 * 16-bit and 8-bit weights and KV pages on a CUDA device, with a small model of random weights:
 * the bits of a request do not depend on the batch, the chunks or preemption, and its
 * log-probabilities are those of the CPU within the format's precision.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/cuda_platform.h"
#include "tests/support/engine_runs.h"
#include "tests/support/temp_dir.h"

enum { N_REQUESTS = 3, OUTPUT_TOKENS = 4 };

static struct qr_temp_dir dir;
static char model[2 * QR_TEMP_PATH_MAX];

/* Two query heads share a KV head of 64; vocabulary of bytes and special tokens. */
static const char config_json[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 128, \"intermediate_size\": 192, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64, \"vocab_size\": 272, \"max_position_embeddings\": 512, "
    "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"tie_word_embeddings\": false, "
    "\"hidden_act\": \"silu\", \"bos_token_id\": 256, \"eos_token_id\": 257, "
    "\"torch_dtype\": \"bfloat16\"}";

/* Six experts, of which three are used, and heads that turn in part. */
static const char experts_json[] =
    "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"hidden_size\": 128, "
    "\"intermediate_size\": 192, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"head_dim\": 64, \"partial_rotary_factor\": 0.5, "
    "\"vocab_size\": 272, \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-5, "
    "\"rope_theta\": 10000.0, \"tie_word_embeddings\": false, \"hidden_act\": \"silu\", "
    "\"bos_token_id\": 256, \"eos_token_id\": 257, \"torch_dtype\": \"bfloat16\", "
    "\"num_experts\": 6, \"num_experts_per_tok\": 3, \"moe_intermediate_size\": 64, "
    "\"norm_topk_prob\": true}";

struct format {
    const char *name;
    const char *config; /* file */
    const char *dtype;  /* of the synthetic weights */
    enum qr_weight_format weights;
    enum qr_kv_dtype kv_dtype;
    float bound; /* of the difference of a log-probability from the CPU's */
};

static const struct format formats[] = {
    {"bf16", "config.json", "bf16", QR_WEIGHTS_AUTO, QR_KV_DTYPE_AUTO, 0.05f},
    {"f16", "config.json", "f16", QR_WEIGHTS_AUTO, QR_KV_DTYPE_AUTO, 0.02f},
    {"bf16, KV in FP8", "config.json", "bf16", QR_WEIGHTS_AUTO, QR_KV_DTYPE_FP8, 0.2f},
    {"weights in FP8", "config.json", "bf16", QR_WEIGHTS_FP8, QR_KV_DTYPE_AUTO, 0.3f},
    {"weights in INT8, KV in FP8", "config.json", "f16", QR_WEIGHTS_INT8, QR_KV_DTYPE_FP8, 0.3f},
    {"experts, bf16", "experts.json", "bf16", QR_WEIGHTS_AUTO, QR_KV_DTYPE_AUTO, 0.05f},
    {"experts in INT8, KV in FP8", "experts.json", "bf16", QR_WEIGHTS_INT8, QR_KV_DTYPE_FP8, 0.3f},
};

enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

static int make_config(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "config.json", config_json, strlen(config_json));
    qr_temp_dir_write(&dir, "experts.json", experts_json, strlen(experts_json));
    return 0;
}

static int remove_config(void **state)
{
    (void)state;
    qr_temp_dir_remove(&dir);
    return 0;
}

static struct qr_engine_config config_of(const struct format *format, const char *backend)
{
    snprintf(model, sizeof(model), "synthetic:%s/%s,%s", dir.path, format->config, format->dtype);
    struct qr_engine_config config = qr_run_config(model);
    config.backend = backend;
    config.max_running = 4;
    config.max_batch_tokens = 48;
    config.kv_pages = 64;
    return config;
}

static struct qr_engine_config cuda_config(const struct format *format)
{
    struct qr_engine_config config =
        config_of(format, qr_test_cuda_is_real() ? "cuda" : "cuda-emulated");

    config.weights = format->weights;
    config.kv_dtype = format->kv_dtype;
    return config;
}

static struct qr_request *make_request(int32_t i)
{
    static const size_t lengths[N_REQUESTS] = {3, 130, 20};
    int32_t ids[130];

    for (int32_t k = 0; k < 130; k++)
        ids[k] = (k * 37 + i * 11) % 256;
    struct qr_request *request = qr_run_request(ids, lengths[i], OUTPUT_TOKENS);
    request->ignore_eos = true;
    request->sampling.n_logprobs = 2;
    request->score_prompt = i == 2;
    return request;
}

/* Prompt scores do not depend on which token a near tie gives: they are compared with the CPU's. */
static void compare_scores(const struct format *format, const struct qr_run *cuda,
                           const struct qr_run *cpu)
{
    float largest = 0;

    assert_int_equal(cuda->n_scored, cpu->n_scored);
    assert_true(cpu->n_scored > 10);
    for (int32_t i = 1; i < cpu->n_scored; i++)
        largest = fmaxf(largest, fabsf(cuda->scores[i] - cpu->scores[i]));
    printf("%s: scores are within %.4f of the CPU's\n", format->name, (double)largest);
    assert_true(largest < format->bound);
}

static void check_format(const struct format *format)
{
    struct qr_engine_config config = cuda_config(format);
    struct qr_engine_config cpu_config = config_of(format, "cpu");
    cpu_config.isa = "scalar"; /* rounds no activations, which can choose other experts */
    struct qr_run *alone = qr_run_each_alone(&config, make_request, N_REQUESTS);
    struct qr_run *cpu = qr_run_each_alone(&cpu_config, make_request, N_REQUESTS);

    compare_scores(format, &alone[2], &cpu[2]);
    qr_run_together(&config, NULL, make_request, N_REQUESTS, alone);
    config.max_prefill_chunk = 9;
    config.page_size = 32;
    qr_run_together(&config, NULL, make_request, N_REQUESTS, alone);
    qr_run_free_all(alone, N_REQUESTS);
    qr_run_free_all(cpu, N_REQUESTS);
}

static void every_format_keeps_its_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FORMATS; i++)
        check_format(&formats[i]);
}

static void what_a_backend_cannot_do_is_refused(void **state)
{
    (void)state;
    struct qr_engine *engine;
    struct qr_error err = {""};
    struct qr_engine_config config = config_of(&formats[0], "cpu");

    config.kv_dtype = QR_KV_DTYPE_FP8;
    assert_int_equal(qr_engine_create(&config, &engine, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--kv-dtype"));
    config = config_of(&formats[0], "cpu");
    config.weights = QR_WEIGHTS_INT8;
    assert_int_equal(qr_engine_create(&config, &engine, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--weights"));
    config = cuda_config(&formats[0]);
    config.kv_dtype = QR_KV_DTYPE_F16;
    assert_int_equal(qr_engine_create(&config, &engine, &err), QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "BF16 or FP8"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_keeps_its_bits),
        cmocka_unit_test(what_a_backend_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, make_config, remove_config);
}
