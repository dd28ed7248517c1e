/* server_internal.h - the server's state, shared by the files of this folder and nobody else. */
#ifndef QUIRE_RUNTIME_SERVER_SERVER_INTERNAL_H
#define QUIRE_RUNTIME_SERVER_SERVER_INTERNAL_H

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "proto/google/protobuf/descriptor.pb-c.h"
#include "runtime/server/server.h"

struct qr_call;

/* What a completion queue hands back. `ok` as in grpc_event.success. */
struct qr_tag {
    void (*done)(struct qr_tag *tag, bool ok);
};

#define QR_CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

enum qr_server_phase {
    QR_SERVER_SERVING,
    QR_SERVER_DRAINING, /* no new requests */
    QR_SERVER_STOPPING, /* running ones end too */
};

/* A completion queue, its thread, and the calls that live there. */
struct qr_shard {
    struct qr_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    bool thread_started;

    struct qr_wake_group wakes;
    struct qr_tag wake_tag;
    grpc_call *wake_call; /* never goes anywhere: an empty batch on it posts wake_tag */
    struct qr_tag phase_tag;
    grpc_call *phase_call; /* the same, for the thread that changes the phase */

    struct qr_call *calls; /* list of those that are under way; the shard's thread */
    int32_t n_armed;       /* calls that wait for a client; the shard's thread */
};

enum { QR_MAX_SHARDS = 4 };

struct qr_server {
    struct qr_engine *engine;
    char address[256];
    int64_t start_ns;
    Google__Protobuf__FileDescriptorSet *descriptors;

    grpc_server *grpc;
    grpc_channel *lame; /* makes the wake calls */
    int32_t n_shards;
    struct qr_shard shards[QR_MAX_SHARDS];

    atomic_int phase; /* enum qr_server_phase */
    atomic_int n_inference_calls;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int32_t n_calls; /* under way, on all shards; guarded by mutex */
    bool shut_down;  /* gRPC has let go of all calls; guarded by mutex */
    struct qr_tag shutdown_tag;
    bool listening;
    bool stopped;
};

QR_BEGIN_DECLS

/* shard.c. On error what was made is left to qr_shard_destroy. */
QR_MUST_CHECK enum qr_status qr_shard_create(struct qr_server *server, struct qr_shard *shard);
QR_MUST_CHECK enum qr_status qr_shard_start(struct qr_shard *shard);
/* Waits for clients with as many calls as it should. The shard's thread. */
void qr_shard_arm(struct qr_shard *shard);
/*
 * The shard's thread looks at the phase of the server, and begins to take calls if it
 * has not yet (grpc_server_start comes first). The thread of qr_server_create.
 */
void qr_shard_post_phase(struct qr_shard *shard);
/* Ends the thread; nothing may post any more. Accepts one that was never created. */
void qr_shard_destroy(struct qr_shard *shard);

static inline enum qr_server_phase qr_server_phase(struct qr_server *server)
{
    return (enum qr_server_phase)atomic_load(&server->phase);
}

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_SERVER_INTERNAL_H */
