/*
 * engine_loop.c - the engine thread: takes what arrived, ends what is cancelled or
 * late, runs steps while there is something to run, and sleeps otherwise.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"

/* Earliest deadline of a live request. */
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
static struct qr_group *take_inbox(struct qr_engine *engine, bool may_sleep, bool *stopping)
{
    struct qr_inbox *inbox = &engine->inbox;
    int64_t until_ns = may_sleep ? next_deadline(engine) : 0;

    pthread_mutex_lock(&inbox->bell.mutex);
    if (may_sleep)
        sleep_until_rung(&inbox->bell, until_ns);
    inbox->bell.rung = false;
    struct qr_group *arrived = inbox->head;
    inbox->head = inbox->tail = NULL;
    *stopping = inbox->stopping;
    pthread_mutex_unlock(&inbox->bell.mutex);
    return arrived;
}

static void make_live(struct qr_engine *engine, struct qr_group *group)
{
    group->live_index = engine->n_live;
    engine->live[engine->n_live++] = group;
    engine->counters.n_requests++;
    engine->counters.n_prompt_tokens += group->request->n_prompt;
}

/* Its first sequence; false while the scheduler has no slots for the request. */
static bool give_to_scheduler(struct qr_engine *engine, struct qr_group *group)
{
    const struct qr_request *request = group->request;
    struct qr_generation *seq = &group->seqs[0];
    struct qr_seq_params params = {
        .tokens = seq->tokens,
        .n_prompt_tokens = request->n_prompt,
        .max_tokens = group->max_tokens,
        .width = group->width,
        .all_logits = request->score_prompt,
        .priority = request->priority,
        .tenant = group->tenant,
        .arrival_ns = group->submit_ns,
        .first_token_ns = request->first_token_ns,
        .salt = request->cache_salt,
        .n_salt_bytes = request->n_salt_bytes,
    };

    if (group->tenant < 0)
        params.tenant = group->tenant = qr_tenants_enter(&engine->tenants, request->tenant);
    enum qr_status status = qr_scheduler_add(engine->sched, &params, &seq->slot);
    if (status == QR_ERR_QUEUE_FULL)
        return false;
    QR_ASSERT(status == QR_OK); /* what can never run was refused at submit */
    qr_recorder_note_request(engine->recorder, seq->slot, request->request_id);
    engine->by_slot[seq->slot] = seq;
    engine->ahead.is_stale = true;
    group->n_open = 1;
    make_live(engine, group);
    return true;
}

static void post_wakes(struct qr_engine *engine)
{
    for (int32_t i = 0; i < engine->n_woken; i++)
        qr_wake_group_post(engine->woken[i]);
    engine->n_woken = 0;
}

static void end_live(struct qr_engine *engine, struct qr_group *group, enum qr_finish_reason reason)
{
    struct qr_finish finish = {.reason = reason, .stop_string = -1, .stop_token_id = -1};
    qr_engine_end_group(engine, group, &finish);
}

/* Ends what was cancelled or is late; lets go on what was paused and has been read. */
static void tend_live(struct qr_engine *engine)
{
    int64_t now = qr_now_ns();

    for (int32_t i = engine->n_live - 1; i >= 0; i--) { /* backwards: ending moves the last here */
        struct qr_group *group = engine->live[i];
        if (qr_stream_is_cancelled(group->stream)) {
            end_live(engine, group, QR_FINISH_CANCELLED);
        } else if (now >= group->request->deadline_ns) {
            end_live(engine, group, QR_FINISH_DEADLINE);
        } else if (group->paused && !qr_stream_is_full(group->stream)) {
            if (group->delivering)
                qr_engine_deliver(engine, group);
            else
                qr_engine_pause_group(engine, group, false);
        }
    }
}

static void take_arrivals(struct qr_engine *engine, struct qr_group *arrived)
{
    struct qr_group **tail = &engine->pending;

    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = arrived;
    while (engine->pending != NULL) {
        struct qr_group *next = engine->pending->next;
        if (!give_to_scheduler(engine, engine->pending))
            return;
        engine->pending = next;
    }
}

void qr_engine_tell(struct qr_engine *engine)
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
        if (!engine->ahead.is_made) /* else when the next step has begun, which is soon */
            qr_engine_tell(engine);
    }
    do {
        while (engine->n_live > 0)
            end_live(engine, engine->live[engine->n_live - 1], QR_FINISH_SHUTDOWN);
        take_arrivals(engine, NULL); /* what waited for a slot gets one now, to be told */
    } while (engine->n_live > 0);
    qr_engine_tell(engine);
    return NULL;
}

static void copy_block_stats(struct qr_engine_stats *counters, const struct qr_block_stats *blocks)
{
    counters->kv_pages = blocks->page_count;
    counters->kv_used_pages = blocks->used_pages;
    counters->kv_cached_pages = blocks->cached_pages;
    counters->kv_used_slots = blocks->used_slots;
    counters->kv_wasted_slots = blocks->wasted_slots;
    counters->n_copies = blocks->n_copies;
    counters->n_merged = blocks->n_merged;
    counters->n_evicted = blocks->n_evicted;
    counters->n_lost = blocks->n_lost;
    counters->n_hit_tokens = blocks->n_hit_tokens;
    counters->n_lookup_tokens = blocks->n_lookup_tokens;
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
    counters->n_loading = sched.n_loading;
    counters->n_waiting = sched.n_waiting;
    counters->n_paused = sched.n_paused;
    counters->n_swapped = sched.n_swapped;
    counters->n_recomputed = sched.n_recomputed;
    counters->n_parked = sched.n_parked;
    counters->n_recomputed_tokens = sched.n_recomputed_tokens;
    copy_block_stats(counters, &blocks);
    qr_engine_swap_publish(engine, &blocks, counters->tiers);
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
