/*
 * model_config.h - the shape of a model, read from a Hugging Face config.json (and
 * the end-of-text ids of generation_config.json, where there is one).
 */
#ifndef QUIRE_RUNTIME_MODELS_MODEL_CONFIG_H
#define QUIRE_RUNTIME_MODELS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { QR_MODEL_MAX_EOS = 8 };

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
    float rope_theta;
    bool tied_embeddings;
    int32_t bos_id; /* -1: none */
    int32_t n_eos;
    int32_t eos_ids[QR_MODEL_MAX_EOS];
    char weight_dtype[16]; /* torch_dtype, such as "bfloat16"; "" when the file has none */
    char unsupported[160]; /* the first setting that Quire cannot run, in words; "": none */
};

QR_BEGIN_DECLS

/*
 * `path` is a config.json or a directory that holds one. Every number is checked
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

/* Parameters of the LLaMA architecture with this shape. */
int64_t qr_model_config_n_parameters(const struct qr_model_config *config);
/* 2 * n_layers * n_kv_heads * head_dim * element_size. */
int64_t qr_model_config_kv_bytes_per_token(const struct qr_model_config *config,
                                           int64_t element_size);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_MODEL_CONFIG_H */
