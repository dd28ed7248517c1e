/*
 * call.h - one call from its arrival to its status, whatever its method.
 *
 * Everything here runs on the thread of the call's shard. A call is
 * reference-counted: every batch that is under way holds a reference, and whoever
 * keeps a pointer takes one.
 */
#ifndef QUIRE_RUNTIME_SERVER_CALL_H
#define QUIRE_RUNTIME_SERVER_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/server/message.h"
#include "runtime/server/rich_error.h"
#include "runtime/server/server_internal.h"

struct qr_call;

struct qr_method {
    const char *path;                          /* "/package.Service/Method" */
    const ProtobufCMessageDescriptor *request; /* of its request messages */
    bool is_inference;                         /* refused while the server drains */
    bool is_client_stream;                     /* more than one request may come */
    /* A request has come. It is freed afterwards. */
    void (*received)(struct qr_call *call, const ProtobufCMessage *request);
    /* A message that was not the last has gone out: the next may follow. NULL: nothing to do. */
    void (*sent)(struct qr_call *call);
    /* The client is gone, or the call is over; nothing more can be sent. NULL: nothing to do. */
    void (*closed)(struct qr_call *call);
    /* The phase of the server has changed. NULL: nothing to do. */
    void (*phase_changed)(struct qr_call *call);
};

struct qr_generate_state {
    struct qr_stream *stream; /* until its last chunk has been taken */
    struct qr_stream_chunk chunk;
    int32_t n_tokens_sent; /* of the chunk */
    bool wants_logprobs;
    uint64_t sequence; /* of the next message */
};

struct qr_watch_state {
    bool has_request;
    bool watches_server; /* false: a service that does not exist */
    int32_t last_sent;   /* -1: nothing yet */
};

struct qr_call {
    struct qr_shard *shard;
    struct qr_server *server;
    const struct qr_method *method; /* NULL: no such method */
    grpc_call *grpc;                /* NULL until a client has come */
    int32_t n_refs;
    int64_t deadline_ns; /* of the monotonic clock; QR_TIME_NEVER: none */
    struct qr_call *next, *prev;

    struct qr_tag arrived, closed, received, sent;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *incoming;
    int cancelled;

    bool send_busy;
    bool initial_metadata_sent;
    bool status_sent;
    bool dead; /* nothing can be sent any more */
    grpc_slice status_message, status_details;

    union {
        struct qr_generate_state generate;
        struct qr_watch_state watch;
    };
};

QR_BEGIN_DECLS

/* Waits for a client: the call begins when one comes. */
QR_MUST_CHECK enum qr_status qr_call_arm(struct qr_shard *shard);
void qr_call_ref(struct qr_call *call);
void qr_call_unref(struct qr_call *call);

/* True when a message can be sent now; if not, `sent` will be called, or `closed` was. */
bool qr_call_can_send(const struct qr_call *call);
/* Sends one message of several. Only when qr_call_can_send. */
void qr_call_send(struct qr_call *call, const ProtobufCMessage *message);
/* The last message and an OK, in one. Does nothing when the call is dead or has its status. */
void qr_call_finish(struct qr_call *call, const ProtobufCMessage *message);
/*
 * Ends the call with an error; `message` (may be NULL) goes out first. Only when
 * qr_call_can_send; does nothing when the call is dead or has its status.
 */
void qr_call_fail(struct qr_call *call, const ProtobufCMessage *message,
                  const struct qr_rich_error *error);

/* generate.c: the stream of a Generate call has news. */
void qr_generate_ready(void *shard, struct qr_stream *stream);

extern const struct qr_method qr_method_generate;
extern const struct qr_method qr_method_tokenize;
extern const struct qr_method qr_method_detokenize;
extern const struct qr_method qr_method_get_model_info;
extern const struct qr_method qr_method_get_stats;
extern const struct qr_method qr_method_health_check;
extern const struct qr_method qr_method_health_watch;
extern const struct qr_method qr_method_reflection;
extern const struct qr_method qr_method_reflection_alpha;

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_CALL_H */
