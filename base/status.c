/* status.c - see status.h for the contract. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

const char *qr_status_name(enum qr_status status)
{
    switch (status) {
    case QR_OK:
        return "OK";
    case QR_ERR_INVALID:
        return "INVALID";
    case QR_ERR_NOMEM:
        return "NOMEM";
    case QR_ERR_NO_PAGES:
        return "NO_PAGES";
    case QR_ERR_IO:
        return "IO";
    case QR_ERR_DEVICE:
        return "DEVICE";
    case QR_ERR_QUEUE_FULL:
        return "QUEUE_FULL";
    case QR_ERR_NOT_FOUND:
        return "NOT_FOUND";
    case QR_ERR_UNSUPPORTED:
        return "UNSUPPORTED";
    case QR_ERR_CLOSED:
        return "CLOSED";
    }
    return "UNKNOWN";
}

enum qr_status qr_fail(struct qr_error *err, enum qr_status status, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->message, sizeof(err->message), fmt, args);
        va_end(args);
    }
    return status;
}

void qr_error_prefix(struct qr_error *err, const char *fmt, ...)
{
    if (err == NULL)
        return;

    char joined[sizeof(err->message)];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(joined, sizeof(joined), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(joined))
        return; /* no room for the context: the original sentence is worth more */
    snprintf(joined + n, sizeof(joined) - (size_t)n, ": %s", err->message);
    memcpy(err->message, joined, sizeof(joined));
}
