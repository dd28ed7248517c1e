/* planning.c - see planning.h for the contract. */
#include "runtime/bench/planning.h"

#include "base/alloc.h"
#include "runtime/bench/cpu_time.h"
#include "runtime/bench/report.h"
#include "scheduler/scheduler.h"

enum {
    PAGE_SIZE = 16,
    MAX_TOKENS = 1200,
    MIN_PROMPT = 100,
    N_STEPS = 800,
    BATCH_TOKENS = 4096,
};

struct planning {
    int32_t n_sequences;
    struct qr_block_manager *blocks;
    struct qr_scheduler *sched;
    int32_t *tokens; /* [n_sequences][MAX_TOKENS] */
    double *plan_ns; /* [N_STEPS], of the steps in which all decode */
    double *apply_ns;
    int32_t n_steps;
};

static enum qr_status create(struct planning *planning)
{
    int32_t n_sequences = planning->n_sequences;
    const struct qr_scheduler_config config = {
        .max_batch_tokens = n_sequences > BATCH_TOKENS ? n_sequences : BATCH_TOKENS,
        .max_running = n_sequences,
        .max_waiting = n_sequences,
        .max_logit_rows = n_sequences,
    };
    const struct qr_block_manager_config blocks = {
        .page_count = n_sequences * (MAX_TOKENS / PAGE_SIZE + 1),
        .page_size = PAGE_SIZE,
        .max_sequences = qr_scheduler_n_slots(&config),
        .max_seq_tokens = MAX_TOKENS,
        .prefix_cache = true,
    };

    planning->tokens =
        qr_calloc(QR_ARENA_REQUEST, (size_t)n_sequences * MAX_TOKENS, sizeof(*planning->tokens));
    planning->plan_ns = qr_calloc(QR_ARENA_REQUEST, N_STEPS, sizeof(*planning->plan_ns));
    planning->apply_ns = qr_calloc(QR_ARENA_REQUEST, N_STEPS, sizeof(*planning->apply_ns));
    if (planning->tokens == NULL || planning->plan_ns == NULL || planning->apply_ns == NULL)
        return QR_ERR_NOMEM;
    QR_TRY(qr_block_manager_create(&blocks, &planning->blocks));
    return qr_scheduler_create(&config, planning->blocks, &planning->sched);
}

/* Prompts of different lengths, so that not all fill their pages in the same step. */
static enum qr_status add_sequences(struct planning *planning)
{
    for (int32_t i = 0; i < planning->n_sequences; i++) {
        int32_t *tokens = planning->tokens + (int64_t)i * MAX_TOKENS;
        qr_seq_id seq;
        for (int32_t k = 0; k < MAX_TOKENS; k++)
            tokens[k] = (int32_t)(((uint32_t)i * MAX_TOKENS + (uint32_t)k) * 2654435761u >> 1);
        const struct qr_seq_params params = {
            .tokens = tokens,
            .n_prompt_tokens = MIN_PROMPT + (int32_t)((int64_t)i * 37 % 100),
            .max_tokens = MAX_TOKENS,
            .width = 1,
            .salt = "",
        };
        QR_TRY(qr_scheduler_add(planning->sched, &params, &seq));
    }
    return QR_OK;
}

static void step(struct planning *planning, int64_t now_ns)
{
    struct qr_plan plan;
    int64_t begin_ns = qr_cpu_ns();

    qr_scheduler_plan(planning->sched, now_ns, &plan);
    int64_t planned_ns = qr_cpu_ns();
    qr_scheduler_complete(planning->sched, &plan);
    for (int32_t i = 0; i < plan.n_entries; i++) {
        if (plan.entries[i].samples)
            qr_scheduler_append_token(planning->sched, plan.entries[i].seq);
    }
    int64_t end_ns = qr_cpu_ns();
    if (plan.n_entries != planning->n_sequences || plan.n_rows != planning->n_sequences)
        return;
    planning->plan_ns[planning->n_steps] = (double)(planned_ns - begin_ns);
    planning->apply_ns[planning->n_steps++] = (double)(end_ns - planned_ns);
}

static void destroy(struct planning *planning)
{
    qr_scheduler_destroy(planning->sched);
    qr_block_manager_destroy(planning->blocks);
    qr_free(planning->tokens);
    qr_free(planning->plan_ns);
    qr_free(planning->apply_ns);
}

enum qr_status qr_measure_planning(int32_t n_sequences, struct qr_planning_times *times)
{
    struct planning planning = {.n_sequences = n_sequences};

    *times = (struct qr_planning_times){0};
    enum qr_status status = create(&planning);
    if (status == QR_OK)
        status = add_sequences(&planning);
    for (int32_t i = 0; i < N_STEPS && status == QR_OK; i++)
        step(&planning, i);
    if (planning.n_steps > 0) {
        times->n_steps = planning.n_steps;
        times->apply_p50_ns = qr_median(planning.apply_ns, planning.n_steps);
        times->plan_p50_ns = qr_median(planning.plan_ns, planning.n_steps);
        times->plan_p99_ns = qr_percentile(planning.plan_ns, planning.n_steps, 99);
    }
    destroy(&planning);
    return status;
}
