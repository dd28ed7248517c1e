/*
 * grpc_client.h - a blocking client of quire.v1 for the command line.
 *
 * It speaks the engine's own types, so that a command prints what comes from a
 * server and what comes from an engine in its own process with the same code. One
 * thread at a time.
 */
#ifndef QUIRE_RUNTIME_CLIENT_GRPC_CLIENT_H
#define QUIRE_RUNTIME_CLIENT_GRPC_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/engine/request.h"
#include "runtime/engine/stream.h"
#include "runtime/tokenizer/tokenizer.h"

struct qr_grpc_client;

/* How a call ended. `code` is a grpc_status_code: 0 is success. */
struct qr_grpc_result {
    int code;
    char code_name[24];     /* "RESOURCE_EXHAUSTED" */
    char message[512];      /* for people */
    char reason[64];        /* ErrorInfo.reason, such as "QUEUE_FULL"; may be empty */
    char field[64];         /* the first BadRequest field; may be empty */
    int64_t retry_after_ns; /* RetryInfo; 0: none was given */
};

/*
 * `chunk` is valid during the call: deltas, and the last one of each output of a
 * successful call has `finish`. Text is not attributed to single tokens: tokens[].n_bytes is 0.
 * Returning false cancels the call.
 */
typedef bool (*qr_grpc_chunk_fn)(void *arg, const struct qr_stream_chunk *chunk);

QR_BEGIN_DECLS

/*
 * `addr` is host:port or unix:PATH. Connecting happens with the first call, which fails
 * with UNAVAILABLE when it is refused, or not there after `connect_timeout_ns` (0: 5 s).
 */
QR_MUST_CHECK enum qr_status qr_grpc_client_create(const char *addr, int64_t connect_timeout_ns,
                                                   struct qr_grpc_client **out,
                                                   struct qr_error *err);
void qr_grpc_client_destroy(struct qr_grpc_client *client); /* accepts NULL */

/*
 * Appends the ids that the server's tokenizer makes of `text` (valid UTF-8).
 * QR_ERR_IO when the call did not succeed: see *result, which is always filled in.
 */
QR_MUST_CHECK enum qr_status qr_grpc_client_tokenize(struct qr_grpc_client *client,
                                                     const char *text, size_t n_bytes,
                                                     const struct qr_encode_options *options,
                                                     struct qr_token_ids *ids,
                                                     struct qr_grpc_result *result);
/*
 * Sends every field of `request` (which stays the caller's) with its prompt_ids and
 * calls `on_chunk` until the stream ends. QR_ERR_IO as above; QR_ERR_CLOSED when
 * on_chunk returned false.
 */
QR_MUST_CHECK enum qr_status qr_grpc_client_generate(struct qr_grpc_client *client,
                                                     const struct qr_request *request,
                                                     qr_grpc_chunk_fn on_chunk, void *arg,
                                                     struct qr_grpc_result *result);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLIENT_GRPC_CLIENT_H */
