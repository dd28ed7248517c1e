/* gguf_config_file.c - settings of a GGUF file: what its metadata and its tensors say together. */
#include <stdio.h>

#include "runtime/models/config_fields.h"
#include "runtime/models/gguf_config.h"

static bool has_tensor(const struct qr_checkpoint *checkpoint, const char *name)
{
    return qr_checkpoint_find(checkpoint, name) != NULL;
}

/* Whether layer `layer` has the tensor "model.layers.N.`part`". */
static bool layer_has(const struct qr_checkpoint *checkpoint, int32_t layer, const char *part)
{
    char name[QR_TENSOR_NAME_MAX];

    snprintf(name, sizeof(name), "model.layers.%d.%s", layer, part);
    return has_tensor(checkpoint, name);
}

/*
 * Biases, the head, and layers without experts are there or not: no key tells. A vocabulary alone
 * has no tensors, and GPT-2 always the same ones.
 */
static void read_tensors(const struct qr_checkpoint *checkpoint, struct qr_model_config *config)
{
    if (has_tensor(checkpoint, "transformer.wte.weight"))
        config->tied_embeddings = !has_tensor(checkpoint, "lm_head.weight");
    if (!has_tensor(checkpoint, "model.embed_tokens.weight"))
        return;
    config->tied_embeddings = !has_tensor(checkpoint, "lm_head.weight");
    config->has_qkv_bias = layer_has(checkpoint, 0, "self_attn.q_proj.bias");
    config->has_o_bias = layer_has(checkpoint, 0, "self_attn.o_proj.bias");
    config->has_mlp_bias = layer_has(checkpoint, 0, "mlp.up_proj.bias");
    for (int32_t layer = 0; layer < config->n_layers && config->n_experts > 0; layer++)
        if (layer_has(checkpoint, layer, "mlp.gate_proj.weight"))
            qr_layer_set_add(&config->dense, layer);
}

enum qr_status qr_gguf_config_load(const char *path, struct qr_model_config *config,
                                   struct qr_error *err)
{
    struct qr_checkpoint *checkpoint;
    json_t *root = NULL;

    QR_TRY(qr_checkpoint_open(path, &checkpoint, err));
    enum qr_status status =
        qr_gguf_config_to_json(qr_checkpoint_gguf(checkpoint), checkpoint, &root, err);
    if (status == QR_OK) {
        status = qr_model_config_from_json(path, root, config, err);
        json_decref(root);
    }
    if (status == QR_OK)
        read_tensors(checkpoint, config);
    qr_checkpoint_close(checkpoint);
    return status;
}
