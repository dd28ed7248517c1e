/*
 * listen.h - listening addresses: what they may look like, and why one cannot be used.
 *
 * gRPC says no more than that it failed, so an address is tried out first.
 */
#ifndef QUIRE_RUNTIME_SERVER_LISTEN_H
#define QUIRE_RUNTIME_SERVER_LISTEN_H

#include <stdbool.h>

#include "base/status.h"

QR_BEGIN_DECLS

static inline bool qr_listen_is_unix(const char *address)
{
    return __builtin_strncmp(address, "unix:", 5) == 0;
}

/*
 * Accepts host:port, [v6]:port and unix:PATH that can be bound now; the socket file of
 * a server that is gone is removed. Errors name the address and the reason.
 */
QR_MUST_CHECK enum qr_status qr_listen_check(const char *address, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SERVER_LISTEN_H */
