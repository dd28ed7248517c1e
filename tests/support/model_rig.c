/* model_rig.c - see model_rig.h. */
#include "tests/support/model_rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ROWS = 2 * MODEL_RIG_TOKENS };

const int32_t model_rig_pages_a[MODEL_RIG_BLOCKS] = {9, 2, 14, 5, 11, 3, 8, 12};
const int32_t model_rig_pages_b[MODEL_RIG_BLOCKS] = {0, 15, 1, 7, 13, 4, 10, 6};

void model_rig_open(struct model_rig *rig, const char *dir, const char *backend, const char *isa,
                    int32_t n_threads)
{
    const struct qr_device_config config = {.n_threads = n_threads, .isa = isa, .device = -1};

    model_rig_open_as(rig, dir, backend, &config);
}

void model_rig_open_as(struct model_rig *rig, const char *dir, const char *backend,
                       const struct qr_device_config *config)
{
    struct qr_error err = {""};
    struct qr_model_limits limits = {.max_rows = MAX_ROWS,
                                     .max_logit_rows = MAX_ROWS,
                                     .max_seqs = 2,
                                     .page_size = MODEL_RIG_PAGE_SIZE};

    if (qr_device_open(backend, config, &rig->dev, &err) != QR_OK ||
        qr_model_open(dir, rig->dev, &limits, &rig->model, &err) != QR_OK)
        fail_msg("%s", err.message);
    const struct qr_model_config *shape = qr_model_get_config(rig->model);
    rig->vocab_size = shape->vocab_size;
    rig->kv = (struct qr_kv_geometry){.n_layers = shape->n_layers,
                                      .n_kv_heads = shape->n_kv_heads,
                                      .head_dim = shape->head_dim,
                                      .page_size = MODEL_RIG_PAGE_SIZE};
    rig->kv_pool = rig->dev->ops->alloc(
        rig->dev, MODEL_RIG_PAGES * qr_kv_page_bytes(rig->dev, &rig->kv), QR_MEMORY_KV);
    assert_non_null(rig->kv_pool);
}

void model_rig_close(struct model_rig *rig)
{
    rig->dev->ops->free(rig->dev, rig->kv_pool);
    qr_model_close(rig->model);
    qr_device_close(rig->dev);
}

void model_rig_step(struct model_rig *rig, const struct model_piece *pieces, int32_t n_pieces)
{
    int32_t ids[MAX_ROWS];
    int32_t positions[MAX_ROWS];
    int32_t logit_rows[MAX_ROWS];
    int32_t query_start[3] = {0};
    int32_t context_length[2];
    int32_t block_table[2][MODEL_RIG_BLOCKS];
    size_t row_floats = (size_t)rig->vocab_size;
    int32_t n_rows = 0;

    for (int32_t p = 0; p < n_pieces; p++) {
        for (int32_t i = 0; i < pieces[p].count; i++, n_rows++) {
            ids[n_rows] = pieces[p].ids[pieces[p].first + i];
            positions[n_rows] = pieces[p].first + i;
            logit_rows[n_rows] = n_rows;
        }
        query_start[p + 1] = n_rows;
        context_length[p] = pieces[p].first + pieces[p].count;
        memcpy(block_table[p], pieces[p].pages, sizeof(block_table[p]));
    }
    struct qr_batch batch = {.n_rows = n_rows,
                             .token_ids = ids,
                             .positions = positions,
                             .attention = {.n_seqs = n_pieces,
                                           .query_start = query_start,
                                           .context_length = context_length,
                                           .block_table = block_table[0],
                                           .block_table_stride = MODEL_RIG_BLOCKS},
                             .n_logit_rows = n_rows,
                             .logit_rows = logit_rows};
    struct qr_error err = {""};
    if (qr_model_forward(rig->model, &batch, &rig->kv, rig->kv_pool, &err) != QR_OK)
        fail_msg("%s", err.message);
    for (int32_t p = 0; p < n_pieces; p++) {
        for (int32_t i = 0; i < pieces[p].count; i++)
            memcpy(pieces[p].logits + (size_t)(pieces[p].first + i) * row_floats,
                   qr_model_logit_row(rig->model, query_start[p] + i).logits,
                   row_floats * sizeof(float));
    }
}

void model_rig_run(struct model_rig *rig, const int32_t *ids, int32_t n_tokens, int32_t chunk,
                   float *logits)
{
    for (int32_t first = 0; first < n_tokens; first += chunk) {
        int32_t count = first + chunk > n_tokens ? n_tokens - first : chunk;
        struct model_piece piece = {ids, first, count, model_rig_pages_a, logits};
        model_rig_step(rig, &piece, 1);
    }
}

float model_rig_distance(const float *found, const float *wanted, size_t n)
{
    float worst = 0.0f;

    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(found[i]));
        worst = fmaxf(worst, fabsf(found[i] - wanted[i]));
    }
    return worst;
}
