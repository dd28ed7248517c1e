/*
 * cpu_experts.c - a mixture of experts: each expert is applied to its rows together, experts in
 * ascending order, so that the sum of a row has one order whatever rows come with it.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

enum qr_status qr_cpu_experts_open(struct qr_cpu_device *cpu, const struct qr_device_needs *needs,
                                   struct qr_error *err)
{
    struct qr_cpu_experts *experts = &cpu->experts;
    size_t rows = (size_t)needs->max_rows;
    size_t inner = (size_t)needs->expert_size;

    if (needs->n_experts == 0)
        return QR_OK;
    experts->scores =
        qr_malloc(QR_ARENA_ENGINE, rows * (size_t)needs->n_experts * sizeof(*experts->scores));
    experts->rows = qr_malloc(QR_ARENA_ENGINE, rows * sizeof(*experts->rows));
    experts->gathered = qr_malloc(QR_ARENA_ENGINE, cpu->n_sums * sizeof(*experts->gathered));
    experts->gate = qr_malloc(QR_ARENA_ENGINE, rows * inner * sizeof(*experts->gate));
    experts->up = qr_malloc(QR_ARENA_ENGINE, rows * inner * sizeof(*experts->up));
    if (experts->scores == NULL || experts->rows == NULL || experts->gathered == NULL ||
        experts->gate == NULL || experts->up == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for %d rows through %d experts",
                       needs->max_rows, needs->n_experts);
    return QR_OK;
}

void qr_cpu_experts_close(struct qr_cpu_device *cpu)
{
    qr_free(cpu->experts.scores);
    qr_free(cpu->experts.rows);
    qr_free(cpu->experts.gathered);
    qr_free(cpu->experts.gate);
    qr_free(cpu->experts.up);
}

static void softmax(float *scores, int32_t n)
{
    float max = scores[0];
    float sum = 0.0f;

    for (int32_t e = 1; e < n; e++)
        max = fmaxf(max, scores[e]);
    for (int32_t e = 0; e < n; e++) {
        scores[e] = expf(scores[e] - max);
        sum += scores[e];
    }
    for (int32_t e = 0; e < n; e++)
        scores[e] /= sum;
}

/* The best expert that is not taken; of equals, and of what is no number, the first. */
static int32_t find_best(const float *scores, const bool *taken, int32_t n_experts)
{
    int32_t best = -1;

    for (int32_t e = 0; e < n_experts; e++) {
        if (!taken[e] && (best < 0 || scores[e] > scores[best]))
            best = e;
    }
    return best;
}

/* Turns a row's logits into weights: 0 of all but the n_used largest. */
static void choose(float *scores, const struct qr_experts *experts)
{
    bool taken[QR_EXPERTS_MAX] = {false};
    float sum = 0.0f;

    softmax(scores, experts->n_experts);
    for (int32_t i = 0; i < experts->n_used; i++) {
        int32_t best = find_best(scores, taken, experts->n_experts);
        taken[best] = true;
        sum += scores[best];
    }
    for (int32_t e = 0; e < experts->n_experts; e++) {
        if (!taken[e])
            scores[e] = 0.0f;
        else if (experts->renormalizes)
            scores[e] /= sum;
    }
}

/* The rows that expert `e` gets, gathered; returns how many. */
static int32_t gather(struct qr_cpu_device *cpu, const struct qr_experts *experts, int32_t e,
                      const float *x, int32_t n_rows)
{
    struct qr_cpu_experts *scratch = &cpu->experts;
    size_t hidden = (size_t)experts->router.dims[1];
    int32_t n = 0;

    for (int32_t row = 0; row < n_rows; row++) {
        if (scratch->scores[(size_t)row * (size_t)experts->n_experts + (size_t)e] == 0.0f)
            continue;
        memcpy(scratch->gathered + (size_t)n * hidden, x + (size_t)row * hidden,
               hidden * sizeof(float));
        scratch->rows[n++] = row;
    }
    return n;
}

/* totals[row] += weight * down(act(gate x) * up x) for the rows of expert `e` */
static void apply_expert(struct qr_device *dev, const struct qr_experts *experts, int32_t e,
                         int32_t n, float *totals)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    struct qr_cpu_experts *scratch = &cpu->experts;
    size_t hidden = (size_t)experts->router.dims[1];
    int32_t inner = (int32_t)experts->gate[e].dims[0];

    struct qr_cpu_input gathered = {.x = scratch->gathered, .n_rows = n};
    struct qr_cpu_input gated = {.x = scratch->gate, .n_rows = n};

    qr_cpu_multiply(cpu, &experts->gate[e], &gathered, scratch->gate);
    qr_cpu_multiply(cpu, &experts->up[e], &gathered, scratch->up);
    qr_cpu_activate(dev, experts->activation, scratch->gate, scratch->up, n, inner);
    qr_cpu_multiply(cpu, &experts->down[e], &gated, scratch->gathered);
    for (int32_t i = 0; i < n; i++) {
        size_t row = (size_t)scratch->rows[i];
        float weight = scratch->scores[row * (size_t)experts->n_experts + (size_t)e];
        const float *from = scratch->gathered + (size_t)i * hidden;
        for (size_t d = 0; d < hidden; d++)
            totals[row * hidden + d] += weight * from[d];
    }
}

void qr_cpu_experts_add(struct qr_device *dev, const struct qr_experts *experts, const void *x,
                        int32_t n_rows, void *residual)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    struct qr_cpu_input input = {.x = x, .n_rows = n_rows};
    size_t n = (size_t)n_rows * (size_t)experts->router.dims[1];
    float *total = residual;

    QR_ASSERT(n <= cpu->n_sums && cpu->experts.scores != NULL);
    qr_cpu_multiply(cpu, &experts->router, &input, cpu->experts.scores);
    for (int32_t row = 0; row < n_rows; row++)
        choose(cpu->experts.scores + (size_t)row * (size_t)experts->n_experts, experts);
    memset(cpu->sums, 0, n * sizeof(*cpu->sums));
    for (int32_t e = 0; e < experts->n_experts; e++) {
        int32_t n_mine = gather(cpu, experts, e, x, n_rows);
        if (n_mine > 0)
            apply_expert(dev, experts, e, n_mine, cpu->sums);
    }
    for (size_t i = 0; i < n; i++)
        total[i] += cpu->sums[i];
}
