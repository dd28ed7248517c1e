/* decoder_forward.c - the forward pass of decoder.h: one step's ops, enqueued in order. */
#include "runtime/models/decoder.h"

/* One step, as the blocks of a layer need it. */
struct pass {
    struct qr_model *model;
    const struct qr_ops *ops;
    struct qr_device *dev;
    const struct qr_batch *batch;
    const struct qr_kv_geometry *kv;
    void *kv_pool;
    struct qr_decoder_activations *act;
};

/* residual += map x, through the norm behind the block where there is one. */
static void add_to_residual(const struct pass *pass, const struct qr_linear *map,
                            const struct qr_norm *after, const void *x)
{
    struct qr_decoder_activations *act = pass->act;
    int32_t n_rows = pass->batch->n_rows;

    if (!qr_tensor_is_there(&after->weight)) {
        pass->ops->matmul_add(pass->dev, map, x, n_rows, act->x);
        return;
    }
    pass->ops->matmul(pass->dev, 1, &map, x, n_rows, &act->normed);
    pass->ops->norm_add(pass->dev, after, act->normed, n_rows, act->x);
}

static void attention_block(const struct pass *pass, const struct qr_decoder_layer *layer,
                            int32_t index)
{
    const struct qr_model_config *config = &pass->model->config;
    const struct qr_ops *ops = pass->ops;
    struct qr_decoder_activations *act = pass->act;
    int32_t n_rows = pass->batch->n_rows;
    const struct qr_attend_spec spec = {
        .layer = index,
        .n_heads = config->n_heads,
        .scale = config->attention_scale,
        .window = qr_layer_set_has(&config->sliding, index) ? config->window : 0,
        .soft_cap = config->attention_soft_cap};

    ops->norm(pass->dev, &layer->attention_norm, act->x, n_rows, act->normed);
    const struct qr_linear *const qkv[] = {&layer->q, &layer->k, &layer->v};
    void *const outs[] = {act->q, act->k, act->v};
    ops->matmul(pass->dev, 3, qkv, act->normed, n_rows, outs);
    if (qr_tensor_is_there(&layer->q_norm.weight))
        ops->norm_heads(pass->dev, &layer->q_norm, n_rows, config->n_heads, act->q);
    if (qr_tensor_is_there(&layer->k_norm.weight))
        ops->norm_heads(pass->dev, &layer->k_norm, n_rows, config->n_kv_heads, act->k);
    ops->rope_and_write_kv(pass->dev, pass->kv, index, config->n_heads, act->q, act->k, act->v,
                           pass->kv_pool);
    ops->attend(pass->dev, pass->kv, &spec, act->q, pass->kv_pool, act->attended);
    add_to_residual(pass, &layer->o, &layer->after_attention, act->attended);
}

static void mlp_block(const struct pass *pass, const struct qr_decoder_layer *layer)
{
    const struct qr_model_config *config = &pass->model->config;
    const struct qr_ops *ops = pass->ops;
    struct qr_decoder_activations *act = pass->act;
    int32_t n_rows = pass->batch->n_rows;

    ops->norm(pass->dev, &layer->mlp_norm, act->x, n_rows, act->normed);
    if (layer->experts.n_experts > 0) {
        ops->experts_add(pass->dev, &layer->experts, act->normed, n_rows, act->x);
        return;
    }
    bool is_gated = qr_tensor_is_there(&layer->gate.weight);
    const struct qr_linear *const gate_up[] = {&layer->up, &layer->gate};
    void *const outs[] = {act->up, act->gate};
    ops->matmul(pass->dev, is_gated ? 2 : 1, gate_up, act->normed, n_rows, outs);
    void *inner = is_gated ? act->gate : act->up;
    ops->activate(pass->dev, config->activation, inner, is_gated ? act->up : NULL, n_rows,
                  config->intermediate_size);
    add_to_residual(pass, &layer->down, &layer->after_mlp, inner);
}

void qr_decoder_forward(struct qr_model *model, const struct qr_batch *batch,
                        const struct qr_kv_geometry *kv, void *kv_pool)
{
    const struct qr_model_config *config = &model->config;
    struct qr_decoder *decoder = model->decoder;
    struct qr_decoder_activations *act = &decoder->buffers.act;
    const struct pass pass = {.model = model,
                              .ops = model->dev->ops,
                              .dev = model->dev,
                              .batch = batch,
                              .kv = kv,
                              .kv_pool = kv_pool,
                              .act = act};

    pass.ops->embed(pass.dev, &decoder->embedding, config->embedding_factor, act->x);
    if (qr_tensor_is_there(&decoder->positions))
        pass.ops->add_positions(pass.dev, &decoder->positions, act->x);
    for (int32_t i = 0; i < config->n_layers; i++) {
        attention_block(&pass, &decoder->layers[i], i);
        mlp_block(&pass, &decoder->layers[i]);
    }
    /* Only the rows whose logits are wanted go through the head, the widest matrix. */
    pass.ops->gather_logit_rows(pass.dev, act->x, config->hidden_size, act->wanted);
    pass.ops->norm(pass.dev, &decoder->norm, act->wanted, batch->n_logit_rows, act->normed);
    pass.ops->logits(pass.dev, &decoder->head, config->logit_soft_cap, act->normed,
                     batch->n_logit_rows, model->logits);
}
