/*
 * qwen2.c - Qwen2 and 2.5 (Yang et al., 2024): LLaMA with biases of q, k and v, and a window in the
 * upper layers where it is switched on.
 */
#include "runtime/models/layer_weights.h"

const struct qr_architecture qr_architecture_qwen2 = {
    .name = "Qwen2ForCausalLM",
    .embedding = "model.embed_tokens.weight",
    .norm = "model.norm",
    .head = "lm_head.weight",
    .load_layer = qr_layer_get_llama,
};
