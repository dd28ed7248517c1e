/*
 * server.h - the gRPC side of an engine: quire.v1, grpc.health.v1 and server
 * reflection (v1 and v1alpha).
 *
 * One thread for each completion queue; a call lives on the queue that announced it
 * and is touched by that queue's thread alone. The engine's thread only ever posts a
 * wake-up, once a step and queue (see struct qr_wake_group). A client that reads
 * slowly gets fewer, larger messages.
 *
 * Life: create, (drain, stop), then the engine is destroyed, then destroy. Block the
 * signals that the program waits for before create: gRPC starts threads.
 */
#ifndef QUIRE_RUNTIME_SERVER_SERVER_H
#define QUIRE_RUNTIME_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/engine/engine.h"

struct qr_server;

struct qr_server_config {
    const char *listen;        /* host:port, [v6]:port or unix:PATH; port 0: any free one */
    struct qr_engine *engine;  /* borrowed */
    int32_t n_queues;          /* completion queues; 0: one for four cores, at most 4 */
    int64_t max_message_bytes; /* of one request */
    int32_t keepalive_ms;      /* a client that is silent this long is probed */
};

QR_BEGIN_DECLS

/* 127.0.0.1:7070, 4 MiB a message, 20 s keepalive; no engine. */
void qr_server_config_default(struct qr_server_config *config);

/*
 * Listens and accepts calls. On QR_OK the caller owns *out. Errors name the address
 * and say what is wrong with it (in use, no such folder, not permitted).
 */
QR_MUST_CHECK enum qr_status qr_server_create(const struct qr_server_config *config,
                                              struct qr_server **out, struct qr_error *err);
/* As given, with the port that was bound. */
const char *qr_server_address(const struct qr_server *server);

/*
 * Health turns to NOT_SERVING, new requests are refused with UNAVAILABLE, what runs
 * goes on. Returns at once. The thread of create.
 */
void qr_server_drain(struct qr_server *server);
/* True when no call of InferenceService is left. Any thread. */
bool qr_server_is_drained(struct qr_server *server);

/*
 * Ends every call (UNAVAILABLE) and returns when none is left: no call reaches the
 * engine any more, which the caller destroys next. The thread of create; once.
 */
void qr_server_stop(struct qr_server *server);
/* After the engine. Accepts NULL. */
void qr_server_destroy(struct qr_server *server);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_SERVER_H */
