/*
 * step.c - one step of the engine: plan, batch, forward, sample, hand out.
 *
 * Nothing here allocates: every array was sized at create.
 */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"

/* Does row `position` give a prompt token's log-probability that has not been reported yet? */
static bool row_is_scored(const struct qr_generation *seq, int32_t position)
{
    const struct qr_request *request = seq->request;
    return request->score_prompt && position + 1 >= seq->n_scored &&
           position + 1 < request->n_prompt;
}

static void add_rows(struct qr_engine *engine, const struct qr_generation *seq,
                     const struct qr_plan_entry *entry, struct qr_batch *batch)
{
    struct qr_step_arrays *arrays = &engine->arrays;

    for (int32_t i = 0; i < entry->n_tokens; i++) {
        int32_t position = entry->first_position + i;
        int32_t row = batch->n_rows++;
        bool samples = entry->samples && i == entry->n_tokens - 1;
        arrays->token_ids[row] = seq->tokens[position];
        arrays->positions[row] = position;
        if (samples || row_is_scored(seq, position)) {
            QR_ASSERT(batch->n_logit_rows < engine->max_logit_rows);
            arrays->logit_rows[batch->n_logit_rows++] = row;
        }
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

static void build_batch(struct qr_engine *engine, const struct qr_plan *plan,
                        struct qr_batch *batch)
{
    struct qr_step_arrays *arrays = &engine->arrays;

    *batch = (struct qr_batch){.token_ids = arrays->token_ids,
                               .positions = arrays->positions,
                               .logit_rows = arrays->logit_rows};
    for (int32_t i = 0; i < plan->n_entries; i++) {
        const struct qr_plan_entry *entry = &plan->entries[i];
        const struct qr_generation *seq = engine->by_slot[entry->seq];
        arrays->query_start[i] = batch->n_rows;
        arrays->context_length[i] = entry->first_position + entry->n_tokens;
        add_rows(engine, seq, entry, batch);
        add_block_table(engine, seq, i);
    }
    arrays->query_start[plan->n_entries] = batch->n_rows;
    batch->attention = (struct qr_attention_batch){
        .n_seqs = plan->n_entries,
        .query_start = arrays->query_start,
        .context_length = arrays->context_length,
        .block_table = arrays->block_table,
        .block_table_stride = qr_block_manager_max_blocks(engine->blocks),
    };
}

static void note_planned(struct qr_engine *engine, const struct qr_plan *plan, int64_t now_ns)
{
    for (int32_t i = 0; i < plan->n_entries; i++) {
        struct qr_generation *seq = engine->by_slot[plan->entries[i].seq];
        int32_t n_blocks = qr_block_manager_n_blocks(engine->blocks, seq->slot);
        if (n_blocks > seq->peak_pages)
            seq->peak_pages = n_blocks;
        if (seq->first_plan_ns == 0)
            seq->first_plan_ns = now_ns;
        qr_engine_leave_queue(engine, seq);
    }
    struct qr_block_stats stats;
    qr_block_manager_stats(engine->blocks, &stats);
    if (stats.used_pages > engine->counters.kv_peak_pages)
        engine->counters.kv_peak_pages = stats.used_pages;
}

/* A failed op spoils the whole step: its sequences end with an error, never with a wrong token. */
static void fail_planned(struct qr_engine *engine, const struct qr_plan *plan,
                         const struct qr_error *err)
{
    char quoted[600];
    qr_log(QR_LOG_ERROR, "step_failed", "sequences=%d error=%s", plan->n_entries,
           qr_log_quote(err->message, quoted, sizeof(quoted)));
    for (int32_t i = 0; i < plan->n_entries; i++) {
        struct qr_finish finish = {
            .reason = QR_FINISH_ERROR, .stop_string = -1, .stop_token_id = -1, .error = *err};
        qr_engine_finish_sequence(engine, engine->by_slot[plan->entries[i].seq], &finish);
    }
}

static void finish_with_bad_logits(struct qr_engine *engine, struct qr_generation *seq)
{
    struct qr_finish finish = {.reason = QR_FINISH_ERROR, .stop_string = -1, .stop_token_id = -1};
    qr_fail(&finish.error, QR_ERR_DEVICE,
            "the model gave NaN or only -inf as logits at position %d; the weights may be damaged",
            seq->n_tokens - 1);
    qr_engine_finish_sequence(engine, seq, &finish);
}

/* Samples the next token of `seq` from its row of logits and hands it out. */
static void sample_next(struct qr_engine *engine, struct qr_generation *seq, const float *logits)
{
    const struct qr_request *request = seq->request;
    int32_t n_output = qr_generation_n_output(seq);
    struct qr_sampler_input input = {
        .logits = logits,
        .prompt = seq->tokens,
        .n_prompt = request->n_prompt,
        .output = seq->tokens + request->n_prompt,
        .n_output = n_output,
        .banned = seq->banned,
        .n_banned = n_output < request->min_tokens ? seq->n_banned : 0,
    };
    struct qr_sampled sampled;
    struct qr_finish finish;

    if (qr_sampler_sample(engine->sampler, &request->sampling, &input, &sampled) != QR_OK) {
        finish_with_bad_logits(engine, seq);
        return;
    }
    engine->counters.n_output_tokens++;
    qr_engine_note_wake(engine, seq);
    if (qr_generation_push_token(seq, &engine->model_config, &sampled, qr_now_ns(), &finish)) {
        qr_engine_finish_sequence(engine, seq, &finish);
        return;
    }
    qr_scheduler_append_token(engine->sched, seq->slot);
    if (!qr_stream_has_room(seq->stream)) {
        seq->paused = true;
        qr_scheduler_set_paused(engine->sched, seq->slot, true);
    }
}

/* Reports the scored rows of one entry; the number of logit rows used, -1 when the sequence ended.
 */
static int32_t score_rows(struct qr_engine *engine, struct qr_generation *seq,
                          const struct qr_plan_entry *entry, const float *logits)
{
    int32_t vocab_size = engine->model_config.vocab_size;
    int32_t used = 0;

    for (int32_t i = 0; i < entry->n_tokens; i++) {
        int32_t position = entry->first_position + i;
        struct qr_sampled scored;
        if (!row_is_scored(seq, position))
            continue;
        const float *row = logits + (size_t)used * (size_t)vocab_size;
        if (qr_sampler_score(engine->sampler, row, seq->tokens[position + 1],
                             seq->request->sampling.n_logprobs, &scored) != QR_OK) {
            finish_with_bad_logits(engine, seq);
            return -1;
        }
        used++;
        qr_engine_note_wake(engine, seq);
        qr_generation_push_scored(seq, &scored);
    }
    return used;
}

/* What one entry's logits mean for its sequence. */
static void take_results(struct qr_engine *engine, const struct qr_plan_entry *entry,
                         const float *logits)
{
    struct qr_generation *seq = engine->by_slot[entry->seq];
    int32_t used = score_rows(engine, seq, entry, logits);

    if (used < 0 || !entry->samples)
        return;
    if (seq->request->score_only) {
        struct qr_finish finish = {
            .reason = QR_FINISH_LENGTH, .stop_string = -1, .stop_token_id = -1};
        qr_engine_finish_sequence(engine, seq, &finish);
        return;
    }
    sample_next(engine, seq, logits + (size_t)used * (size_t)engine->model_config.vocab_size);
}

/* Logit rows of each entry lie one after the other, in the order of the plan. */
static int32_t first_logit_row(const struct qr_batch *batch, int32_t entry, int32_t from)
{
    while (from < batch->n_logit_rows &&
           batch->logit_rows[from] < batch->attention.query_start[entry])
        from++;
    return from;
}

/* Pages that were shared get copies for those who write to them. */
static void copy_pages(struct qr_engine *engine, const struct qr_plan *plan)
{
    size_t page_bytes = qr_kv_page_floats(&engine->kv) * engine->dev->ops->kv_size;
    char *pool = engine->kv_pool;

    for (int32_t i = 0; i < plan->n_copies; i++)
        memcpy(pool + (size_t)plan->copies[i].to * page_bytes,
               pool + (size_t)plan->copies[i].from * page_bytes, page_bytes);
}

bool qr_engine_step(struct qr_engine *engine)
{
    struct qr_plan plan;
    struct qr_batch batch;
    struct qr_error err;
    int64_t now = qr_now_ns();

    qr_scheduler_plan(engine->sched, now, &plan);
    if (plan.n_entries == 0)
        return false;
    copy_pages(engine, &plan);
    note_planned(engine, &plan, now);
    build_batch(engine, &plan, &batch);
    engine->counters.n_steps++;
    if (qr_model_forward(engine->model, &batch, &engine->kv, engine->kv_pool, engine->arrays.logits,
                         &err) != QR_OK) {
        fail_planned(engine, &plan, &err);
        return true;
    }
    qr_scheduler_complete(engine->sched, &plan);
    for (int32_t i = 0, row = 0; i < plan.n_entries; i++) {
        row = first_logit_row(&batch, i, row);
        take_results(engine, &plan.entries[i],
                     engine->arrays.logits + (size_t)row * (size_t)engine->model_config.vocab_size);
    }
    return true;
}
