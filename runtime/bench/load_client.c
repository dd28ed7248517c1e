/*
 * load_client.c - see load_client.h for the contract.
 *
 * Each call starts three batches: request out, messages in (one after the other), status in.
 * It has ended when none of them is under way. Requests that are to be sent, for the first
 * time or again, stand in a heap by their time.
 */
#include "runtime/bench/load_client.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "runtime/client/grpc_client.h"
#include "runtime/client/grpc_messages.h"
#include "runtime/server/message.h"

enum { CONNECT_TIMEOUT_S = 10, MAX_CONNECTIONS = 64 };

#define GENERATE       "/quire.v1.InferenceService/Generate"
#define GET_STATS      "/quire.v1.ControlService/GetStats"
#define GET_MODEL_INFO "/quire.v1.ControlService/GetModelInfo"

/* Fowler, Noll and Vo, 1a, 64 bits. */
#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

enum batch { BATCH_SEND, BATCH_MESSAGE, BATCH_STATUS, BATCH_COUNT };

struct load_call;

struct tag {
    struct load_call *owner;
    enum batch batch;
};

struct load_call {
    struct tag tags[BATCH_COUNT];
    grpc_call *call; /* NULL: none under way */
    grpc_metadata_array initial_metadata, trailing_metadata;
    grpc_status_code code;
    grpc_slice message;
    grpc_byte_buffer *incoming;
    int32_t index;             /* in the client's calls */
    int32_t n_batches;         /* under way */
    grpc_byte_buffer *request; /* packed */
    int64_t due_ns;            /* next time to send */
    struct qr_load_result result;
};

struct qr_load_client {
    struct qr_load_options options;
    grpc_completion_queue *queue;
    grpc_channel *channels[MAX_CONNECTIONS];
    struct load_call **calls; /* [n_calls] */
    int32_t n_calls;
    int32_t capacity;
    int32_t *heap; /* [n_calls] calls to be sent, the earliest first */
    int32_t n_heap;
    int32_t n_open;           /* calls under way, `control` not among them */
    struct load_call control; /* GetModelInfo, then GetStats again and again */
    bool control_failed;
    Quire__V1__GetModelInfoResponse *model;
    struct qr_client_chunk chunk; /* of the message that is being read */
};

static gpr_timespec to_timespec(int64_t ns)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos(ns - qr_now_ns(), GPR_TIMESPAN));
}

static void init_call(struct load_call *call)
{
    memset(call, 0, sizeof(*call));
    for (int i = 0; i < BATCH_COUNT; i++)
        call->tags[i] = (struct tag){call, (enum batch)i};
}

/* A connection of its own for each channel, and no retries behind our back. */
static grpc_channel *open_channel(const char *addr)
{
    grpc_arg args[] = {
        {.type = GRPC_ARG_INTEGER,
         .key = (char *)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
         .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = (char *)GRPC_ARG_ENABLE_RETRIES, .value.integer = 0},
    };
    grpc_channel_args list = {sizeof(args) / sizeof(args[0]), args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(addr, credentials, &list);

    grpc_channel_credentials_release(credentials);
    return channel;
}

static bool wait_for_connection(struct qr_load_client *client, grpc_channel *channel)
{
    gpr_timespec until = to_timespec(qr_now_ns() + CONNECT_TIMEOUT_S * QR_NS_PER_SEC);
    grpc_connectivity_state state;

    while ((state = grpc_channel_check_connectivity_state(channel, 1)) != GRPC_CHANNEL_READY) {
        if (state == GRPC_CHANNEL_TRANSIENT_FAILURE)
            return false;
        grpc_channel_watch_connectivity_state(channel, state, until, client->queue, client);
        if (!grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL)
                 .success)
            return false;
    }
    return true;
}

void qr_load_client_destroy(struct qr_load_client *client)
{
    if (client == NULL)
        return;
    for (int32_t i = 0; i < client->n_calls; i++) {
        if (client->calls[i]->request != NULL)
            grpc_byte_buffer_destroy(client->calls[i]->request);
        qr_free(client->calls[i]);
    }
    for (int32_t i = 0; i < client->options.n_connections; i++) {
        if (client->channels[i] != NULL)
            grpc_channel_destroy(client->channels[i]);
    }
    grpc_completion_queue_shutdown(client->queue);
    while (
        grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
        GRPC_QUEUE_SHUTDOWN)
        continue;
    grpc_completion_queue_destroy(client->queue);
    qr_client_chunk_free(&client->chunk);
    if (client->model != NULL)
        qr_message_free(&client->model->base);
    qr_free(client->calls);
    qr_free(client->heap);
    qr_free(client);
    grpc_shutdown();
}

enum qr_status qr_load_client_add(struct qr_load_client *client, int64_t at_ns,
                                  const struct qr_request *request)
{
    struct load_call **grown = qr_array_grow(QR_ARENA_NETWORK, client->calls, client->n_calls,
                                             &client->capacity, sizeof(struct load_call *));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    client->calls = grown;
    struct load_call *call = qr_calloc(QR_ARENA_NETWORK, 1, sizeof(*call));
    if (call == NULL)
        return QR_ERR_NOMEM;
    init_call(call);
    call->request = qr_client_pack_generate(request);
    if (call->request == NULL) {
        qr_free(call);
        return QR_ERR_NOMEM;
    }
    call->due_ns = at_ns;
    call->index = client->n_calls;
    client->calls[client->n_calls++] = call;
    return QR_OK;
}

static bool is_before(const struct qr_load_client *client, int32_t a, int32_t b)
{
    const struct load_call *x = client->calls[a], *y = client->calls[b];

    return x->due_ns != y->due_ns ? x->due_ns < y->due_ns : a < b;
}

static void heap_push(struct qr_load_client *client, int32_t call)
{
    int32_t *heap = client->heap;
    int32_t at = client->n_heap++;

    for (; at > 0 && is_before(client, call, heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = call;
}

static int32_t heap_pop(struct qr_load_client *client)
{
    int32_t *heap = client->heap;
    int32_t first = heap[0], moved = heap[--client->n_heap], at = 0, child;

    while ((child = 2 * at + 1) < client->n_heap) {
        if (child + 1 < client->n_heap && is_before(client, heap[child + 1], heap[child]))
            child++;
        if (!is_before(client, heap[child], moved))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
    return first;
}

static void start_batch(struct load_call *call, const grpc_op *ops, size_t n_ops, enum batch batch)
{
    if (grpc_call_start_batch(call->call, ops, n_ops, &call->tags[batch], NULL) == GRPC_CALL_OK)
        call->n_batches++;
}

static void receive_message(struct load_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &call->incoming;
    start_batch(call, &op, 1, BATCH_MESSAGE);
}

static void start_call(struct qr_load_client *client, struct load_call *call, int32_t connection,
                       const char *path, grpc_byte_buffer *request)
{
    grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                      {.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

    grpc_metadata_array_init(&call->initial_metadata);
    grpc_metadata_array_init(&call->trailing_metadata);
    call->message = grpc_empty_slice();
    call->call = grpc_channel_create_call(client->channels[connection], NULL, 0, client->queue,
                                          grpc_slice_from_static_string(path), NULL,
                                          gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    status.data.recv_status_on_client.trailing_metadata = &call->trailing_metadata;
    status.data.recv_status_on_client.status = &call->code;
    status.data.recv_status_on_client.status_details = &call->message;
    start_batch(call, &status, 1, BATCH_STATUS);
    ops[1].data.send_message.send_message = request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata;
    start_batch(call, ops, 4, BATCH_SEND);
    receive_message(call);
}

static void send_due(struct qr_load_client *client)
{
    while (client->n_heap > 0 && client->calls[client->heap[0]]->due_ns <= qr_now_ns()) {
        int32_t index = heap_pop(client);
        struct load_call *call = client->calls[index];

        if (call->result.sent_ns == 0)
            call->result.sent_ns = qr_now_ns();
        client->n_open++;
        grpc_byte_buffer *request = grpc_byte_buffer_copy(call->request); /* sending empties it */
        start_call(client, call, index % client->options.n_connections, GENERATE, request);
        grpc_byte_buffer_destroy(request);
    }
}

/* GetStats or GetModelInfo, whose requests are empty. */
static void send_control(struct qr_load_client *client, const char *path)
{
    grpc_byte_buffer *empty = grpc_raw_byte_buffer_create(NULL, 0);

    start_call(client, &client->control, 0, path, empty);
    grpc_byte_buffer_destroy(empty);
}

static void note_tokens(struct qr_load_result *result, const struct qr_stream_chunk *chunk)
{
    int64_t now_ns = qr_now_ns();

    if (chunk->n_tokens == 0)
        return;
    if (result->first_ns == 0)
        result->first_ns = now_ns;
    else if (now_ns - result->last_ns > result->max_gap_ns)
        result->max_gap_ns = now_ns - result->last_ns;
    result->last_ns = now_ns;
    result->n_messages++;
    result->n_tokens += chunk->n_tokens;
    for (int32_t i = 0; i < chunk->n_tokens; i++)
        result->hash = (result->hash ^ (uint64_t)chunk->tokens[i].sampled.token_id) * FNV_PRIME;
}

static void read_generated(struct qr_load_client *client, struct load_call *call)
{
    ProtobufCMessage *message =
        qr_message_unpack(&quire__v1__generate_response__descriptor, call->incoming);

    if (message == NULL || qr_client_unpack_response((Quire__V1__GenerateResponse *)message,
                                                     &client->chunk) != QR_OK) {
        snprintf(call->result.error, sizeof(call->result.error), "a malformed message came");
        grpc_call_cancel(call->call, NULL);
    } else {
        note_tokens(&call->result, &client->chunk.chunk);
        if (client->chunk.chunk.finish != NULL)
            call->result.usage = client->chunk.chunk.finish->usage;
    }
    qr_message_free(message);
}

static void read_control(struct qr_load_client *client, struct load_call *call)
{
    if (client->model == NULL) {
        client->model = (Quire__V1__GetModelInfoResponse *)qr_message_unpack(
            &quire__v1__get_model_info_response__descriptor, call->incoming);
        return;
    }
    ProtobufCMessage *message =
        qr_message_unpack(&quire__v1__get_stats_response__descriptor, call->incoming);
    if (message == NULL)
        client->control_failed = true;
    else if (client->options.on_stats != NULL)
        client->options.on_stats(client->options.arg, qr_now_ns(),
                                 (const Quire__V1__GetStatsResponse *)message);
    qr_message_free(message);
}

/* The server asked to come again later: returns after how long, or 0. */
static int64_t retry_after_ns(const struct load_call *call)
{
    struct qr_grpc_result details = {.code = 0};

    for (size_t i = 0; i < call->trailing_metadata.count; i++) {
        const grpc_metadata *entry = &call->trailing_metadata.metadata[i];
        if (grpc_slice_str_cmp(entry->key, "grpc-status-details-bin") == 0)
            qr_client_read_details(entry->value, &details);
    }
    return call->code == GRPC_STATUS_RESOURCE_EXHAUSTED ? details.retry_after_ns : 0;
}

static void note_status(struct load_call *call)
{
    struct qr_load_result *result = &call->result;

    result->end_ns = qr_now_ns();
    result->code = (int32_t)call->code;
    if (call->code != GRPC_STATUS_OK && result->error[0] == '\0') {
        char *text = grpc_slice_to_c_string(call->message);
        snprintf(result->error, sizeof(result->error), "%s", text);
        gpr_free(text);
    }
}

static void release_call(struct load_call *call)
{
    grpc_slice_unref(call->message);
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
    grpc_call_unref(call->call);
    call->call = NULL;
}

static void end_call(struct qr_load_client *client, struct load_call *call)
{
    int64_t again_ns = retry_after_ns(call);

    if (call == &client->control) {
        client->control_failed |= call->code != GRPC_STATUS_OK;
    } else {
        client->n_open--;
        if (again_ns > 0 && call->result.n_tokens == 0) {
            call->result.n_refused++;
            call->due_ns = qr_now_ns() + again_ns;
            heap_push(client, call->index);
        } else {
            note_status(call);
        }
    }
    release_call(call);
}

static void on_event(struct qr_load_client *client, const struct tag *tag)
{
    struct load_call *call = tag->owner;

    call->n_batches--;
    if (tag->batch == BATCH_MESSAGE && call->incoming != NULL) {
        if (call == &client->control)
            read_control(client, call);
        else
            read_generated(client, call);
        grpc_byte_buffer_destroy(call->incoming);
        call->incoming = NULL;
        receive_message(call);
    }
    if (call->n_batches == 0)
        end_call(client, call);
}

/* Handles what has come, or waits for something until `until_ns`. */
static void handle_events(struct qr_load_client *client, int64_t until_ns)
{
    grpc_event event = grpc_completion_queue_next(client->queue, to_timespec(until_ns), NULL);

    if (event.type == GRPC_OP_COMPLETE)
        on_event(client, event.tag);
}

static void cancel_all(struct qr_load_client *client)
{
    client->n_heap = 0;
    for (int32_t i = 0; i < client->n_calls; i++) {
        if (client->calls[i]->call != NULL)
            grpc_call_cancel(client->calls[i]->call, NULL);
    }
    while (client->n_open > 0 || client->control.call != NULL)
        handle_events(client, qr_now_ns() + QR_NS_PER_SEC);
}

static enum qr_status finish_control(struct qr_load_client *client, struct qr_error *err)
{
    while (client->control.call != NULL)
        handle_events(client, qr_now_ns() + QR_NS_PER_SEC);
    if (client->control_failed)
        return qr_fail(err, QR_ERR_IO, "GetStats or GetModelInfo failed at %s",
                       client->options.addr);
    return QR_OK;
}

enum qr_status qr_load_client_create(const struct qr_load_options *options,
                                     struct qr_load_client **out, struct qr_error *err)
{
    *out = NULL;
    struct qr_load_client *client = qr_calloc(QR_ARENA_NETWORK, 1, sizeof(*client));
    if (client == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for a load generator");
    client->options = *options;
    if (client->options.n_connections > MAX_CONNECTIONS)
        client->options.n_connections = MAX_CONNECTIONS;
    init_call(&client->control);
    grpc_init();
    client->queue = grpc_completion_queue_create_for_next(NULL);
    for (int32_t i = 0; i < client->options.n_connections; i++) {
        client->channels[i] = open_channel(options->addr);
        if (!wait_for_connection(client, client->channels[i])) {
            qr_load_client_destroy(client);
            return qr_fail(err, QR_ERR_IO, "no server answers at %s", options->addr);
        }
    }
    send_control(client, GET_MODEL_INFO);
    enum qr_status status = finish_control(client, err);
    if (status == QR_OK && client->model == NULL)
        status =
            qr_fail(err, QR_ERR_IO, "%s: the answer of GetModelInfo is malformed", options->addr);
    if (status == QR_OK)
        *out = client;
    else
        qr_load_client_destroy(client);
    return status;
}

const Quire__V1__GetModelInfoResponse *qr_load_client_model(const struct qr_load_client *client)
{
    return client->model;
}

/* Figures of a server that has nothing left to do. */
static enum qr_status read_last_stats(struct qr_load_client *client, struct qr_error *err)
{
    QR_TRY(finish_control(client, err));
    send_control(client, GET_STATS);
    return finish_control(client, err);
}

static enum qr_status begin_run(struct qr_load_client *client, int64_t start_ns)
{
    client->heap = qr_calloc(QR_ARENA_NETWORK, (size_t)client->n_calls + 1, sizeof(int32_t));
    if (client->heap == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < client->n_calls; i++) {
        struct load_call *call = client->calls[i];
        call->due_ns += start_ns;
        call->result = (struct qr_load_result){
            .due_ns = call->due_ns,
            .code = GRPC_STATUS_CANCELLED, /* until it ends otherwise */
            .hash = FNV_OFFSET,
        };
        heap_push(client, i);
    }
    return QR_OK;
}

enum qr_status qr_load_client_run(struct qr_load_client *client, int64_t *start_ns,
                                  struct qr_error *err)
{
    int64_t interval_ns = client->options.stats_interval_ns;

    *start_ns = qr_now_ns();
    QR_TRY(begin_run(client, *start_ns));
    int64_t end_ns = *start_ns + client->options.timeout_ns;
    int64_t stats_ns = interval_ns > 0 ? *start_ns : INT64_MAX;
    while (client->n_heap > 0 || client->n_open > 0) {
        int64_t now_ns = qr_now_ns(), until_ns = end_ns;
        if (now_ns >= end_ns) {
            cancel_all(client);
            return qr_fail(err, QR_ERR_IO, "the run did not end within %.0f s",
                           (double)client->options.timeout_ns / QR_NS_PER_SEC);
        }
        send_due(client);
        if (now_ns >= stats_ns && client->control.call == NULL) {
            send_control(client, GET_STATS);
            stats_ns = now_ns + interval_ns;
        }
        if (client->n_heap > 0 && client->calls[client->heap[0]]->due_ns < until_ns)
            until_ns = client->calls[client->heap[0]]->due_ns;
        if (client->control.call == NULL && stats_ns < until_ns)
            until_ns = stats_ns;
        handle_events(client, until_ns);
    }
    return read_last_stats(client, err);
}

int32_t qr_load_client_count(const struct qr_load_client *client)
{
    return client->n_calls;
}

const struct qr_load_result *qr_load_client_result(const struct qr_load_client *client,
                                                   int32_t index)
{
    return &client->calls[index]->result;
}
