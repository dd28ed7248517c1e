/*
 * costs.h - what computing costs here, learnt from the engine's own steps.
 *
 * The time of a step is taken to be
 *
 *     fixed + row_ns * rows + row_position_ns * (sum over the rows of their positions)
 *
 * and the three are fitted by recursive least squares with exponential forgetting
 * (Ljung and Soderstrom, "Theory and Practice of Recursive Identification", 1983): each
 * step counts 1/1000 less than the one after it. A step far off, as when the system
 * paused the process, is cut to some multiple of what was expected. Only decisions about
 * time depend on the result, never a token.
 */
#ifndef QUIRE_RUNTIME_ENGINE_COSTS_H
#define QUIRE_RUNTIME_ENGINE_COSTS_H

#include <stdint.h>

#include "base/status.h"

enum { QR_COST_TERMS = 3 };

struct qr_step_costs {
    int64_t n_steps;
    double theta[QR_COST_TERMS]; /* in scaled units, see costs.c */
    double covariance[QR_COST_TERMS][QR_COST_TERMS];
};

QR_BEGIN_DECLS

void qr_step_costs_init(struct qr_step_costs *costs);
/* A step of n_rows rows, at positions that sum up to `positions`, took `ns`. */
void qr_step_costs_note(struct qr_step_costs *costs, int32_t n_rows, int64_t positions, int64_t ns);
/* The estimates; never negative. Both 0 before the first step. */
double qr_step_costs_row_ns(const struct qr_step_costs *costs);
double qr_step_costs_row_position_ns(const struct qr_step_costs *costs);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_COSTS_H */
