/*
 * architecture.h - what a file that implements one architecture defines, and what it
 * is given. Private to runtime/models/.
 */
#ifndef QUIRE_RUNTIME_MODELS_ARCHITECTURE_H
#define QUIRE_RUNTIME_MODELS_ARCHITECTURE_H

#include "runtime/models/model.h"
#include "runtime/weights/checkpoint.h"

struct qr_model;

struct qr_architecture {
    const char *name; /* as in config.json's "architectures" */
    /*
     * Finds the weights and allocates the activations, into model->state. On error
     * what was made so far is left for `unload`.
     */
    enum qr_status (*load)(struct qr_model *model, struct qr_error *err);
    void (*unload)(struct qr_model *model); /* accepts a state that load left half made, or NULL */
    /* Enqueues one step's ops; the logits of the wanted rows end up in model->logits. */
    void (*forward)(struct qr_model *model, const struct qr_batch *batch,
                    const struct qr_kv_geometry *kv, void *kv_pool);
};

struct qr_model {
    struct qr_model_config config;
    struct qr_model_limits limits;
    struct qr_checkpoint *checkpoint;
    struct qr_device *dev; /* borrowed */
    const struct qr_architecture *architecture;
    void *state;  /* the architecture's own */
    void *logits; /* [max_logit_rows][vocab_size], device memory */
};

extern const struct qr_architecture qr_architecture_llama;

#endif /* QUIRE_RUNTIME_MODELS_ARCHITECTURE_H */
