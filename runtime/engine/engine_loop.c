/*
 * engine_loop.c - the engine thread: takes what arrived, ends what is cancelled or
 * late, runs steps while there is something to run, and sleeps otherwise.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"

/* Earliest deadline of a live sequence. */
static int64_t next_deadline(const struct qr_engine *engine)
{
    int64_t earliest = QR_TIME_NEVER;

    for (int32_t i = 0; i < engine->n_live; i++) {
        if (engine->live[i]->request->deadline_ns < earliest)
            earliest = engine->live[i]->request->deadline_ns;
    }
    return earliest;
}

static void sleep_until_rung(struct qr_bell *bell, int64_t until_ns)
{
    while (!bell->rung) {
        if (until_ns == QR_TIME_NEVER) {
            pthread_cond_wait(&bell->rung_cond, &bell->mutex);
            continue;
        }
        struct timespec until = {.tv_sec = until_ns / QR_NS_PER_SEC,
                                 .tv_nsec = until_ns % QR_NS_PER_SEC};
        if (pthread_cond_timedwait(&bell->rung_cond, &bell->mutex, &until) != 0)
            break;
    }
}

/* Everything that has arrived, oldest first. With `may_sleep`, waits for news first. */
static struct qr_generation *take_inbox(struct qr_engine *engine, bool may_sleep, bool *stopping)
{
    struct qr_inbox *inbox = &engine->inbox;
    int64_t until_ns = may_sleep ? next_deadline(engine) : 0;

    pthread_mutex_lock(&inbox->bell.mutex);
    if (may_sleep)
        sleep_until_rung(&inbox->bell, until_ns);
    inbox->bell.rung = false;
    struct qr_generation *arrived = inbox->head;
    inbox->head = inbox->tail = NULL;
    *stopping = inbox->stopping;
    pthread_mutex_unlock(&inbox->bell.mutex);
    return arrived;
}

/* False when every slot is taken: paused sequences that were preempted can hold some. */
static bool give_to_scheduler(struct qr_engine *engine, struct qr_generation *seq)
{
    struct qr_seq_params params = {.tokens = seq->tokens,
                                   .n_prompt_tokens = seq->request->n_prompt,
                                   .max_tokens = seq->max_tokens_total,
                                   .width = 1,
                                   .all_logits = seq->request->score_prompt,
                                   .arrival_ns = seq->submit_ns};

    if (qr_scheduler_add(engine->sched, &params, &seq->slot) != QR_OK)
        return false;
    engine->by_slot[seq->slot] = seq;
    seq->live_index = engine->n_live;
    engine->live[engine->n_live++] = seq;
    engine->counters.n_requests++;
    engine->counters.n_prompt_tokens += seq->request->n_prompt;
    return true;
}

void qr_engine_leave_queue(struct qr_engine *engine, struct qr_generation *seq)
{
    if (!seq->queued)
        return;
    seq->queued = false;
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    engine->inbox.n_queued--;
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
}

static void note_duration(struct qr_engine *engine, int64_t duration_ns)
{
    int64_t mean = atomic_load(&engine->mean_request_ns);
    atomic_store(&engine->mean_request_ns,
                 mean == 0 ? duration_ns : mean + (duration_ns - mean) / 16);
}

void qr_engine_finish_sequence(struct qr_engine *engine, struct qr_generation *seq,
                               struct qr_finish *finish)
{
    struct qr_seq_info info;

    qr_scheduler_get_info(engine->sched, seq->slot, &info);
    qr_scheduler_remove(engine->sched, seq->slot);
    engine->by_slot[seq->slot] = NULL;
    struct qr_generation *last = engine->live[--engine->n_live];
    engine->live[seq->live_index] = last;
    last->live_index = seq->live_index;
    qr_engine_leave_queue(engine, seq);

    qr_engine_note_wake(engine, seq);
    qr_generation_finish(seq, finish, info.n_swapped + info.n_recomputed, qr_now_ns());
    engine->counters.n_finished[finish->reason]++; /* held text may have held a stop string */
    note_duration(engine, finish->timings.total_ns);
    qr_generation_destroy(seq);
    atomic_fetch_sub(&engine->n_unfinished, 1);
}

void qr_engine_note_wake(struct qr_engine *engine, const struct qr_generation *seq)
{
    struct qr_wake_group *group = qr_stream_group(seq->stream);

    for (int32_t i = 0; i < engine->n_woken; i++) { /* a handful: one a completion queue */
        if (engine->woken[i] == group)
            return;
    }
    QR_ASSERT(engine->n_woken < engine->n_slots);
    engine->woken[engine->n_woken++] = group;
}

static void post_wakes(struct qr_engine *engine)
{
    for (int32_t i = 0; i < engine->n_woken; i++)
        qr_wake_group_post(engine->woken[i]);
    engine->n_woken = 0;
}

static void end_live(struct qr_engine *engine, struct qr_generation *seq,
                     enum qr_finish_reason reason)
{
    struct qr_finish finish = {.reason = reason, .stop_string = -1, .stop_token_id = -1};
    qr_engine_finish_sequence(engine, seq, &finish);
}

/* Ends what was cancelled or is late; lets go on what was paused and has been read. */
static void tend_live(struct qr_engine *engine)
{
    int64_t now = qr_now_ns();

    for (int32_t i = engine->n_live - 1; i >= 0; i--) { /* backwards: ending moves the last here */
        struct qr_generation *seq = engine->live[i];
        if (qr_stream_is_cancelled(seq->stream)) {
            end_live(engine, seq, QR_FINISH_CANCELLED);
        } else if (now >= seq->request->deadline_ns) {
            end_live(engine, seq, QR_FINISH_DEADLINE);
        } else if (seq->paused && !qr_stream_is_full(seq->stream)) {
            seq->paused = false;
            qr_scheduler_set_paused(engine->sched, seq->slot, false);
        }
    }
}

static void take_arrivals(struct qr_engine *engine, struct qr_generation *arrived)
{
    struct qr_generation **tail = &engine->pending;

    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = arrived;
    while (engine->pending != NULL) {
        struct qr_generation *next = engine->pending->next;
        if (!give_to_scheduler(engine, engine->pending))
            return;
        engine->pending = next;
    }
}

/* Posts whatever woke since the last step, and shows the figures to other threads. */
static void tell(struct qr_engine *engine)
{
    qr_engine_publish_stats(engine);
    post_wakes(engine);
}

void *qr_engine_main(void *arg)
{
    struct qr_engine *engine = arg;
    bool stopping = false;
    bool ran = false;

    while (!stopping) {
        take_arrivals(engine, take_inbox(engine, !ran, &stopping));
        tend_live(engine);
        if (!stopping)
            ran = qr_engine_step(engine);
        tell(engine);
    }
    do {
        while (engine->n_live > 0)
            end_live(engine, engine->live[engine->n_live - 1], QR_FINISH_SHUTDOWN);
        take_arrivals(engine, NULL); /* what waited for a slot gets one now, to be told */
    } while (engine->n_live > 0);
    tell(engine);
    return NULL;
}

void qr_engine_publish_stats(struct qr_engine *engine)
{
    struct qr_engine_stats *counters = &engine->counters;
    struct qr_scheduler_stats sched;
    struct qr_block_stats blocks;
    int64_t now = qr_now_ns();

    qr_scheduler_get_stats(engine->sched, &sched);
    qr_block_manager_stats(engine->blocks, &blocks);
    counters->n_running = sched.n_running;
    counters->n_waiting = sched.n_waiting;
    counters->n_preemptions = sched.n_swapped + sched.n_recomputed;
    counters->n_recomputed_tokens = sched.n_recomputed_tokens;
    counters->kv_pages = blocks.page_count;
    counters->kv_used_pages = blocks.used_pages;
    counters->kv_used_slots = blocks.used_slots;
    counters->kv_wasted_slots = blocks.wasted_slots;
    counters->page_size = engine->config.page_size;
    if (now - engine->window_start_ns >= QR_NS_PER_SEC) {
        int64_t tokens = counters->n_output_tokens - engine->window_tokens;
        counters->tokens_per_second =
            (double)tokens * 1e9 / (double)(now - engine->window_start_ns);
        engine->window_start_ns = now;
        engine->window_tokens = counters->n_output_tokens;
    }
    pthread_mutex_lock(&engine->stats_mutex);
    engine->stats = *counters;
    pthread_mutex_unlock(&engine->stats_mutex);
}
