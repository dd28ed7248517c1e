/* batch_arrays.h - the memory of a step's batch (struct qr_batch), for as many rows as it may have.
 */
#ifndef QUIRE_RUNTIME_OPS_BATCH_ARRAYS_H
#define QUIRE_RUNTIME_OPS_BATCH_ARRAYS_H

#include <stdint.h>

#include "base/status.h"
#include "runtime/ops/ops.h"

struct qr_batch_sizes {
    int32_t n_rows;
    int32_t n_logit_rows;
    int32_t n_draws;
    int32_t n_edits;
    int32_t n_seqs;
    int32_t n_blocks; /* of a sequence */
};

struct qr_batch_arrays {
    int32_t *token_ids;                 /* [n_rows] */
    int32_t *positions;                 /* [n_rows] */
    int32_t *logit_rows;                /* [n_logit_rows] */
    struct qr_logit_wish *logit_wishes; /* [n_logit_rows] */
    struct qr_logit_edit *logit_edits;  /* [n_edits], one wish's after another's */
    double *uniforms;                   /* [n_draws], one wish's after another's */
    int32_t *query_start;               /* [n_seqs + 1] */
    int32_t *context_length;            /* [n_seqs] */
    int32_t *block_table;               /* [n_seqs][n_blocks] */
};

QR_BEGIN_DECLS

/* All zeros, and no memory of the system's before they are written. On QR_ERR_NOMEM, too, what has
 * been made is freed by qr_batch_arrays_free. */
QR_MUST_CHECK enum qr_status qr_batch_arrays_make(const struct qr_batch_sizes *sizes,
                                                  struct qr_batch_arrays *arrays);
void qr_batch_arrays_free(struct qr_batch_arrays *arrays); /* accepts zeroed ones */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_BATCH_ARRAYS_H */
