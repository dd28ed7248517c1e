/* response.h - what the engine says of a request to messages of quire.v1. */
#ifndef QUIRE_RUNTIME_SERVER_RESPONSE_H
#define QUIRE_RUNTIME_SERVER_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/quire/v1/inference.pb-c.h"
#include "runtime/engine/stream.h"

enum { QR_RESPONSE_MAX_TOKENS = 1024 }; /* a message, so that it stays below clients' limits */

/* Part of what came from a stream, borrowed. */
struct qr_response_part {
    const struct qr_token_event *events; /* [n_events] */
    int32_t n_events;                    /* at most QR_RESPONSE_MAX_TOKENS */
    const char *text;                    /* [n_text_bytes] */
    size_t n_text_bytes;
    const struct qr_finish *finish; /* NULL, or the output's good end */
    int32_t output;
    bool wants_logprobs;
    uint64_t sequence;
};

/* A GenerateResponse with everything that it points to. */
struct qr_response {
    Quire__V1__GenerateResponse message;
    uint32_t token_ids[QR_RESPONSE_MAX_TOKENS];
    void *logprobs; /* one block; NULL when there are none */
    Quire__V1__Finish finish;
    Quire__V1__Usage usage;
    Quire__V1__Timings timings;
    Google__Protobuf__Duration queue_time, time_to_first_token, total_time;
};

QR_BEGIN_DECLS

/* Borrows from `part`. QR_ERR_NOMEM needs no release. */
QR_MUST_CHECK enum qr_status qr_response_build(struct qr_response *response,
                                               const struct qr_response_part *part);
void qr_response_release(struct qr_response *response);

/* `ns` nanoseconds, at least 0. */
void qr_duration_from_ns(Google__Protobuf__Duration *duration, int64_t ns);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_RESPONSE_H */
