/* grpc_messages.h - the client's side of quire.v1: requests out, responses and errors in. */
#ifndef QUIRE_RUNTIME_CLIENT_GRPC_MESSAGES_H
#define QUIRE_RUNTIME_CLIENT_GRPC_MESSAGES_H

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>

#include "base/status.h"
#include "proto/quire/v1/inference.pb-c.h"
#include "runtime/client/grpc_client.h"

/* A response in the engine's terms. Zero-initialise; grown as needed and used again. */
struct qr_client_chunk {
    struct qr_stream_chunk chunk;
    struct qr_token_event *events; /* [capacity] */
    size_t capacity;
    struct qr_finish finish;
};

QR_BEGIN_DECLS

/* A GenerateRequest with every field of `request`. NULL when memory is exhausted. */
grpc_byte_buffer *qr_client_pack_generate(const struct qr_request *request);

/* Borrows the text of `response`. */
QR_MUST_CHECK enum qr_status qr_client_unpack_response(const Quire__V1__GenerateResponse *response,
                                                       struct qr_client_chunk *out);
void qr_client_chunk_free(struct qr_client_chunk *chunk);

/* Fills in what a serialized google.rpc.Status says beyond code and message. */
void qr_client_read_details(grpc_slice bytes, struct qr_grpc_result *result);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLIENT_GRPC_MESSAGES_H */
