/*
 * rich_error.h - why a call failed, in the error model of google.rpc: a status with
 * typed details that a client can act on without reading the message.
 */
#ifndef QUIRE_RUNTIME_SERVER_RICH_ERROR_H
#define QUIRE_RUNTIME_SERVER_RICH_ERROR_H

#include <grpc/slice.h>
#include <grpc/status.h>
#include <stdint.h>

#include "base/status.h"

#define QR_ERROR_DOMAIN "quire"

struct qr_rich_error {
    grpc_status_code code;
    const char *reason;     /* ErrorInfo.reason, a constant such as "QUEUE_FULL" */
    const char *field;      /* BadRequest: path of the field at fault; NULL: none */
    const char *quota;      /* QuotaFailure: what ran out; NULL: none */
    int64_t retry_after_ns; /* RetryInfo; 0: none */
    char message[512];      /* for people; valid UTF-8 */
};

QR_BEGIN_DECLS

/* No field, quota or retry. Bytes of the message that are not UTF-8 become '?'. */
void qr_rich_error_set(struct qr_rich_error *error, grpc_status_code code, const char *reason,
                       const char *fmt, ...) QR_PRINTF(4, 5);
/* INVALID_ARGUMENT, "INVALID_FIELD" about one field. */
void qr_rich_error_bad_field(struct qr_rich_error *error, const char *field, const char *message);
/* UNAVAILABLE, "DRAINING": another server, or this one after its restart, may take it. */
void qr_rich_error_draining(struct qr_rich_error *error);

/* The google.rpc.Status, for the metadata key "grpc-status-details-bin". The caller unrefs it. */
grpc_slice qr_rich_error_pack(const struct qr_rich_error *error);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_RICH_ERROR_H */
