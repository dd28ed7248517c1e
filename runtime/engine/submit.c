/*
 * submit.c - a request's way in, from any thread: what is checked, whether there is a place
 * for it, and when to come again if not.
 */
#include "base/clock.h"
#include "runtime/engine/engine_internal.h"

enum { RETRY_MIN_MS = 100, RETRY_MAX_MS = 30000 };

/* Tokens that a request will take: its prompt, and outputs as long as others were lately. */
static int64_t expected_tokens(struct qr_engine *engine, const struct qr_request *request)
{
    int64_t most = qr_request_max_seq_tokens(request, engine->max_seq_tokens) - request->n_prompt;
    int64_t mean = atomic_load(&engine->mean_output_tokens);
    int64_t output = mean > 0 && mean < most ? mean : most;

    return request->n_prompt + output * qr_request_width(request);
}

/*
 * The time in which half of the tokens that wait will have been computed, at the rate of
 * late: then the queue has room again, also for several who were refused.
 */
static int64_t estimate_retry(struct qr_engine *engine, int64_t queued_tokens)
{
    int64_t rate = atomic_load(&engine->rows_per_second);
    int64_t ms = rate > 0 ? queued_tokens * 1000 / rate / 2 : RETRY_MIN_MS;

    ms = ms < RETRY_MIN_MS ? RETRY_MIN_MS : ms;
    ms = ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
    return ms * 1000000;
}

/* Takes places in the queue, or says why there are none. */
static enum qr_status take_places(struct qr_engine *engine, const struct qr_request *request,
                                  int64_t n_tokens, int64_t *retry_after_ns, struct qr_error *err)
{
    struct qr_inbox *inbox = &engine->inbox;
    int32_t width = qr_request_width(request);
    enum qr_status status = QR_OK;

    pthread_mutex_lock(&inbox->bell.mutex);
    int32_t n_queued = inbox->n_queued;
    int64_t queued_tokens = inbox->queued_tokens;
    if (inbox->draining) {
        status = qr_fail(err, QR_ERR_CLOSED, "the server is shutting down");
    } else if (n_queued + width > engine->config.max_queue ||
               inbox->n_places + width > engine->n_slots) {
        status = qr_fail(err, QR_ERR_QUEUE_FULL, "the queue is full: %d sequences wait already",
                         n_queued);
    } else {
        inbox->n_queued += width;
        inbox->n_places += width;
        inbox->queued_tokens += n_tokens;
    }
    pthread_mutex_unlock(&inbox->bell.mutex);
    if (status == QR_ERR_QUEUE_FULL) {
        atomic_fetch_add(&engine->n_rejected, 1);
        *retry_after_ns = estimate_retry(engine, queued_tokens);
    }
    return status;
}

static void give_places_back(struct qr_engine *engine, int32_t width, int64_t n_tokens)
{
    struct qr_inbox *inbox = &engine->inbox;

    pthread_mutex_lock(&inbox->bell.mutex);
    inbox->n_queued -= width;
    inbox->n_places -= width;
    inbox->queued_tokens -= n_tokens;
    pthread_mutex_unlock(&inbox->bell.mutex);
}

static void put_in_inbox(struct qr_engine *engine, struct qr_group *group)
{
    struct qr_inbox *inbox = &engine->inbox;

    pthread_mutex_lock(&inbox->bell.mutex);
    if (inbox->tail != NULL)
        inbox->tail->next = group;
    else
        inbox->head = group;
    inbox->tail = group;
    inbox->bell.rung = true;
    pthread_cond_signal(&inbox->bell.rung_cond);
    pthread_mutex_unlock(&inbox->bell.mutex);
}

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static enum qr_status check_request(const struct qr_engine *engine,
                                    const struct qr_request *request, const char **field,
                                    struct qr_error *err)
{
    struct qr_request_limits limits = {
        .vocab_size = engine->model_config.vocab_size,
        .max_seq_tokens = engine->max_seq_tokens,
        .max_width =
            min_i32(QR_MAX_WIDTH, min_i32(engine->config.max_running, engine->config.max_queue)),
    };

    QR_TRY(qr_request_check(request, &limits, field, err));
    int32_t tenant = qr_tenants_find(&engine->tenants, request->tenant);
    int32_t max_pages = engine->tenants.items[tenant].max_pages;
    int32_t n_tokens = qr_request_max_seq_tokens(request, engine->max_seq_tokens);
    int32_t n_pages = (n_tokens + engine->config.page_size - 1) / engine->config.page_size;
    if (max_pages > 0 && n_pages > max_pages)
        return qr_fail(
            err, QR_ERR_UNSUPPORTED,
            "%d tokens need %d KV pages, but tenant \"%s\" may hold %d: lower max_tokens", n_tokens,
            n_pages, request->tenant, max_pages);
    return QR_OK;
}

enum qr_status qr_engine_submit(struct qr_engine *engine, struct qr_request *request,
                                struct qr_wake_group *group, void *owner, struct qr_stream **out,
                                const char **field, int64_t *retry_after_ns, struct qr_error *err)
{
    struct qr_group *made;

    *out = NULL;
    *field = NULL;
    *retry_after_ns = 0;
    QR_TRY(check_request(engine, request, field, err));
    int64_t n_tokens = expected_tokens(engine, request);
    QR_TRY(take_places(engine, request, n_tokens, retry_after_ns, err));
    struct qr_group_context context = {
        .tokenizer = engine->tokenizer,
        .config = &engine->model_config,
        .max_seq_tokens = engine->max_seq_tokens,
        .bell = &engine->inbox.bell,
        .group = group,
        .owner = owner,
    };
    if (qr_group_create(&context, request, qr_now_ns(), &made, out) != QR_OK) {
        give_places_back(engine, qr_request_width(request), n_tokens);
        *retry_after_ns = estimate_retry(engine, 0);
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for this request");
    }
    made->queue_tokens = n_tokens;
    atomic_fetch_add(&engine->n_unfinished, 1);
    put_in_inbox(engine, made);
    return QR_OK;
}
