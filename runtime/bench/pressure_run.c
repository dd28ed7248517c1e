/* pressure_run.c - see pressure_run.h for the contract. */
#include "runtime/bench/pressure_run.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "runtime/bench/bench_server.h"
#include "runtime/bench/simulate.h"

enum {
    STATS_INTERVAL_MS = 20,
    SETTLE_MS = 500, /* a server that swaps touches its host memory after it is ready */
};

#define FORCING_BIAS 100.0F /* of logits, which are some tens at most */

/* What GetStats said in the course of a run. */
struct samples {
    int64_t n;
    double used_slots;
    double wasted_slots;
    double used_pages;
    double running;
    double pages;
    uint32_t peak_pages; /* as of the last, as the following */
    uint64_t n_swapped, n_recomputed, n_parked;
    uint64_t n_recomputed_rows;
    uint64_t n_hit_tokens, n_lookup_tokens;
    uint64_t n_pages_out, n_pages_in;
};

static void on_stats(void *arg, int64_t now_ns, const Quire__V1__GetStatsResponse *stats)
{
    struct samples *samples = arg;
    const Quire__V1__KvStats *kv = stats->kv;

    (void)now_ns; /* they come at equal distances: each counts the same */
    if (kv == NULL || stats->requests == NULL || stats->tokens == NULL)
        return;
    samples->n++;
    samples->used_slots += (double)kv->used_slots;
    samples->wasted_slots += (double)kv->wasted_slots;
    samples->used_pages += (double)kv->used_pages;
    samples->pages += (double)kv->pages;
    samples->running += (double)stats->requests->running;
    samples->peak_pages = kv->peak_pages;
    samples->n_swapped = stats->requests->swapped;
    samples->n_recomputed = stats->requests->recomputed;
    samples->n_parked = stats->requests->parked;
    samples->n_recomputed_rows = stats->tokens->recomputed;
    samples->n_hit_tokens = kv->hit_tokens;
    samples->n_lookup_tokens = kv->lookup_tokens;
    samples->n_pages_out = 0;
    samples->n_pages_in = 0;
    for (size_t i = 0; i < kv->n_tiers; i++) {
        samples->n_pages_out += kv->tiers[i]->pages_out;
        samples->n_pages_in += kv->tiers[i]->pages_in;
    }
}

static enum qr_status start_server(const char *folder, const struct qr_pressure_server *config,
                                   struct qr_bench_server *server, struct qr_error *err)
{
    char option[12][320];
    const char *args[13];
    int n = 0;

#define ADD_OPTION(...)                                      \
    do {                                                     \
        snprintf(option[n], sizeof(option[n]), __VA_ARGS__); \
        args[n] = option[n];                                 \
        n++;                                                 \
    } while (0)
    if (config->model != NULL)
        ADD_OPTION("--model=%s", config->model);
    if (config->kv_pages > 0)
        ADD_OPTION("--kv-pages=%d", config->kv_pages);
    if (config->discipline == QR_DISCIPLINE_COST || config->discipline == QR_DISCIPLINE_SWAP)
        ADD_OPTION("--swap-memory=%lld", (long long)config->swap_memory);
    ADD_OPTION("--discipline=%s", qr_discipline_name(config->discipline));
    ADD_OPTION("--page-size=%d", config->page_size);
    ADD_OPTION("--max-running=%d", config->max_running);
    ADD_OPTION("--max-batch-tokens=%d", config->max_batch_tokens);
    ADD_OPTION("--threads=%d", config->n_threads);
    ADD_OPTION("--max-queue=%d", 1 << 20); /* whoever comes may wait */
    ADD_OPTION("--log-level=warn");
#undef ADD_OPTION
    args[n] = NULL;
    return qr_bench_server_start(folder, args, server, err);
}

/* A request whose output ends after exactly n_output tokens (see pressure_run.h). */
static enum qr_status add_request(struct qr_load_client *client,
                                  const struct qr_pressure_load *load, int32_t index,
                                  int32_t max_tokens)
{
    const struct qr_trace *trace = load->trace;
    const Quire__V1__GetModelInfoResponse *model = qr_load_client_model(client);
    const struct qr_trace_request *wanted = &trace->requests[index];
    int32_t stop_id = (int32_t)model->vocab_size - 1;
    int32_t room = (int32_t)model->max_context - wanted->n_prompt;
    struct qr_request *request = qr_request_create();
    int32_t *ids = qr_malloc(QR_ARENA_NETWORK, (size_t)wanted->n_prompt * sizeof(*ids));
    enum qr_status status = QR_ERR_NOMEM;

    if (request == NULL || ids == NULL)
        goto done;
    qr_trace_prompt(trace, index, 1, stop_id, ids);
    request->max_tokens = max_tokens < room ? max_tokens : room;
    request->min_tokens = wanted->n_output - 1;
    request->ignore_eos = true;
    request->sampling.temperature = load->temperature;
    request->sampling.seed = trace->seed + (uint64_t)index;
    if ((status = qr_request_set_prompt(request, ids, (size_t)wanted->n_prompt)) == QR_OK &&
        (status = qr_request_add_stop_token(request, stop_id, NULL)) == QR_OK &&
        (status = qr_request_add_logit_bias(request, stop_id, FORCING_BIAS, NULL)) == QR_OK)
        status = qr_load_client_add(client, wanted->arrival_ns, request);
done:
    qr_free(ids);
    qr_request_destroy(request);
    return status;
}

static enum qr_status add_requests(struct qr_load_client *client,
                                   const struct qr_pressure_load *load, struct qr_error *err)
{
    int32_t longest = qr_trace_max_output(load->trace);
    int32_t max_tokens = load->max_tokens > 0 ? load->max_tokens : longest;
    int32_t context = (int32_t)qr_load_client_model(client)->max_context;

    if (max_tokens < longest)
        return qr_fail(err, QR_ERR_INVALID,
                       "a limit of %d tokens cuts the trace, whose longest output has %d",
                       max_tokens, longest);
    if (qr_trace_max_tokens(load->trace) > context)
        return qr_fail(err, QR_ERR_INVALID,
                       "the trace has requests of %d tokens, the model a context of %d",
                       qr_trace_max_tokens(load->trace), context);
    for (int32_t i = 0; i < load->trace->n_requests; i++) {
        if (add_request(client, load, i, max_tokens) != QR_OK)
            return qr_fail(err, QR_ERR_NOMEM, "out of memory for the requests");
    }
    return QR_OK;
}

/* Fills in one request's result; returns when it ended. */
static int64_t take_request(const struct qr_load_result *got, const struct qr_trace_request *wanted,
                            int32_t index, struct qr_pressure_run *run)
{
    double late_s = qr_seconds_between(got->due_ns, got->sent_ns);

    run->requests[index] = (struct qr_request_result){
        .ttft_s = qr_seconds_between(got->due_ns, got->first_ns),
        .e2e_s = qr_seconds_between(got->due_ns, got->last_ns),
        .n_output = got->n_tokens,
        .failed = got->code != 0 || got->n_tokens != wanted->n_output,
    };
    run->hashes[index] = got->hash;
    run->n_output += got->n_tokens;
    run->n_refused += got->n_refused;
    run->latest_s = late_s > run->latest_s ? late_s : run->latest_s;
    run->result.n_rows +=
        wanted->n_prompt - got->usage.n_cached_tokens + (got->n_tokens > 0 ? got->n_tokens - 1 : 0);
    if (run->requests[index].failed && run->n_failed++ == 0)
        snprintf(run->first_error, sizeof(run->first_error), "request %d: %d of %d tokens%s%s",
                 index, got->n_tokens, wanted->n_output, got->error[0] != '\0' ? "; " : "",
                 got->error);
    return got->end_ns;
}

static enum qr_status take_results(const struct qr_load_client *client,
                                   const struct qr_trace *trace, struct qr_pressure_run *run)
{
    size_t n = (size_t)trace->n_requests;
    int64_t last_ns = 0;

    run->requests = qr_calloc(QR_ARENA_NETWORK, n, sizeof(*run->requests));
    run->hashes = qr_calloc(QR_ARENA_NETWORK, n, sizeof(*run->hashes));
    if (run->requests == NULL || run->hashes == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < trace->n_requests; i++) {
        int64_t end_ns =
            take_request(qr_load_client_result(client, i), &trace->requests[i], i, run);
        last_ns = end_ns > last_ns ? end_ns : last_ns;
    }
    run->result.n_requests = trace->n_requests;
    run->result.requests = run->requests;
    run->result.seconds = qr_seconds_between(qr_load_client_result(client, 0)->due_ns, last_ns);
    return QR_OK;
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void take_samples(const struct samples *samples, struct qr_pressure_run *run)
{
    struct qr_run_result *result = &run->result;

    result->n_swapped = (int64_t)samples->n_swapped;
    result->n_recomputed = (int64_t)samples->n_recomputed;
    result->n_parked = (int64_t)samples->n_parked;
    result->n_recomputed_rows = (int64_t)samples->n_recomputed_rows;
    result->n_rows += result->n_recomputed_rows;
    result->n_hit_tokens = (int64_t)samples->n_hit_tokens;
    result->n_lookup_tokens = (int64_t)samples->n_lookup_tokens;
    result->n_pages_out = (int64_t)samples->n_pages_out;
    result->n_pages_in = (int64_t)samples->n_pages_in;
    result->kv_waste = ratio(samples->wasted_slots, samples->used_slots + samples->wasted_slots);
    run->peak_pages = (int32_t)samples->peak_pages;
    run->mean_running = ratio(samples->running, (double)samples->n);
    run->mean_used = ratio(samples->used_pages, samples->pages);
}

/* The trace, sent to a server that is ready. */
static enum qr_status drive(const char *addr, const struct qr_pressure_load *load,
                            struct qr_pressure_run *run, struct qr_error *err)
{
    struct samples samples = {.n = 0};
    struct qr_load_options options = {
        .addr = addr,
        .n_connections = load->n_connections,
        .stats_interval_ns = STATS_INTERVAL_MS * QR_NS_PER_SEC / 1000,
        .timeout_ns = load->timeout_ns,
        .on_stats = on_stats,
        .arg = &samples,
    };
    struct qr_load_client *client;
    int64_t start_ns;

    QR_TRY(qr_load_client_create(&options, &client, err));
    enum qr_status status = add_requests(client, load, err);
    if (status == QR_OK)
        status = qr_load_client_run(client, &start_ns, err);
    if (status == QR_OK && (status = take_results(client, load->trace, run)) != QR_OK)
        qr_fail(err, status, "out of memory for the results");
    if (status == QR_OK)
        take_samples(&samples, run);
    qr_load_client_destroy(client);
    return status;
}

enum qr_status qr_pressure_run(const char *folder, const struct qr_pressure_server *config,
                               const struct qr_pressure_load *load, struct qr_pressure_run *run,
                               struct qr_error *err)
{
    const struct timespec settle = {.tv_nsec = SETTLE_MS * 1000000};
    struct qr_bench_server server;

    qr_pressure_run_free(run);
    QR_TRY(start_server(folder, config, &server, err));
    run->result.discipline = qr_discipline_name(config->discipline);
    run->result.kv_pages = server.kv_pages;
    nanosleep(&settle, NULL);
    double cpu_s = qr_bench_server_cpu_s(&server);
    enum qr_status status = drive(server.addr, load, run, err);
    run->server_cpu_s = qr_bench_server_cpu_s(&server) - cpu_s;
    if (status == QR_OK)
        status = qr_bench_server_stop(&server, err);
    qr_bench_server_kill(&server);
    return status;
}

void qr_pressure_run_free(struct qr_pressure_run *run)
{
    qr_free(run->requests);
    qr_free(run->hashes);
    *run = (struct qr_pressure_run){.n_failed = 0};
}
