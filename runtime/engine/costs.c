/* costs.c - see costs.h for the contract. */
#include "runtime/engine/costs.h"

#include <math.h>
#include <string.h>

/* Regressors of comparable size keep the covariance well conditioned. */
#define ROWS_SCALE      64.0
#define POSITIONS_SCALE 16384.0
#define TIME_SCALE      1e6 /* ns */

#define FORGETTING       0.999
#define FIRST_COVARIANCE 1e3  /* little is known */
#define MOST_COVARIANCE  1e6  /* of a term that no step tells about, as long as none does */
#define SHORTEST         0.01 /* ms: less tells nothing of the clock's resolution */
#define OUTLIER          3.0  /* times what was expected: more is not believed */

void qr_step_costs_init(struct qr_step_costs *costs)
{
    memset(costs, 0, sizeof(*costs));
    for (int i = 0; i < QR_COST_TERMS; i++)
        costs->covariance[i][i] = FIRST_COVARIANCE;
}

static double dot(const double *a, const double *b)
{
    double sum = 0;

    for (int i = 0; i < QR_COST_TERMS; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Forgetting inflates what no step tells about: not without end. */
static void bound_covariance(struct qr_step_costs *costs)
{
    for (int i = 0; i < QR_COST_TERMS; i++) {
        if (costs->covariance[i][i] <= MOST_COVARIANCE)
            continue;
        double factor = sqrt(MOST_COVARIANCE / costs->covariance[i][i]);
        for (int j = 0; j < QR_COST_TERMS; j++) {
            costs->covariance[i][j] *= factor;
            costs->covariance[j][i] *= factor;
        }
    }
}

static void update_covariance(struct qr_step_costs *costs, const double *gain, const double *px)
{
    /* Both halves from one: rounding differently, they would drift apart without end. */
    for (int i = 0; i < QR_COST_TERMS; i++) {
        for (int j = 0; j <= i; j++)
            costs->covariance[i][j] = costs->covariance[j][i] =
                (costs->covariance[i][j] - gain[i] * px[j]) / FORGETTING;
    }
    bound_covariance(costs);
}

/* A long step is as uncertain as a short one in proportion to its length: errors count so. */
static void weigh(double *x, double *time, double *expected)
{
    double length = *expected > SHORTEST ? *expected : SHORTEST;

    for (int i = 0; i < QR_COST_TERMS; i++)
        x[i] /= length;
    *time /= length;
    *expected /= length;
}

void qr_step_costs_note(struct qr_step_costs *costs, int32_t n_rows, int64_t positions, int64_t ns)
{
    double x[QR_COST_TERMS] = {1, n_rows / ROWS_SCALE, (double)positions / POSITIONS_SCALE};
    double px[QR_COST_TERMS];
    double gain[QR_COST_TERMS];
    double time = (double)ns / TIME_SCALE;
    double expected = dot(costs->theta, x);

    if (costs->n_steps++ > QR_COST_TERMS && expected > 0 && time > OUTLIER * expected)
        time = OUTLIER * expected;
    weigh(x, &time, &expected);
    for (int i = 0; i < QR_COST_TERMS; i++)
        px[i] = dot(costs->covariance[i], x);
    double scale = FORGETTING + dot(px, x);
    for (int i = 0; i < QR_COST_TERMS; i++)
        gain[i] = px[i] / scale;
    for (int i = 0; i < QR_COST_TERMS; i++)
        costs->theta[i] += gain[i] * (time - expected);
    update_covariance(costs, gain, px);
}

static double at_least_zero(double value)
{
    return value > 0 ? value : 0;
}

double qr_step_costs_row_ns(const struct qr_step_costs *costs)
{
    return at_least_zero(costs->theta[1]) * TIME_SCALE / ROWS_SCALE;
}

double qr_step_costs_row_position_ns(const struct qr_step_costs *costs)
{
    return at_least_zero(costs->theta[2]) * TIME_SCALE / POSITIONS_SCALE;
}
