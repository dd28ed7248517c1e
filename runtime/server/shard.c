/*
 * shard.c - a completion queue and its thread.
 *
 * gRPC core offers no way to post an event to a queue from outside, but an empty
 * batch completes at once: each shard keeps calls on a channel that leads nowhere,
 * for nothing but that.
 */
#include <stdio.h>

#include "base/assert.h"
#include "base/log.h"
#include "runtime/server/call.h"

/* Calls that can arrive before the thread has armed the next: more only queue up in gRPC. */
enum { ARMED_CALLS = 16 };

static void post(grpc_call *call, struct qr_tag *tag)
{
    grpc_call_error error = grpc_call_start_batch(call, NULL, 0, tag, NULL);
    QR_ASSERT(error == GRPC_CALL_OK);
}

/* Engine thread. */
static void post_wake(struct qr_wake_group *group)
{
    struct qr_shard *shard = QR_CONTAINER_OF(group, struct qr_shard, wakes);
    post(shard->wake_call, &shard->wake_tag);
}

static void on_wake(struct qr_tag *tag, bool ok)
{
    struct qr_shard *shard = QR_CONTAINER_OF(tag, struct qr_shard, wake_tag);

    (void)ok;
    qr_wake_group_drain(&shard->wakes, qr_generate_ready, shard);
}

void qr_shard_post_phase(struct qr_shard *shard)
{
    post(shard->phase_call, &shard->phase_tag);
}

void qr_shard_arm(struct qr_shard *shard)
{
    while (shard->n_armed < ARMED_CALLS && qr_server_phase(shard->server) != QR_SERVER_STOPPING) {
        if (qr_call_arm(shard) != QR_OK) {
            qr_log(QR_LOG_ERROR, "out_of_memory", "armed_calls=%d", shard->n_armed);
            return; /* tried again with the next call that arrives */
        }
    }
}

static void on_phase(struct qr_tag *tag, bool ok)
{
    struct qr_shard *shard = QR_CONTAINER_OF(tag, struct qr_shard, phase_tag);
    struct qr_call *next;

    (void)ok;
    qr_shard_arm(shard);
    for (struct qr_call *call = shard->calls; call != NULL; call = next) {
        next = call->next;
        if (call->method != NULL && call->method->phase_changed != NULL)
            call->method->phase_changed(call);
    }
}

static void *shard_main(void *arg)
{
    struct qr_shard *shard = arg;
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_REALTIME);
    grpc_event event;

    while ((event = grpc_completion_queue_next(shard->queue, never, NULL)).type !=
           GRPC_QUEUE_SHUTDOWN) {
        struct qr_tag *tag = event.tag;
        tag->done(tag, event.success != 0);
    }
    return NULL;
}

static grpc_call *create_idle_call(struct qr_shard *shard)
{
    return grpc_channel_create_call(shard->server->lame, NULL, 0, shard->queue,
                                    grpc_slice_from_static_string("/wake"), NULL,
                                    gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
}

enum qr_status qr_shard_create(struct qr_server *server, struct qr_shard *shard)
{
    shard->server = server;
    qr_wake_group_init(&shard->wakes, post_wake);
    shard->wake_tag.done = on_wake;
    shard->phase_tag.done = on_phase;
    shard->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->grpc, shard->queue, NULL);
    shard->wake_call = create_idle_call(shard);
    shard->phase_call = create_idle_call(shard);
    return shard->wake_call != NULL && shard->phase_call != NULL ? QR_OK : QR_ERR_NOMEM;
}

enum qr_status qr_shard_start(struct qr_shard *shard)
{
    char name[16];

    if (pthread_create(&shard->thread, NULL, shard_main, shard) != 0)
        return QR_ERR_NOMEM;
    shard->thread_started = true;
    snprintf(name, sizeof(name), "qr-net-%d", (int)(shard - shard->server->shards));
    pthread_setname_np(shard->thread, name);
    return QR_OK;
}

void qr_shard_destroy(struct qr_shard *shard)
{
    if (shard->queue == NULL)
        return;
    if (shard->wake_call != NULL)
        grpc_call_unref(shard->wake_call);
    if (shard->phase_call != NULL)
        grpc_call_unref(shard->phase_call);
    grpc_completion_queue_shutdown(shard->queue);
    if (shard->thread_started)
        pthread_join(shard->thread, NULL);
    else
        shard_main(shard);
    grpc_completion_queue_destroy(shard->queue);
    shard->queue = NULL;
}
