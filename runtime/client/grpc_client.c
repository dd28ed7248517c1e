/*
 * grpc_client.c - see grpc_client.h for the contract.
 *
 * Every batch is started and then waited for, so one completion queue with one thread
 * is enough; tags are the numbers below.
 */
#include "runtime/client/grpc_client.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "runtime/client/grpc_messages.h"
#include "runtime/server/message.h"

enum { DEFAULT_CONNECT_TIMEOUT_S = 5 };

struct qr_grpc_client {
    grpc_completion_queue *queue;
    grpc_channel *channel;
    int64_t connect_timeout_ns;
    char addr[256];
};

/* One call; `status` is complete when its batch has come back. */
struct client_call {
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_metadata_array initial_metadata, trailing_metadata;
    grpc_status_code code;
    grpc_slice message;
};

static char tag_start, tag_receive, tag_connect;

static const char *code_name(grpc_status_code code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    return (unsigned)code < sizeof(names) / sizeof(names[0]) ? names[code] : "UNKNOWN";
}

static enum qr_status set_result(struct qr_grpc_result *result, grpc_status_code code,
                                 const char *message)
{
    memset(result, 0, sizeof(*result));
    result->code = (int)code;
    snprintf(result->code_name, sizeof(result->code_name), "%s", code_name(code));
    snprintf(result->message, sizeof(result->message), "%s", message);
    return code == GRPC_STATUS_OK ? QR_OK : QR_ERR_IO;
}

enum qr_status qr_grpc_client_create(const char *addr, int64_t connect_timeout_ns,
                                     struct qr_grpc_client **out, struct qr_error *err)
{
    *out = NULL;
    if (strchr(addr, ':') == NULL || strlen(addr) >= sizeof((*out)->addr))
        return qr_fail(err, QR_ERR_INVALID, "\"%s\" is no address; write host:port or unix:PATH",
                       addr);
    struct qr_grpc_client *client = qr_calloc(QR_ARENA_NETWORK, 1, sizeof(*client));
    if (client == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for a gRPC client");
    grpc_init();
    snprintf(client->addr, sizeof(client->addr), "%s", addr);
    client->connect_timeout_ns =
        connect_timeout_ns > 0 ? connect_timeout_ns : DEFAULT_CONNECT_TIMEOUT_S * QR_NS_PER_SEC;
    client->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    client->channel = grpc_channel_create(addr, credentials, NULL);
    grpc_channel_credentials_release(credentials);
    *out = client;
    return QR_OK;
}

void qr_grpc_client_destroy(struct qr_grpc_client *client)
{
    if (client == NULL)
        return;
    grpc_channel_destroy(client->channel);
    grpc_completion_queue_shutdown(client->queue);
    grpc_completion_queue_destroy(client->queue);
    qr_free(client);
    grpc_shutdown();
}

static gpr_timespec time_after_ns(int64_t ns)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(ns, GPR_TIMESPAN));
}

static grpc_event wait_for(grpc_completion_queue *queue, void *tag)
{
    return grpc_completion_queue_pluck(queue, tag, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
}

/* A channel tries again and again by itself; for a person, one refusal is an answer. */
static bool connect_channel(struct qr_grpc_client *client)
{
    gpr_timespec until = time_after_ns(client->connect_timeout_ns);
    grpc_connectivity_state state;

    while ((state = grpc_channel_check_connectivity_state(client->channel, 1)) !=
           GRPC_CHANNEL_READY) {
        if (state == GRPC_CHANNEL_TRANSIENT_FAILURE)
            return false;
        grpc_channel_watch_connectivity_state(client->channel, state, until, client->queue,
                                              &tag_connect);
        if (!wait_for(client->queue, &tag_connect).success)
            return false;
    }
    return true;
}

/* Sends the request and asks for initial metadata and status, in one batch each. */
static void begin_call(struct qr_grpc_client *client, struct client_call *call, const char *path,
                       gpr_timespec deadline, grpc_byte_buffer *request)
{
    grpc_op send[4];

    memset(call, 0, sizeof(*call));
    call->queue = client->queue;
    call->message = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial_metadata);
    grpc_metadata_array_init(&call->trailing_metadata);
    call->call =
        grpc_channel_create_call(client->channel, NULL, 0, client->queue,
                                 grpc_slice_from_static_string(path), NULL, deadline, NULL);
    memset(send, 0, sizeof(send));
    send[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    send[1].op = GRPC_OP_SEND_MESSAGE;
    send[1].data.send_message.send_message = request;
    send[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    send[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    send[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata;
    if (grpc_call_start_batch(call->call, send, 4, &tag_start, NULL) == GRPC_CALL_OK)
        wait_for(call->queue, &tag_start); /* if it fails, the status says why */
}

/* The next message, or NULL when there is none left. */
static ProtobufCMessage *receive(struct client_call *call,
                                 const ProtobufCMessageDescriptor *descriptor)
{
    grpc_byte_buffer *buffer = NULL;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &buffer;
    if (grpc_call_start_batch(call->call, &op, 1, &tag_receive, NULL) != GRPC_CALL_OK)
        return NULL;
    wait_for(call->queue, &tag_receive);
    if (buffer == NULL)
        return NULL;
    ProtobufCMessage *message = qr_message_unpack(descriptor, buffer);
    grpc_byte_buffer_destroy(buffer);
    return message;
}

/* Waits for the status and releases the call. */
static enum qr_status end_call(struct client_call *call, struct qr_grpc_result *result)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

    op.data.recv_status_on_client.trailing_metadata = &call->trailing_metadata;
    op.data.recv_status_on_client.status = &call->code;
    op.data.recv_status_on_client.status_details = &call->message;
    if (grpc_call_start_batch(call->call, &op, 1, &tag_start, NULL) == GRPC_CALL_OK)
        wait_for(call->queue, &tag_start);
    char *message = grpc_slice_to_c_string(call->message);
    enum qr_status status = set_result(result, call->code, message);
    gpr_free(message);
    for (size_t i = 0; i < call->trailing_metadata.count; i++) {
        const grpc_metadata *entry = &call->trailing_metadata.metadata[i];
        if (grpc_slice_str_cmp(entry->key, "grpc-status-details-bin") == 0)
            qr_client_read_details(entry->value, result);
    }
    grpc_slice_unref(call->message);
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
    grpc_call_unref(call->call);
    return status;
}

static enum qr_status fail_to_connect(struct qr_grpc_client *client, struct qr_grpc_result *result)
{
    char message[sizeof(client->addr) + 64];

    snprintf(message, sizeof(message), "no server answers at %s", client->addr);
    return set_result(result, GRPC_STATUS_UNAVAILABLE, message);
}

static enum qr_status append_ids(const Quire__V1__TokenizeResponse *response,
                                 struct qr_token_ids *ids)
{
    for (size_t i = 0; i < response->n_token_ids; i++)
        QR_TRY(qr_token_ids_append(ids, (int32_t)response->token_ids[i]));
    return QR_OK;
}

enum qr_status qr_grpc_client_tokenize(struct qr_grpc_client *client, const char *text,
                                       size_t n_bytes, const struct qr_encode_options *options,
                                       struct qr_token_ids *ids, struct qr_grpc_result *result)
{
    Quire__V1__TokenizeRequest request;
    struct client_call call;

    if (!connect_channel(client))
        return fail_to_connect(client, result);
    quire__v1__tokenize_request__init(&request);
    request.text.data = (uint8_t *)text;
    request.text.len = n_bytes;
    request.has_add_bos_case = QUIRE__V1__TOKENIZE_REQUEST__HAS_ADD_BOS_ADD_BOS;
    request.add_bos = options->add_bos;
    request.has_parse_special_case = QUIRE__V1__TOKENIZE_REQUEST__HAS_PARSE_SPECIAL_PARSE_SPECIAL;
    request.parse_special = options->parse_special;
    grpc_byte_buffer *buffer = qr_message_pack(&request.base);
    begin_call(client, &call, "/quire.v1.InferenceService/Tokenize",
               gpr_inf_future(GPR_CLOCK_MONOTONIC), buffer);
    grpc_byte_buffer_destroy(buffer);

    ProtobufCMessage *message = receive(&call, &quire__v1__tokenize_response__descriptor);
    enum qr_status status = end_call(&call, result);
    if (status == QR_OK) {
        if (message == NULL)
            status = set_result(result, GRPC_STATUS_INTERNAL, "the server's answer is malformed");
        else if (append_ids((Quire__V1__TokenizeResponse *)message, ids) != QR_OK)
            status = set_result(result, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    }
    qr_message_free(message);
    return status;
}

/* Hands on all messages of the stream. QR_ERR_CLOSED when `on_chunk` wants no more. */
static enum qr_status read_stream(struct client_call *call, int32_t n_outputs,
                                  qr_grpc_chunk_fn on_chunk, void *arg)
{
    struct qr_client_chunk chunk = {.events = NULL};
    enum qr_status status = QR_OK;
    int32_t n_finished = 0;
    ProtobufCMessage *message;

    while (status == QR_OK &&
           (message = receive(call, &quire__v1__generate_response__descriptor)) != NULL) {
        status = qr_client_unpack_response((Quire__V1__GenerateResponse *)message, &chunk);
        if (status == QR_OK && (uint32_t)chunk.chunk.output >= (uint32_t)n_outputs)
            status = QR_ERR_INVALID;
        n_finished += chunk.chunk.finish != NULL;
        chunk.chunk.last = n_finished == n_outputs;
        if (status == QR_OK && !on_chunk(arg, &chunk.chunk))
            status = QR_ERR_CLOSED;
        qr_message_free(message);
    }
    qr_client_chunk_free(&chunk);
    return status;
}

enum qr_status qr_grpc_client_generate(struct qr_grpc_client *client,
                                       const struct qr_request *request, qr_grpc_chunk_fn on_chunk,
                                       void *arg, struct qr_grpc_result *result)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    struct client_call call;

    if (!connect_channel(client))
        return fail_to_connect(client, result);
    grpc_byte_buffer *buffer = qr_client_pack_generate(request);
    if (buffer == NULL)
        return set_result(result, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    if (request->deadline_ns != QR_TIME_NEVER)
        deadline = time_after_ns(request->deadline_ns - qr_now_ns());
    begin_call(client, &call, "/quire.v1.InferenceService/Generate", deadline, buffer);
    grpc_byte_buffer_destroy(buffer);

    enum qr_status status = read_stream(&call, request->n, on_chunk, arg);
    if (status != QR_OK)
        grpc_call_cancel(call.call, NULL);
    enum qr_status ended = end_call(&call, result);
    return status != QR_OK ? status : ended;
}
