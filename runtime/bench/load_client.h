/*
 * load_client.h - an open-loop load generator for quire.v1: each request is sent at its own
 * time, whatever became of those before it.
 *
 * One thread and one completion queue drive all streams, over a few connections. A refusal
 * with RetryInfo is obeyed: the request is sent again after the time it names. Times of
 * results are of the monotonic clock (qr_now_ns).
 */
#ifndef QUIRE_RUNTIME_BENCH_LOAD_CLIENT_H
#define QUIRE_RUNTIME_BENCH_LOAD_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/quire/v1/control.pb-c.h"
#include "runtime/engine/request.h"
#include "runtime/engine/stream.h"

struct qr_load_client;

/* What became of one request; times are 0 where nothing happened. */
struct qr_load_result {
    int64_t due_ns;     /* when it was to be sent */
    int64_t sent_ns;    /* when it was, the first time */
    int64_t first_ns;   /* first message with a token */
    int64_t last_ns;    /* last message with a token */
    int64_t end_ns;     /* status */
    int64_t max_gap_ns; /* the longest time between two messages with tokens */
    int32_t code;       /* grpc_status_code */
    int32_t n_refused;  /* times it was told to come again */
    int32_t n_messages; /* with tokens */
    int32_t n_tokens;
    uint64_t hash; /* of the output ids, in order (64-bit FNV-1a) */
    struct qr_usage usage;
    char error[160]; /* what the status said; empty on success */
};

struct qr_load_options {
    const char *addr;          /* host:port or unix:PATH */
    int32_t n_connections;     /* at least 1 */
    int64_t stats_interval_ns; /* between two GetStats; 0: only the one at the end */
    int64_t timeout_ns;        /* of the whole run: what has not ended by then is cancelled */
    /* Each answer to GetStats, and once more after the last request; may be NULL. */
    void (*on_stats)(void *arg, int64_t now_ns, const Quire__V1__GetStatsResponse *stats);
    void *arg;
};

QR_BEGIN_DECLS

/* Connects; QR_ERR_IO when nobody answers. On QR_OK the caller owns *out. */
QR_MUST_CHECK enum qr_status qr_load_client_create(const struct qr_load_options *options,
                                                   struct qr_load_client **out,
                                                   struct qr_error *err);
void qr_load_client_destroy(struct qr_load_client *client); /* accepts NULL */
/* What is served; valid until destroy. */
const Quire__V1__GetModelInfoResponse *qr_load_client_model(const struct qr_load_client *client);

/*
 * Adds a request, of one output, to be sent `at_ns` after the start of the run. Its message
 * is packed here, so that the run costs the client little. `request` stays the caller's.
 */
QR_MUST_CHECK enum qr_status qr_load_client_add(struct qr_load_client *client, int64_t at_ns,
                                                const struct qr_request *request);
/*
 * Sends everything and waits until all has ended; once. *start_ns is the time to which the
 * at_ns were added. A failed request is no error here: see its result. QR_ERR_IO when the
 * run timed out, or GetStats failed.
 */
QR_MUST_CHECK enum qr_status qr_load_client_run(struct qr_load_client *client, int64_t *start_ns,
                                                struct qr_error *err);
/* In the order of qr_load_client_add; valid until destroy. */
int32_t qr_load_client_count(const struct qr_load_client *client);
const struct qr_load_result *qr_load_client_result(const struct qr_load_client *client,
                                                   int32_t index);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_LOAD_CLIENT_H */
