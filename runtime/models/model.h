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
    int32_t max_rows;          /* rows of one step */
    int32_t max_logit_rows;    /* rows whose logits are wanted in one step */
    enum qr_kv_dtype kv_dtype; /* of the KV pages; AUTO: the device's choice */
    int32_t max_positions;     /* longest sequence that will be run; 0: the model's own limit */
    int32_t max_seqs;          /* sequences of one step, at least 1 */
    int32_t max_draws;         /* tokens drawn in one step */
    int32_t max_edits;         /* of logits in one step */
    int32_t page_size;         /* tokens of a KV page */
};

QR_BEGIN_DECLS

/*
 * Opens the checkpoint in `dir`, a .gguf file, or a model of the form synthetic:CONFIG.json[,dtype]
 * without one (runtime/weights/synthetic.h), prepares `dev` for it and allocates the activations
 * there. `dev` is borrowed, must outlive the model and serves no second one. On QR_OK the caller
 * owns *out.
 */
QR_MUST_CHECK enum qr_status qr_model_open(const char *dir, struct qr_device *dev,
                                           const struct qr_model_limits *limits,
                                           struct qr_model **out, struct qr_error *err);
void qr_model_close(struct qr_model *model); /* accepts NULL */

/* Whether the architecture is one of those here; single settings may still be unsupported. */
bool qr_model_is_known(const struct qr_model_config *config);
/* QR_ERR_UNSUPPORTED when qr_model_open would refuse a model of this configuration. */
QR_MUST_CHECK enum qr_status qr_model_check_supported(const struct qr_model_config *config,
                                                      const char *path, struct qr_error *err);

const struct qr_model_config *qr_model_get_config(const struct qr_model *model);
int64_t qr_model_n_parameters(const struct qr_model *model);
/* Of what was quantised when it was loaded: what it has become. */
int64_t qr_model_weight_bytes(const struct qr_model *model);
enum qr_dtype qr_model_weight_dtype(const struct qr_model *model); /* that most bytes have */

/* Lets the device capture the shapes of steps that it wants to (ops.h); before the first step. */
QR_MUST_CHECK enum qr_status qr_model_capture(struct qr_model *model,
                                              const struct qr_kv_geometry *kv, void *kv_pool,
                                              struct qr_error *err);
/*
 * One step: writes the KV of every row into its page and makes the logits of the wanted rows
 * readable by qr_model_logit_row. It is under way between begin and end, and computed by end, whose
 * error is that of the step. `batch` and its arrays stay as they are until then.
 * kv_pool: see attention.h, allocated on the model's device.
 */
void qr_model_begin(struct qr_model *model, const struct qr_batch *batch,
                    const struct qr_kv_geometry *kv, void *kv_pool);
QR_MUST_CHECK enum qr_status qr_model_end(struct qr_model *model, struct qr_error *err);
/* Both. */
QR_MUST_CHECK enum qr_status qr_model_forward(struct qr_model *model, const struct qr_batch *batch,
                                              const struct qr_kv_geometry *kv, void *kv_pool,
                                              struct qr_error *err);
/* The i-th wanted row of the last step; its memory is valid until the next one. */
struct qr_logit_row qr_model_logit_row(const struct qr_model *model, int32_t i);
/* The whole of it [vocab_size], where its selection turned out not to be enough for a draw. */
const float *qr_model_whole_logit_row(const struct qr_model *model, int32_t i);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_MODELS_MODEL_H */
