/*
 * decoder.h - the decoder that all architectures here are: embedding, then for each layer
 * attention and a feed-forward network, each behind a norm and added to the residual stream, then a
 * norm and the head. What an architecture has besides is there or not: biases, norms of heads,
 * norms behind the blocks, experts, learned positions. Private to runtime/models/.
 *
 * A file of an architecture fills struct qr_decoder_layer from its tensors' names; the forward
 * pass is here, once.
 */
#ifndef QUIRE_RUNTIME_MODELS_DECODER_H
#define QUIRE_RUNTIME_MODELS_DECODER_H

#include "runtime/models/architecture.h"

struct qr_decoder_layer {
    struct qr_norm attention_norm;
    struct qr_linear q;             /* [n_heads * head_dim][hidden] */
    struct qr_linear k;             /* [n_kv_heads * head_dim][hidden] */
    struct qr_linear v;             /* [n_kv_heads * head_dim][hidden] */
    struct qr_linear o;             /* [hidden][n_heads * head_dim] */
    struct qr_norm q_norm;          /* of each head, [head_dim]; or not there */
    struct qr_norm k_norm;          /* of each head, [head_dim]; or not there */
    struct qr_norm after_attention; /* or not there */
    struct qr_norm mlp_norm;
    struct qr_linear gate;            /* [intermediate][hidden]; not there: `up` alone */
    struct qr_linear up;              /* [intermediate][hidden] */
    struct qr_linear down;            /* [hidden][intermediate] */
    struct qr_norm after_mlp;         /* or not there */
    struct qr_experts experts;        /* in place of gate, up, down; n_experts 0: none */
    struct qr_tensor *expert_tensors; /* [3][n_experts], which `experts` points into; owned */
};

/* Device memory; x and wanted in the device's residual type, the others in its activation type. */
struct qr_decoder_activations {
    void *x;        /* [max_rows][hidden] the residual stream */
    void *wanted;   /* [max_logit_rows][hidden] its rows whose logits are wanted */
    void *normed;   /* [max_rows][hidden] */
    void *q;        /* [max_rows][n_heads][head_dim] */
    void *k;        /* [max_rows][n_kv_heads][head_dim] */
    void *v;        /* [max_rows][n_kv_heads][head_dim] */
    void *attended; /* [max_rows][n_heads][head_dim] */
    void *gate;     /* [max_rows][intermediate] */
    void *up;       /* [max_rows][intermediate] */
};

enum { QR_DECODER_ACTIVATIONS = sizeof(struct qr_decoder_activations) / sizeof(void *) };

struct qr_decoder {
    struct qr_tensor embedding; /* [vocab][hidden] */
    struct qr_tensor positions; /* [max_position][hidden]; or not there */
    struct qr_norm norm;
    struct qr_tensor head;           /* [vocab][hidden]; the embedding where tied */
    struct qr_decoder_layer *layers; /* [n_layers] */
    union {
        struct qr_decoder_activations act;
        void *all[QR_DECODER_ACTIVATIONS];
    } buffers;
};

QR_BEGIN_DECLS

/*
 * Finds the weights and allocates the activations, into model->decoder. On error what was made so
 * far is left for qr_decoder_unload.
 */
QR_MUST_CHECK enum qr_status qr_decoder_load(struct qr_model *model, struct qr_error *err);
void qr_decoder_unload(struct qr_model *model); /* accepts a model without a decoder */
/* Enqueues one step's ops; the logits of the wanted rows end up in model->logits. */
void qr_decoder_forward(struct qr_model *model, const struct qr_batch *batch,
                        const struct qr_kv_geometry *kv, void *kv_pool);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_DECODER_H */
