/* waiter.c - see waiter.h for the contract. */
#include "runtime/engine/waiter.h"

static void post(struct qr_wake_group *group)
{
    struct qr_waiter *waiter = (struct qr_waiter *)group;

    pthread_mutex_lock(&waiter->mutex);
    waiter->posted = true;
    pthread_cond_signal(&waiter->posted_cond);
    pthread_mutex_unlock(&waiter->mutex);
}

void qr_waiter_init(struct qr_waiter *waiter)
{
    qr_wake_group_init(&waiter->group, post);
    pthread_mutex_init(&waiter->mutex, NULL);
    pthread_cond_init(&waiter->posted_cond, NULL);
    waiter->posted = false;
}

static void ignore(void *arg, struct qr_stream *stream)
{
    (void)arg;
    (void)stream;
}

void qr_waiter_destroy(struct qr_waiter *waiter)
{
    /* Streams that were read to their end without waiting for them are still on the stack. */
    qr_wake_group_drain(&waiter->group, ignore, NULL);
    pthread_mutex_destroy(&waiter->mutex);
    pthread_cond_destroy(&waiter->posted_cond);
}

void qr_waiter_wait(struct qr_waiter *waiter, void (*ready)(void *arg, struct qr_stream *stream),
                    void *arg)
{
    pthread_mutex_lock(&waiter->mutex);
    while (!waiter->posted)
        pthread_cond_wait(&waiter->posted_cond, &waiter->mutex);
    waiter->posted = false;
    pthread_mutex_unlock(&waiter->mutex);
    qr_wake_group_drain(&waiter->group, ready, arg);
}
