/* call.c - see call.h for the contract. */
#include "runtime/server/call.h"

#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

static const struct qr_method *const methods[] = {
    &qr_method_generate,       &qr_method_tokenize,   &qr_method_detokenize,
    &qr_method_get_model_info, &qr_method_get_stats,  &qr_method_health_check,
    &qr_method_health_watch,   &qr_method_reflection, &qr_method_reflection_alpha,
};

static const struct qr_method *find_method(grpc_slice path)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (grpc_slice_str_cmp(path, methods[i]->path) == 0)
            return methods[i];
    }
    return NULL;
}

static void count_call(struct qr_server *server, int32_t change)
{
    pthread_mutex_lock(&server->mutex);
    server->n_calls += change;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
}

static void link_call(struct qr_call *call)
{
    call->next = call->shard->calls;
    if (call->next != NULL)
        call->next->prev = call;
    call->shard->calls = call;
}

static void unlink_call(struct qr_call *call)
{
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        call->shard->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
}

void qr_call_ref(struct qr_call *call)
{
    call->n_refs++;
}

void qr_call_unref(struct qr_call *call)
{
    if (--call->n_refs > 0)
        return;

    struct qr_server *server = call->server;
    bool had_client = call->grpc != NULL;
    if (had_client) {
        unlink_call(call);
        grpc_call_unref(call->grpc);
        if (call->method != NULL && call->method->is_inference)
            atomic_fetch_sub(&server->n_inference_calls, 1);
    }
    grpc_metadata_array_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    if (call->incoming != NULL)
        grpc_byte_buffer_destroy(call->incoming);
    grpc_slice_unref(call->status_message);
    grpc_slice_unref(call->status_details);
    qr_free(call);
    if (had_client)
        count_call(server, -1);
}

static void start_batch(struct qr_call *call, const grpc_op *ops, size_t n_ops, struct qr_tag *tag)
{
    qr_call_ref(call); /* until the tag comes back */
    grpc_call_error error = grpc_call_start_batch(call->grpc, ops, n_ops, tag, NULL);
    QR_ASSERT(error == GRPC_CALL_OK);
}

static void receive(struct qr_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &call->incoming;
    start_batch(call, &op, 1, &call->received);
}

bool qr_call_can_send(const struct qr_call *call)
{
    return !call->send_busy && !call->status_sent && !call->dead;
}

/* Takes `buffer`; at most one batch that sends is under way at a time. */
static void send_batch(struct qr_call *call, grpc_byte_buffer *buffer, const grpc_op *status)
{
    grpc_op ops[3];
    size_t n_ops = 0;

    memset(ops, 0, sizeof(ops));
    if (!call->initial_metadata_sent)
        ops[n_ops++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (buffer != NULL) {
        ops[n_ops].op = GRPC_OP_SEND_MESSAGE;
        ops[n_ops++].data.send_message.send_message = buffer;
    }
    if (status != NULL)
        ops[n_ops++] = *status;
    call->initial_metadata_sent = true;
    call->send_busy = true;
    call->status_sent = status != NULL;
    start_batch(call, ops, n_ops, &call->sent);
    if (buffer != NULL)
        grpc_byte_buffer_destroy(buffer); /* gRPC has its own reference to the bytes */
}

void qr_call_send(struct qr_call *call, const ProtobufCMessage *message)
{
    QR_ASSERT(qr_call_can_send(call));
    send_batch(call, qr_message_pack(message), NULL);
}

void qr_call_finish(struct qr_call *call, const ProtobufCMessage *message)
{
    grpc_op status = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};

    if (call->dead || call->status_sent)
        return;
    QR_ASSERT(!call->send_busy);
    status.data.send_status_from_server.status = GRPC_STATUS_OK;
    send_batch(call, message != NULL ? qr_message_pack(message) : NULL, &status);
}

void qr_call_fail(struct qr_call *call, const ProtobufCMessage *message,
                  const struct qr_rich_error *error)
{
    grpc_op status = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    grpc_metadata details;
    char quoted[sizeof(error->message) + 16];

    if (call->dead || call->status_sent)
        return;
    QR_ASSERT(!call->send_busy);
    qr_log(QR_LOG_DEBUG, "call_failed", "method=%s code=%d reason=%s message=%s",
           call->method != NULL ? call->method->path : "unknown", (int)error->code, error->reason,
           qr_log_quote(error->message, quoted, sizeof(quoted)));
    call->status_message = grpc_slice_from_copied_string(error->message);
    call->status_details = qr_rich_error_pack(error);
    memset(&details, 0, sizeof(details));
    details.key = grpc_slice_from_static_string("grpc-status-details-bin");
    details.value = call->status_details;
    status.data.send_status_from_server.status = error->code;
    status.data.send_status_from_server.status_details = &call->status_message;
    status.data.send_status_from_server.trailing_metadata_count = 1;
    status.data.send_status_from_server.trailing_metadata = &details;
    send_batch(call, message != NULL ? qr_message_pack(message) : NULL, &status);
}

static void on_sent(struct qr_tag *tag, bool ok)
{
    struct qr_call *call = QR_CONTAINER_OF(tag, struct qr_call, sent);

    call->send_busy = false;
    if (!ok)
        call->dead = true;
    if (!call->status_sent) {
        if (call->method != NULL && call->method->sent != NULL)
            call->method->sent(call);
        if (qr_call_can_send(call) && call->method != NULL && call->method->is_client_stream)
            receive(call);
    }
    qr_call_unref(call);
}

static void on_closed(struct qr_tag *tag, bool ok)
{
    struct qr_call *call = QR_CONTAINER_OF(tag, struct qr_call, closed);

    (void)ok; /* always true */
    call->dead = true;
    if (call->method != NULL && call->method->closed != NULL)
        call->method->closed(call);
    qr_call_unref(call);
}

static void handle_request(struct qr_call *call)
{
    const struct qr_method *method = call->method;
    ProtobufCMessage *request = qr_message_unpack(method->request, call->incoming);
    struct qr_rich_error error;

    grpc_byte_buffer_destroy(call->incoming);
    call->incoming = NULL;
    if (request == NULL) {
        qr_rich_error_set(&error, GRPC_STATUS_INVALID_ARGUMENT, "MALFORMED_MESSAGE",
                          "the request is not a %s message", method->request->name);
        qr_call_fail(call, NULL, &error);
        return;
    }
    method->received(call, request);
    qr_message_free(request);
}

static void on_received(struct qr_tag *tag, bool ok)
{
    struct qr_call *call = QR_CONTAINER_OF(tag, struct qr_call, received);
    struct qr_rich_error error;

    if (ok && call->incoming != NULL) {
        if (!call->dead && !call->status_sent)
            handle_request(call);
    } else if (call->method->is_client_stream) {
        qr_call_finish(call, NULL);
    } else {
        qr_rich_error_set(&error, GRPC_STATUS_INVALID_ARGUMENT, "MISSING_MESSAGE",
                          "the call ended without a %s message", call->method->request->name);
        qr_call_fail(call, NULL, &error);
    }
    qr_call_unref(call);
}

/* gRPC's deadline as a time of the monotonic clock. */
static int64_t deadline_from_gpr(gpr_timespec deadline)
{
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return QR_TIME_NEVER;
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    if (left.tv_sec > INT32_MAX)
        return QR_TIME_NEVER;
    return qr_now_ns() + left.tv_sec * QR_NS_PER_SEC + left.tv_nsec;
}

static void begin(struct qr_call *call)
{
    struct qr_rich_error error;
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

    count_call(call->server, 1);
    link_call(call);
    call->deadline_ns = deadline_from_gpr(call->details.deadline);
    call->method = find_method(call->details.method);
    close.data.recv_close_on_server.cancelled = &call->cancelled;
    start_batch(call, &close, 1, &call->closed);
    if (call->method == NULL) {
        char *path = grpc_slice_to_c_string(call->details.method);
        qr_rich_error_set(&error, GRPC_STATUS_UNIMPLEMENTED, "UNKNOWN_METHOD", "no method %s",
                          path);
        gpr_free(path);
        qr_call_fail(call, NULL, &error);
        return;
    }
    /* Counted first: whoever sees no call after draining began has missed none. */
    if (call->method->is_inference)
        atomic_fetch_add(&call->server->n_inference_calls, 1);
    if (call->method->is_inference && qr_server_phase(call->server) != QR_SERVER_SERVING) {
        qr_rich_error_draining(&error);
        qr_call_fail(call, NULL, &error);
        return;
    }
    receive(call);
}

static void on_arrived(struct qr_tag *tag, bool ok)
{
    struct qr_call *call = QR_CONTAINER_OF(tag, struct qr_call, arrived);
    struct qr_shard *shard = call->shard;

    shard->n_armed--;
    if (ok) {
        qr_shard_arm(shard);
        begin(call);
    }
    qr_call_unref(call);
}

enum qr_status qr_call_arm(struct qr_shard *shard)
{
    struct qr_call *call = qr_calloc(QR_ARENA_NETWORK, 1, sizeof(*call));
    if (call == NULL)
        return QR_ERR_NOMEM;
    call->shard = shard;
    call->server = shard->server;
    call->n_refs = 1; /* until the tag comes back */
    call->arrived.done = on_arrived;
    call->closed.done = on_closed;
    call->received.done = on_received;
    call->sent.done = on_sent;
    call->status_message = grpc_empty_slice();
    call->status_details = grpc_empty_slice();
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    grpc_call_error error =
        grpc_server_request_call(shard->server->grpc, &call->grpc, &call->details, &call->metadata,
                                 shard->queue, shard->queue, &call->arrived);
    QR_ASSERT(error == GRPC_CALL_OK);
    shard->n_armed++;
    return QR_OK;
}
