/* step_cost.c - see step_cost.h for the contract. */
#include "runtime/bench/step_cost.h"

static double table_elements(const struct qr_model_config *model)
{
    return (double)model->vocab_size * model->hidden_size;
}

double qr_weight_bytes_read(const struct qr_model_config *model, int64_t n_parameters,
                            int64_t weight_bytes)
{
    double bytes = (double)weight_bytes;

    if (!model->tied_embeddings)
        bytes -= table_elements(model) * bytes / (double)n_parameters;
    return bytes;
}

double qr_step_flops(const struct qr_model_config *model, int64_t n_parameters,
                     const struct qr_step_shape *shape)
{
    double tables = table_elements(model) * (model->tied_embeddings ? 1 : 2);
    double heads = (double)model->n_layers * model->n_heads * model->head_dim;

    return 2 * shape->n_rows * ((double)n_parameters - tables) +
           2 * shape->n_logit_rows * table_elements(model) +
           4 * heads * shape->n_scores; /* q . k, and the sum of v */
}
