/*
 * architecture.h - what a file that implements one architecture defines, and what it
 * is given. Private to runtime/models/.
 */
#ifndef QUIRE_RUNTIME_MODELS_ARCHITECTURE_H
#define QUIRE_RUNTIME_MODELS_ARCHITECTURE_H

#include "runtime/models/model.h"
#include "runtime/weights/checkpoint.h"

struct qr_model;

struct qr_decoder;
struct qr_decoder_layer;

/*
 * What makes an architecture: how its checkpoints name the tensors, and which parts a layer has.
 * The rest is in decoder.h.
 */
struct qr_architecture {
    const char *name;   /* as in config.json's "architectures" */
    const char *prefix; /* ahead of all names but the head's, in some files; NULL: in none */
    const char *embedding;
    const char *positions; /* NULL: none */
    const char *norm;      /* without ".weight" */
    const char *head;
    enum qr_norm_kind norm_kind;
    /* Loads layer `index`, whose fields are zero. */
    enum qr_status (*load_layer)(struct qr_model *model, int32_t index,
                                 struct qr_decoder_layer *layer, struct qr_error *err);
};

struct qr_model {
    struct qr_model_config config;
    struct qr_model_limits limits;
    struct qr_checkpoint *checkpoint;
    struct qr_device *dev; /* borrowed */
    const struct qr_architecture *architecture;
    const char *prefix; /* the architecture's where this checkpoint has it, else "" */
    struct qr_decoder *decoder;
    /* Bytes of the checkpoint's matrices that the device quantised, and what it made of them. */
    int64_t n_replaced_bytes;
    int64_t n_quantized_bytes[QR_DTYPE_END];
    float *logits; /* [max_logit_rows][vocab_size], device memory */
};

QR_BEGIN_DECLS

/* A weight of the checkpoint, taken over by the device: once for each tensor. */
QR_MUST_CHECK enum qr_status qr_model_get_weight(struct qr_model *model, const char *name,
                                                 int32_t n_dims, const int64_t *dims,
                                                 struct qr_tensor *out, struct qr_error *err);
/* A matrix [dims[0]][dims[1]] that is not, or not only, multiplied with as the others are. */
QR_MUST_CHECK enum qr_status qr_model_get_matrix(struct qr_model *model, const char *name,
                                                 const int64_t *dims, enum qr_tensor_use use,
                                                 struct qr_tensor *out, struct qr_error *err);
/* Rows of one (qr_checkpoint_get_rows), and of the transpose of one. */
QR_MUST_CHECK enum qr_status qr_model_get_rows(struct qr_model *model, const char *name,
                                               int32_t n_dims, const int64_t *dims, int64_t first,
                                               int64_t n, struct qr_tensor *out,
                                               struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_model_get_transposed_rows(struct qr_model *model, const char *name,
                                                          const int64_t *dims, int64_t first,
                                                          int64_t n, struct qr_tensor *out,
                                                          struct qr_error *err);

QR_END_DECLS

extern const struct qr_architecture qr_architecture_llama;
extern const struct qr_architecture qr_architecture_mistral;
extern const struct qr_architecture qr_architecture_mixtral;
extern const struct qr_architecture qr_architecture_qwen2;
extern const struct qr_architecture qr_architecture_qwen3;
extern const struct qr_architecture qr_architecture_qwen3_moe;
extern const struct qr_architecture qr_architecture_phi3;
extern const struct qr_architecture qr_architecture_gemma2;
extern const struct qr_architecture qr_architecture_gpt2;

#endif /* QUIRE_RUNTIME_MODELS_ARCHITECTURE_H */
