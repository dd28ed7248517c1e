/*
 * waiter.h - a wake group for a thread that waits for its streams: the command line
 * and the tests read tokens with it.
 */
#ifndef QUIRE_RUNTIME_ENGINE_WAITER_H
#define QUIRE_RUNTIME_ENGINE_WAITER_H

#include <pthread.h>

#include "runtime/engine/stream.h"

struct qr_waiter {
    struct qr_wake_group group; /* first: a post finds the waiter by it */
    pthread_mutex_t mutex;
    pthread_cond_t posted_cond;
    bool posted;
};

QR_BEGIN_DECLS

void qr_waiter_init(struct qr_waiter *waiter);
/* No stream of the group may be running. */
void qr_waiter_destroy(struct qr_waiter *waiter);
/* Sleeps until a stream of the group has news, then calls `ready` for each that has. */
void qr_waiter_wait(struct qr_waiter *waiter, void (*ready)(void *arg, struct qr_stream *stream),
                    void *arg);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_WAITER_H */
