/*
 * generate.c - InferenceService.Generate: from the stream of one request to its messages.
 *
 * Whatever has queued up goes out as one message; the next is made when that one has
 * been accepted by flow control. So a slow reader gets few large messages, and at
 * last the engine pauses it, since nobody takes from its stream.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/server/call.h"
#include "runtime/server/convert.h"
#include "runtime/server/response.h"

/* The stream is over: nobody holds the call for it any more. The call may be gone afterwards. */
static void release_stream(struct qr_call *call)
{
    qr_stream_unref(call->generate.stream);
    call->generate.stream = NULL;
    qr_call_unref(call);
}

/* A client that is gone, or a failure of the call itself: wait for the engine to let go. */
static void discard(struct qr_call *call)
{
    struct qr_stream_chunk *chunk = &call->generate.chunk;

    while (!chunk->last) {
        qr_stream_take(call->generate.stream, chunk);
        if (qr_stream_chunk_is_empty(chunk))
            return;
    }
    release_stream(call);
}

static bool has_news(struct qr_generate_state *gen)
{
    struct qr_stream_chunk *chunk = &gen->chunk;

    if (gen->n_tokens_sent == chunk->n_tokens) { /* the last one has gone out entirely */
        gen->n_tokens_sent = 0;
        qr_stream_take(gen->stream, chunk);
    }
    return !qr_stream_chunk_is_empty(chunk);
}

/* False when the request ended well. */
static bool error_of_finish(const struct qr_finish *finish, struct qr_rich_error *error)
{
    switch (finish->reason) {
    case QR_FINISH_STOP:
    case QR_FINISH_LENGTH:
        return false;
    case QR_FINISH_DEADLINE:
        qr_rich_error_set(error, GRPC_STATUS_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED",
                          "the deadline passed after %d output tokens",
                          finish->usage.n_output_tokens);
        return true;
    case QR_FINISH_CANCELLED: /* not by the client, or there would be nobody to tell */
    case QR_FINISH_SHUTDOWN:
        qr_rich_error_draining(error);
        return true;
    case QR_FINISH_NONE:
    case QR_FINISH_ERROR:
        break;
    }
    qr_rich_error_set(error, GRPC_STATUS_INTERNAL, "ENGINE_ERROR", "%s", finish->error.message);
    return true;
}

/* The next part of the chunk; *finish is set when it ends the output. */
static struct qr_response_part next_part(struct qr_generate_state *gen,
                                         const struct qr_finish **finish)
{
    const struct qr_stream_chunk *chunk = &gen->chunk;
    int32_t n_left = chunk->n_tokens - gen->n_tokens_sent;
    struct qr_response_part part = {
        .events = chunk->tokens + gen->n_tokens_sent,
        .n_events = n_left < QR_RESPONSE_MAX_TOKENS ? n_left : QR_RESPONSE_MAX_TOKENS,
        .output = chunk->output,
        .wants_logprobs = gen->wants_logprobs,
        .sequence = gen->sequence++,
    };

    gen->n_tokens_sent += part.n_events;
    *finish = NULL;
    if (gen->n_tokens_sent == chunk->n_tokens) {
        part.text = chunk->text;
        part.n_text_bytes = chunk->n_text_bytes;
        *finish = chunk->finish;
    }
    return part;
}

static void send_part(struct qr_call *call)
{
    const struct qr_finish *finish;
    struct qr_rich_error error;
    struct qr_response response;
    struct qr_response_part part = next_part(&call->generate, &finish);
    bool failed = finish != NULL && error_of_finish(finish, &error);

    part.finish = failed ? NULL : finish;
    if (qr_response_build(&response, &part) != QR_OK) {
        qr_rich_error_set(&error, GRPC_STATUS_RESOURCE_EXHAUSTED, "OUT_OF_MEMORY",
                          "out of memory for a response of %d tokens", part.n_events);
        qr_call_fail(call, NULL, &error);
        qr_stream_cancel(call->generate.stream);
        discard(call);
        return;
    }
    if (failed)
        qr_call_fail(call,
                     part.n_events > 0 || part.n_text_bytes > 0 ? &response.message.base : NULL,
                     &error);
    else if (finish != NULL && call->generate.chunk.last)
        qr_call_finish(call, &response.message.base);
    else
        qr_call_send(call, &response.message.base);
    qr_response_release(&response);
    if (failed)
        discard(call); /* the other outputs end the same way */
    else if (finish != NULL && call->generate.chunk.last)
        release_stream(call);
}

static void pump(struct qr_call *call)
{
    struct qr_generate_state *gen = &call->generate;

    if (gen->stream == NULL)
        return;
    if (call->dead || call->status_sent)
        discard(call);
    else if (!call->send_busy && has_news(gen))
        send_part(call);
}

void qr_generate_ready(void *shard, struct qr_stream *stream)
{
    (void)shard;
    pump(qr_stream_owner(stream));
}

static void on_closed(struct qr_call *call)
{
    if (call->generate.stream == NULL)
        return;
    /* From the deadline on the engine ends the request by itself, and counts it as late. */
    if (qr_now_ns() < call->deadline_ns)
        qr_stream_cancel(call->generate.stream);
    pump(call);
}

static void on_phase_changed(struct qr_call *call)
{
    if (call->generate.stream != NULL && qr_server_phase(call->server) == QR_SERVER_STOPPING)
        qr_stream_cancel(call->generate.stream);
}

static void submit_error(enum qr_status status, const char *field, int64_t retry_after_ns,
                         const struct qr_error *err, struct qr_rich_error *error)
{
    switch (status) {
    case QR_ERR_INVALID:
        if (field != NULL) {
            qr_rich_error_bad_field(error, qr_convert_field_path(field), err->message);
            return;
        }
        break;
    case QR_ERR_QUEUE_FULL:
        qr_rich_error_set(error, GRPC_STATUS_RESOURCE_EXHAUSTED, "QUEUE_FULL", "%s", err->message);
        error->quota = "queue";
        error->retry_after_ns = retry_after_ns;
        return;
    case QR_ERR_UNSUPPORTED:
        qr_rich_error_set(error, GRPC_STATUS_RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", "%s",
                          err->message);
        error->quota = "tenant";
        return;
    case QR_ERR_NOMEM:
        qr_rich_error_set(error, GRPC_STATUS_RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", "%s",
                          err->message);
        error->quota = "memory";
        error->retry_after_ns = retry_after_ns > 0 ? retry_after_ns : QR_NS_PER_SEC;
        return;
    case QR_ERR_CLOSED:
        qr_rich_error_draining(error);
        return;
    default:
        break;
    }
    qr_rich_error_set(error, GRPC_STATUS_INTERNAL, "ENGINE_ERROR", "%s", err->message);
}

static enum qr_status submit(struct qr_call *call, const Quire__V1__GenerateRequest *message,
                             const char **field, int64_t *retry_after_ns, struct qr_error *err)
{
    struct qr_engine *engine = call->server->engine;
    struct qr_generate_state *gen = &call->generate;
    struct qr_request *request;

    QR_TRY(qr_convert_generate_request(message, qr_engine_tokenizer(engine),
                                       qr_engine_max_seq_tokens(engine), &request,
                                       &gen->wants_logprobs, field, err));
    request->deadline_ns = call->deadline_ns;
    qr_call_ref(call); /* the stream's, which points to the call */
    enum qr_status status = qr_engine_submit(engine, request, &call->shard->wakes, call,
                                             &gen->stream, field, retry_after_ns, err);
    if (status != QR_OK) {
        qr_request_destroy(request);
        qr_call_unref(call);
    }
    return status;
}

static void on_received(struct qr_call *call, const ProtobufCMessage *message)
{
    const char *field = NULL;
    int64_t retry_after_ns = 0;
    struct qr_error err = {.message = ""};
    struct qr_rich_error error;
    enum qr_status status = QR_ERR_CLOSED;

    if (qr_server_phase(call->server) != QR_SERVER_STOPPING)
        status = submit(call, (const Quire__V1__GenerateRequest *)message, &field, &retry_after_ns,
                        &err);
    if (status == QR_OK)
        return;
    submit_error(status, field, retry_after_ns, &err, &error);
    qr_call_fail(call, NULL, &error);
}

const struct qr_method qr_method_generate = {
    .path = "/quire.v1.InferenceService/Generate",
    .request = &quire__v1__generate_request__descriptor,
    .is_inference = true,
    .received = on_received,
    .sent = pump,
    .closed = on_closed,
    .phase_changed = on_phase_changed,
};
