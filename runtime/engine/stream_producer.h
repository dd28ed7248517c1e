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
    int32_t n_outputs;
    int32_t token_capacity;     /* events of one output that may wait for the consumer */
    int32_t n_prompt_events;    /* that come in addition, of output 0 */
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

/* False: the consumer is behind. Pause the request; a take rings the bell. */
bool qr_stream_has_room(struct qr_stream *stream, int32_t output);
/* True while qr_stream_has_room said no of an output that the consumer has not taken since. */
bool qr_stream_is_full(const struct qr_stream *stream);
bool qr_stream_is_cancelled(const struct qr_stream *stream);

/*
 * Appends one event and its text. For an output token room is guaranteed while
 * qr_stream_has_room; text of at most max_bytes_per_token.
 */
void qr_stream_push(struct qr_stream *stream, int32_t output, const struct qr_token_event *event,
                    const char *text);
/*
 * The last words of one output, with text that was held back (at most
 * max_bytes_per_token: there is always room for it). Those of the last output take the
 * bell off the stream, post the group, which may be gone afterwards, and drop the
 * engine's reference.
 */
void qr_stream_finish(struct qr_stream *stream, int32_t output, const struct qr_finish *finish,
                      const char *text, size_t n_bytes);
/* Whether qr_stream_finish was called for this output. Not after it was for all. */
bool qr_stream_has_finished(const struct qr_stream *stream, int32_t output);
struct qr_wake_group *qr_stream_group(const struct qr_stream *stream);

/* Posts the group if it has ready streams and no post is under way. */
void qr_wake_group_post(struct qr_wake_group *group);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_STREAM_PRODUCER_H */
