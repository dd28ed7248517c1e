/*
 * model.h - a loaded model: its shape, its weights and its forward pass.
 *
 * Adding an architecture means one new file here that defines a struct
 * qr_architecture, and its line in the table of model.c.
 */
#ifndef QUIRE_RUNTIME_MODELS_MODEL_H
#define QUIRE_RUNTIME_MODELS_MODEL_H

#include "base/status.h"
#include "runtime/models/model_config.h"
#include "runtime/ops/ops.h"

struct qr_model;

struct qr_model_limits {
    int32_t max_rows;       /* rows of one step */
    int32_t max_logit_rows; /* rows whose logits are wanted in one step */
    int32_t max_positions;  /* longest sequence that will be run; 0: the model's own limit */
};

QR_BEGIN_DECLS

/*
 * Opens the checkpoint in `dir`, or a model of the form synthetic:CONFIG.json[,dtype] without
 * one (runtime/weights/synthetic.h), and allocates the activations on `dev`, which is
 * borrowed and must outlive the model. On QR_OK the caller owns *out.
 */
QR_MUST_CHECK enum qr_status qr_model_open(const char *dir, struct qr_device *dev,
                                           const struct qr_model_limits *limits,
                                           struct qr_model **out, struct qr_error *err);
void qr_model_close(struct qr_model *model); /* accepts NULL */

/* QR_ERR_UNSUPPORTED when qr_model_open would refuse a model of this configuration. */
QR_MUST_CHECK enum qr_status qr_model_check_supported(const struct qr_model_config *config,
                                                      const char *path, struct qr_error *err);

const struct qr_model_config *qr_model_get_config(const struct qr_model *model);
int64_t qr_model_n_parameters(const struct qr_model *model);
int64_t qr_model_weight_bytes(const struct qr_model *model);

/*
 * Runs one step: writes the KV of every row into its page and the logits of the
 * wanted rows to `logits` (host, [n_logit_rows][vocab_size]).
 * kv_pool: see attention.h, allocated on the model's device.
 */
QR_MUST_CHECK enum qr_status qr_model_forward(struct qr_model *model, const struct qr_batch *batch,
                                              const struct qr_kv_geometry *kv, void *kv_pool,
                                              float *logits, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_MODEL_H */
