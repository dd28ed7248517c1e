/* family_config.c - see family_config.h for the contract. */
#include "runtime/models/family_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/models/quantization_config.h"

enum window_rule {
    WINDOW_NONE,
    WINDOW_EVERYWHERE,  /* where sliding_window is set */
    WINDOW_WHERE_USED,  /* everywhere, where use_sliding_window is true */
    WINDOW_UPPER,       /* from max_window_layers on, where use_sliding_window is true */
    WINDOW_ALTERNATING, /* layers 0, 2, 4, ... */
};

struct family {
    const char *architecture;
    int32_t head_dim; /* 0: hidden_size / num_attention_heads */
    double norm_eps;
    const char *activation;
    enum window_rule window_rule;
    int32_t window; /* where the file is silent */
    bool tied_embeddings;
    bool learns_positions;
    bool has_qkv_bias; /* whatever attention_bias says */
    bool has_all_biases;
    enum qr_status (*parse_rest)(const struct qr_config_file *file, struct qr_model_config *config);
};

static enum qr_status parse_gpt2(const struct qr_config_file *file, struct qr_model_config *config)
{
    static const char *const switches[] = {"scale_attn_by_inverse_layer_idx",
                                           "add_cross_attention"};
    bool scales;

    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
        bool is_set;
        QR_TRY(qr_config_bool(file, switches[i], false, &is_set));
        if (is_set)
            snprintf(config->unsupported, sizeof(config->unsupported), "%s is set", switches[i]);
    }
    QR_TRY(qr_config_bool(file, "scale_attn_weights", true, &scales));
    if (!scales)
        config->attention_scale = 1.0f;
    return QR_OK;
}

static enum qr_status parse_gemma2(const struct qr_config_file *file,
                                   struct qr_model_config *config)
{
    float pre_attention;

    config->norm_weight_offset = 1.0f;
    config->embedding_factor = sqrtf((float)config->hidden_size);
    QR_TRY(qr_config_float(file, (const char *[]){"query_pre_attn_scalar", NULL}, 1e-3, 1e6, 256.0,
                           &pre_attention));
    config->attention_scale = 1.0f / sqrtf(pre_attention);
    QR_TRY(qr_config_soft_cap(file, "attn_logit_softcapping", 50.0, &config->attention_soft_cap));
    return qr_config_soft_cap(file, "final_logit_softcapping", 30.0, &config->logit_soft_cap);
}

static enum qr_status parse_experts(const struct qr_config_file *file, const char *const *names,
                                    int32_t default_used, struct qr_model_config *config)
{
    QR_TRY(qr_config_int(file, names, 1, QR_EXPERTS_MAX, QR_CONFIG_REQUIRED, &config->n_experts));
    QR_TRY(qr_config_int(file, (const char *[]){"num_experts_per_tok", NULL}, 1,
                         QR_EXPERTS_MAX_USED, default_used, &config->n_experts_used));
    if (config->n_experts_used > config->n_experts)
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: num_experts_per_tok %d is more than the %d experts", file->path,
                       config->n_experts_used, config->n_experts);
    return QR_OK;
}

static enum qr_status parse_mixtral(const struct qr_config_file *file,
                                    struct qr_model_config *config)
{
    config->expert_size = config->intermediate_size;
    config->renormalizes_experts = true;
    return parse_experts(file, (const char *[]){"num_local_experts", NULL}, 2, config);
}

static enum qr_status parse_qwen3_moe(const struct qr_config_file *file,
                                      struct qr_model_config *config)
{
    const json_t *dense = json_object_get(file->root, "mlp_only_layers");
    int32_t step;

    QR_TRY(
        parse_experts(file, (const char *[]){"num_experts", "num_local_experts", NULL}, 8, config));
    QR_TRY(qr_config_int(file, (const char *[]){"moe_intermediate_size", NULL}, 1, 1 << 20, 768,
                         &config->expert_size));
    QR_TRY(qr_config_bool(file, "norm_topk_prob", false, &config->renormalizes_experts));
    QR_TRY(
        qr_config_int(file, (const char *[]){"decoder_sparse_step", NULL}, 1, 1 << 20, 1, &step));
    for (int32_t layer = 0; layer < config->n_layers; layer++)
        if ((layer + 1) % step != 0)
            qr_layer_set_add(&config->dense, layer);
    for (size_t i = 0; i < json_array_size(dense); i++) {
        const json_t *layer = json_array_get(dense, i);
        if (!json_is_integer(layer) || json_integer_value(layer) < 0 ||
            json_integer_value(layer) >= config->n_layers)
            return qr_fail(file->err, QR_ERR_INVALID,
                           "%s: mlp_only_layers must be layers in [0, %d]", file->path,
                           config->n_layers - 1);
        qr_layer_set_add(&config->dense, (int32_t)json_integer_value(layer));
    }
    return QR_OK;
}

static const struct family families[] = {
    {.architecture = "LlamaForCausalLM", .norm_eps = 1e-6, .activation = "silu"},
    {.architecture = "MistralForCausalLM",
     .norm_eps = 1e-6,
     .activation = "silu",
     .window_rule = WINDOW_EVERYWHERE,
     .window = 4096},
    {.architecture = "MixtralForCausalLM",
     .norm_eps = 1e-5,
     .activation = "silu",
     .window_rule = WINDOW_EVERYWHERE,
     .parse_rest = parse_mixtral},
    {.architecture = "Qwen2ForCausalLM",
     .norm_eps = 1e-6,
     .activation = "silu",
     .window_rule = WINDOW_UPPER,
     .window = 4096,
     .has_qkv_bias = true},
    {.architecture = "Qwen3ForCausalLM",
     .head_dim = 128,
     .norm_eps = 1e-6,
     .activation = "silu",
     .window_rule = WINDOW_UPPER,
     .window = 4096},
    {.architecture = "Qwen3MoeForCausalLM",
     .norm_eps = 1e-6,
     .activation = "silu",
     .window_rule = WINDOW_WHERE_USED,
     .window = 4096,
     .parse_rest = parse_qwen3_moe},
    {.architecture = "Phi3ForCausalLM",
     .norm_eps = 1e-5,
     .activation = "silu",
     .window_rule = WINDOW_EVERYWHERE},
    {.architecture = "Gemma2ForCausalLM",
     .head_dim = 256,
     .norm_eps = 1e-6,
     .activation = "gelu_pytorch_tanh",
     .window_rule = WINDOW_ALTERNATING,
     .window = 4096,
     .tied_embeddings = true,
     .parse_rest = parse_gemma2},
    {.architecture = "GPT2LMHeadModel",
     .norm_eps = 1e-5,
     .activation = "gelu_new",
     .tied_embeddings = true,
     .learns_positions = true,
     .has_all_biases = true,
     .parse_rest = parse_gpt2},
};

static const struct family *find_family(const char *architecture)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (strcmp(families[i].architecture, architecture) == 0)
            return &families[i];
    return &families[0];
}

int32_t qr_family_head_dim(const char *architecture)
{
    return find_family(architecture)->head_dim;
}

bool qr_family_learns_positions(const char *architecture)
{
    return find_family(architecture)->learns_positions;
}

static void parse_activation(const struct qr_config_file *file, const struct family *family,
                             struct qr_model_config *config)
{
    static const struct {
        const char *name;
        enum qr_activation activation;
    } known[] = {
        {"silu", QR_ACTIVATION_SILU},           {"swish", QR_ACTIVATION_SILU},
        {"gelu", QR_ACTIVATION_GELU},           {"gelu_new", QR_ACTIVATION_GELU_TANH},
        {"gelu_fast", QR_ACTIVATION_GELU_TANH}, {"gelu_pytorch_tanh", QR_ACTIVATION_GELU_TANH},
    };
    static const char *const fields[] = {"hidden_activation", "hidden_act", "activation_function"};
    const char *name = NULL;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && name == NULL; i++)
        name = json_string_value(json_object_get(file->root, fields[i]));
    if (name == NULL)
        name = family->activation;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) == 0) {
            config->activation = known[i].activation;
            return;
        }
    }
    snprintf(config->unsupported, sizeof(config->unsupported), "hidden_act \"%.64s\"", name);
}

static enum qr_status parse_biases(const struct qr_config_file *file, const struct family *family,
                                   struct qr_model_config *config)
{
    bool attention, mlp;

    QR_TRY(qr_config_bool(file, "attention_bias", family->has_all_biases, &attention));
    QR_TRY(qr_config_bool(file, "mlp_bias", family->has_all_biases, &mlp));
    config->has_qkv_bias = attention || family->has_qkv_bias;
    config->has_o_bias = attention;
    config->has_mlp_bias = mlp;
    return QR_OK;
}

/* Newer files say of each layer what it is. */
static enum qr_status parse_layer_types(const struct qr_config_file *file, const json_t *types,
                                        struct qr_model_config *config)
{
    if (json_array_size(types) != (size_t)config->n_layers)
        return qr_fail(file->err, QR_ERR_INVALID,
                       "%s: layer_types must be an array of %d strings, one for each layer",
                       file->path, config->n_layers);
    for (int32_t layer = 0; layer < config->n_layers; layer++) {
        const char *type = json_string_value(json_array_get(types, (size_t)layer));
        if (type != NULL && strcmp(type, "sliding_attention") == 0)
            qr_layer_set_add(&config->sliding, layer);
        else if (type == NULL || strcmp(type, "full_attention") != 0)
            snprintf(config->unsupported, sizeof(config->unsupported), "layer_types[%d] \"%.64s\"",
                     layer, type != NULL ? type : "(no string)");
    }
    return QR_OK;
}

static enum qr_status parse_window_layers(const struct qr_config_file *file,
                                          const struct family *family,
                                          struct qr_model_config *config)
{
    const json_t *types = json_object_get(file->root, "layer_types");
    int32_t first = 0;

    if (types != NULL && !json_is_null(types))
        return parse_layer_types(file, types, config);
    if (family->window_rule == WINDOW_UPPER)
        QR_TRY(qr_config_int(file, (const char *[]){"max_window_layers", NULL}, 0, 1 << 20, 28,
                             &first));
    for (int32_t layer = first; layer < config->n_layers; layer++)
        if (family->window_rule != WINDOW_ALTERNATING || layer % 2 == 0)
            qr_layer_set_add(&config->sliding, layer);
    return QR_OK;
}

/* A window that is null is none; one that no sequence reaches the end of changes nothing. */
static enum qr_status parse_window(const struct qr_config_file *file, const struct family *family,
                                   struct qr_model_config *config)
{
    const json_t *json = json_object_get(file->root, "sliding_window");
    bool is_used;

    QR_TRY(qr_config_bool(file, "use_sliding_window",
                          family->window_rule == WINDOW_EVERYWHERE ||
                              family->window_rule == WINDOW_ALTERNATING,
                          &is_used));
    if (family->window_rule == WINDOW_NONE || !is_used || (json != NULL && json_is_null(json)))
        return QR_OK;
    QR_TRY(qr_config_int(file, (const char *[]){"sliding_window", NULL}, 1, 1 << 24, family->window,
                         &config->window));
    if (config->window == 0 || config->window >= config->max_position) {
        config->window = 0;
        return QR_OK;
    }
    return parse_window_layers(file, family, config);
}

enum qr_status qr_family_config_parse(const struct qr_config_file *file,
                                      struct qr_model_config *config)
{
    const struct family *family = find_family(config->architecture);

    QR_TRY(qr_config_float(
        file, (const char *[]){"rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", NULL}, 1e-12,
        1.0, family->norm_eps, &config->norm_eps));
    config->embedding_factor = 1.0f;
    config->attention_scale = 1.0f / sqrtf((float)config->head_dim);
    QR_TRY(qr_config_bool(file, "tie_word_embeddings", family->tied_embeddings,
                          &config->tied_embeddings));
    parse_activation(file, family, config);
    QR_TRY(parse_biases(file, family, config));
    QR_TRY(parse_window(file, family, config));
    if (family->parse_rest != NULL)
        QR_TRY(family->parse_rest(file, config));
    qr_quantization_find_unsupported(file->root, config->unsupported, sizeof(config->unsupported));
    return QR_OK;
}
