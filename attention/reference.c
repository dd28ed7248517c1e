/*
 * reference.c - attention as it is defined, in double precision: no tiles, no vectors,
 * nothing shared between rows. Slow on purpose; the tests hold every kernel against it.
 */
#include <math.h>

#include "attention/attention.h"
#include "attention/paged_kv.h"
#include "base/assert.h"

/* Element i of what `row` points to, in the pool. */
static double element(const struct qr_attention_params *p, const void *row, size_t i)
{
    const uint16_t *halves = row;

    if (p->kv_dtype == QR_DTYPE_F16)
        return (double)qr_f16_to_f32(halves[i]);
    if (p->kv_dtype == QR_DTYPE_BF16)
        return (double)qr_bf16_to_f32(halves[i]);
    return (double)((const float *)row)[i];
}

static double score_of_key(const struct qr_attention_params *p, const float *q, const void *k)
{
    double dot = 0.0;
    for (int32_t d = 0; d < p->kv.head_dim; d++)
        dot += (double)q[d] * element(p, k, (size_t)d);
    dot *= (double)p->scale;
    if (p->soft_cap != 0.0f)
        dot = (double)p->soft_cap * tanh(dot / (double)p->soft_cap);
    return dot;
}

/* One row and head: q, out [head_dim]; keys at positions [first, n_keys). */
static void attend_row(const struct qr_attention_params *p, const int32_t *block_table,
                       int32_t kv_head, int32_t n_keys, const float *q, float *out)
{
    double max = -INFINITY, sum = 0.0;
    double weighted[QR_ATTENTION_MAX_HEAD_DIM] = {0};
    int32_t first = p->window != 0 && n_keys > p->window ? n_keys - p->window : 0;

    for (int32_t j = first; j < n_keys; j++)
        max = fmax(max, score_of_key(p, q, qr_paged_key(p, block_table, kv_head, j)));
    for (int32_t j = first; j < n_keys; j++) {
        const void *k = qr_paged_key(p, block_table, kv_head, j);
        size_t v = qr_kv_value_offset(&p->kv); /* from k */
        double weight = exp(score_of_key(p, q, k) - max);
        sum += weight;
        for (int32_t d = 0; d < p->kv.head_dim; d++)
            weighted[d] += weight * element(p, k, v + (size_t)d);
    }
    for (int32_t d = 0; d < p->kv.head_dim; d++)
        out[d] = (float)(weighted[d] / sum);
}

void qr_attention_reference(const struct qr_attention_params *params)
{
    const struct qr_attention_batch *batch = params->batch;
    int32_t group = params->n_heads / params->kv.n_kv_heads;

    QR_ASSERT(params->kv.head_dim <= QR_ATTENTION_MAX_HEAD_DIM);
    for (int32_t s = 0; s < batch->n_seqs; s++) {
        const int32_t *block_table =
            batch->block_table + (size_t)s * (size_t)batch->block_table_stride;
        for (int32_t row = batch->query_start[s]; row < batch->query_start[s + 1]; row++) {
            int32_t n_keys = batch->context_length[s] - (batch->query_start[s + 1] - row) + 1;
            for (int32_t head = 0; head < params->n_heads; head++) {
                size_t at = ((size_t)row * (size_t)params->n_heads + (size_t)head) *
                            (size_t)params->kv.head_dim;
                attend_row(params, block_table, head / group, n_keys, params->q + at,
                           params->out + at);
            }
        }
    }
}
