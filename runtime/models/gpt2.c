/*
 * gpt2.c - GPT-2 (Radford et al., 2019): learned positions, LayerNorm, one tensor for q, k and v,
 * biases everywhere, GELU. Checkpoints hold its matrices as [n_in][n_out].
 */
#include <stdio.h>

#include "runtime/models/layer_weights.h"

static enum qr_status get_map(struct qr_model *model, int32_t index, const char *part,
                              struct qr_fused_rows rows, const int64_t *dims, struct qr_linear *out,
                              struct qr_error *err)
{
    const int64_t weight_dims[] = {rows.n_all, dims[1]};
    char name[96];

    snprintf(name, sizeof(name), "%sh.%d.%s.weight", model->prefix, index, part);
    QR_TRY(qr_model_get_transposed_rows(model, name, weight_dims, rows.first, dims[0], &out->weight,
                                        err));
    snprintf(name, sizeof(name), "%sh.%d.%s.bias", model->prefix, index, part);
    return qr_model_get_rows(model, name, 1, &rows.n_all, rows.first, dims[0], &out->bias, err);
}

static enum qr_status load_layer(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err)
{
    int64_t hidden = model->config.hidden_size;
    int64_t inner = model->config.intermediate_size;
    const struct {
        const char *name;
        struct qr_fused_rows rows;
        int64_t dims[2];
        struct qr_linear *map;
    } parts[] = {
        {"attn.c_attn", {3 * hidden, 0}, {hidden, hidden}, &layer->q},
        {"attn.c_attn", {3 * hidden, hidden}, {hidden, hidden}, &layer->k},
        {"attn.c_attn", {3 * hidden, 2 * hidden}, {hidden, hidden}, &layer->v},
        {"attn.c_proj", {hidden, 0}, {hidden, hidden}, &layer->o},
        {"mlp.c_fc", {inner, 0}, {inner, hidden}, &layer->up},
        {"mlp.c_proj", {hidden, 0}, {hidden, inner}, &layer->down},
    };
    char name[96];

    snprintf(name, sizeof(name), "%sh.%d.ln_1", model->prefix, index);
    QR_TRY(qr_model_get_norm(model, name, QR_NORM_LAYER, hidden, &layer->attention_norm, err));
    snprintf(name, sizeof(name), "%sh.%d.ln_2", model->prefix, index);
    QR_TRY(qr_model_get_norm(model, name, QR_NORM_LAYER, hidden, &layer->mlp_norm, err));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        QR_TRY(
            get_map(model, index, parts[i].name, parts[i].rows, parts[i].dims, parts[i].map, err));
    return QR_OK;
}

/* Files made by GPT2Model have no prefix. */
const struct qr_architecture qr_architecture_gpt2 = {
    .name = "GPT2LMHeadModel",
    .prefix = "transformer.",
    .embedding = "wte.weight",
    .positions = "wpe.weight",
    .norm = "ln_f",
    .head = "lm_head.weight",
    .norm_kind = QR_NORM_LAYER,
    .load_layer = load_layer,
};
