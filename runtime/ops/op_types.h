/* op_types.h - what ops are given besides tensors of a step: weights that belong together. */
#ifndef QUIRE_RUNTIME_OPS_OP_TYPES_H
#define QUIRE_RUNTIME_OPS_OP_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/weights/checkpoint.h"

/* A tensor of n_dims 0 stands for one that the model does not have. */
static inline bool qr_tensor_is_there(const struct qr_tensor *tensor)
{
    return tensor->n_dims > 0;
}

/* y = W x + b */
struct qr_linear {
    struct qr_tensor weight; /* [n_out][n_in] */
    struct qr_tensor bias;   /* [n_out], or not there */
};

enum qr_norm_kind {
    QR_NORM_RMS,   /* x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich, 2019) */
    QR_NORM_LAYER, /* (x - mean) / sqrt(variance + eps) * weight + bias (Ba et al., 2016) */
};

struct qr_norm {
    enum qr_norm_kind kind;
    float eps;
    float weight_offset;     /* added to each weight: Gemma's are stored less 1 */
    struct qr_tensor weight; /* [dim] */
    struct qr_tensor bias;   /* [dim], or not there */
};

enum qr_activation {
    QR_ACTIVATION_SILU,      /* x / (1 + e^-x) */
    QR_ACTIVATION_GELU,      /* x / 2 * (1 + erf(x / sqrt(2))) */
    QR_ACTIVATION_GELU_TANH, /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
};

/* What one layer's attention is like. */
struct qr_attend_spec {
    int32_t layer;
    int32_t n_heads;
    float scale;    /* of q . k */
    int32_t window; /* keys a row sees, itself included; 0: all */
    float soft_cap; /* scores s become cap * tanh(s / cap); 0: they stay */
};

enum { QR_EXPERTS_MAX = 1024, QR_EXPERTS_MAX_USED = 64 }; /* of a layer, of a row */

/*
 * A mixture of experts (Shazeer et al., 2017; as in Mixtral, Jiang et al., 2024): of the softmax
 * of the router's logits the n_used largest choose the experts and weigh their outputs.
 */
struct qr_experts {
    struct qr_tensor router; /* [n_experts][hidden] */
    int32_t n_experts;
    int32_t n_used;
    bool renormalizes;             /* the weights of the chosen are divided by their sum */
    struct qr_tensor *gate;        /* [n_experts], each [inner][hidden] */
    struct qr_tensor *up;          /* [n_experts], each [inner][hidden] */
    struct qr_tensor *down;        /* [n_experts], each [hidden][inner] */
    enum qr_activation activation; /* of the gate */
    const void *device_table;      /* the device's own, from load_experts on */
};

#endif /* QUIRE_RUNTIME_OPS_OP_TYPES_H */
