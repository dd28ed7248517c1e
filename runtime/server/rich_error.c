/* rich_error.c - see rich_error.h for the contract. */
#include "runtime/server/rich_error.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "proto/google/rpc/error_details.pb-c.h"
#include "proto/google/rpc/status.pb-c.h"
#include "runtime/server/message.h"

enum { MAX_DETAILS = 4, MAX_DETAIL_BYTES = 1024, RETRY_WHEN_DRAINING_S = 1 };

/* Clients refuse a whole status for one bad byte in it. */
static void make_valid_utf8(char *text)
{
    size_t length = strlen(text);

    for (size_t i = qr_utf8_valid_prefix(text, length); i < length;
         i += qr_utf8_valid_prefix(text + i, length - i))
        text[i] = '?';
}

void qr_rich_error_set(struct qr_rich_error *error, grpc_status_code code, const char *reason,
                       const char *fmt, ...)
{
    *error = (struct qr_rich_error){.code = code, .reason = reason};
    va_list args;
    va_start(args, fmt);
    vsnprintf(error->message, sizeof(error->message), fmt, args);
    va_end(args);
    make_valid_utf8(error->message);
}

void qr_rich_error_bad_field(struct qr_rich_error *error, const char *field, const char *message)
{
    qr_rich_error_set(error, GRPC_STATUS_INVALID_ARGUMENT, "INVALID_FIELD", "%s", message);
    error->field = field;
}

void qr_rich_error_draining(struct qr_rich_error *error)
{
    qr_rich_error_set(error, GRPC_STATUS_UNAVAILABLE, "DRAINING",
                      "the server is shutting down; try another one, or again later");
    error->retry_after_ns = RETRY_WHEN_DRAINING_S * QR_NS_PER_SEC;
}

/* The details of one status while it is packed. */
struct details {
    size_t count;
    Google__Protobuf__Any any[MAX_DETAILS];
    Google__Protobuf__Any *pointers[MAX_DETAILS];
    uint8_t bytes[MAX_DETAILS][MAX_DETAIL_BYTES];
};

static void add(struct details *details, char *type_url, const ProtobufCMessage *message)
{
    size_t i = details->count++;

    QR_ASSERT(i < MAX_DETAILS && protobuf_c_message_get_packed_size(message) <= MAX_DETAIL_BYTES);
    google__protobuf__any__init(&details->any[i]);
    details->any[i].type_url = type_url;
    details->any[i].value.data = details->bytes[i];
    details->any[i].value.len = protobuf_c_message_pack(message, details->bytes[i]);
    details->pointers[i] = &details->any[i];
}

static void add_error_info(struct details *details, const struct qr_rich_error *error)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;

    info.reason = (char *)error->reason;
    info.domain = (char *)QR_ERROR_DOMAIN;
    add(details, (char *)"type.googleapis.com/google.rpc.ErrorInfo", &info.base);
}

static void add_bad_request(struct details *details, const struct qr_rich_error *error)
{
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
    Google__Rpc__BadRequest request = GOOGLE__RPC__BAD_REQUEST__INIT;

    violation.field = (char *)error->field;
    violation.description = (char *)error->message;
    request.n_field_violations = 1;
    request.field_violations = violations;
    add(details, (char *)"type.googleapis.com/google.rpc.BadRequest", &request.base);
}

static void add_quota_failure(struct details *details, const struct qr_rich_error *error)
{
    Google__Rpc__QuotaFailure__Violation violation = GOOGLE__RPC__QUOTA_FAILURE__VIOLATION__INIT;
    Google__Rpc__QuotaFailure__Violation *violations[] = {&violation};
    Google__Rpc__QuotaFailure failure = GOOGLE__RPC__QUOTA_FAILURE__INIT;

    violation.subject = (char *)error->quota;
    violation.description = (char *)error->message;
    failure.n_violations = 1;
    failure.violations = violations;
    add(details, (char *)"type.googleapis.com/google.rpc.QuotaFailure", &failure.base);
}

static void add_retry_info(struct details *details, const struct qr_rich_error *error)
{
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;

    delay.seconds = error->retry_after_ns / QR_NS_PER_SEC;
    delay.nanos = (int32_t)(error->retry_after_ns % QR_NS_PER_SEC);
    retry.retry_delay = &delay;
    add(details, (char *)"type.googleapis.com/google.rpc.RetryInfo", &retry.base);
}

grpc_slice qr_rich_error_pack(const struct qr_rich_error *error)
{
    struct details details = {.count = 0};
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;

    add_error_info(&details, error);
    if (error->field != NULL)
        add_bad_request(&details, error);
    if (error->quota != NULL)
        add_quota_failure(&details, error);
    if (error->retry_after_ns > 0)
        add_retry_info(&details, error);
    status.code = (int32_t)error->code;
    status.message = (char *)error->message;
    status.n_details = details.count;
    status.details = details.pointers;
    return qr_message_pack_slice(&status.base);
}
