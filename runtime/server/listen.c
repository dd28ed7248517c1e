/* listen.c - see listen.h for the contract. */
#include "runtime/server/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { HOST_MAX = 256, MAX_PORT = 65535 };

static enum qr_status bind_error(const char *address, struct qr_error *err)
{
    switch (errno) {
    case EADDRINUSE:
        return qr_fail(err, QR_ERR_IO,
                       "%s is in use by another process; stop it or choose another address",
                       address);
    case EACCES:
    case EPERM:
        return qr_fail(err, QR_ERR_IO, "%s: not permitted to listen there", address);
    case EADDRNOTAVAIL:
        return qr_fail(err, QR_ERR_IO, "%s: this machine has no such address", address);
    default:
        return qr_fail(err, QR_ERR_IO, "%s: cannot listen: %s", address, strerror(errno));
    }
}

/* True when a server accepts connections on the socket file. */
static bool is_alive(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && connect(fd, (const struct sockaddr *)name, sizeof(*name)) == 0;

    if (fd >= 0)
        close(fd);
    return alive;
}

static enum qr_status check_unix(const char *address, struct qr_error *err)
{
    const char *path = address + strlen("unix:");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat info;

    if (*path == '\0' || strlen(path) >= sizeof(name.sun_path))
        return qr_fail(err, QR_ERR_INVALID, "%s: a socket's path has 1 to %zu bytes", address,
                       sizeof(name.sun_path) - 1);
    strcpy(name.sun_path, path);
    if (lstat(path, &info) == 0) {
        if (!S_ISSOCK(info.st_mode))
            return qr_fail(err, QR_ERR_IO, "%s: there is something else than a socket", address);
        if (is_alive(&name))
            return qr_fail(err, QR_ERR_IO,
                           "%s is in use by another process; stop it or choose another address",
                           address);
        unlink(path); /* if that fails, bind says so */
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return bind_error(address, err);
    enum qr_status status = QR_OK;
    if (bind(fd, (const struct sockaddr *)&name, sizeof(name)) != 0)
        status = bind_error(address, err);
    else
        unlink(path);
    close(fd);
    return status;
}

/* Splits host:port or [v6]:port; `host` has HOST_MAX bytes. */
static enum qr_status split_address(const char *address, char *host, const char **port,
                                    struct qr_error *err)
{
    const char *colon = strrchr(address, ':');
    const char *first = address;
    const char *end = colon;
    char *rest;

    if (colon != NULL && address[0] == '[' && colon > address + 1 && colon[-1] == ']') {
        first = address + 1;
        end = colon - 1;
    } else if (colon != NULL && memchr(address, ':', (size_t)(colon - address)) != NULL) {
        colon = NULL; /* IPv6 without brackets: where would its port begin? */
    }
    if (colon == NULL || end == first || end - first >= HOST_MAX)
        return qr_fail(err, QR_ERR_INVALID,
                       "\"%s\" is no address; write host:port, [v6]:port or unix:PATH", address);
    *port = colon + 1;
    long number = strtol(*port, &rest, 10);
    if (**port < '0' || **port > '9' || *rest != '\0' || number > MAX_PORT)
        return qr_fail(err, QR_ERR_INVALID, "\"%s\": the port must be a number from 0 to %d",
                       address, MAX_PORT);
    memcpy(host, first, (size_t)(end - first));
    host[end - first] = '\0';
    return QR_OK;
}

static enum qr_status check_tcp(const char *address, struct qr_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    char host[HOST_MAX];
    const char *port = NULL;
    const int on = 1;

    QR_TRY(split_address(address, host, &port, err));
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return qr_fail(err, QR_ERR_IO, "%s: cannot find the host: %s", address, gai_strerror(rc));
    /* One is enough: "localhost" may have an IPv6 address that this machine lacks. */
    enum qr_status status = QR_ERR_IO;
    for (struct addrinfo *info = found; info != NULL && status != QR_OK; info = info->ai_next) {
        int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
        if (fd >= 0)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (fd >= 0 && bind(fd, info->ai_addr, info->ai_addrlen) == 0)
            status = QR_OK;
        else
            bind_error(address, err);
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(found);
    return status;
}

enum qr_status qr_listen_check(const char *address, struct qr_error *err)
{
    return qr_listen_is_unix(address) ? check_unix(address, err) : check_tcp(address, err);
}
