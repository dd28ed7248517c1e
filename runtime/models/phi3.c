/*
 * phi3.c - Phi-3 (Abdin et al., 2024): LLaMA whose q, k and v are one tensor, and gate and up
 * another.
 */
#include <stdio.h>

#include "runtime/models/layer_weights.h"

static enum qr_status load_layer(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    int64_t hidden = config->hidden_size;
    int64_t inner = config->intermediate_size;
    int64_t q_dim = (int64_t)config->n_heads * config->head_dim;
    int64_t kv_dim = (int64_t)config->n_kv_heads * config->head_dim;
    int64_t qkv_dim = q_dim + 2 * kv_dim;
    const struct {
        const char *name;
        struct qr_fused_rows rows;
        int64_t n_out;
        int64_t n_in;
        struct qr_linear *map;
    } parts[] = {
        {"self_attn.qkv_proj", {qkv_dim, 0}, q_dim, hidden, &layer->q},
        {"self_attn.qkv_proj", {qkv_dim, q_dim}, kv_dim, hidden, &layer->k},
        {"self_attn.qkv_proj", {qkv_dim, q_dim + kv_dim}, kv_dim, hidden, &layer->v},
        {"self_attn.o_proj", {hidden, 0}, hidden, q_dim, &layer->o},
        {"mlp.gate_up_proj", {2 * inner, 0}, inner, hidden, &layer->gate},
        {"mlp.gate_up_proj", {2 * inner, inner}, inner, hidden, &layer->up},
        {"mlp.down_proj", {hidden, 0}, hidden, inner, &layer->down},
    };

    QR_TRY(qr_layer_get_norms(model, index, layer, err));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char name[96];
        snprintf(name, sizeof(name), "model.layers.%d.%s", index, parts[i].name);
        QR_TRY(qr_model_get_fused(model, name, parts[i].rows, parts[i].n_out, parts[i].n_in,
                                  parts[i].map, err));
    }
    return QR_OK;
}

const struct qr_architecture qr_architecture_phi3 = {
    .name = "Phi3ForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = load_layer,
};
