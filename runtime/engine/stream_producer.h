/*
 * stream_producer.h - the engine's side of a stream (see stream.h).
 *
 * Everything here is called by the engine thread, but for create, which the thread
 * that submits calls before the engine knows the stream.
 */
#ifndef QUIRE_RUNTIME_ENGINE_STREAM_PRODUCER_H
#define QUIRE_RUNTIME_ENGINE_STREAM_PRODUCER_H

#include <pthread.h>

#include "runtime/engine/stream.h"

/* Wakes the engine thread; shared by the inbox and all streams. */
struct qr_bell {
    pthread_mutex_t mutex;
    pthread_cond_t rung_cond;
    bool rung;
};

struct qr_stream_config {
    int32_t token_capacity;     /* events that may wait for the consumer */
    size_t max_bytes_per_token; /* most text that one push can bring */
    struct qr_bell *bell;
    struct qr_wake_group *group;
    void *owner;
};

QR_BEGIN_DECLS

void qr_bell_ring(struct qr_bell *bell);

/* On QR_OK there are two references: the engine's and the consumer's. */
QR_MUST_CHECK enum qr_status qr_stream_create(const struct qr_stream_config *config,
                                              struct qr_stream **out);

/* False: the consumer is behind. Pause the sequence; a take rings the bell. */
bool qr_stream_has_room(struct qr_stream *stream);
/* True once qr_stream_has_room said no and the consumer has not taken anything since. */
bool qr_stream_is_full(const struct qr_stream *stream);
bool qr_stream_is_cancelled(const struct qr_stream *stream);

/*
 * Appends one event and its text. For an output token room is guaranteed while
 * qr_stream_has_room; text of at most max_bytes_per_token.
 */
void qr_stream_push(struct qr_stream *stream, const struct qr_token_event *event, const char *text);
/*
 * The last words, with text that was held back (at most max_bytes_per_token: there
 * is always room for it). Takes the bell off the stream and drops the engine's
 * reference.
 */
void qr_stream_finish(struct qr_stream *stream, const struct qr_finish *finish, const char *text,
                      size_t n_bytes);
/* Puts the stream on its group's ready stack, unless it is there already. */
void qr_stream_mark_ready(struct qr_stream *stream);
struct qr_wake_group *qr_stream_group(const struct qr_stream *stream);

/* Posts the group if it has ready streams and no post is under way. */
void qr_wake_group_post(struct qr_wake_group *group);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_STREAM_PRODUCER_H */
