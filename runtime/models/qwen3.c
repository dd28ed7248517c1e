/*
 * qwen3.c - Qwen3 (Yang et al., 2025): LLaMA with an RMSNorm of each head of q and k ahead of the
 * rotation.
 */
#include "runtime/models/layer_weights.h"

static enum qr_status load_layer(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err)
{
    QR_TRY(qr_layer_get_llama(model, index, layer, err));
    return qr_layer_get_head_norms(model, index, layer, err);
}

const struct qr_architecture qr_architecture_qwen3 = {
    .name = "Qwen3ForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = load_layer,
};
