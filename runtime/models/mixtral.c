/*
 * mixtral.c - Mixtral (Jiang et al., 2024): Mistral with a few large experts in place of each
 * feed-forward network.
 */
#include "runtime/models/layer_weights.h"

static enum qr_status load_layer(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err)
{
    static const struct qr_expert_names names = {
        .router = "block_sparse_moe.gate",
        .experts = "block_sparse_moe.experts",
        .gate = "w1",
        .up = "w3",
        .down = "w2",
    };

    QR_TRY(qr_layer_get_norms(model, index, layer, err));
    QR_TRY(qr_layer_get_attention(model, index, layer, err));
    return qr_layer_get_experts(model, index, &names, layer, err);
}

const struct qr_architecture qr_architecture_mixtral = {
    .name = "MixtralForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = load_layer,
};
