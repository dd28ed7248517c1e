/*
 * mistral.c - Mistral (Jiang et al., 2023): LLaMA with a window in every layer, where one is set.
 */
#include "runtime/models/layer_weights.h"

const struct qr_architecture qr_architecture_mistral = {
    .name = "MistralForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = qr_layer_get_llama,
};
