/* bench_server.h - `quire serve` of the same binary as a child process, on a Unix socket. */
#ifndef QUIRE_RUNTIME_BENCH_BENCH_SERVER_H
#define QUIRE_RUNTIME_BENCH_BENCH_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

struct qr_bench_server {
    pid_t pid;      /* 0: not running */
    char addr[108]; /* "unix:PATH" */
    char log[128];  /* what it says on stderr, for errors */
    int32_t kv_pages;
};

enum { QR_BENCH_FOLDER_BYTES = 64 };

QR_BEGIN_DECLS

/* A new folder for the sockets and logs of servers, and its end. */
QR_MUST_CHECK enum qr_status qr_bench_folder_make(char folder[QR_BENCH_FOLDER_BYTES],
                                                  struct qr_error *err);
void qr_bench_folder_remove(const char *folder);
/*
 * Starts `quire serve --listen ADDR` with `args` (NULL at the end) after it and waits for its
 * ready line. `folder` is for the socket and the log. Errors quote the log's end.
 */
QR_MUST_CHECK enum qr_status qr_bench_server_start(const char *folder, const char *const *args,
                                                   struct qr_bench_server *server,
                                                   struct qr_error *err);
/* SIGTERM, then waits. QR_ERR_IO when it had to be killed or did not exit with 0. */
QR_MUST_CHECK enum qr_status qr_bench_server_stop(struct qr_bench_server *server,
                                                  struct qr_error *err);
/* Processor time that it has taken so far, in seconds. */
double qr_bench_server_cpu_s(const struct qr_bench_server *server);
/* Its resident memory, in 10^6 bytes; 0: the system does not say. */
double qr_bench_server_resident_mb(const struct qr_bench_server *server);
/* Ends a server whose run has failed; accepts one that does not run. */
void qr_bench_server_kill(struct qr_bench_server *server);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_BENCH_SERVER_H */
