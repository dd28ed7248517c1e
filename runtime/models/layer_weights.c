/* layer_weights.c - see layer_weights.h for the contract. */
#include "runtime/models/layer_weights.h"

#include <stdio.h>

#include "base/alloc.h"

enum { NAME_SIZE = 192 };

static enum qr_status get_vector(struct qr_model *model, const char *name, const char *suffix,
                                 int64_t n, struct qr_tensor *out, struct qr_error *err)
{
    char full[NAME_SIZE];

    snprintf(full, sizeof(full), "%s.%s", name, suffix);
    return qr_model_get_weight(model, full, 1, &n, out, err);
}

enum qr_status qr_model_get_norm(struct qr_model *model, const char *name, enum qr_norm_kind kind,
                                 int64_t dim, struct qr_norm *out, struct qr_error *err)
{
    *out = (struct qr_norm){.kind = kind,
                            .eps = model->config.norm_eps,
                            .weight_offset = model->config.norm_weight_offset};
    QR_TRY(get_vector(model, name, "weight", dim, &out->weight, err));
    return kind == QR_NORM_LAYER ? get_vector(model, name, "bias", dim, &out->bias, err) : QR_OK;
}

enum qr_status qr_model_get_linear(struct qr_model *model, const char *name, int64_t n_out,
                                   int64_t n_in, bool has_bias, struct qr_linear *out,
                                   struct qr_error *err)
{
    const int64_t dims[] = {n_out, n_in};
    char full[NAME_SIZE];

    snprintf(full, sizeof(full), "%s.weight", name);
    QR_TRY(qr_model_get_weight(model, full, 2, dims, &out->weight, err));
    return has_bias ? get_vector(model, name, "bias", n_out, &out->bias, err) : QR_OK;
}

enum qr_status qr_model_get_fused(struct qr_model *model, const char *name,
                                  struct qr_fused_rows rows, int64_t n_out, int64_t n_in,
                                  struct qr_linear *out, struct qr_error *err)
{
    const int64_t dims[] = {rows.n_all, n_in};
    char full[NAME_SIZE];

    snprintf(full, sizeof(full), "%s.weight", name);
    return qr_model_get_rows(model, full, 2, dims, rows.first, n_out, &out->weight, err);
}

/* "model.layers.N.PART" */
static const char *layer_name(char name[NAME_SIZE], int32_t index, const char *part)
{
    snprintf(name, NAME_SIZE, "model.layers.%d.%s", index, part);
    return name;
}

enum qr_status qr_layer_get_norm(struct qr_model *model, int32_t index, const char *part,
                                 int64_t dim, struct qr_norm *out, struct qr_error *err)
{
    char name[NAME_SIZE];
    return qr_model_get_norm(model, layer_name(name, index, part), QR_NORM_RMS, dim, out, err);
}

enum qr_status qr_layer_get_norms(struct qr_model *model, int32_t index,
                                  struct qr_decoder_layer *layer, struct qr_error *err)
{
    int64_t hidden = model->config.hidden_size;

    QR_TRY(qr_layer_get_norm(model, index, "input_layernorm", hidden, &layer->attention_norm, err));
    return qr_layer_get_norm(model, index, "post_attention_layernorm", hidden, &layer->mlp_norm,
                             err);
}

enum qr_status qr_layer_get_head_norms(struct qr_model *model, int32_t index,
                                       struct qr_decoder_layer *layer, struct qr_error *err)
{
    int64_t head_dim = model->config.head_dim;

    QR_TRY(qr_layer_get_norm(model, index, "self_attn.q_norm", head_dim, &layer->q_norm, err));
    return qr_layer_get_norm(model, index, "self_attn.k_norm", head_dim, &layer->k_norm, err);
}

/* A map of a layer, by its name in it. */
struct part {
    const char *name;
    int64_t n_out;
    int64_t n_in;
    bool has_bias;
    struct qr_linear *map;
};

static enum qr_status get_parts(struct qr_model *model, int32_t index, const struct part *parts,
                                size_t n, struct qr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        char name[NAME_SIZE];
        QR_TRY(qr_model_get_linear(model, layer_name(name, index, parts[i].name), parts[i].n_out,
                                   parts[i].n_in, parts[i].has_bias, parts[i].map, err));
    }
    return QR_OK;
}

enum qr_status qr_layer_get_attention(struct qr_model *model, int32_t index,
                                      struct qr_decoder_layer *layer, struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    int64_t hidden = config->hidden_size;
    int64_t q_dim = (int64_t)config->n_heads * config->head_dim;
    int64_t kv_dim = (int64_t)config->n_kv_heads * config->head_dim;
    const struct part parts[] = {
        {"self_attn.q_proj", q_dim, hidden, config->has_qkv_bias, &layer->q},
        {"self_attn.k_proj", kv_dim, hidden, config->has_qkv_bias, &layer->k},
        {"self_attn.v_proj", kv_dim, hidden, config->has_qkv_bias, &layer->v},
        {"self_attn.o_proj", hidden, q_dim, config->has_o_bias, &layer->o},
    };

    return get_parts(model, index, parts, sizeof(parts) / sizeof(parts[0]), err);
}

enum qr_status qr_layer_get_mlp(struct qr_model *model, int32_t index,
                                struct qr_decoder_layer *layer, struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    int64_t hidden = config->hidden_size;
    int64_t inner = config->intermediate_size;
    const struct part parts[] = {
        {"mlp.gate_proj", inner, hidden, config->has_mlp_bias, &layer->gate},
        {"mlp.up_proj", inner, hidden, config->has_mlp_bias, &layer->up},
        {"mlp.down_proj", hidden, inner, config->has_mlp_bias, &layer->down},
    };

    return get_parts(model, index, parts, sizeof(parts) / sizeof(parts[0]), err);
}

enum qr_status qr_layer_get_llama(struct qr_model *model, int32_t index,
                                  struct qr_decoder_layer *layer, struct qr_error *err)
{
    QR_TRY(qr_layer_get_norms(model, index, layer, err));
    QR_TRY(qr_layer_get_attention(model, index, layer, err));
    return qr_layer_get_mlp(model, index, layer, err);
}

static enum qr_status get_expert(struct qr_model *model, const char *prefix,
                                 const struct qr_expert_names *names, int32_t e,
                                 struct qr_experts *experts, struct qr_error *err)
{
    int64_t hidden = model->config.hidden_size;
    int64_t inner = model->config.expert_size;
    const struct {
        const char *name;
        int64_t dims[2];
        struct qr_tensor *tensor;
    } parts[] = {
        {names->gate, {inner, hidden}, &experts->gate[e]},
        {names->up, {inner, hidden}, &experts->up[e]},
        {names->down, {hidden, inner}, &experts->down[e]},
    };

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "%s.%d.%s.weight", prefix, e, parts[i].name);
        QR_TRY(qr_model_get_weight(model, name, 2, parts[i].dims, parts[i].tensor, err));
    }
    return QR_OK;
}

enum qr_status qr_layer_get_experts(struct qr_model *model, int32_t index,
                                    const struct qr_expert_names *names,
                                    struct qr_decoder_layer *layer, struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    size_t n = (size_t)config->n_experts;
    const int64_t router[] = {config->n_experts, config->hidden_size};
    char name[NAME_SIZE / 2];

    layer->expert_tensors = qr_calloc(QR_ARENA_ENGINE, 3 * n, sizeof(*layer->expert_tensors));
    if (layer->expert_tensors == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for %d experts", config->n_experts);
    layer->experts = (struct qr_experts){.n_experts = config->n_experts,
                                         .n_used = config->n_experts_used,
                                         .renormalizes = config->renormalizes_experts,
                                         .gate = layer->expert_tensors,
                                         .up = layer->expert_tensors + n,
                                         .down = layer->expert_tensors + 2 * n,
                                         .activation = config->activation};
    snprintf(name, sizeof(name), "model.layers.%d.%s.weight", index, names->router);
    QR_TRY(qr_model_get_matrix(model, name, router, QR_USE_ROUTER, &layer->experts.router, err));
    snprintf(name, sizeof(name), "model.layers.%d.%s", index, names->experts);
    for (int32_t e = 0; e < config->n_experts; e++)
        QR_TRY(get_expert(model, name, names, e, &layer->experts, err));
    return model->dev->ops->load_experts(model->dev, &layer->experts, err);
}
