/*
 * llama.c - LLaMA (Touvron et al., 2023): RMSNorm, RoPE, grouped-query attention (Ainslie et al.,
 * 2023), SwiGLU, tied or untied head.
 */
#include "runtime/models/layer_weights.h"

const struct qr_architecture qr_architecture_llama = {
    .name = "LlamaForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = qr_layer_get_llama,
};
