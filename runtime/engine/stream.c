/*
 * stream.c - see stream.h and stream_producer.h for the contracts.
 *
 * The producer fills buffers[back] of a lane under the mutex; a take makes it the front,
 * which the consumer then reads without the lock until its next take.
 */
#include "runtime/engine/stream.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/engine/stream_producer.h"

enum { TEXT_BYTES = 4096 }; /* of one buffer, beyond the room that one push may need */

struct stream_buffer {
    int32_t n_tokens;
    struct qr_token_event *tokens; /* [token_capacity] */
    size_t n_text_bytes;
    char *text; /* [text_capacity] */
};

/* One output on its way. */
struct stream_lane {
    int32_t token_capacity;
    int back;
    struct stream_buffer buffers[2];
    bool full; /* the producer found no room, and nothing was taken since */
    bool finished;
    bool finish_taken;
    struct qr_finish finish;
};

struct qr_stream {
    atomic_int n_refs;
    atomic_bool cancelled;
    atomic_int n_full; /* lanes */
    atomic_bool on_ready_stack;
    struct qr_stream *ready_next; /* written by the producer before the push */
    struct qr_wake_group *group;
    void *owner;
    size_t text_capacity;
    size_t max_bytes_per_token;

    pthread_mutex_t mutex;
    struct qr_bell *bell; /* NULL once finished */
    int32_t n_lanes;
    int32_t n_unfinished;
    int32_t n_untaken; /* ends that the consumer has not taken; it alone changes it */
    int32_t next;      /* lane that the next take looks at first */
    struct stream_lane lanes[];
};

void qr_bell_ring(struct qr_bell *bell)
{
    pthread_mutex_lock(&bell->mutex);
    bell->rung = true;
    pthread_cond_signal(&bell->rung_cond);
    pthread_mutex_unlock(&bell->mutex);
}

static void destroy(struct qr_stream *stream)
{
    for (int32_t lane = 0; lane < stream->n_lanes; lane++) {
        for (int i = 0; i < 2; i++) {
            qr_free(stream->lanes[lane].buffers[i].tokens);
            qr_free(stream->lanes[lane].buffers[i].text);
        }
    }
    pthread_mutex_destroy(&stream->mutex);
    qr_free(stream);
}

static enum qr_status allocate_lane(struct stream_lane *lane, size_t text_capacity)
{
    for (int i = 0; i < 2; i++) {
        struct stream_buffer *buffer = &lane->buffers[i];
        buffer->tokens =
            qr_malloc(QR_ARENA_REQUEST, (size_t)lane->token_capacity * sizeof(*buffer->tokens));
        buffer->text = qr_malloc(QR_ARENA_REQUEST, text_capacity);
        if (buffer->tokens == NULL || buffer->text == NULL)
            return QR_ERR_NOMEM;
    }
    return QR_OK;
}

enum qr_status qr_stream_create(const struct qr_stream_config *config, struct qr_stream **out)
{
    *out = NULL;
    size_t n_lanes = (size_t)config->n_outputs;
    struct qr_stream *stream =
        qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*stream) + n_lanes * sizeof(stream->lanes[0]));
    if (stream == NULL)
        return QR_ERR_NOMEM;
    pthread_mutex_init(&stream->mutex, NULL);
    atomic_init(&stream->n_refs, 2);
    stream->group = config->group;
    stream->owner = config->owner;
    stream->bell = config->bell;
    stream->max_bytes_per_token = config->max_bytes_per_token;
    /* One push beyond the last one that has room: what finish releases. */
    stream->text_capacity = TEXT_BYTES + 2 * config->max_bytes_per_token;
    stream->n_lanes = stream->n_unfinished = stream->n_untaken = config->n_outputs;
    for (int32_t i = 0; i < stream->n_lanes; i++) {
        struct stream_lane *lane = &stream->lanes[i];
        lane->token_capacity = config->token_capacity + (i == 0 ? config->n_prompt_events : 0);
        if (allocate_lane(lane, stream->text_capacity) != QR_OK) {
            destroy(stream);
            return QR_ERR_NOMEM;
        }
    }
    *out = stream;
    return QR_OK;
}

static void ref(struct qr_stream *stream)
{
    atomic_fetch_add_explicit(&stream->n_refs, 1, memory_order_relaxed);
}

void qr_stream_unref(struct qr_stream *stream)
{
    if (stream != NULL && atomic_fetch_sub_explicit(&stream->n_refs, 1, memory_order_acq_rel) == 1)
        destroy(stream);
}

void *qr_stream_owner(const struct qr_stream *stream)
{
    return stream->owner;
}

struct qr_wake_group *qr_stream_group(const struct qr_stream *stream)
{
    return stream->group;
}

static bool has_news(const struct stream_lane *lane)
{
    const struct stream_buffer *back = &lane->buffers[lane->back];

    return back->n_tokens > 0 || back->n_text_bytes > 0 || (lane->finished && !lane->finish_taken);
}

/* The next lane with news, from stream->next on; that one when there is none. */
static int32_t lane_to_take(const struct qr_stream *stream)
{
    for (int32_t i = 0; i < stream->n_lanes; i++) {
        int32_t index = (stream->next + i) % stream->n_lanes;
        if (has_news(&stream->lanes[index]))
            return index;
    }
    return stream->next;
}

static void swap_buffers(struct stream_lane *lane, struct qr_stream_chunk *chunk)
{
    struct stream_buffer *front = &lane->buffers[lane->back];

    lane->back ^= 1;
    lane->buffers[lane->back].n_tokens = 0;
    lane->buffers[lane->back].n_text_bytes = 0;
    chunk->n_tokens = front->n_tokens;
    chunk->tokens = front->tokens;
    chunk->text = front->text;
    chunk->n_text_bytes = front->n_text_bytes;
}

void qr_stream_take(struct qr_stream *stream, struct qr_stream_chunk *chunk)
{
    pthread_mutex_lock(&stream->mutex);
    int32_t index = lane_to_take(stream);
    struct stream_lane *lane = &stream->lanes[index];
    stream->next = (index + 1) % stream->n_lanes;
    *chunk = (struct qr_stream_chunk){.output = index};
    swap_buffers(lane, chunk);
    if (lane->finished && !lane->finish_taken) {
        chunk->finish = &lane->finish;
        lane->finish_taken = true;
        chunk->last = --stream->n_untaken == 0;
    }
    if (lane->full) {
        lane->full = false;
        if (atomic_fetch_sub(&stream->n_full, 1) == 1 && stream->bell != NULL)
            qr_bell_ring(stream->bell);
    }
    pthread_mutex_unlock(&stream->mutex);
}

void qr_stream_cancel(struct qr_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    atomic_store(&stream->cancelled, true);
    if (stream->bell != NULL)
        qr_bell_ring(stream->bell);
    pthread_mutex_unlock(&stream->mutex);
}

bool qr_stream_is_cancelled(const struct qr_stream *stream)
{
    return atomic_load_explicit(&stream->cancelled, memory_order_relaxed);
}

bool qr_stream_is_full(const struct qr_stream *stream)
{
    return atomic_load(&stream->n_full) > 0;
}

bool qr_stream_has_room(struct qr_stream *stream, int32_t output)
{
    struct stream_lane *lane = &stream->lanes[output];

    pthread_mutex_lock(&stream->mutex);
    const struct stream_buffer *back = &lane->buffers[lane->back];
    bool room = back->n_tokens < lane->token_capacity && back->n_text_bytes <= TEXT_BYTES;
    if (lane->full == room)
        atomic_fetch_add(&stream->n_full, room ? -1 : 1);
    lane->full = !room;
    pthread_mutex_unlock(&stream->mutex);
    return room;
}

static void append_text(const struct qr_stream *stream, struct stream_lane *lane, const char *text,
                        size_t n_bytes)
{
    struct stream_buffer *back = &lane->buffers[lane->back];

    QR_ASSERT(n_bytes <= stream->text_capacity - back->n_text_bytes);
    if (n_bytes > 0)
        memcpy(back->text + back->n_text_bytes, text, n_bytes);
    back->n_text_bytes += n_bytes;
}

/* Puts the stream on its group's ready stack, unless it is there already. */
static void mark_ready(struct qr_stream *stream)
{
    if (atomic_exchange(&stream->on_ready_stack, true))
        return;
    ref(stream); /* the stack's own */
    struct qr_stream *head = atomic_load_explicit(&stream->group->ready, memory_order_relaxed);
    do {
        stream->ready_next = head;
    } while (!atomic_compare_exchange_weak_explicit(&stream->group->ready, &head, stream,
                                                    memory_order_release, memory_order_relaxed));
}

void qr_stream_push(struct qr_stream *stream, int32_t output, const struct qr_token_event *event,
                    const char *text)
{
    struct stream_lane *lane = &stream->lanes[output];

    pthread_mutex_lock(&stream->mutex);
    struct stream_buffer *back = &lane->buffers[lane->back];
    QR_ASSERT(back->n_tokens < lane->token_capacity);
    back->tokens[back->n_tokens++] = *event;
    append_text(stream, lane, text, event->n_bytes);
    pthread_mutex_unlock(&stream->mutex);
    mark_ready(stream);
}

void qr_stream_finish(struct qr_stream *stream, int32_t output, const struct qr_finish *finish,
                      const char *text, size_t n_bytes)
{
    struct stream_lane *lane = &stream->lanes[output];

    pthread_mutex_lock(&stream->mutex);
    QR_ASSERT(!lane->finished);
    append_text(stream, lane, text, n_bytes);
    lane->finish = *finish;
    lane->finished = true;
    bool ends = --stream->n_unfinished == 0;
    mark_ready(stream);
    if (ends) {
        stream->bell = NULL;
        /* Before anybody can take the end: afterwards the group may be gone. */
        qr_wake_group_post(stream->group);
    }
    pthread_mutex_unlock(&stream->mutex);
    if (ends)
        qr_stream_unref(stream);
}

bool qr_stream_has_finished(const struct qr_stream *stream, int32_t output)
{
    return stream->lanes[output].finished; /* which the producer alone changes */
}

void qr_wake_group_init(struct qr_wake_group *group, void (*post)(struct qr_wake_group *group))
{
    atomic_init(&group->ready, NULL);
    atomic_init(&group->posted, false);
    group->post = post;
}

void qr_wake_group_post(struct qr_wake_group *group)
{
    if (atomic_load_explicit(&group->ready, memory_order_relaxed) != NULL &&
        !atomic_exchange(&group->posted, true))
        group->post(group);
}

void qr_wake_group_drain(struct qr_wake_group *group,
                         void (*ready)(void *arg, struct qr_stream *stream), void *arg)
{
    /* Cleared first: what is pushed from here on gets a post of its own. */
    atomic_store(&group->posted, false);
    struct qr_stream *newest = atomic_exchange_explicit(&group->ready, NULL, memory_order_acquire);
    struct qr_stream *oldest = NULL;
    while (newest != NULL) { /* the stack holds the newest first: serve in order of arrival */
        struct qr_stream *next = newest->ready_next;
        newest->ready_next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct qr_stream *next = oldest->ready_next;
        atomic_store(&oldest->on_ready_stack, false);
        /* Its end may have been taken between the engine's last words and this wake-up, and
         * with it the owner may be gone. */
        if (oldest->n_untaken > 0)
            ready(arg, oldest);
        qr_stream_unref(oldest);
        oldest = next;
    }
}

const char *qr_finish_reason_name(enum qr_finish_reason reason)
{
    switch (reason) {
    case QR_FINISH_NONE:
        return "none";
    case QR_FINISH_STOP:
        return "stop";
    case QR_FINISH_LENGTH:
        return "length";
    case QR_FINISH_CANCELLED:
        return "cancelled";
    case QR_FINISH_DEADLINE:
        return "deadline";
    case QR_FINISH_SHUTDOWN:
        return "shutdown";
    case QR_FINISH_ERROR:
        return "error";
    }
    return "unknown";
}
