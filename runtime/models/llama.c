/*
 * llama.c - the LLaMA architecture: RMSNorm, RoPE, grouped-query attention, SwiGLU,
 * tied or untied head (Touvron et al., 2023; GQA: Ainslie et al., 2023).
 */
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "runtime/models/architecture.h"

struct llama_layer {
    struct qr_tensor attention_norm; /* [hidden] */
    struct qr_tensor q;              /* [n_heads * head_dim][hidden] */
    struct qr_tensor k;              /* [n_kv_heads * head_dim][hidden] */
    struct qr_tensor v;              /* [n_kv_heads * head_dim][hidden] */
    struct qr_tensor o;              /* [hidden][n_heads * head_dim] */
    struct qr_tensor mlp_norm;       /* [hidden] */
    struct qr_tensor gate;           /* [intermediate][hidden] */
    struct qr_tensor up;             /* [intermediate][hidden] */
    struct qr_tensor down;           /* [hidden][intermediate] */
};

/* Device memory, in the device's activation type. */
struct llama_activations {
    void *x;        /* [max_rows][hidden] the residual stream */
    void *normed;   /* [max_rows][hidden] */
    void *q;        /* [max_rows][n_heads][head_dim] */
    void *k;        /* [max_rows][n_kv_heads][head_dim] */
    void *v;        /* [max_rows][n_kv_heads][head_dim] */
    void *attended; /* [max_rows][n_heads][head_dim] */
    void *gate;     /* [max_rows][intermediate] */
    void *up;       /* [max_rows][intermediate] */
};

enum { N_ACTIVATIONS = sizeof(struct llama_activations) / sizeof(void *) };

struct llama {
    struct qr_tensor embedding; /* [vocab][hidden] */
    struct qr_tensor norm;      /* [hidden] */
    struct qr_tensor head;      /* [vocab][hidden]; the embedding where tied */
    struct llama_layer *layers; /* [n_layers] */
    union {
        struct llama_activations act;
        void *all[N_ACTIVATIONS];
    } buffers;
};

static enum qr_status get_vector(struct qr_model *model, const char *name, int64_t n,
                                 struct qr_tensor *out, struct qr_error *err)
{
    return qr_checkpoint_get(model->checkpoint, name, 1, &n, out, err);
}

static enum qr_status get_matrix(struct qr_model *model, const char *name, int64_t n_out,
                                 int64_t n_in, struct qr_tensor *out, struct qr_error *err)
{
    int64_t dims[2] = {n_out, n_in};
    return qr_checkpoint_get(model->checkpoint, name, 2, dims, out, err);
}

static enum qr_status load_layer(struct qr_model *model, int32_t index, struct llama_layer *layer,
                                 struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    int64_t hidden = config->hidden_size;
    int64_t inner = config->intermediate_size;
    int64_t q_dim = (int64_t)config->n_heads * config->head_dim;
    int64_t kv_dim = (int64_t)config->n_kv_heads * config->head_dim;
    const struct {
        const char *name;
        int64_t n_out;
        int64_t n_in; /* 0: a vector */
        struct qr_tensor *tensor;
    } weights[] = {
        {"input_layernorm", hidden, 0, &layer->attention_norm},
        {"self_attn.q_proj", q_dim, hidden, &layer->q},
        {"self_attn.k_proj", kv_dim, hidden, &layer->k},
        {"self_attn.v_proj", kv_dim, hidden, &layer->v},
        {"self_attn.o_proj", hidden, q_dim, &layer->o},
        {"post_attention_layernorm", hidden, 0, &layer->mlp_norm},
        {"mlp.gate_proj", inner, hidden, &layer->gate},
        {"mlp.up_proj", inner, hidden, &layer->up},
        {"mlp.down_proj", hidden, inner, &layer->down},
    };

    for (size_t i = 0; i < sizeof(weights) / sizeof(weights[0]); i++) {
        char name[128];
        snprintf(name, sizeof(name), "model.layers.%d.%s.weight", index, weights[i].name);
        if (weights[i].n_in == 0)
            QR_TRY(get_vector(model, name, weights[i].n_out, weights[i].tensor, err));
        else
            QR_TRY(
                get_matrix(model, name, weights[i].n_out, weights[i].n_in, weights[i].tensor, err));
    }
    return QR_OK;
}

static enum qr_status load_weights(struct qr_model *model, struct llama *llama,
                                   struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    int64_t hidden = config->hidden_size;
    int64_t vocab = config->vocab_size;

    QR_TRY(get_matrix(model, "model.embed_tokens.weight", vocab, hidden, &llama->embedding, err));
    QR_TRY(get_vector(model, "model.norm.weight", hidden, &llama->norm, err));
    if (config->tied_embeddings)
        llama->head = llama->embedding;
    else
        QR_TRY(get_matrix(model, "lm_head.weight", vocab, hidden, &llama->head, err));
    llama->layers = qr_calloc(QR_ARENA_ENGINE, (size_t)config->n_layers, sizeof(*llama->layers));
    if (llama->layers == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for %d layers", config->n_layers);
    for (int32_t i = 0; i < config->n_layers; i++)
        QR_TRY(load_layer(model, i, &llama->layers[i], err));
    return QR_OK;
}

static enum qr_status allocate(struct qr_model *model, struct llama *llama, struct qr_error *err)
{
    const struct qr_model_config *config = &model->config;
    const struct qr_ops *ops = model->dev->ops;
    struct llama_activations *act = &llama->buffers.act;
    size_t hidden = (size_t)config->hidden_size;
    size_t inner = (size_t)config->intermediate_size;
    size_t q_dim = (size_t)config->n_heads * (size_t)config->head_dim;
    size_t kv_dim = (size_t)config->n_kv_heads * (size_t)config->head_dim;
    const struct {
        void **buffer;
        size_t width;
    } wanted[N_ACTIVATIONS] = {
        {&act->x, hidden}, {&act->normed, hidden},  {&act->q, q_dim},    {&act->k, kv_dim},
        {&act->v, kv_dim}, {&act->attended, q_dim}, {&act->gate, inner}, {&act->up, inner},
    };

    for (int i = 0; i < N_ACTIVATIONS; i++) {
        size_t n_bytes = wanted[i].width * (size_t)model->limits.max_rows * ops->activation_size;
        *wanted[i].buffer = ops->alloc(model->dev, n_bytes);
        if (*wanted[i].buffer == NULL)
            return qr_fail(err, QR_ERR_NOMEM, "no memory for activations of %d rows",
                           model->limits.max_rows);
    }
    int32_t max_positions = config->max_position;
    if (model->limits.max_positions > 0 && model->limits.max_positions < max_positions)
        max_positions = model->limits.max_positions;
    if (ops->prepare_rope(model->dev, config->head_dim, config->rope_theta, max_positions) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for the rotations of %d positions",
                       max_positions);
    return QR_OK;
}

static enum qr_status load(struct qr_model *model, struct qr_error *err)
{
    struct llama *llama = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*llama));

    if (llama == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    model->state = llama;
    QR_TRY(load_weights(model, llama, err));
    return allocate(model, llama, err);
}

static void unload(struct qr_model *model)
{
    struct llama *llama = model->state;

    if (llama == NULL)
        return;
    for (int i = 0; i < N_ACTIVATIONS; i++) {
        if (llama->buffers.all[i] != NULL)
            model->dev->ops->free(model->dev, llama->buffers.all[i]);
    }
    qr_free(llama->layers);
    qr_free(llama);
    model->state = NULL;
}

static void attention_block(struct qr_model *model, const struct qr_batch *batch,
                            const struct qr_kv_geometry *kv, void *kv_pool, int32_t index)
{
    const struct qr_model_config *config = &model->config;
    const struct qr_ops *ops = model->dev->ops;
    struct qr_device *dev = model->dev;
    struct llama *llama = model->state;
    const struct llama_layer *layer = &llama->layers[index];
    struct llama_activations *act = &llama->buffers.act;
    int32_t n_rows = batch->n_rows;

    ops->rms_norm(dev, act->x, &layer->attention_norm, config->norm_eps, n_rows, act->normed);
    ops->matmul(dev, &layer->q, act->normed, n_rows, act->q);
    ops->matmul(dev, &layer->k, act->normed, n_rows, act->k);
    ops->matmul(dev, &layer->v, act->normed, n_rows, act->v);
    ops->rope(dev, act->q, config->n_heads, config->head_dim);
    ops->rope(dev, act->k, config->n_kv_heads, config->head_dim);
    ops->kv_write(dev, kv, index, act->k, act->v, kv_pool);
    float scale = 1.0f / sqrtf((float)config->head_dim);
    ops->attend(dev, kv, index, config->n_heads, scale, act->q, kv_pool, act->attended);
    ops->matmul(dev, &layer->o, act->attended, n_rows, act->normed);
    ops->add(dev, act->x, act->normed, n_rows, config->hidden_size);
}

static void mlp_block(struct qr_model *model, const struct qr_batch *batch, int32_t index)
{
    const struct qr_model_config *config = &model->config;
    const struct qr_ops *ops = model->dev->ops;
    struct qr_device *dev = model->dev;
    struct llama *llama = model->state;
    const struct llama_layer *layer = &llama->layers[index];
    struct llama_activations *act = &llama->buffers.act;
    int32_t n_rows = batch->n_rows;

    ops->rms_norm(dev, act->x, &layer->mlp_norm, config->norm_eps, n_rows, act->normed);
    ops->matmul(dev, &layer->gate, act->normed, n_rows, act->gate);
    ops->matmul(dev, &layer->up, act->normed, n_rows, act->up);
    ops->swiglu(dev, act->gate, act->up, n_rows, config->intermediate_size);
    ops->matmul(dev, &layer->down, act->gate, n_rows, act->normed);
    ops->add(dev, act->x, act->normed, n_rows, config->hidden_size);
}

static void forward(struct qr_model *model, const struct qr_batch *batch,
                    const struct qr_kv_geometry *kv, void *kv_pool)
{
    const struct qr_model_config *config = &model->config;
    const struct qr_ops *ops = model->dev->ops;
    struct qr_device *dev = model->dev;
    struct llama *llama = model->state;
    struct llama_activations *act = &llama->buffers.act;

    ops->embed(dev, &llama->embedding, act->x);
    for (int32_t i = 0; i < config->n_layers; i++) {
        attention_block(model, batch, kv, kv_pool, i);
        mlp_block(model, batch, i);
    }
    /* Only the rows whose logits are wanted go through the head, the widest matrix. */
    ops->gather_logit_rows(dev, act->x, config->hidden_size, act->normed);
    ops->rms_norm(dev, act->normed, &llama->norm, config->norm_eps, batch->n_logit_rows, act->x);
    ops->matmul(dev, &llama->head, act->x, batch->n_logit_rows, model->logits);
}

const struct qr_architecture qr_architecture_llama = {
    .name = "LlamaForCausalLM",
    .load = load,
    .unload = unload,
    .forward = forward,
};
