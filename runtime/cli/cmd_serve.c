/*
 * cmd_serve.c - `quire serve`: an engine behind gRPC until a signal comes.
 *
 * SIGTERM and SIGINT drain: what runs may finish, nothing new is taken. When the drain
 * timeout is over, or with a second signal, the rest is ended.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/engine_options.h"
#include "runtime/server/server.h"

enum {
    DRAIN_POLL_MS = 20,
    MIN_KEEPALIVE_MS = 1000,
    MAX_KEEPALIVE_MS = 3600000,
    MAX_DRAIN_S = 86400,
    DEFAULT_DRAIN_S = 30,
};

struct serve_command {
    struct qr_engine_config engine;
    struct qr_server_config server;
    int32_t drain_timeout_s;
    const char *log_level;
    sigset_t signals;
};

/* Before any thread starts: all of them inherit the mask, and the waiting is ours alone. */
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The signal's number, or 0 after DRAIN_POLL_MS without one. */
static int poll_signal(const sigset_t *signals)
{
    const struct timespec poll = {.tv_nsec = DRAIN_POLL_MS * 1000000};
    int signal_number = sigtimedwait(signals, NULL, &poll);

    return signal_number > 0 ? signal_number : 0;
}

static void drain(const struct serve_command *command, struct qr_server *server)
{
    int64_t until_ns = qr_now_ns() + command->drain_timeout_s * QR_NS_PER_SEC;

    qr_server_drain(server);
    while (!qr_server_is_drained(server)) {
        int signal_number = poll_signal(&command->signals);
        if (signal_number != 0 || qr_now_ns() >= until_ns) {
            qr_log(QR_LOG_WARN, "drain_ended", "cause=%s",
                   signal_number != 0 ? "signal" : "timeout");
            return;
        }
    }
    qr_log(QR_LOG_INFO, "drained", "");
}

/* The line that scripts wait for; the same goes to the log. */
static void say_ready(const struct qr_server *server, struct qr_engine *engine)
{
    struct qr_engine_stats stats;

    qr_engine_get_stats(engine, &stats);
    printf("ready %s model=%s kv_pages=%d\n", qr_server_address(server),
           qr_engine_model_name(engine), stats.kv_pages);
    fflush(stdout);
    qr_log(QR_LOG_INFO, "ready", "addr=%s model=%s kv_pages=%d page_size=%d backend=%s",
           qr_server_address(server), qr_engine_model_name(engine), stats.kv_pages, stats.page_size,
           qr_engine_backend(engine));
}

static enum qr_status serve(struct serve_command *command, struct qr_error *err)
{
    struct qr_engine *engine = NULL;
    struct qr_server *server = NULL;
    int signal_number;

    block_signals(&command->signals);
    QR_TRY(qr_engine_create(&command->engine, &engine, err));
    command->server.engine = engine;
    enum qr_status status = qr_server_create(&command->server, &server, err);
    if (status == QR_OK) {
        say_ready(server, engine);
        while (sigwait(&command->signals, &signal_number) != 0)
            continue;
        qr_log(QR_LOG_INFO, "draining", "signal=%d timeout_s=%d", signal_number,
               command->drain_timeout_s);
        drain(command, server);
        qr_server_stop(server);
    }
    qr_engine_destroy(engine);
    qr_server_destroy(server);
    if (status == QR_OK)
        qr_log(QR_LOG_INFO, "stopped", "");
    return status;
}

static enum qr_status run_command(struct serve_command *command, struct qr_error *err)
{
    QR_TRY(qr_command_log_level(command->log_level, err));
    return serve(command, err);
}

int qr_cmd_serve(int argc, char **argv)
{
    struct serve_command command = {.log_level = "info", .drain_timeout_s = DEFAULT_DRAIN_S};
    struct qr_positionals positionals;
    struct qr_error err = {{0}};
    qr_engine_config_default(&command.engine);
    qr_server_config_default(&command.server);
    const struct qr_option options[] = {
        {"listen", QR_OPTION_STRING, "ADDR", &command.server.listen, 0, 0,
         "host:port, [v6]:port or unix:PATH; port 0 takes any free one; default 127.0.0.1:7070",
         NULL},
        {"drain-timeout", QR_OPTION_INT, "SECONDS", &command.drain_timeout_s, 0, MAX_DRAIN_S,
         "after SIGTERM, what runs may go on this long, 0 to 86400; default 30", NULL},
        {"max-message", QR_OPTION_SIZE, "SIZE", &command.server.max_message_bytes, 1024, 0x1p30,
         "bytes of one request message, 1 KiB to 1 GiB; default 4 MiB", NULL},
        {"keepalive", QR_OPTION_INT, "MS", &command.server.keepalive_ms, MIN_KEEPALIVE_MS,
         MAX_KEEPALIVE_MS,
         "a client silent for so many milliseconds is probed, 1000 to 3600000; default 20000",
         NULL},
        {"network-threads", QR_OPTION_INT, "N", &command.server.n_queues, 0, 4,
         "threads that talk to clients, 0 to 4; default 0: one for four cores", NULL},
        {"log-level", QR_OPTION_STRING, "LEVEL", &command.log_level, 0, 0,
         "debug, info, warn, error or off; default info", NULL},
        QR_ENGINE_OPTION_ROWS(&command.engine),
        QR_TENANT_OPTION_ROW(&command.engine),
    };
    const struct qr_command_line line = {
        .command = "serve",
        .synopsis = "[--model PATH] [--listen ADDR] [options]",
        .description = "Serves a model over gRPC. Prints \"ready ADDR ...\" when it accepts calls.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    enum qr_status status = run_command(&command, &err);
    return qr_command_exit("serve", status, &err);
}
