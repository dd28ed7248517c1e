/*
 * outputs.c - from a row of logits to the outputs of a request, and how requests end.
 *
 * A request of several outputs begins as one sequence. When the first token is sampled,
 * it is sampled once for each output from that row, by each one's own seed, and the
 * others are forked off.
 */
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "runtime/engine/engine_internal.h"
#include "runtime/sampling/philox.h"

void qr_engine_note_wake(struct qr_engine *engine, const struct qr_group *group)
{
    struct qr_wake_group *woken = qr_stream_group(group->stream);

    for (int32_t i = 0; i < engine->n_woken; i++) { /* a handful: one a completion queue */
        if (engine->woken[i] == woken)
            return;
    }
    QR_ASSERT(engine->n_woken < engine->n_slots);
    engine->woken[engine->n_woken++] = woken;
}

/* It was posted with the end of its stream, and may be gone. */
static void forget_wake(struct qr_engine *engine, const struct qr_wake_group *woken)
{
    for (int32_t i = 0; i < engine->n_woken; i++) {
        if (engine->woken[i] == woken)
            engine->woken[i--] = engine->woken[--engine->n_woken];
    }
}

void qr_engine_leave_queue(struct qr_engine *engine, struct qr_group *group)
{
    if (!group->queued)
        return;
    group->queued = false;
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    engine->inbox.n_queued -= group->width;
    engine->inbox.queued_tokens -= group->queue_tokens;
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
}

void qr_engine_fork(struct qr_engine *engine, struct qr_generation *parent,
                    struct qr_generation *child)
{
    qr_generation_copy(child, parent);
    child->slot = qr_scheduler_fork(engine->sched, parent->slot, child->tokens);
    engine->by_slot[child->slot] = child;
    engine->ahead.is_stale = true;
    parent->group->n_open++;
}

static void add_preemptions(struct qr_usage *usage, const struct qr_seq_info *info)
{
    usage->n_swapped += info->n_swapped;
    usage->n_recomputed += info->n_recomputed;
    usage->n_parked += info->n_parked;
    if (info->n_cached_prompt_tokens > usage->n_cached_tokens)
        usage->n_cached_tokens = info->n_cached_prompt_tokens;
}

void qr_engine_close_sequence(struct qr_engine *engine, struct qr_generation *seq)
{
    struct qr_group *group = seq->group;
    struct qr_seq_info info;

    qr_scheduler_get_info(engine->sched, seq->slot, &info);
    add_preemptions(&group->usage, &info);
    qr_scheduler_remove(engine->sched, seq->slot);
    engine->by_slot[seq->slot] = NULL;
    seq->slot = -1;
    group->n_open--;
}

/* The figures of the whole group until now, but for the tokens of one output. */
static void fill_in(struct qr_engine *engine, const struct qr_group *group,
                    struct qr_finish *finish)
{
    int64_t submit_ns = group->submit_ns;

    finish->usage = group->usage;
    finish->usage.n_prompt_tokens = group->request->n_prompt;
    for (int32_t i = 0; i < group->n_seqs; i++) {
        struct qr_seq_info info;
        if (group->seqs[i].slot < 0)
            continue;
        qr_scheduler_get_info(engine->sched, group->seqs[i].slot, &info);
        add_preemptions(&finish->usage, &info);
    }
    finish->timings = (struct qr_timings){
        .queue_ns = group->first_plan_ns > 0 ? group->first_plan_ns - submit_ns : 0,
        .first_token_ns = group->first_token_ns > 0 ? group->first_token_ns - submit_ns : 0,
        .total_ns = qr_now_ns() - submit_ns,
    };
}

static void note_output(struct qr_engine *engine, int32_t n_tokens)
{
    int64_t mean = atomic_load(&engine->mean_output_tokens);
    atomic_store(&engine->mean_output_tokens, mean == 0 ? n_tokens : mean + (n_tokens - mean) / 16);
}

/* All outputs have had their last words; `woken` was their consumer. */
static void dispose(struct qr_engine *engine, struct qr_group *group,
                    const struct qr_wake_group *woken)
{
    struct qr_group *last = engine->live[--engine->n_live];

    forget_wake(engine, woken);
    QR_ASSERT(group->n_open == 0 && group->n_done == group->request->n);
    engine->live[group->live_index] = last;
    last->live_index = group->live_index;
    qr_engine_leave_queue(engine, group);
    qr_tenants_leave(&engine->tenants, group->tenant);
    engine->counters.n_finished[group->reason]++;
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    engine->inbox.n_places -= group->width;
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
    qr_group_destroy(group);
    atomic_fetch_sub(&engine->n_unfinished, 1);
}

static void note_done(struct qr_group *group, enum qr_finish_reason reason)
{
    group->n_done++;
    if (reason > group->reason)
        group->reason = reason;
}

/* The last words of an output whose sequence has ended. The group may be gone afterwards. */
static void finish_output(struct qr_engine *engine, struct qr_generation *seq)
{
    struct qr_group *group = seq->group;
    struct qr_finish finish = seq->finish;
    const struct qr_wake_group *woken = qr_stream_group(group->stream);

    qr_engine_note_wake(engine, group);
    fill_in(engine, group, &finish);
    note_output(engine, qr_generation_n_output(seq));
    qr_generation_finish(seq, &finish);
    note_done(group, finish.reason); /* held text may have held a stop string */
    if (group->n_done == group->request->n && group->n_open == 0)
        dispose(engine, group, woken);
}

void qr_engine_end_group(struct qr_engine *engine, struct qr_group *group,
                         const struct qr_finish *end)
{
    const struct qr_wake_group *woken = qr_stream_group(group->stream);

    qr_engine_note_wake(engine, group);
    for (int32_t i = 0; i < group->n_seqs; i++) {
        if (group->seqs[i].slot >= 0)
            qr_engine_close_sequence(engine, &group->seqs[i]);
    }
    int32_t n_outputs = group->request->n;
    int32_t n_done = group->n_done;
    for (int32_t i = 0; i < n_outputs && n_done < n_outputs; i++) {
        struct qr_finish finish = *end;
        if (qr_stream_has_finished(group->stream, i))
            continue;
        fill_in(engine, group, &finish);
        if (group->withheld)
            qr_stream_finish(group->stream, i, &finish, NULL, 0);
        else
            qr_generation_finish(&group->seqs[i], &finish);
        note_done(group, finish.reason);
        n_done++;
    }
    dispose(engine, group, woken);
}

void qr_engine_fail_group(struct qr_engine *engine, struct qr_group *group,
                          const struct qr_error *err)
{
    if (group->failed)
        return;
    group->failed = true;
    group->error = *err;
    group->next = engine->failed;
    engine->failed = group;
}

void qr_engine_fail_on_logits(struct qr_engine *engine, const struct qr_generation *seq)
{
    struct qr_error err;

    qr_fail(&err, QR_ERR_DEVICE,
            "the model gave NaN or only -inf as logits at position %d; the weights may be damaged",
            seq->n_tokens - 1);
    qr_engine_fail_group(engine, seq->group, &err);
}

void qr_engine_end_failed(struct qr_engine *engine)
{
    while (engine->failed != NULL) {
        struct qr_group *group = engine->failed;
        struct qr_finish finish = {.reason = QR_FINISH_ERROR,
                                   .stop_string = -1,
                                   .stop_token_id = -1,
                                   .error = group->error};
        engine->failed = group->next;
        qr_engine_end_group(engine, group, &finish);
    }
}

void qr_engine_pause_group(struct qr_engine *engine, struct qr_group *group, bool paused)
{
    group->paused = paused;
    engine->ahead.is_stale = true;
    for (int32_t i = 0; i < group->n_seqs; i++) {
        if (group->seqs[i].slot >= 0)
            qr_scheduler_set_paused(engine->sched, group->seqs[i].slot, paused);
    }
}

void qr_engine_begin_outputs(struct qr_engine *engine, struct qr_group *group)
{
    QR_ASSERT(group->n_open == 0);
    group->delivering = true;
    qr_generation_begin_output(group->chosen[0], 0);
    qr_engine_deliver(engine, group);
}

void qr_engine_deliver(struct qr_engine *engine, struct qr_group *group)
{
    int32_t n_outputs = group->request->n;

    group->paused = false;
    for (int32_t i = group->n_done; i < n_outputs; i++) {
        qr_engine_note_wake(engine, group);
        if (!qr_generation_say_more(group->chosen[i])) {
            group->paused = true;
            return;
        }
        if (i + 1 < n_outputs)
            qr_generation_begin_output(group->chosen[i + 1], i + 1);
        finish_output(engine, group->chosen[i]);
    }
}

static double mean_logprob(const struct qr_generation *seq)
{
    return seq->sum_logprob / qr_generation_n_output(seq);
}

/* The n with the highest mean log-probability, best first, ties by lower index. */
static void choose_best(struct qr_group *group)
{
    int32_t n_chosen = 0;

    for (int32_t i = 0; i < group->width; i++) {
        struct qr_generation *seq = &group->seqs[i];
        int32_t at = n_chosen < group->request->n ? n_chosen++ : n_chosen - 1;
        if (at == n_chosen - 1 && group->chosen[at] != NULL &&
            !(mean_logprob(seq) > mean_logprob(group->chosen[at])))
            continue;
        for (; at > 0 && mean_logprob(group->chosen[at - 1]) < mean_logprob(seq); at--)
            group->chosen[at] = group->chosen[at - 1];
        group->chosen[at] = seq;
    }
}

/* A sequence of a request that samples has come to its end. The group may be gone afterwards. */
static void end_sampled(struct qr_engine *engine, struct qr_generation *seq)
{
    struct qr_group *group = seq->group;

    qr_engine_close_sequence(engine, seq);
    if (!group->withheld) {
        finish_output(engine, seq);
    } else if (group->n_open == 0) {
        choose_best(group);
        qr_engine_begin_outputs(engine, group);
    }
}

static int32_t n_banned(const struct qr_generation *seq)
{
    const struct qr_group *group = seq->group;
    return qr_generation_n_output(seq) < group->request->min_tokens ? group->n_stop_ids : 0;
}

static struct qr_token_history history_of(const struct qr_generation *seq)
{
    int32_t n_prompt = seq->group->request->n_prompt;

    return (struct qr_token_history){
        .prompt = seq->tokens,
        .n_prompt = n_prompt,
        .output = seq->tokens + n_prompt,
        .n_output = qr_generation_n_output(seq),
        .banned = seq->group->stop_ids,
        .n_banned = n_banned(seq),
        .counts = seq->counts,
    };
}

static const struct qr_logit_wish whole_row = {.token_id = -1};

/* The edits of its row, into the step's arrays. False: there is no room for so many. */
static bool add_edits(struct qr_engine *engine, const struct qr_generation *seq,
                      struct qr_logit_wish *wish)
{
    struct qr_token_history history = history_of(seq);
    struct qr_logit_edit *to = engine->arrays.logit_edits + engine->step.n_edits;
    const struct qr_logit_edit *edits;

    int32_t n = qr_sampler_edits(engine->sampler, &seq->sampling, &history, &edits);
    if (engine->step.n_edits + n > engine->max_edits)
        return false;
    memcpy(to, edits, (size_t)n * sizeof(*edits));
    wish->edits = to;
    wish->n_edits = n;
    engine->step.n_edits += n;
    return true;
}

/* Several sequences that draw from one row do so each with its own seed. False: there is no room
 * for so many in the step. */
static bool add_first_draws(struct qr_engine *engine, const struct qr_group *group,
                            int32_t position, struct qr_logit_wish *wish)
{
    struct qr_engine_step *step = &engine->step;
    double *uniforms = engine->arrays.uniforms + step->n_draws;

    if (step->n_first_draws + group->width > qr_engine_max_first_draws(engine))
        return false;
    for (int32_t i = 0; i < group->width; i++)
        uniforms[i] = qr_philox_uniform(group->seqs[i].sampling.seed, (uint64_t)position);
    wish->n_draws = group->width;
    step->n_draws += group->width;
    step->n_first_draws += group->width;
    return true;
}

/* What is wanted of the row before it is edited. */
static struct qr_logit_wish unedited_wish(struct qr_engine *engine, const struct qr_generation *seq)
{
    const struct qr_group *group = seq->group;
    double *uniform = engine->arrays.uniforms + engine->step.n_draws;
    struct qr_logit_wish wish = qr_selection_wish(&seq->sampling, seq->n_tokens, uniform);

    if (group->request->beam.width > 0) { /* beams rank their rows */
        int32_t n = group->beam.n_ranked > wish.n_reported ? group->beam.n_ranked : wish.n_reported;
        return (struct qr_logit_wish){.token_id = -1,
                                      .n_tokens = n <= QR_SELECTION_MAX ? n : 0,
                                      .n_reported = wish.n_reported};
    }
    if (wish.n_draws == 0)
        return wish;
    if (group->width > 1 && !group->forked)
        return add_first_draws(engine, group, seq->n_tokens, &wish) ? wish : whole_row;
    engine->step.n_draws++;
    return wish;
}

struct qr_logit_wish qr_engine_logit_wish(struct qr_engine *engine, const struct qr_generation *seq)
{
    struct qr_logit_wish wish = unedited_wish(engine, seq);
    bool is_whole = wish.n_tokens == 0 && wish.n_draws == 0;

    if (is_whole ||
        (qr_sampling_changes_row(&seq->sampling, n_banned(seq)) && !add_edits(engine, seq, &wish)))
        return whole_row;
    return wish;
}

struct qr_sampler_input qr_engine_sampler_input(const struct qr_generation *seq,
                                                const struct qr_logit_row *row)
{
    return (struct qr_sampler_input){
        .logits = row->logits,
        .largest = row->selection.largest,
        .sum_exp = row->selection.sum_exp,
        .history = history_of(seq),
    };
}

struct qr_sampler_selections qr_engine_selections(const struct qr_logit_row *row)
{
    return (struct qr_sampler_selections){.raw = &row->selection,
                                          .edited = row->edited.n > 0 ? &row->edited : NULL};
}

/* Samples the next token of `seq` from its row of logits, the which-th to be drawn from it. False:
 * the group failed. */
static bool sample(struct qr_engine *engine, const struct qr_generation *seq,
                   const struct qr_logit_row *row, int32_t which, struct qr_sampled *sampled)
{
    struct qr_sampler_selections selections = qr_engine_selections(row);
    struct qr_sampler_input input = qr_engine_sampler_input(seq, row);

    if (row->logits == NULL)
        return qr_sampler_sample_selected(engine->sampler, &seq->sampling, &selections,
                                          seq->n_tokens, which, sampled) == QR_OK;
    return qr_sampler_sample(engine->sampler, &seq->sampling, &input, sampled) == QR_OK;
}

/* Samples a token and hands it out. The group may be gone afterwards. */
static void sample_next(struct qr_engine *engine, struct qr_generation *seq,
                        const struct qr_logit_row *row, int32_t which)
{
    struct qr_group *group = seq->group;
    struct qr_sampled sampled;

    if (!sample(engine, seq, row, which, &sampled)) {
        qr_engine_fail_on_logits(engine, seq);
        return;
    }
    engine->counters.n_output_tokens++;
    if (!group->withheld)
        qr_engine_note_wake(engine, group);
    qr_generation_append(seq, &sampled); /* the scheduler may look at it from here on */
    qr_scheduler_append_token(engine->sched, seq->slot);
    if (qr_generation_say(seq, &sampled))
        end_sampled(engine, seq);
    else if (!group->withheld && !qr_stream_has_room(group->stream, seq->output))
        qr_engine_pause_group(engine, group, true);
}

static void fork_outputs(struct qr_engine *engine, struct qr_group *group)
{
    for (int32_t i = 1; i < group->width; i++)
        qr_engine_fork(engine, &group->seqs[0], &group->seqs[i]);
    qr_scheduler_end_forks(engine->sched, group->seqs[0].slot);
    group->forked = true;
}

void qr_engine_take_row(struct qr_engine *engine, struct qr_generation *seq,
                        const struct qr_logit_row *row)
{
    struct qr_group *group = seq->group;
    int32_t width = group->width;

    if (group->first_token_ns == 0)
        group->first_token_ns = qr_now_ns();
    if (group->request->beam.width > 0) {
        qr_beam_take_row(engine, seq, row);
        return;
    }
    if (width == 1 || group->forked) {
        sample_next(engine, seq, row, 0);
        return;
    }
    fork_outputs(engine, group);
    for (int32_t i = 0; i < width && !group->failed; i++) {
        bool is_last = i == width - 1; /* after which the group may be gone */
        sample_next(engine, &group->seqs[i], row, i);
        if (is_last)
            return;
    }
}
