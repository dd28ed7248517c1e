/*
 * model_config.h - the shape of a model, read from a Hugging Face config.json (and
 * the end-of-text ids of generation_config.json, where there is one) or from the metadata of a
 * GGUF file.
 */
#ifndef QUIRE_RUNTIME_MODELS_MODEL_CONFIG_H
#define QUIRE_RUNTIME_MODELS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/ops/op_types.h"
#include "runtime/ops/rope.h"

enum { QR_MODEL_MAX_EOS = 8, QR_MODEL_MAX_LAYERS = 1024 };

/* One flag for each layer. */
struct qr_layer_set {
    uint64_t words[QR_MODEL_MAX_LAYERS / 64];
};

struct qr_model_config {
    char architecture[64]; /* architectures[0], such as "LlamaForCausalLM" */
    int32_t vocab_size;
    int32_t hidden_size;
    int32_t intermediate_size;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t max_position; /* longest sequence in tokens */
    float norm_eps;
    float norm_weight_offset; /* what is stored of a norm's weight is the weight less this */
    struct qr_rope rope;      /* rotary_dim 0: positions are learned */
    enum qr_activation activation;
    bool has_qkv_bias;
    bool has_o_bias;
    bool has_mlp_bias;
    bool tied_embeddings;
    float embedding_factor;   /* embeddings are multiplied by it */
    float attention_scale;    /* of q . k */
    float attention_soft_cap; /* of its scores; 0: none */
    float logit_soft_cap;     /* 0: none */
    int32_t window;           /* keys that a row of a layer in `sliding` sees; 0: none slides */
    struct qr_layer_set sliding;
    int32_t n_experts;         /* of a layer that is not in `dense`; 0: no layer has any */
    int32_t n_experts_used;    /* of them, for each token */
    int32_t expert_size;       /* an expert's intermediate size */
    bool renormalizes_experts; /* the weights of the used ones sum up to 1 */
    struct qr_layer_set dense; /* layers without experts in a model with some */
    int32_t bos_id;            /* -1: none */
    int32_t n_eos;
    int32_t eos_ids[QR_MODEL_MAX_EOS];
    char weight_dtype[16]; /* torch_dtype, such as "bfloat16"; "" when the file has none */
    char unsupported[160]; /* the first setting that Quire cannot run, in words; "": none */
};

static inline bool qr_layer_set_has(const struct qr_layer_set *set, int32_t layer)
{
    return (set->words[layer / 64] >> (layer % 64) & 1) != 0;
}

static inline void qr_layer_set_add(struct qr_layer_set *set, int32_t layer)
{
    set->words[layer / 64] |= (uint64_t)1 << (layer % 64);
}

QR_BEGIN_DECLS

/*
 * `path` is a config.json, a directory that holds one, or a .gguf file. Every number is checked
 * against bounds that keep the arithmetic on shapes from overflowing. What Quire can
 * read but not run (`architecture`, `unsupported`) is left to qr_model_open, so that
 * the memory needs of any model can be asked for.
 */
QR_MUST_CHECK enum qr_status qr_model_config_load(const char *path, struct qr_model_config *config,
                                                  struct qr_error *err);
/* The same from the text of a config.json; `path` is for the errors alone. */
QR_MUST_CHECK enum qr_status qr_model_config_parse(const char *path, const char *text,
                                                   size_t n_bytes, struct qr_model_config *config,
                                                   struct qr_error *err);
/* Adds the eos_token_id of a generation_config.json to those of `config`. */
QR_MUST_CHECK enum qr_status qr_model_config_parse_generation(const char *path, const char *text,
                                                              size_t n_bytes,
                                                              struct qr_model_config *config,
                                                              struct qr_error *err);

/* Parameters of the architecture with this shape; of one that is not known, as of LLaMA. */
int64_t qr_model_config_n_parameters(const struct qr_model_config *config);
/* 2 * n_layers * n_kv_heads * head_dim * element_size. */
int64_t qr_model_config_kv_bytes_per_token(const struct qr_model_config *config,
                                           int64_t element_size);
/* How many of the last tokens' KV a row needs, itself included; 0: all, where a layer sees all. */
int32_t qr_model_config_kv_window(const struct qr_model_config *config);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_MODEL_CONFIG_H */
