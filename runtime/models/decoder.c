/* decoder.c - see decoder.h: loading and memory. */
#include "runtime/models/decoder.h"

#include <stdio.h>

#include "base/alloc.h"
#include "runtime/models/layer_weights.h"

enum { NAME_SIZE = 96 };

/* `part` with what this checkpoint's names begin with. */
static const char *full_name(const struct qr_model *model, const char *part, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%s%s", model->prefix, part);
    return name;
}

static enum qr_status load_ends(struct qr_model *model, struct qr_decoder *decoder,
                                struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    const struct qr_architecture *names = model->architecture;
    const int64_t embedding[] = {config->vocab_size, config->hidden_size};
    const int64_t positions[] = {config->max_position, config->hidden_size};
    char name[NAME_SIZE];

    full_name(model, names->embedding, name);
    QR_TRY(qr_model_get_matrix(model, name, embedding,
                               config->tied_embeddings ? QR_USE_HEAD : QR_USE_TABLE,
                               &decoder->embedding, err));
    if (names->positions != NULL)
        QR_TRY(qr_model_get_matrix(model, full_name(model, names->positions, name), positions,
                                   QR_USE_TABLE, &decoder->positions, err));
    QR_TRY(qr_model_get_norm(model, full_name(model, names->norm, name), names->norm_kind,
                             config->hidden_size, &decoder->norm, err));
    if (!config->tied_embeddings)
        return qr_model_get_matrix(model, names->head, embedding, QR_USE_HEAD, &decoder->head, err);
    decoder->head = decoder->embedding; /* loaded once */
    return QR_OK;
}

static enum qr_status load_layers(struct qr_model *model, struct qr_decoder *decoder,
                                  struct qr_error *err)
{
    int32_t n_layers = model->config.n_layers;

    decoder->layers = qr_calloc(QR_ARENA_ENGINE, (size_t)n_layers, sizeof(*decoder->layers));
    if (decoder->layers == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for %d layers", n_layers);
    for (int32_t i = 0; i < n_layers; i++)
        QR_TRY(model->architecture->load_layer(model, i, &decoder->layers[i], err));
    return QR_OK;
}

static enum qr_status allocate(struct qr_model *model, struct qr_decoder *decoder,
                               struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    struct qr_device *dev = model->dev;
    struct qr_decoder_activations *act = &decoder->buffers.act;
    size_t rows = (size_t)model->limits.max_rows;
    size_t logit_rows = (size_t)model->limits.max_logit_rows;
    size_t hidden = (size_t)config->hidden_size;
    size_t inner = (size_t)config->intermediate_size;
    size_t q_dim = (size_t)config->n_heads * (size_t)config->head_dim;
    size_t kv_dim = (size_t)config->n_kv_heads * (size_t)config->head_dim;
    const struct {
        void **buffer;
        size_t n_bytes;
    } needed[QR_DECODER_ACTIVATIONS] = {
        {&act->x, rows * hidden * dev->residual_size},
        {&act->wanted, logit_rows * hidden * dev->residual_size},
        {&act->normed, rows * hidden * dev->activation_size},
        {&act->q, rows * q_dim * dev->activation_size},
        {&act->k, rows * kv_dim * dev->activation_size},
        {&act->v, rows * kv_dim * dev->activation_size},
        {&act->attended, rows * q_dim * dev->activation_size},
        {&act->gate, rows * inner * dev->activation_size},
        {&act->up, rows * inner * dev->activation_size},
    };

    for (int i = 0; i < QR_DECODER_ACTIVATIONS; i++) {
        *needed[i].buffer = dev->ops->alloc(dev, needed[i].n_bytes, QR_MEMORY_WORKSPACE);
        if (*needed[i].buffer == NULL)
            return qr_fail(err, QR_ERR_NOMEM, "no memory for activations of %d rows, %zu bytes",
                           model->limits.max_rows, needed[i].n_bytes);
    }
    return QR_OK;
}

enum qr_status qr_decoder_load(struct qr_model *model, struct qr_error *err)
{
    const struct qr_architecture *architecture = model->architecture;
    struct qr_decoder *decoder = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*decoder));

    if (decoder == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    model->decoder = decoder;
    bool has_prefix = architecture->prefix != NULL &&
                      qr_checkpoint_find(model->checkpoint, architecture->embedding) == NULL;
    model->prefix = has_prefix ? architecture->prefix : "";
    QR_TRY(load_ends(model, decoder, err));
    QR_TRY(load_layers(model, decoder, err));
    return allocate(model, decoder, err);
}

void qr_decoder_unload(struct qr_model *model)
{
    struct qr_decoder *decoder = model->decoder;

    if (decoder == NULL)
        return;
    for (int i = 0; i < QR_DECODER_ACTIVATIONS; i++) {
        if (decoder->buffers.all[i] != NULL)
            model->dev->ops->free(model->dev, decoder->buffers.all[i]);
    }
    for (int32_t i = 0; decoder->layers != NULL && i < model->config.n_layers; i++)
        qr_free(decoder->layers[i].expert_tensors);
    qr_free(decoder->layers);
    qr_free(decoder);
    model->decoder = NULL;
}
