/* cmd_bench_pressure.c - `quire bench pressure`: disciplines on the real server, over gRPC. */
#include <stdio.h>

#include "base/clock.h"
#include "runtime/bench/pressure.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/trace_options.h"

struct pressure_command {
    struct qr_pressure_config config;
    struct qr_trace_arguments trace_arguments;
    struct qr_trace trace;
    const char *overcommits; /* "1,1.5,2,4" */
    int32_t timeout_s;
    float ttft_goal_s;
    float tpot_goal_s;
    const char *title;
    const char *json;
    const char *plots;
};

static enum qr_status note_load(const struct pressure_command *command, struct qr_report *report,
                                const struct qr_pressure_summary *summary)
{
    const struct qr_pressure_config *config = &command->config;
    const struct qr_trace *trace = &command->trace;
    int32_t limit = config->load.max_tokens;

    return qr_report_note(
        report, "load",
        json_pack("{s:s, s:s, s:i, s:f, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "trace",
                  command->trace_arguments.path, "format", qr_trace_format_name(trace->format),
                  "requests", trace->n_requests, "arrivals_s",
                  (double)trace->requests[trace->n_requests - 1].arrival_ns / QR_NS_PER_SEC,
                  "max_tokens", limit > 0 ? limit : qr_trace_max_output(trace), "demand_pages",
                  summary->demand_pages, "page_size", config->server.page_size, "max_running",
                  config->server.max_running, "runs", summary->n_runs, "failed", summary->n_failed,
                  "different_outputs", summary->n_different, "refused", summary->n_refused));
}

static enum qr_status judge(const struct qr_pressure_summary *summary, struct qr_error *err)
{
    printf("\n%d runs; %d requests failed, %d had other tokens than with plenty of memory, "
           "%d refusals\n",
           summary->n_runs, summary->n_failed, summary->n_different, summary->n_refused);
    if (summary->n_failed > 0)
        return qr_fail(err, QR_ERR_IO, "%d requests failed; the first: %s", summary->n_failed,
                       summary->first_error);
    if (summary->n_different > 0)
        return qr_fail(err, QR_ERR_IO, "%d requests gave other tokens", summary->n_different);
    return QR_OK;
}

static enum qr_status write_report(const struct pressure_command *command,
                                   const struct qr_report *report, struct qr_error *err)
{
    qr_report_print(report, stdout);
    if (command->json != NULL)
        QR_TRY(qr_report_write_json(report, command->json, err));
    if (command->plots != NULL)
        QR_TRY(qr_report_plot(report, command->plots, err));
    return QR_OK;
}

static enum qr_status run_command(struct pressure_command *command, int argc, char **argv,
                                  struct qr_error *err)
{
    struct qr_report_options options = {
        .title = command->title,
        .ttft_goal_s = command->ttft_goal_s,
        .tpot_goal_s = command->tpot_goal_s,
    };
    struct qr_pressure_summary summary;
    struct qr_report *report;

    QR_TRY(qr_parse_numbers("overcommit", command->overcommits, 0.1, 100, QR_PRESSURE_MAX_STEPS,
                            command->config.overcommits, &command->config.n_overcommits, err));
    QR_TRY(qr_trace_arguments_read(&command->trace_arguments, 0, &command->trace, err));
    command->config.load.trace = &command->trace;
    command->config.load.timeout_ns = command->timeout_s * QR_NS_PER_SEC;
    enum qr_status status = qr_report_create(&options, &report);
    if (status == QR_OK)
        status = qr_report_note_machine(report, argc, argv);
    if (status == QR_OK)
        status = qr_pressure(&command->config, report, &summary, err);
    if (status == QR_OK)
        status = note_load(command, report, &summary);
    if (status == QR_OK)
        status = write_report(command, report, err);
    if (status == QR_OK)
        status = judge(&summary, err);
    qr_report_destroy(report);
    qr_trace_free(&command->trace);
    return status;
}

static void set_defaults(struct pressure_command *command)
{
    *command = (struct pressure_command){
        .config =
            {
                .load = {.temperature = 1, .n_connections = 4},
                .server = {.page_size = 16,
                           .max_running = 64,
                           .max_batch_tokens = 256,
                           .swap_memory = INT64_C(64) << 20},
                .n_runs = 5,
                .n_disciplines = 4,
                .disciplines = {QR_DISCIPLINE_RESERVE, QR_DISCIPLINE_RECOMPUTE, QR_DISCIPLINE_SWAP,
                                QR_DISCIPLINE_COST},
                .progress = stderr,
            },
        .overcommits = "1,1.5,2,4",
        .title = "quire bench pressure",
        .timeout_s = 600,
        .ttft_goal_s = 5,
        .tpot_goal_s = 0.2F,
    };
    qr_trace_arguments_default(&command->trace_arguments);
    command->trace_arguments.context = 1024;
}

int qr_cmd_bench_pressure(int argc, char **argv)
{
    struct pressure_command command;
    struct qr_positionals positionals;
    struct qr_error err = {""};
    struct qr_pressure_server *server = &command.config.server;
    set_defaults(&command);
    const struct qr_option options[] = {
        QR_TRACE_OPTION_ROWS(&command.trace_arguments),
        {"overcommit", QR_OPTION_STRING, "LIST", &command.overcommits, 0, 0,
         "KV demand for each page of KV memory, 0.1 to 100; default 1,1.5,2,4", NULL},
        {"runs", QR_OPTION_INT, "N", &command.config.n_runs, 1, QR_MAX_RUNS,
         "of each discipline at each overcommit, in turn, 1 to 32; default 5", NULL},
        {"limit", QR_OPTION_INT, "TOKENS", &command.config.load.max_tokens, 0, 1 << 24,
         "max_tokens of every request; default 0: the trace's longest output", NULL},
        {"temperature", QR_OPTION_FLOAT, "T", &command.config.load.temperature, 0, 100,
         "of sampling, 0 to 100; default 1", NULL},
        {"connections", QR_OPTION_INT, "N", &command.config.load.n_connections, 1, 64,
         "to the server, 1 to 64; default 4", NULL},
        {"timeout", QR_OPTION_INT, "SECONDS", &command.timeout_s, 1, 86400,
         "of one run; default 600", NULL},
        {"model", QR_OPTION_STRING, "PATH", &server->model, 0, 0,
         "model directory, FILE.gguf, or synthetic:CONFIG.json[,dtype]; default: the demo model",
         NULL},
        {"page-size", QR_OPTION_INT, "TOKENS", &server->page_size, 8, 256,
         "tokens a KV page; default 16", NULL},
        {"max-running", QR_OPTION_INT, "N", &server->max_running, 1, 1 << 16,
         "sequences in one batch; default 64", NULL},
        {"max-batch-tokens", QR_OPTION_INT, "N", &server->max_batch_tokens, 1, 1 << 20,
         "rows of one step; default 256", NULL},
        {"threads", QR_OPTION_INT, "N", &server->n_threads, 0, 1024,
         "CPU threads of the server; default 0: one a core", NULL},
        {"swap-memory", QR_OPTION_SIZE, "SIZE", &server->swap_memory, 0, 0x1p50,
         "host memory for KV pages, where the discipline swaps; default 64 MiB", NULL},
        {"ttft-goal", QR_OPTION_FLOAT, "SECONDS", &command.ttft_goal_s, 0, 1e6,
         "a request that misses it is no goodput; default 5", NULL},
        {"tpot-goal", QR_OPTION_FLOAT, "SECONDS", &command.tpot_goal_s, 0, 1e6,
         "the same, for the mean time between two tokens; default 0.2", NULL},
        {"title", QR_OPTION_STRING, "TEXT", &command.title, 0, 0, "of the table and the plots",
         NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the report there", NULL},
        {"plots", QR_OPTION_STRING, "STEM", &command.plots, 0, 0,
         "write STEM-*.png and .svg, and what gnuplot made them of", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench pressure",
        .synopsis = "--trace FILE [options]",
        .description =
            "Replays recorded traffic against quire serve, with less KV memory than it takes, for\n"
            "each discipline. Ends with 1 when a request failed or its output depended on the\n"
            "discipline.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    enum qr_status status = run_command(&command, argc, argv, &err);
    return qr_command_exit("bench pressure", status, &err);
}
