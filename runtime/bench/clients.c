/* clients.c - see clients.h for the contract. */
#include "runtime/bench/clients.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "runtime/bench/bench_server.h"
#include "runtime/bench/load_client.h"
#include "runtime/bench/report.h"
#include "runtime/sampling/philox.h"

enum { PAGE_SIZE = 16, MAX_CONNECTIONS = 8, MAX_OPTIONS = 16 };

struct rounds {
    const struct qr_clients_config *config;
    int32_t n_clients;
    uint64_t seed;
    int32_t n_results; /* of the rounds so far */
    double *ttft_s;    /* [n_clients * n_rounds] */
    double *gap_s;     /* the same */
    double longest_gap_s;
    double seconds;   /* that rounds lasted */
    int64_t first_ns; /* when the first token came; 0: none yet */
    int64_t n_tokens;
};

static enum qr_status start_server(const char *folder, const struct qr_clients_config *config,
                                   int32_t n_clients, struct qr_bench_server *server,
                                   struct qr_error *err)
{
    int32_t context = config->n_prompt + config->n_output;
    char context_text[16], pages[16], running[16], threads[16];
    const char *args[MAX_OPTIONS + 1];
    int n = 0;

    snprintf(context_text, sizeof(context_text), "%d", context);
    snprintf(pages, sizeof(pages), "%d", n_clients * ((context + PAGE_SIZE - 1) / PAGE_SIZE));
    snprintf(running, sizeof(running), "%d", n_clients);
    snprintf(threads, sizeof(threads), "%d", config->n_threads);
    const char *const options[][2] = {
        {"--model", config->model},
        {"--quantize", config->quantize},
        {"--kv-dtype", config->kv_dtype},
        {"--weights-cache", config->weights_cache},
        {"--threads", threads},
        {"--max-context", context_text},
        {"--kv-pages", pages},
        {"--max-running", running},
        {"--max-stall", config->max_stall},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (options[i][1] == NULL)
            continue;
        args[n++] = options[i][0];
        args[n++] = options[i][1];
    }
    args[n] = NULL;
    return qr_bench_server_start(folder, args, server, err);
}

/* Ids in [1, vocab_size), other ones for each number. */
static void draw_prompt(uint64_t seed, uint32_t number, int32_t vocab_size, int32_t *ids, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const struct qr_philox_block counter = {{(uint32_t)i, number, 0, 0}};
        ids[i] = 1 + (int32_t)(qr_philox(counter, seed).word[0] % (uint32_t)(vocab_size - 1));
    }
}

static enum qr_status add_request(struct qr_load_client *client, const struct rounds *rounds,
                                  uint32_t number)
{
    int32_t vocab_size = (int32_t)qr_load_client_model(client)->vocab_size;
    size_t n_prompt = (size_t)rounds->config->n_prompt;
    int32_t *ids = qr_malloc(QR_ARENA_NETWORK, n_prompt * sizeof(*ids));
    struct qr_request *request = qr_request_create();
    enum qr_status status = QR_ERR_NOMEM;

    if (ids != NULL && request != NULL) {
        draw_prompt(rounds->seed, number, vocab_size, ids, rounds->config->n_prompt);
        request->max_tokens = rounds->config->n_output;
        request->ignore_eos = true;
        request->sampling.temperature = 0;
        status = qr_request_set_prompt(request, ids, n_prompt);
    }
    if (status == QR_OK)
        status = qr_load_client_add(client, 0, request);
    qr_request_destroy(request);
    qr_free(ids);
    return status;
}

static enum qr_status take_result(struct rounds *rounds, const struct qr_load_result *result,
                                  int32_t index, struct qr_error *err)
{
    if (result->code != 0 || result->n_tokens != rounds->config->n_output)
        return qr_fail(err, QR_ERR_IO, "request %d: %d of %d tokens%s%s", index, result->n_tokens,
                       rounds->config->n_output, result->error[0] != '\0' ? "; " : "",
                       result->error);
    int32_t n_gaps = result->n_messages > 1 ? result->n_messages - 1 : 1;
    double longest_s = qr_seconds_between(0, result->max_gap_ns);
    rounds->ttft_s[index] = qr_seconds_between(result->due_ns, result->first_ns);
    rounds->gap_s[index] = qr_seconds_between(result->first_ns, result->last_ns) / n_gaps;
    rounds->longest_gap_s = longest_s > rounds->longest_gap_s ? longest_s : rounds->longest_gap_s;
    rounds->n_tokens += result->n_tokens;
    if (rounds->first_ns == 0 || result->first_ns < rounds->first_ns)
        rounds->first_ns = result->first_ns;
    return QR_OK;
}

static enum qr_status take_results(struct rounds *rounds, const struct qr_load_client *client,
                                   int64_t start_ns, struct qr_error *err)
{
    int64_t end_ns = start_ns;

    for (int32_t i = 0; i < rounds->n_clients; i++) {
        const struct qr_load_result *result = qr_load_client_result(client, i);
        QR_TRY(take_result(rounds, result, rounds->n_results++, err));
        end_ns = result->last_ns > end_ns ? result->last_ns : end_ns;
    }
    rounds->seconds += qr_seconds_between(start_ns, end_ns);
    return QR_OK;
}

static enum qr_status run_round(struct rounds *rounds, const char *addr, struct qr_error *err)
{
    const struct qr_load_options options = {
        .addr = addr,
        .n_connections = rounds->n_clients < MAX_CONNECTIONS ? rounds->n_clients : MAX_CONNECTIONS,
        .timeout_ns = rounds->config->timeout_ns,
    };
    struct qr_load_client *client;
    int64_t start_ns;

    QR_TRY(qr_load_client_create(&options, &client, err));
    enum qr_status status = QR_OK;
    for (int32_t i = 0; i < rounds->n_clients && status == QR_OK; i++)
        status = add_request(client, rounds, (uint32_t)(rounds->n_results + i));
    if (status != QR_OK)
        qr_fail(err, status, "out of memory for the requests");
    if (status == QR_OK)
        status = qr_load_client_run(client, &start_ns, err);
    if (status == QR_OK)
        status = take_results(rounds, client, start_ns, err);
    qr_load_client_destroy(client);
    return status;
}

static void take_figures(struct rounds *rounds, int64_t spawned_ns,
                         double figures[QR_CLIENTS_FIGURES])
{
    int32_t n = rounds->n_results;

    figures[QR_CLIENTS_FIRST_TOKEN_S] = qr_seconds_between(spawned_ns, rounds->first_ns);
    figures[QR_CLIENTS_TOKENS_PER_S] = (double)rounds->n_tokens / rounds->seconds;
    figures[QR_CLIENTS_TTFT_P50_S] = qr_median(rounds->ttft_s, n); /* sorts them */
    figures[QR_CLIENTS_TTFT_P99_S] = qr_percentile(rounds->ttft_s, n, 99);
    figures[QR_CLIENTS_GAP_P50_S] = qr_median(rounds->gap_s, n);
    figures[QR_CLIENTS_LONGEST_GAP_S] = rounds->longest_gap_s;
}

static enum qr_status run_rounds(struct rounds *rounds, const struct qr_bench_server *server,
                                 struct qr_error *err)
{
    size_t n = (size_t)rounds->n_clients * (size_t)rounds->config->n_rounds;

    rounds->ttft_s = qr_calloc(QR_ARENA_NETWORK, n, sizeof(*rounds->ttft_s));
    rounds->gap_s = qr_calloc(QR_ARENA_NETWORK, n, sizeof(*rounds->gap_s));
    if (rounds->ttft_s == NULL || rounds->gap_s == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for the results");
    for (int32_t i = 0; i < rounds->config->n_rounds; i++)
        QR_TRY(run_round(rounds, server->addr, err));
    return QR_OK;
}

enum qr_status qr_clients_run(const char *folder, const struct qr_clients_config *config,
                              int32_t n_clients, uint64_t seed, double figures[QR_CLIENTS_FIGURES],
                              struct qr_error *err)
{
    struct rounds rounds = {.config = config, .n_clients = n_clients, .seed = seed};
    struct qr_bench_server server;

    int64_t spawned_ns = qr_now_ns();
    QR_TRY(start_server(folder, config, n_clients, &server, err));
    figures[QR_CLIENTS_READY_S] = qr_seconds_between(spawned_ns, qr_now_ns());
    figures[QR_CLIENTS_READY_MB] = qr_bench_server_resident_mb(&server);
    enum qr_status status = run_rounds(&rounds, &server, err);
    if (status == QR_OK) {
        take_figures(&rounds, spawned_ns, figures);
        figures[QR_CLIENTS_CPU_S] = qr_bench_server_cpu_s(&server);
        figures[QR_CLIENTS_MB] = qr_bench_server_resident_mb(&server);
        status = qr_bench_server_stop(&server, err);
    }
    qr_bench_server_kill(&server);
    qr_free(rounds.ttft_s);
    qr_free(rounds.gap_s);
    return status;
}

const char *qr_clients_figure_name(enum qr_clients_figure figure)
{
    static const char *const names[] = {
        [QR_CLIENTS_READY_S] = "ready_s",
        [QR_CLIENTS_FIRST_TOKEN_S] = "first_token_s",
        [QR_CLIENTS_TOKENS_PER_S] = "tokens_per_s",
        [QR_CLIENTS_TTFT_P50_S] = "ttft_p50_s",
        [QR_CLIENTS_TTFT_P99_S] = "ttft_p99_s",
        [QR_CLIENTS_GAP_P50_S] = "gap_p50_s",
        [QR_CLIENTS_LONGEST_GAP_S] = "longest_gap_s",
        [QR_CLIENTS_CPU_S] = "cpu_s",
        [QR_CLIENTS_READY_MB] = "ready_mb",
        [QR_CLIENTS_MB] = "resident_mb",
    };
    return names[figure];
}
