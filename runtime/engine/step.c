/*
 * step.c - one step of the engine: plan, move pages, batch, forward, sample, hand out. Where the
 * device computes beside this thread, the next plan is made meanwhile, and news is handed out.
 *
 * Nothing here allocates: every array was sized at create.
 */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"

enum { STEPS_BETWEEN_COSTS = 64 };

/* Does row `position` give a prompt token's log-probability that has not been reported yet? */
static bool row_is_scored(const struct qr_generation *seq, int32_t position)
{
    const struct qr_request *request = seq->group->request;
    return request->score_prompt && position + 1 >= seq->n_scored &&
           position + 1 < request->n_prompt;
}

static void add_rows(struct qr_engine *engine, const struct qr_generation *seq,
                     const struct qr_plan_entry *entry, struct qr_batch *batch)
{
    struct qr_batch_arrays *arrays = &engine->arrays;

    for (int32_t i = 0; i < entry->n_tokens; i++) {
        int32_t position = entry->first_position + i;
        int32_t row = batch->n_rows++;
        bool samples = entry->samples && i == entry->n_tokens - 1;
        bool scored = row_is_scored(seq, position);
        arrays->token_ids[row] = seq->tokens[position];
        arrays->positions[row] = position;
        if (!samples && !scored)
            continue;
        QR_ASSERT(batch->n_logit_rows < engine->max_logit_rows);
        arrays->logit_wishes[batch->n_logit_rows] =
            scored ? qr_selection_wish_to_score(&seq->group->request->sampling,
                                                seq->tokens[position + 1])
                   : qr_engine_logit_wish(engine, seq);
        arrays->logit_rows[batch->n_logit_rows++] = row;
    }
}

static void add_block_table(struct qr_engine *engine, const struct qr_generation *seq,
                            int32_t index)
{
    size_t stride = (size_t)qr_block_manager_max_blocks(engine->blocks);
    int32_t n_blocks = qr_block_manager_n_blocks(engine->blocks, seq->slot);

    memcpy(engine->arrays.block_table + (size_t)index * stride,
           qr_block_manager_block_table(engine->blocks, seq->slot),
           (size_t)n_blocks * sizeof(int32_t));
}

static void build_batch(struct qr_engine *engine, struct qr_batch *batch)
{
    struct qr_engine_step *step = &engine->step;
    struct qr_batch_arrays *arrays = &engine->arrays;

    step->n_edits = step->n_draws = step->n_first_draws = 0;
    *batch = (struct qr_batch){.token_ids = arrays->token_ids,
                               .positions = arrays->positions,
                               .logit_rows = arrays->logit_rows,
                               .logit_wishes = arrays->logit_wishes};
    for (int32_t i = 0; i < step->n_entries; i++) {
        const struct qr_plan_entry *entry = &step->entries[i];
        const struct qr_generation *seq = engine->by_slot[entry->seq];
        arrays->query_start[i] = batch->n_rows;
        arrays->context_length[i] = entry->first_position + entry->n_tokens;
        add_rows(engine, seq, entry, batch);
        add_block_table(engine, seq, i);
    }
    arrays->query_start[step->n_entries] = batch->n_rows;
    batch->attention = (struct qr_attention_batch){
        .n_seqs = step->n_entries,
        .query_start = arrays->query_start,
        .context_length = arrays->context_length,
        .block_table = arrays->block_table,
        .block_table_stride = qr_block_manager_max_blocks(engine->blocks),
    };
}

/* A failed op spoils the whole step: its requests end with an error, never with a wrong token. */
static void fail_planned(struct qr_engine *engine, const struct qr_error *err)
{
    const struct qr_engine_step *step = &engine->step;
    char quoted[600];

    qr_log(QR_LOG_ERROR, "step_failed", "sequences=%d error=%s", step->n_entries,
           qr_log_quote(err->message, quoted, sizeof(quoted)));
    for (int32_t i = 0; i < step->n_entries; i++)
        qr_engine_fail_group(engine, engine->by_slot[step->entries[i].seq]->group, err);
}

/* Reports the scored rows of one entry, from logit row `first` on; returns how many there were. */
static int32_t score_rows(struct qr_engine *engine, struct qr_generation *seq,
                          const struct qr_plan_entry *entry, int32_t first)
{
    int32_t used = 0;

    for (int32_t i = 0; i < entry->n_tokens; i++) {
        int32_t position = entry->first_position + i;
        struct qr_sampled scored;
        if (!row_is_scored(seq, position))
            continue;
        struct qr_logit_row row = qr_model_logit_row(engine->model, first + used);
        if (qr_sampler_score_selected(&row.selection, seq->tokens[position + 1],
                                      seq->group->request->sampling.n_logprobs, &scored) != QR_OK) {
            qr_engine_fail_on_logits(engine, seq);
            return used;
        }
        used++;
        qr_engine_note_wake(engine, seq->group);
        qr_generation_push_scored(seq, &scored);
    }
    return used;
}

/* The whole row is taken where its selection turns out not to be enough to draw from. */
static void take_sampled_row(struct qr_engine *engine, struct qr_generation *seq, int32_t index)
{
    struct qr_logit_row row = qr_model_logit_row(engine->model, index);
    const struct qr_selection *from = row.edited.n > 0 ? &row.edited : &row.selection;

    if (row.logits == NULL && seq->group->request->beam.width == 0 &&
        !qr_selection_is_enough(from, &seq->sampling, engine->model_config.vocab_size))
        row.logits = qr_model_whole_logit_row(engine->model, index);
    qr_engine_take_row(engine, seq, &row);
}

/* What one entry's logits, from logit row `first` on, mean for its sequence. */
static void take_results(struct qr_engine *engine, const struct qr_plan_entry *entry, int32_t first)
{
    struct qr_generation *seq = engine->by_slot[entry->seq];

    if (seq->group->failed)
        return;
    int32_t used = score_rows(engine, seq, entry, first);
    if (seq->group->failed || !entry->samples)
        return;
    if (seq->group->request->score_only) {
        struct qr_finish finish = {
            .reason = QR_FINISH_LENGTH, .stop_string = -1, .stop_token_id = -1};
        qr_engine_end_group(engine, seq->group, &finish);
        return;
    }
    take_sampled_row(engine, seq, first + used);
}

/* Logit rows of each entry lie one after the other, in the order of the plan. */
static int32_t first_logit_row(const struct qr_batch *batch, int32_t entry, int32_t from)
{
    while (from < batch->n_logit_rows &&
           batch->logit_rows[from] < batch->attention.query_start[entry])
        from++;
    return from;
}

/* Sum of the positions of all rows; beyond a window each row reads as many keys. */
static int64_t sum_positions(const struct qr_engine_step *step, int32_t window)
{
    int64_t sum = 0;

    for (int32_t i = 0; i < step->n_entries; i++) {
        int64_t first = step->entries[i].first_position;
        int64_t n = step->entries[i].n_tokens;
        int64_t n_beyond = window > 0 && first + n > window ? first + n - window : 0;
        n_beyond = n_beyond < n ? n_beyond : n;
        n -= n_beyond;
        sum += n * first + n * (n - 1) / 2 + n_beyond * window;
    }
    return sum;
}

/* Often at first: until rows have a price, decodes wait for full steps of prompts. */
static bool hands_over_costs(int64_t n_steps)
{
    return (n_steps & (n_steps - 1)) == 0 || n_steps % STEPS_BETWEEN_COSTS == 0;
}

/* How long the rows of the step took. */
static void note_time(struct qr_engine *engine, int64_t ns)
{
    const struct qr_engine_step *step = &engine->step;
    int32_t window = qr_model_config_kv_window(&engine->model_config);

    qr_step_costs_note(&engine->costs, step->n_rows, sum_positions(step, window), ns);
    if (hands_over_costs(engine->counters.n_steps))
        qr_engine_hand_over_costs(engine);
    int64_t rate = step->n_rows * QR_NS_PER_SEC / (ns > 0 ? ns : 1);
    int64_t mean = atomic_load(&engine->rows_per_second);
    atomic_store(&engine->rows_per_second, mean == 0 ? rate : mean + (rate - mean) / 16);
}

/* What was launched is then abandoned, and what was planned beside it no longer stands. */
static void fail_step(struct qr_engine *engine, bool is_launched, const struct qr_error *err)
{
    fail_planned(engine, err);
    qr_engine_end_failed(engine);
    if (is_launched)
        qr_scheduler_abandon(engine->sched, &engine->step.plan);
    engine->ahead.is_stale = true;
    engine->step.end_ns = 0;
}

static void take_all_results(struct qr_engine *engine, const struct qr_batch *batch)
{
    for (int32_t i = 0, row = 0; i < engine->step.n_entries; i++) {
        row = first_logit_row(batch, i, row);
        take_results(engine, &engine->step.entries[i], row);
    }
    qr_engine_end_failed(engine);
}

bool qr_engine_step(struct qr_engine *engine)
{
    const struct qr_plan *plan = &engine->step.plan;
    struct qr_batch batch;
    struct qr_error err;

    qr_engine_take_plan(engine);
    if (engine->step.n_entries == 0) { /* what is on its way rings the bell */
        engine->step.end_ns = 0;
        return plan->n_admitted > 0 || plan->n_preempted > 0;
    }
    build_batch(engine, &batch);
    int64_t begin_ns = qr_now_ns();
    if (engine->step.end_ns > 0)
        engine->counters.between_ns += begin_ns - engine->step.end_ns;
    engine->counters.n_steps++;
    qr_model_begin(engine->model, &batch, &engine->kv, engine->kv_pool);
    qr_engine_plan_ahead(engine);
    bool is_launched = engine->ahead.is_made;
    if (qr_model_end(engine->model, &err) != QR_OK) {
        fail_step(engine, is_launched, &err);
        return true;
    }
    engine->step.end_ns = qr_now_ns();
    note_time(engine, engine->step.end_ns - begin_ns);
    qr_scheduler_complete(engine->sched, plan);
    take_all_results(engine, &batch);
    return true;
}
