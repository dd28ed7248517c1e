/* cmd_bench_server.c - `quire bench server`: start, streaming clients and memory of the server. */
#include <stdio.h>

#include "base/clock.h"
#include "runtime/bench/bench_server.h"
#include "runtime/bench/clients.h"
#include "runtime/bench/report.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"

enum { MAX_CASES = 16, MAX_TOKENS = 1 << 20 };

struct server_command {
    struct qr_clients_config config;
    const char *clients; /* "1,8,32" */
    int32_t n_runs;
    int32_t timeout_s;
    const char *json;
};

/* What one number of clients gave. */
struct server_case {
    int32_t n_clients;
    double runs[QR_CLIENTS_FIGURES][QR_MAX_RUNS];
    double median[QR_CLIENTS_FIGURES];
};

struct server_cases {
    struct server_case cases[MAX_CASES];
    int32_t count;
};

static enum qr_status measure(const struct server_command *command, const char *folder,
                              struct server_case *found, struct qr_error *err)
{
    double sorted[QR_MAX_RUNS];

    for (int32_t run = 0; run < command->n_runs; run++) {
        double figures[QR_CLIENTS_FIGURES];
        QR_TRY(qr_clients_run(folder, &command->config, found->n_clients, (uint64_t)run + 1,
                              figures, err));
        for (int i = 0; i < QR_CLIENTS_FIGURES; i++)
            found->runs[i][run] = figures[i];
    }
    for (int i = 0; i < QR_CLIENTS_FIGURES; i++) {
        for (int32_t run = 0; run < command->n_runs; run++)
            sorted[run] = found->runs[i][run];
        found->median[i] = qr_median(sorted, command->n_runs);
    }
    return QR_OK;
}

static void print_head(const struct server_command *command)
{
    printf("%d rounds of prompts of %d tokens, %d of output; median of %d run%s\n\n",
           command->config.n_rounds, command->config.n_prompt, command->config.n_output,
           command->n_runs, command->n_runs == 1 ? "" : "s");
    printf("%7s %9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "", "ready", "a token", "", "TTFT", "TTFT",
           "gap", "longest", "at ready", "at end");
    printf("%7s %9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "clients", "s", "s", "tokens/s", "p50 ms",
           "p99 ms", "p50 ms", "gap ms", "MB", "MB");
}

static void print_case(const struct server_case *found)
{
    const double *median = found->median;

    printf("%7d %9.3f %9.3f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f\n", found->n_clients,
           median[QR_CLIENTS_READY_S], median[QR_CLIENTS_FIRST_TOKEN_S],
           median[QR_CLIENTS_TOKENS_PER_S], 1e3 * median[QR_CLIENTS_TTFT_P50_S],
           1e3 * median[QR_CLIENTS_TTFT_P99_S], 1e3 * median[QR_CLIENTS_GAP_P50_S],
           1e3 * median[QR_CLIENTS_LONGEST_GAP_S], median[QR_CLIENTS_READY_MB],
           median[QR_CLIENTS_MB]);
    fflush(stdout);
}

static json_t *case_json(const struct server_case *found, int32_t n_runs)
{
    json_t *figures = json_object();

    for (int i = 0; i < QR_CLIENTS_FIGURES; i++) {
        json_t *runs = json_array();
        for (int32_t run = 0; run < n_runs; run++)
            json_array_append_new(runs, json_real(found->runs[i][run]));
        json_object_set_new(figures, qr_clients_figure_name((enum qr_clients_figure)i),
                            json_pack("{s:f, s:o}", "median", found->median[i], "runs", runs));
    }
    return json_pack("{s:i, s:o}", "clients", found->n_clients, "figures", figures);
}

static json_t *all_json(const struct server_command *command, const struct server_cases *all)
{
    const struct qr_clients_config *config = &command->config;
    json_t *cases = json_array();

    for (int32_t i = 0; i < all->count; i++)
        json_array_append_new(cases, case_json(&all->cases[i], command->n_runs));
    return json_pack("{s:s, s:i, s:i, s:i, s:o}", "model",
                     config->model != NULL ? config->model : "demo", "prompt", config->n_prompt,
                     "output", config->n_output, "rounds", config->n_rounds, "cases", cases);
}

static enum qr_status run_cases(const struct server_command *command, struct server_cases *all,
                                struct qr_error *err)
{
    char folder[QR_BENCH_FOLDER_BYTES];
    enum qr_status status = QR_OK;

    QR_TRY(qr_bench_folder_make(folder, err));
    print_head(command);
    for (int32_t i = 0; i < all->count && status == QR_OK; i++) {
        status = measure(command, folder, &all->cases[i], err);
        if (status == QR_OK)
            print_case(&all->cases[i]);
    }
    qr_bench_folder_remove(folder);
    return status;
}

static enum qr_status run_server(struct server_command *command, int argc, char **argv,
                                 struct qr_error *err)
{
    static struct server_cases all;
    double clients[MAX_CASES];

    QR_TRY(qr_parse_numbers("clients", command->clients, 1, QR_MAX_CLIENTS, MAX_CASES, clients,
                            &all.count, err));
    if (all.count == 0)
        return qr_fail(err, QR_ERR_INVALID, "--clients is empty; give numbers, such as 1,8,32");
    for (int32_t i = 0; i < all.count; i++)
        all.cases[i].n_clients = (int32_t)clients[i];
    command->config.timeout_ns = command->timeout_s * QR_NS_PER_SEC;
    QR_TRY(run_cases(command, &all, err));
    if (command->json == NULL)
        return QR_OK;
    return qr_bench_json_write(all_json(command, &all), argc, argv, command->json, err);
}

static void set_defaults(struct server_command *command)
{
    *command = (struct server_command){
        .config = {.n_prompt = 128, .n_output = 64, .n_rounds = 3},
        .clients = "1,8,32",
        .n_runs = 1,
        .timeout_s = 600,
    };
}

int qr_cmd_bench_server(int argc, char **argv)
{
    struct server_command command;
    struct qr_clients_config *config = &command.config;
    struct qr_positionals positionals;
    struct qr_error err = {""};
    set_defaults(&command);
    const struct qr_option options[] = {
        {"model", QR_OPTION_STRING, "PATH", &config->model, 0, 0,
         "as of quire serve; default: the demo model", NULL},
        {"quantize", QR_OPTION_STRING, "NAME", &config->quantize, 0, 0,
         "as of quire serve, like the next three", NULL},
        {"kv-dtype", QR_OPTION_STRING, "NAME", &config->kv_dtype, 0, 0, "numbers in KV pages",
         NULL},
        {"weights-cache", QR_OPTION_STRING, "DIR", &config->weights_cache, 0, 0,
         "folder of packed matrices", NULL},
        {"max-stall", QR_OPTION_STRING, "MS", &config->max_stall, 0, 0,
         "that answers wait for prompt rows", NULL},
        {"threads", QR_OPTION_INT, "N", &config->n_threads, 0, 1024,
         "CPU threads of the server; default 0: one a core", NULL},
        {"clients", QR_OPTION_STRING, "LIST", &command.clients, 0, 0,
         "that stream at one time, 1 to 1024, joined by commas: a server for each number; default "
         "1,8,32",
         NULL},
        {"prompt", QR_OPTION_INT, "TOKENS", &config->n_prompt, 1, MAX_TOKENS,
         "of each request; default 128", NULL},
        {"output", QR_OPTION_INT, "TOKENS", &config->n_output, 2, MAX_TOKENS,
         "of each request; default 64", NULL},
        {"rounds", QR_OPTION_INT, "N", &config->n_rounds, 1, QR_MAX_ROUNDS,
         "of one request for each client; default 3", NULL},
        {"runs", QR_OPTION_INT, "N", &command.n_runs, 1, QR_MAX_RUNS,
         "of each case, each with a new server, 1 to 32; default 1", NULL},
        {"timeout", QR_OPTION_INT, "SECONDS", &command.timeout_s, 1, 86400,
         "of one round; default 600", NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the figures there", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench server",
        .synopsis = "[options]",
        .description =
            "Starts quire serve and lets clients stream from it at one time: how long it takes to\n"
            "start, how soon and how evenly tokens come, and the memory that it takes.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    return qr_command_exit("bench server", run_server(&command, argc, argv, &err), &err);
}
