/*
 * gemma2.c - Gemma 2 (Gemma Team, 2024): norms ahead of and behind each block, soft caps on scores
 * and logits, a window in every other layer. The norms' weights are stored less 1.
 */
#include "runtime/models/layer_weights.h"

static enum qr_status load_layer(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err)
{
    const struct {
        const char *name;
        struct qr_norm *norm;
    } norms[] = {
        {"input_layernorm", &layer->attention_norm},
        {"post_attention_layernorm", &layer->after_attention},
        {"pre_feedforward_layernorm", &layer->mlp_norm},
        {"post_feedforward_layernorm", &layer->after_mlp},
    };

    for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]); i++)
        QR_TRY(qr_layer_get_norm(model, index, norms[i].name, model->config.hidden_size,
                                 norms[i].norm, err));
    QR_TRY(qr_layer_get_attention(model, index, layer, err));
    return qr_layer_get_mlp(model, index, layer, err);
}

const struct qr_architecture qr_architecture_gemma2 = {
    .name = "Gemma2ForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = load_layer,
};
