/* parameter_count.c - how many parameters a model of a configuration has, tensor by tensor. */
#include <string.h>

#include "runtime/models/model_config.h"

/* What an architecture has that its settings do not say. */
struct tensors {
    const char *architecture;
    int32_t norms;       /* of a layer, [hidden] each */
    bool norm_has_bias;  /* LayerNorm's */
    bool has_head_norms; /* of q and k, [head_dim] each */
    bool has_gate;       /* the MLP is gate, up and down; else up and down */
};

static const struct tensors *tensors_of(const char *architecture)
{
    static const struct tensors known[] = {
        {"LlamaForCausalLM", .norms = 2, .has_gate = true}, /* the others are like it */
        {"Qwen3ForCausalLM", .norms = 2, .has_head_norms = true, .has_gate = true},
        {"Qwen3MoeForCausalLM", .norms = 2, .has_head_norms = true, .has_gate = true},
        {"Gemma2ForCausalLM", .norms = 4, .has_gate = true},
        {"GPT2LMHeadModel", .norms = 2, .norm_has_bias = true},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].architecture, architecture) == 0)
            return &known[i];
    return &known[0];
}

static int64_t count_attention(const struct qr_model_config *config, const struct tensors *tensors)
{
    int64_t hidden = config->hidden_size;
    int64_t q_dim = (int64_t)config->n_heads * config->head_dim;
    int64_t kv_dim = (int64_t)config->n_kv_heads * config->head_dim;
    int64_t count = 2 * hidden * q_dim + 2 * hidden * kv_dim;

    if (config->has_qkv_bias)
        count += q_dim + 2 * kv_dim;
    if (config->has_o_bias)
        count += hidden;
    return count + (tensors->has_head_norms ? 2 * config->head_dim : 0);
}

static int64_t count_mlp(const struct qr_model_config *config, const struct tensors *tensors)
{
    int64_t hidden = config->hidden_size;
    int64_t inner = config->intermediate_size;
    int64_t n_in = tensors->has_gate ? 2 : 1;

    return (n_in + 1) * hidden * inner + (config->has_mlp_bias ? n_in * inner + hidden : 0);
}

/* The router and the experts. */
static int64_t count_experts(const struct qr_model_config *config)
{
    int64_t hidden = config->hidden_size;
    return config->n_experts * (hidden + 3 * hidden * config->expert_size);
}

int64_t qr_model_config_n_parameters(const struct qr_model_config *config)
{
    const struct tensors *tensors = tensors_of(config->architecture);
    int64_t hidden = config->hidden_size;
    int64_t norm = tensors->norm_has_bias ? 2 * hidden : hidden;
    int64_t total = hidden * config->vocab_size * (config->tied_embeddings ? 1 : 2) + norm;

    if (config->rope.rotary_dim == 0)
        total += hidden * config->max_position;
    for (int32_t layer = 0; layer < config->n_layers; layer++) {
        bool is_dense = config->n_experts == 0 || qr_layer_set_has(&config->dense, layer);
        total += count_attention(config, tensors) + tensors->norms * norm;
        total += is_dense ? count_mlp(config, tensors) : count_experts(config);
    }
    return total;
}
