/* batch_arrays.c - see batch_arrays.h for the contract. */
#include "runtime/ops/batch_arrays.h"

#include "base/alloc.h"

static int32_t *new_array(size_t n)
{
    return qr_calloc(QR_ARENA_ENGINE, n, sizeof(int32_t));
}

enum qr_status qr_batch_arrays_make(const struct qr_batch_sizes *sizes,
                                    struct qr_batch_arrays *arrays)
{
    size_t n_rows = (size_t)sizes->n_rows;
    size_t n_logit_rows = (size_t)sizes->n_logit_rows;
    size_t n_seqs = (size_t)sizes->n_seqs;

    *arrays = (struct qr_batch_arrays){
        .token_ids = new_array(n_rows),
        .positions = new_array(n_rows),
        .logit_rows = new_array(n_logit_rows),
        .logit_wishes = qr_calloc(QR_ARENA_ENGINE, n_logit_rows, sizeof(*arrays->logit_wishes)),
        .logit_edits =
            qr_calloc(QR_ARENA_ENGINE, (size_t)sizes->n_edits, sizeof(*arrays->logit_edits)),
        .uniforms = qr_calloc(QR_ARENA_ENGINE, (size_t)sizes->n_draws, sizeof(double)),
        .query_start = new_array(n_seqs + 1),
        .context_length = new_array(n_seqs),
        .block_table = new_array(n_seqs * (size_t)sizes->n_blocks),
    };
    bool ok = arrays->token_ids != NULL && arrays->positions != NULL &&
              arrays->logit_rows != NULL && arrays->logit_wishes != NULL &&
              arrays->logit_edits != NULL && arrays->uniforms != NULL &&
              arrays->query_start != NULL && arrays->context_length != NULL &&
              arrays->block_table != NULL;
    return ok ? QR_OK : QR_ERR_NOMEM;
}

void qr_batch_arrays_free(struct qr_batch_arrays *arrays)
{
    qr_free(arrays->token_ids);
    qr_free(arrays->positions);
    qr_free(arrays->logit_rows);
    qr_free(arrays->logit_wishes);
    qr_free(arrays->logit_edits);
    qr_free(arrays->uniforms);
    qr_free(arrays->query_start);
    qr_free(arrays->context_length);
    qr_free(arrays->block_table);
    *arrays = (struct qr_batch_arrays){0};
}
