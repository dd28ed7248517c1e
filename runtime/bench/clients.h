/*
 * clients.h - `quire serve` of the same binary, and clients that stream from it at one time: when
 * it is ready, how soon and how evenly tokens come, and the memory that it takes.
 *
 * A round is one request of each client, all sent at once; the next round begins when the last of
 * them has ended. Prompts are random ids, so that no two share a page. Single-threaded.
 */
#ifndef QUIRE_RUNTIME_BENCH_CLIENTS_H
#define QUIRE_RUNTIME_BENCH_CLIENTS_H

#include <stdint.h>

#include "base/status.h"

enum { QR_MAX_CLIENTS = 1024, QR_MAX_ROUNDS = 64 };

struct qr_clients_config {
    const char *model;    /* as of serve; NULL: the demo model */
    const char *quantize; /* the same, as the following; NULL: serve's default */
    const char *kv_dtype;
    const char *weights_cache;
    const char *max_stall; /* ms */
    int32_t n_threads;     /* of the server; 0: one a core */
    int32_t n_prompt;      /* tokens of each request, at least 1 */
    int32_t n_output;      /* at least 2 */
    int32_t n_rounds;      /* in [1, QR_MAX_ROUNDS] */
    int64_t timeout_ns;    /* of a round */
};

enum qr_clients_figure {
    QR_CLIENTS_READY_S,       /* from the start of the process until it takes requests */
    QR_CLIENTS_FIRST_TOKEN_S, /* from there to the first token of the first round */
    QR_CLIENTS_TOKENS_PER_S,  /* of output, while rounds last */
    QR_CLIENTS_TTFT_P50_S,    /* time to the first token, over all requests */
    QR_CLIENTS_TTFT_P99_S,
    QR_CLIENTS_GAP_P50_S,     /* mean time between the messages of a request */
    QR_CLIENTS_LONGEST_GAP_S, /* between two messages of any request */
    QR_CLIENTS_CPU_S,         /* processor time of the server, from its start */
    QR_CLIENTS_READY_MB,      /* resident memory, 10^6 bytes, when it is ready */
    QR_CLIENTS_MB,            /* and after the last round */
    QR_CLIENTS_FIGURES,
};

QR_BEGIN_DECLS

const char *qr_clients_figure_name(enum qr_clients_figure figure);
/*
 * Starts a server with room for n_clients requests, sends the rounds and stops it. `folder` is for
 * its socket and log; other seeds draw other prompts. QR_ERR_IO when the server does not start or
 * a request fails: the error says which.
 */
QR_MUST_CHECK enum qr_status qr_clients_run(const char *folder,
                                            const struct qr_clients_config *config,
                                            int32_t n_clients, uint64_t seed,
                                            double figures[QR_CLIENTS_FIGURES],
                                            struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CLIENTS_H */
