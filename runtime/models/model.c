/* model.c - see model.h for the contract: the table of architectures and what they share. */
#include "runtime/models/model.h"

#include <string.h>

#include "base/alloc.h"
#include "runtime/models/architecture.h"
#include "runtime/weights/synthetic.h"

static const struct qr_architecture *const architectures[] = {
    &qr_architecture_llama,
};

enum { N_ARCHITECTURES = sizeof(architectures) / sizeof(architectures[0]) };

static enum qr_status find_architecture(const struct qr_model_config *config, const char *path,
                                        const struct qr_architecture **out, struct qr_error *err)
{
    char known[256] = "";

    for (int i = 0; i < N_ARCHITECTURES; i++) {
        if (strcmp(config->architecture, architectures[i]->name) == 0) {
            *out = architectures[i];
            if (config->unsupported[0] != '\0')
                return qr_fail(err, QR_ERR_UNSUPPORTED, "%s: not supported yet: %s", path,
                               config->unsupported);
            return QR_OK;
        }
        strncat(known, i > 0 ? ", " : "", sizeof(known) - strlen(known) - 1);
        strncat(known, architectures[i]->name, sizeof(known) - strlen(known) - 1);
    }
    return qr_fail(err, QR_ERR_UNSUPPORTED, "%s: architecture \"%s\" is not supported; known: %s",
                   path, config->architecture, known);
}

enum qr_status qr_model_check_supported(const struct qr_model_config *config, const char *path,
                                        struct qr_error *err)
{
    const struct qr_architecture *architecture;
    return find_architecture(config, path, &architecture, err);
}

static enum qr_status open_synthetic(struct qr_model *model, const char *name, struct qr_error *err)
{
    struct qr_synthetic_spec spec;

    QR_TRY(qr_synthetic_parse(name, &spec, err));
    QR_TRY(qr_model_config_load(spec.config_path, &model->config, err));
    QR_TRY(find_architecture(&model->config, name, &model->architecture, err));
    return qr_checkpoint_open_synthetic(name, qr_synthetic_dtype(&spec, model->config.weight_dtype),
                                        &model->checkpoint, err);
}

static enum qr_status open_directory(struct qr_model *model, const char *dir, struct qr_error *err)
{
    QR_TRY(qr_model_config_load(dir, &model->config, err));
    QR_TRY(find_architecture(&model->config, dir, &model->architecture, err));
    return qr_checkpoint_open(dir, &model->checkpoint, err);
}

enum qr_status qr_model_open(const char *dir, struct qr_device *dev,
                             const struct qr_model_limits *limits, struct qr_model **out,
                             struct qr_error *err)
{
    enum qr_status status;

    *out = NULL;
    struct qr_model *model = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*model));
    if (model == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    model->dev = dev;
    model->limits = *limits;
    status =
        qr_is_synthetic(dir) ? open_synthetic(model, dir, err) : open_directory(model, dir, err);
    if (status != QR_OK || (status = model->architecture->load(model, err)) != QR_OK)
        goto fail;
    size_t logits = (size_t)limits->max_logit_rows * (size_t)model->config.vocab_size;
    model->logits = dev->ops->alloc(dev, logits * dev->ops->activation_size);
    if (model->logits == NULL) {
        status = qr_fail(err, QR_ERR_NOMEM, "%s: no memory for %zu logits", dir, logits);
        goto fail;
    }
    *out = model;
    return QR_OK;

fail:
    qr_model_close(model);
    return status;
}

void qr_model_close(struct qr_model *model)
{
    if (model == NULL)
        return;
    if (model->architecture != NULL)
        model->architecture->unload(model);
    if (model->logits != NULL)
        model->dev->ops->free(model->dev, model->logits);
    qr_checkpoint_close(model->checkpoint);
    qr_free(model);
}

const struct qr_model_config *qr_model_get_config(const struct qr_model *model)
{
    return &model->config;
}

int64_t qr_model_n_parameters(const struct qr_model *model)
{
    return qr_checkpoint_n_parameters(model->checkpoint);
}

int64_t qr_model_weight_bytes(const struct qr_model *model)
{
    return qr_checkpoint_n_bytes(model->checkpoint);
}

enum qr_status qr_model_forward(struct qr_model *model, const struct qr_batch *batch,
                                const struct qr_kv_geometry *kv, void *kv_pool, float *logits,
                                struct qr_error *err)
{
    const struct qr_ops *ops = model->dev->ops;

    ops->begin_step(model->dev, batch);
    model->architecture->forward(model, batch, kv, kv_pool);
    ops->read_logits(model->dev, model->logits, model->config.vocab_size, logits);
    return ops->end_step(model->dev, err);
}
