/*
 * step_cost.h - what a step of a dense model must read and compute at least, whatever the kernels:
 * the measure that steps are held to.
 */
#ifndef QUIRE_RUNTIME_BENCH_STEP_COST_H
#define QUIRE_RUNTIME_BENCH_STEP_COST_H

#include <stdint.h>

#include "runtime/models/model_config.h"

struct qr_step_shape {
    double n_rows;
    double n_logit_rows;
    double n_keys;   /* tokens whose KV is read, each once: the sum of the sequences' contexts */
    double n_scores; /* the sum over the rows of the keys that each sees */
};

QR_BEGIN_DECLS

/* Bytes of weights that a step reads: all but an embedding's table that is not the head too, of
 * which it needs some rows. Every parameter counts alike. */
double qr_weight_bytes_read(const struct qr_model_config *model, int64_t n_parameters,
                            int64_t weight_bytes);
/* Multiplications and additions, each counted, of the matrices and of attention. */
double qr_step_flops(const struct qr_model_config *model, int64_t n_parameters,
                     const struct qr_step_shape *shape);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_STEP_COST_H */
