/* server.c - see server.h for the contract: making the server, draining it, taking it apart. */
#include "runtime/server/server.h"

#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/descriptor_set.h"
#include "runtime/server/listen.h"
#include "runtime/server/message.h"
#include "runtime/server/server_internal.h"

enum {
    MAX_CONCURRENT_STREAMS = 4096, /* a connection; more wait at the client */
    HANDSHAKE_TIMEOUT_MS = 10000,
    /* A client may ping this often while a long prefill keeps its stream quiet. */
    MIN_PING_INTERVAL_MS = 5000,
    KEEPALIVE_TIMEOUT_MS = 10000,
    STOP_GRACE_S = 1, /* for the last words to clients that read slowly */
    CORES_PER_QUEUE = 4,
};

void qr_server_config_default(struct qr_server_config *config)
{
    *config = (struct qr_server_config){
        .listen = "127.0.0.1:7070",
        .max_message_bytes = 4 << 20,
        .keepalive_ms = 20000,
    };
}

/* gRPC's own log lines become ours. */
static void log_from_grpc(gpr_log_func_args *args)
{
    char quoted[1024];

    qr_log_quote(args->message, quoted, sizeof(quoted));
    if (strstr(args->message, "accept4") != NULL)
        qr_log(QR_LOG_ERROR, "accept_failed",
               "message=%s hint=\"raise the limit of open files (ulimit -n) and restart: the "
               "listener may have stopped\"",
               quoted);
    else
        qr_log(args->severity == GPR_LOG_SEVERITY_ERROR ? QR_LOG_WARN : QR_LOG_DEBUG, "grpc",
               "message=%s", quoted);
}

/* Each connection takes a descriptor, and gRPC stops to accept for good when there is none. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            qr_log(QR_LOG_WARN, "file_limit", "message=\"cannot be raised\"");
    }
}

static grpc_server *create_grpc_server(const struct qr_server_config *config)
{
    const struct {
        const char *key;
        int value;
    } settings[] = {
        {GRPC_ARG_ALLOW_REUSEPORT, 0}, /* or two servers would share a port in silence */
        {GRPC_ARG_MAX_CONCURRENT_STREAMS, MAX_CONCURRENT_STREAMS},
        {GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)config->max_message_bytes},
        {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS},
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, MIN_PING_INTERVAL_MS},
        {GRPC_ARG_KEEPALIVE_TIME_MS, config->keepalive_ms},
        {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS},
        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
        {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
    };
    enum { N_SETTINGS = sizeof(settings) / sizeof(settings[0]) };
    grpc_arg args[N_SETTINGS];

    for (size_t i = 0; i < N_SETTINGS; i++) {
        args[i].type = GRPC_ARG_INTEGER;
        args[i].key = (char *)settings[i].key;
        args[i].value.integer = settings[i].value;
    }
    grpc_channel_args all = {.num_args = N_SETTINGS, .args = args};
    return grpc_server_create(&all, NULL);
}

static int32_t choose_n_shards(const struct qr_server_config *config)
{
    long wanted =
        config->n_queues > 0 ? config->n_queues : sysconf(_SC_NPROCESSORS_ONLN) / CORES_PER_QUEUE;

    if (wanted < 1)
        return 1;
    return wanted < QR_MAX_SHARDS ? (int32_t)wanted : QR_MAX_SHARDS;
}

static void on_shut_down(struct qr_tag *tag, bool ok)
{
    struct qr_server *server = QR_CONTAINER_OF(tag, struct qr_server, shutdown_tag);

    (void)ok;
    pthread_mutex_lock(&server->mutex);
    server->shut_down = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
}

static enum qr_status listen_on(struct qr_server *server, const char *address, struct qr_error *err)
{
    QR_TRY(qr_listen_check(address, err));
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->grpc, address, credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0)
        return qr_fail(err, QR_ERR_IO, "%s: gRPC cannot listen there", address);
    server->listening = true;
    if (qr_listen_is_unix(address))
        snprintf(server->address, sizeof(server->address), "%s", address);
    else
        snprintf(server->address, sizeof(server->address), "%.*s:%d",
                 (int)(strrchr(address, ':') - address), address, port);
    return QR_OK;
}

static enum qr_status load_descriptors(struct qr_server *server)
{
    size_t size;
    const uint8_t *bytes = qr_descriptor_set(&size);

    server->descriptors = (Google__Protobuf__FileDescriptorSet *)qr_message_unpack_bytes(
        &google__protobuf__file_descriptor_set__descriptor, bytes, size);
    return server->descriptors != NULL ? QR_OK : QR_ERR_NOMEM;
}

/* Everything that can fail; what was made is left to qr_server_destroy. */
static enum qr_status start(struct qr_server *server, const struct qr_server_config *config,
                            struct qr_error *err)
{
    enum qr_status status = load_descriptors(server);

    if (status == QR_OK && (server->grpc = create_grpc_server(config)) == NULL)
        status = QR_ERR_NOMEM;
    if (status == QR_OK && (server->lame = grpc_lame_client_channel_create(
                                "wake", GRPC_STATUS_UNAVAILABLE, "")) == NULL)
        status = QR_ERR_NOMEM;
    server->n_shards = choose_n_shards(config);
    for (int32_t i = 0; i < server->n_shards && status == QR_OK; i++)
        status = qr_shard_create(server, &server->shards[i]);
    for (int32_t i = 0; i < server->n_shards && status == QR_OK; i++)
        status = qr_shard_start(&server->shards[i]);
    if (status != QR_OK)
        return qr_fail(err, status, "out of memory or threads for the server");
    return listen_on(server, config->listen, err);
}

static void change_phase(struct qr_server *server, enum qr_server_phase phase)
{
    atomic_store(&server->phase, phase);
    for (int32_t i = 0; i < server->n_shards; i++)
        qr_shard_post_phase(&server->shards[i]);
}

enum qr_status qr_server_create(const struct qr_server_config *config, struct qr_server **out,
                                struct qr_error *err)
{
    *out = NULL;
    struct qr_server *server = qr_calloc(QR_ARENA_NETWORK, 1, sizeof(*server));
    if (server == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for the server");
    server->engine = config->engine;
    server->start_ns = qr_now_ns();
    server->shutdown_tag.done = on_shut_down;
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    gpr_set_log_function(log_from_grpc);
    raise_file_limit();
    grpc_init();

    enum qr_status status = start(server, config, err);
    if (status != QR_OK) {
        qr_server_destroy(server);
        return status;
    }
    grpc_server_start(server->grpc);
    change_phase(server, QR_SERVER_SERVING);
    *out = server;
    return QR_OK;
}

const char *qr_server_address(const struct qr_server *server)
{
    return server->address;
}

void qr_server_drain(struct qr_server *server)
{
    change_phase(server, QR_SERVER_DRAINING);
}

bool qr_server_is_drained(struct qr_server *server)
{
    return atomic_load(&server->n_inference_calls) == 0;
}

void qr_server_stop(struct qr_server *server)
{
    struct timespec until;

    change_phase(server, QR_SERVER_STOPPING);
    grpc_server_shutdown_and_notify(server->grpc, server->shards[0].queue, &server->shutdown_tag);

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_GRACE_S;
    pthread_mutex_lock(&server->mutex);
    int rc = 0;
    while (!server->shut_down && rc == 0)
        rc = pthread_cond_timedwait(&server->changed, &server->mutex, &until);
    if (!server->shut_down) {
        pthread_mutex_unlock(&server->mutex);
        grpc_server_cancel_all_calls(server->grpc);
        pthread_mutex_lock(&server->mutex);
    }
    /* A call goes when gRPC and the engine have both let go of it. */
    while (!server->shut_down || server->n_calls > 0)
        pthread_cond_wait(&server->changed, &server->mutex);
    pthread_mutex_unlock(&server->mutex);
    server->stopped = true;
}

void qr_server_destroy(struct qr_server *server)
{
    if (server == NULL)
        return;
    if (server->listening && !server->stopped)
        qr_server_stop(server);
    if (server->grpc != NULL)
        grpc_server_destroy(server->grpc);
    for (int32_t i = 0; i < server->n_shards; i++)
        qr_shard_destroy(&server->shards[i]);
    if (server->lame != NULL)
        grpc_channel_destroy(server->lame);
    if (server->descriptors != NULL)
        qr_message_free(&server->descriptors->base);
    grpc_shutdown();
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    qr_free(server);
}
