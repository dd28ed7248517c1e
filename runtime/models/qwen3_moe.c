/*
 * qwen3_moe.c - Qwen3-MoE (Yang et al., 2025): Qwen3 with many small experts in place of the
 * feed-forward network of most layers.
 */
#include "runtime/models/layer_weights.h"

static enum qr_status load_layer(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err)
{
    static const struct qr_expert_names names = {
        .router = "mlp.gate",
        .experts = "mlp.experts",
        .gate = "gate_proj",
        .up = "up_proj",
        .down = "down_proj",
    };

    QR_TRY(qr_layer_get_norms(model, index, layer, err));
    QR_TRY(qr_layer_get_attention(model, index, layer, err));
    QR_TRY(qr_layer_get_head_norms(model, index, layer, err));
    if (qr_layer_set_has(&model->config.dense, index))
        return qr_layer_get_mlp(model, index, layer, err);
    return qr_layer_get_experts(model, index, &names, layer, err);
}

const struct qr_architecture qr_architecture_qwen3_moe = {
    .name = "Qwen3MoeForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = load_layer,
};
