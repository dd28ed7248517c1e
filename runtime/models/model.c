/* model.c - see model.h for the contract: the table of architectures and what they share. */
#include "runtime/models/model.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/models/decoder.h"
#include "runtime/weights/synthetic.h"
#include "runtime/weights/tensor_list.h"

static const struct qr_architecture *const architectures[] = {
    &qr_architecture_llama, &qr_architecture_mistral, &qr_architecture_mixtral,
    &qr_architecture_qwen2, &qr_architecture_qwen3,   &qr_architecture_qwen3_moe,
    &qr_architecture_phi3,  &qr_architecture_gemma2,  &qr_architecture_gpt2,
};

enum { N_ARCHITECTURES = sizeof(architectures) / sizeof(architectures[0]) };

static enum qr_status find_architecture(const struct qr_model_config *config, const char *path,
                                        const struct qr_architecture **out, struct qr_error *err)
{
    char known[512] = "";

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

bool qr_model_is_known(const struct qr_model_config *config)
{
    for (int i = 0; i < N_ARCHITECTURES; i++)
        if (strcmp(config->architecture, architectures[i]->name) == 0)
            return true;
    return false;
}

enum qr_status qr_model_check_supported(const struct qr_model_config *config, const char *path,
                                        struct qr_error *err)
{
    const struct qr_architecture *architecture;
    return find_architecture(config, path, &architecture, err);
}

static enum qr_status open_synthetic(struct qr_model *model, const char *name,
                                     struct qr_device_needs *needs, struct qr_error *err)
{
    struct qr_synthetic_spec spec;

    QR_TRY(qr_synthetic_parse(name, &spec, err));
    QR_TRY(qr_model_config_load(spec.config_path, &model->config, err));
    QR_TRY(find_architecture(&model->config, name, &model->architecture, err));
    enum qr_dtype dtype = qr_synthetic_dtype(&spec, model->config.weight_dtype);
    needs->weight_dtype = dtype;
    needs->n_weight_bytes =
        qr_model_config_n_parameters(&model->config) * (int64_t)qr_dtype_size(dtype);
    return qr_checkpoint_open_synthetic(name, dtype, model->dev->fills_synthetic,
                                        &model->checkpoint, err);
}

static enum qr_status open_files(struct qr_model *model, const char *dir,
                                 struct qr_device_needs *needs, struct qr_error *err)
{
    QR_TRY(qr_model_config_load(dir, &model->config, err));
    QR_TRY(find_architecture(&model->config, dir, &model->architecture, err));
    QR_TRY(qr_checkpoint_open(dir, &model->checkpoint, err));
    needs->weight_dtype = qr_checkpoint_dtype(model->checkpoint);
    needs->n_weight_bytes = qr_checkpoint_n_bytes(model->checkpoint);
    return QR_OK;
}

static enum qr_status prepare_device(struct qr_model *model, struct qr_device_needs *needs,
                                     struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    const struct qr_model_limits *limits = &model->limits;

    QR_ASSERT(limits->max_seqs >= 1 && limits->page_size >= 1);
    needs->kv_dtype = limits->kv_dtype;
    needs->hidden_size = config->hidden_size;
    needs->intermediate_size = config->intermediate_size;
    needs->vocab_size = config->vocab_size;
    needs->n_layers = config->n_layers;
    needs->n_heads = config->n_heads;
    needs->n_kv_heads = config->n_kv_heads;
    needs->head_dim = config->head_dim;
    needs->rope = config->rope;
    needs->window = config->window;
    needs->n_experts = config->n_experts;
    needs->n_experts_used = config->n_experts_used;
    needs->expert_size = config->expert_size;
    needs->max_position = config->max_position;
    if (limits->max_positions > 0 && limits->max_positions < config->max_position)
        needs->max_position = limits->max_positions;
    needs->page_size = limits->page_size;
    needs->max_blocks = (needs->max_position - 1) / limits->page_size + 1;
    needs->max_rows = limits->max_rows;
    needs->max_logit_rows = limits->max_logit_rows;
    needs->max_seqs = limits->max_seqs;
    needs->max_draws = limits->max_draws;
    needs->max_edits = limits->max_edits;
    return model->dev->ops->prepare(model->dev, needs, err);
}

static enum qr_status allocate_logits(struct qr_model *model, const char *dir, struct qr_error *err)
{
    struct qr_device *dev = model->dev;
    size_t n = (size_t)model->limits.max_logit_rows * (size_t)model->config.vocab_size;

    model->logits = dev->ops->alloc(dev, n * sizeof(float), QR_MEMORY_WORKSPACE);
    if (model->logits == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: no memory for %zu logits", dir, n);
    return QR_OK;
}

static enum qr_status load_weights(struct qr_model *model, struct qr_error *err)
{
    const struct qr_ops *ops = model->dev->ops;

    ops->begin_weights(model->dev, model->checkpoint);
    QR_TRY(qr_decoder_load(model, err));
    ops->end_weights(model->dev, model->checkpoint);
    return QR_OK;
}

enum qr_status qr_model_open(const char *dir, struct qr_device *dev,
                             const struct qr_model_limits *limits, struct qr_model **out,
                             struct qr_error *err)
{
    enum qr_status status;
    struct qr_device_needs needs = {0};

    *out = NULL;
    struct qr_model *model = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*model));
    if (model == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    model->dev = dev;
    model->limits = *limits;
    status = qr_is_synthetic(dir) ? open_synthetic(model, dir, &needs, err)
                                  : open_files(model, dir, &needs, err);
    if (status != QR_OK || (status = prepare_device(model, &needs, err)) != QR_OK ||
        (status = load_weights(model, err)) != QR_OK ||
        (status = allocate_logits(model, dir, err)) != QR_OK)
        goto fail;
    /* To read a little, a system may map megabytes around it, also of what was given back. */
    if (model->checkpoint != NULL)
        qr_checkpoint_forget_files(model->checkpoint);
    *out = model;
    return QR_OK;

fail:
    qr_model_close(model);
    return status;
}

static void count_quantized(struct qr_model *model, const struct qr_tensor *in_file,
                            const struct qr_tensor *loaded)
{
    if (!loaded->is_packed || loaded->dtype == in_file->dtype)
        return;
    model->n_replaced_bytes += qr_tensor_n_bytes(in_file);
    model->n_quantized_bytes[loaded->dtype] += qr_tensor_n_bytes(loaded);
}

/*
 * A matrix [dims[0]][dims[1]] that the device has kept: then the file is not read. It is of the
 * tensor `name` and called `kept_name`.
 */
static bool find_kept(struct qr_model *model, const char *name, const char *kept_name,
                      const int64_t *dims, enum qr_tensor_use use, struct qr_tensor *out)
{
    const struct qr_tensor *in_file = qr_checkpoint_find(model->checkpoint, name);

    if (in_file == NULL)
        return false;
    const struct qr_tensor before = {.dtype = in_file->dtype,
                                     .n_dims = 2,
                                     .dims = {dims[0], dims[1]},
                                     .use = use,
                                     .name = kept_name};
    *out = before;
    bool found = model->dev->ops->find_weight(model->dev, out);
    out->name = NULL;
    if (found)
        count_quantized(model, &before, out);
    return found;
}

static enum qr_status hand_over(struct qr_model *model, const char *name, struct qr_tensor *tensor,
                                struct qr_error *err)
{
    const struct qr_tensor in_file = *tensor;
    tensor->name = name;
    enum qr_status status = model->dev->ops->load_weight(model->dev, tensor, err);
    tensor->name = NULL;

    if (status != QR_OK)
        qr_error_prefix(err, "tensor %s", name);
    else if (tensor->data != in_file.data && in_file.data != NULL)
        qr_checkpoint_forget(model->checkpoint, in_file.data, (size_t)qr_tensor_n_bytes(&in_file));
    if (status == QR_OK)
        count_quantized(model, &in_file, tensor);
    return status;
}

static enum qr_status get_whole(struct qr_model *model, const char *name, int32_t n_dims,
                                const int64_t *dims, enum qr_tensor_use use, struct qr_tensor *out,
                                struct qr_error *err)
{
    if (n_dims == 2 && find_kept(model, name, name, dims, use, out))
        return QR_OK;
    QR_TRY(qr_checkpoint_get(model->checkpoint, name, n_dims, dims, out, err));
    out->use = use;
    return hand_over(model, name, out, err);
}

enum qr_status qr_model_get_weight(struct qr_model *model, const char *name, int32_t n_dims,
                                   const int64_t *dims, struct qr_tensor *out, struct qr_error *err)
{
    return get_whole(model, name, n_dims, dims, QR_USE_MULTIPLIED, out, err);
}

enum qr_status qr_model_get_matrix(struct qr_model *model, const char *name, const int64_t *dims,
                                   enum qr_tensor_use use, struct qr_tensor *out,
                                   struct qr_error *err)
{
    return get_whole(model, name, 2, dims, use, out, err);
}

typedef enum qr_status (*get_rows_fn)(struct qr_checkpoint *checkpoint, const char *name,
                                      const int64_t *dims, int64_t first, int64_t n,
                                      struct qr_tensor *out, struct qr_error *err);

/* Rows of a matrix [dims[0]][dims[1]], from what is kept or else by `get`. */
static enum qr_status get_matrix_rows(struct qr_model *model, const char *name, const int64_t *dims,
                                      int64_t first, int64_t n, get_rows_fn get,
                                      struct qr_tensor *out, struct qr_error *err)
{
    const int64_t part[] = {n, dims[1]};
    char kept_name[QR_TENSOR_NAME_MAX + 32];

    snprintf(kept_name, sizeof(kept_name), "%s[%lld]", name, (long long)first);
    if (find_kept(model, name, kept_name, part, QR_USE_MULTIPLIED, out))
        return QR_OK;
    QR_TRY(get(model->checkpoint, name, dims, first, n, out, err));
    return hand_over(model, kept_name, out, err);
}

static enum qr_status get_plain_rows(struct qr_checkpoint *checkpoint, const char *name,
                                     const int64_t *dims, int64_t first, int64_t n,
                                     struct qr_tensor *out, struct qr_error *err)
{
    return qr_checkpoint_get_rows(checkpoint, name, 2, dims, first, n, out, err);
}

enum qr_status qr_model_get_rows(struct qr_model *model, const char *name, int32_t n_dims,
                                 const int64_t *dims, int64_t first, int64_t n,
                                 struct qr_tensor *out, struct qr_error *err)
{
    if (n_dims == 2)
        return get_matrix_rows(model, name, dims, first, n, get_plain_rows, out, err);
    QR_TRY(qr_checkpoint_get_rows(model->checkpoint, name, n_dims, dims, first, n, out, err));
    return hand_over(model, name, out, err);
}

enum qr_status qr_model_get_transposed_rows(struct qr_model *model, const char *name,
                                            const int64_t *dims, int64_t first, int64_t n,
                                            struct qr_tensor *out, struct qr_error *err)
{
    return get_matrix_rows(model, name, dims, first, n, qr_checkpoint_get_transposed_rows, out,
                           err);
}

void qr_model_close(struct qr_model *model)
{
    if (model == NULL)
        return;
    qr_decoder_unload(model);
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
    int64_t n_bytes = qr_checkpoint_n_bytes(model->checkpoint) - model->n_replaced_bytes;

    for (int dtype = 0; dtype < QR_DTYPE_END; dtype++)
        n_bytes += model->n_quantized_bytes[dtype];
    return n_bytes;
}

enum qr_dtype qr_model_weight_dtype(const struct qr_model *model)
{
    int64_t most = qr_checkpoint_n_bytes(model->checkpoint) - model->n_replaced_bytes;
    enum qr_dtype found = qr_checkpoint_dtype(model->checkpoint);

    for (int dtype = 0; dtype < QR_DTYPE_END; dtype++) {
        if (model->n_quantized_bytes[dtype] > most) {
            most = model->n_quantized_bytes[dtype];
            found = (enum qr_dtype)dtype;
        }
    }
    return found;
}

static void enqueue(struct qr_model *model, const struct qr_batch *batch,
                    const struct qr_kv_geometry *kv, void *kv_pool)
{
    qr_decoder_forward(model, batch, kv, kv_pool);
    model->dev->ops->read_logits(model->dev, model->logits, model->config.vocab_size);
}

enum qr_status qr_model_capture(struct qr_model *model, const struct qr_kv_geometry *kv,
                                void *kv_pool, struct qr_error *err)
{
    const struct qr_ops *ops = model->dev->ops;
    const struct qr_batch *batch;

    while ((batch = ops->begin_capture(model->dev)) != NULL) {
        enqueue(model, batch, kv, kv_pool);
        QR_TRY(ops->end_capture(model->dev, err));
    }
    return QR_OK;
}

void qr_model_begin(struct qr_model *model, const struct qr_batch *batch,
                    const struct qr_kv_geometry *kv, void *kv_pool)
{
    if (model->dev->ops->begin_step(model->dev, batch))
        enqueue(model, batch, kv, kv_pool);
}

enum qr_status qr_model_end(struct qr_model *model, struct qr_error *err)
{
    return model->dev->ops->end_step(model->dev, err);
}

enum qr_status qr_model_forward(struct qr_model *model, const struct qr_batch *batch,
                                const struct qr_kv_geometry *kv, void *kv_pool,
                                struct qr_error *err)
{
    qr_model_begin(model, batch, kv, kv_pool);
    return qr_model_end(model, err);
}

struct qr_logit_row qr_model_logit_row(const struct qr_model *model, int32_t i)
{
    return model->dev->ops->logit_row(model->dev, i);
}

const float *qr_model_whole_logit_row(const struct qr_model *model, int32_t i)
{
    return model->dev->ops->whole_logit_row(model->dev, i);
}
