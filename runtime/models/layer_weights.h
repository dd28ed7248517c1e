/*
 * layer_weights.h - weights of a layer by the names that most architectures share, for the files
 * that load one. Private to runtime/models/.
 *
 * `name` is a tensor's name without ".weight" and ".bias".
 */
#ifndef QUIRE_RUNTIME_MODELS_LAYER_WEIGHTS_H
#define QUIRE_RUNTIME_MODELS_LAYER_WEIGHTS_H

#include "runtime/models/decoder.h"

/* Rows [first, first + n_out) of a tensor that holds the rows of several maps. */
struct qr_fused_rows {
    int64_t n_all;
    int64_t first;
};

QR_BEGIN_DECLS

QR_MUST_CHECK enum qr_status qr_model_get_norm(struct qr_model *model, const char *name,
                                               enum qr_norm_kind kind, int64_t dim,
                                               struct qr_norm *out, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_model_get_linear(struct qr_model *model, const char *name,
                                                 int64_t n_out, int64_t n_in, bool has_bias,
                                                 struct qr_linear *out, struct qr_error *err);
/* One of the maps of a fused tensor; no bias. */
QR_MUST_CHECK enum qr_status qr_model_get_fused(struct qr_model *model, const char *name,
                                                struct qr_fused_rows rows, int64_t n_out,
                                                int64_t n_in, struct qr_linear *out,
                                                struct qr_error *err);

/* The parts of "model.layers.N." as LLaMA names them. */
QR_MUST_CHECK enum qr_status qr_layer_get_attention(struct qr_model *model, int32_t index,
                                                    struct qr_decoder_layer *layer,
                                                    struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_layer_get_mlp(struct qr_model *model, int32_t index,
                                              struct qr_decoder_layer *layer, struct qr_error *err);
/* "model.layers.N.PART", an RMSNorm of `dim`. */
QR_MUST_CHECK enum qr_status qr_layer_get_norm(struct qr_model *model, int32_t index,
                                               const char *part, int64_t dim, struct qr_norm *out,
                                               struct qr_error *err);
/* input_layernorm and post_attention_layernorm, ahead of the two blocks. */
QR_MUST_CHECK enum qr_status qr_layer_get_norms(struct qr_model *model, int32_t index,
                                                struct qr_decoder_layer *layer,
                                                struct qr_error *err);
/* self_attn.q_norm and self_attn.k_norm */
QR_MUST_CHECK enum qr_status qr_layer_get_head_norms(struct qr_model *model, int32_t index,
                                                     struct qr_decoder_layer *layer,
                                                     struct qr_error *err);

/* All of a layer of LLaMA and those that are like it. */
QR_MUST_CHECK enum qr_status qr_layer_get_llama(struct qr_model *model, int32_t index,
                                                struct qr_decoder_layer *layer,
                                                struct qr_error *err);

/* How a mixture of experts names its tensors, below "model.layers.N.". */
struct qr_expert_names {
    const char *router;  /* such as "mlp.gate" */
    const char *experts; /* such as "mlp.experts"; an expert is "mlp.experts.E." and: */
    const char *gate, *up, *down;
};
QR_MUST_CHECK enum qr_status qr_layer_get_experts(struct qr_model *model, int32_t index,
                                                  const struct qr_expert_names *names,
                                                  struct qr_decoder_layer *layer,
                                                  struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_LAYER_WEIGHTS_H */
