/* cmd_bench_simulate.c - `quire bench simulate`: four disciplines on one trace, without a model. */
#include <math.h>
#include <stdio.h>

#include "runtime/bench/planning.h"
#include "runtime/bench/simulate.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/trace_options.h"

enum {
    N_DISCIPLINES = QR_DISCIPLINE_RESERVE + 1,
    MAX_OVERCOMMITS = 8,
    PLANNED_SEQUENCES = 1000,
    TITLE = 128,
};

struct simulate_command {
    struct qr_trace_arguments trace;
    const char *overcommits; /* "1,1.5,2,4" */
    double overcommit[MAX_OVERCOMMITS];
    int32_t n_overcommits;
    int32_t n_runs;
    int32_t page_size;
    int32_t max_running;
    int32_t max_batch_tokens;
    int32_t output_limit;
    int32_t context;
    int64_t weights;
    int64_t kv_bytes;
    int64_t swap_memory;
    int64_t swap_disk;
    float gigabytes_per_s;
    float teraflops;
    float step_ms;
    float swap_gigabytes_per_s;
    float disk_gigabytes_per_s;
    float ttft_goal_s;
    float tpot_goal_s;
    const char *title;
    const char *json;
    const char *plots;
};

/* What the benchmark gathers. */
struct gathered {
    struct qr_report *report;
    json_t *demands; /* pages of each run with unlimited memory */
    double rows_per_s[QR_MAX_RUNS * N_DISCIPLINES * MAX_OVERCOMMITS]; /* of CPU time */
    int32_t n_simulations;
};

static void set_device(const struct simulate_command *command, struct qr_device_model *device)
{
    qr_device_model_default(device);
    device->weight_bytes = (double)command->weights;
    device->flops_per_row = (double)command->weights; /* 2 for each parameter of 2 bytes */
    device->kv_bytes_per_token = (double)command->kv_bytes;
    device->bytes_per_s = command->gigabytes_per_s * 1e9;
    device->flops_per_s = command->teraflops * 1e12;
    device->step_s = command->step_ms / 1e3;
    device->link_bytes_per_s[QR_TIER_HOST] = command->swap_gigabytes_per_s * 1e9;
    device->link_bytes_per_s[QR_TIER_DISK] = command->disk_gigabytes_per_s * 1e9;
}

static void set_simulation(const struct simulate_command *command, const struct qr_trace *trace,
                           struct qr_simulation *simulation)
{
    int64_t page_bytes = command->kv_bytes * command->page_size;

    *simulation = (struct qr_simulation){
        .trace = trace,
        .page_size = command->page_size,
        .tier_slots = {[QR_TIER_HOST] = (int32_t)(command->swap_memory / page_bytes),
                       [QR_TIER_DISK] = (int32_t)(command->swap_disk / page_bytes)},
        .max_running = command->max_running,
        .max_batch_tokens = command->max_batch_tokens,
        .context = command->context,
        .output_limit =
            command->output_limit > 0 ? command->output_limit : qr_trace_max_output(trace),
    };
    set_device(command, &simulation->device);
}

/* One discipline at one overcommit. */
static enum qr_status run_one(struct gathered *gathered, const struct qr_simulation *simulation,
                              struct qr_error *err)
{
    struct qr_simulation_result result;

    QR_TRY(qr_simulate(simulation, &result, err));
    enum qr_status status = qr_report_add(gathered->report, &result.run);
    double rows_per_s = (double)result.run.n_rows / result.cpu_s;
    gathered->rows_per_s[gathered->n_simulations++] = rows_per_s;
    fprintf(stderr,
            "overcommit %.2f %-9s %7d pages: %8.1f s, %6.1f sequences a step, %lld steps; "
            "scheduler %.2f s CPU, %.2f million rows a second, plan p50 %.0f us, p99 %.0f us\n",
            simulation->overcommit, result.run.discipline, simulation->page_count,
            result.run.seconds, result.mean_sequences, (long long)result.n_steps, result.cpu_s,
            rows_per_s / 1e6, result.plan_p50_ns / 1e3, result.plan_p99_ns / 1e3);
    qr_simulation_result_free(&result);
    return status;
}

/* The pages that the trace takes where memory never runs out. */
static enum qr_status measure_demand(struct qr_simulation *simulation, int32_t *n_pages,
                                     struct qr_error *err)
{
    struct qr_simulation_result result;

    simulation->discipline = QR_DISCIPLINE_COST;
    simulation->overcommit = 0;
    simulation->page_count = qr_simulation_all_pages(simulation);
    QR_TRY(qr_simulate(simulation, &result, err));
    *n_pages = result.peak_pages;
    fprintf(stderr,
            "unlimited memory: %d pages held at most; %.1f s, of them %.1f s idle; "
            "%.1f sequences a step\n",
            result.peak_pages, result.run.seconds, result.idle_s, result.mean_sequences);
    qr_simulation_result_free(&result);
    return QR_OK;
}

static enum qr_status run_trace(const struct simulate_command *command, int32_t run,
                                struct gathered *gathered, struct qr_error *err)
{
    struct qr_simulation simulation;
    struct qr_trace trace;
    int32_t demand;

    QR_TRY(qr_trace_arguments_read(&command->trace, run, &trace, err));
    set_simulation(command, &trace, &simulation);
    enum qr_status status = measure_demand(&simulation, &demand, err);
    if (status == QR_OK && json_array_append_new(gathered->demands, json_integer(demand)) != 0)
        status = QR_ERR_NOMEM;
    for (int32_t i = 0; i < command->n_overcommits && status == QR_OK; i++) {
        simulation.overcommit = command->overcommit[i];
        simulation.page_count = (int32_t)ceil(demand / simulation.overcommit);
        for (int d = 0; d < N_DISCIPLINES && status == QR_OK; d++) {
            simulation.discipline = (enum qr_discipline)d;
            status = run_one(gathered, &simulation, err);
        }
    }
    qr_trace_free(&trace);
    return status;
}

/* Recorded arrivals and lengths are the same in every run, and so is what comes of them. */
static int32_t n_different_runs(const struct simulate_command *command)
{
    return command->trace.rate > 0 ? command->n_runs : 1;
}

static enum qr_status note_speed(struct gathered *gathered, struct qr_error *err)
{
    struct qr_planning_times times;
    double rows_per_s = qr_median(gathered->rows_per_s, gathered->n_simulations);

    if (qr_measure_planning(PLANNED_SEQUENCES, &times) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %d sequences", PLANNED_SEQUENCES);
    printf("\nCPU time of the thread that schedules (other programs do not count):\n"
           "  plan of a step of %d decodes   p50 %.0f us, p99 %.0f us (limit 200 us)\n"
           "  complete and append_token        p50 %.0f us\n"
           "  rows scheduled                   %.2f million a second, median of the "
           "simulations (limit 1)\n",
           PLANNED_SEQUENCES, times.plan_p50_ns / 1e3, times.plan_p99_ns / 1e3,
           times.apply_p50_ns / 1e3, rows_per_s / 1e6);
    return qr_report_note(gathered->report, "scheduler_cpu",
                          json_pack("{s:i, s:f, s:f, s:f, s:f}", "planned_sequences",
                                    PLANNED_SEQUENCES, "plan_p50_us", times.plan_p50_ns / 1e3,
                                    "plan_p99_us", times.plan_p99_ns / 1e3, "apply_p50_us",
                                    times.apply_p50_ns / 1e3, "rows_per_s", rows_per_s));
}

static enum qr_status note_model(const struct simulate_command *command, struct qr_report *report)
{
    struct qr_device_model device;

    set_device(command, &device);
    return qr_report_note(
        report, "model",
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:i, s:I, s:I}",
                  "weight_bytes", device.weight_bytes, "kv_bytes_per_token",
                  device.kv_bytes_per_token, "bytes_per_s", device.bytes_per_s, "flops_per_s",
                  device.flops_per_s, "flops_per_score", device.flops_per_score, "step_s",
                  device.step_s, "host_bytes_per_s", device.link_bytes_per_s[QR_TIER_HOST],
                  "disk_bytes_per_s", device.link_bytes_per_s[QR_TIER_DISK], "page_size",
                  command->page_size, "max_running", command->max_running, "max_batch_tokens",
                  command->max_batch_tokens, "swap_memory_bytes", (json_int_t)command->swap_memory,
                  "swap_disk_bytes", (json_int_t)command->swap_disk));
}

static enum qr_status write_files(const struct simulate_command *command,
                                  const struct qr_report *report, struct qr_error *err)
{
    if (command->json != NULL)
        QR_TRY(qr_report_write_json(report, command->json, err));
    if (command->plots != NULL)
        QR_TRY(qr_report_plot(report, command->plots, err));
    return QR_OK;
}

static enum qr_status run_all(const struct simulate_command *command, struct gathered *gathered,
                              struct qr_error *err)
{
    for (int32_t run = 0; run < n_different_runs(command); run++)
        QR_TRY(run_trace(command, run, gathered, err));
    qr_report_print(gathered->report, stdout);
    QR_TRY(note_speed(gathered, err));
    QR_TRY(note_model(command, gathered->report));
    QR_TRY(qr_report_note(gathered->report, "demand_pages", json_incref(gathered->demands)));
    return write_files(command, gathered->report, err);
}

static enum qr_status simulate(struct simulate_command *command, int argc, char **argv,
                               struct qr_error *err)
{
    char title[TITLE];
    struct gathered gathered = {0};

    QR_TRY(qr_parse_numbers("overcommit", command->overcommits, 0.1, 100, MAX_OVERCOMMITS,
                            command->overcommit, &command->n_overcommits, err));
    if (command->trace.path == NULL)
        return qr_fail(err, QR_ERR_INVALID, "--trace is needed: the file with recorded traffic");
    snprintf(title, sizeof(title), "Simulation: 8B model on one GPU, %s trace",
             qr_trace_format_name((enum qr_trace_format)command->trace.format));
    const struct qr_report_options options = {
        .title = command->title != NULL ? command->title : title,
        .ttft_goal_s = command->ttft_goal_s,
        .tpot_goal_s = command->tpot_goal_s,
    };
    gathered.demands = json_array();
    enum qr_status status = qr_report_create(&options, &gathered.report);
    if (status == QR_OK)
        status = qr_report_note_machine(gathered.report, argc, argv);
    if (status == QR_OK)
        status = run_all(command, &gathered, err);
    qr_report_destroy(gathered.report);
    json_decref(gathered.demands);
    return status;
}

static void set_defaults(struct simulate_command *command)
{
    *command = (struct simulate_command){
        .overcommits = "1,1.5,2,4",
        .n_runs = 5,
        .page_size = 16,
        .max_running = 512,
        .max_batch_tokens = 2048,
        .weights = INT64_C(16000000000),
        .kv_bytes = 131072,
        .swap_memory = INT64_C(256000000000),
        .gigabytes_per_s = 4800 * 0.8f,
        .teraflops = 989 * 0.6f,
        .step_ms = 1,
        .swap_gigabytes_per_s = 50,
        .disk_gigabytes_per_s = 5,
        .ttft_goal_s = 2,
        .tpot_goal_s = 0.1f,
    };
    qr_trace_arguments_default(&command->trace);
}

int qr_cmd_bench_simulate(int argc, char **argv)
{
    struct simulate_command command;
    struct qr_positionals positionals;
    struct qr_error err = {""};
    set_defaults(&command);
    const struct qr_option options[] = {
        QR_TRACE_OPTION_ROWS(&command.trace),
        {"overcommit", QR_OPTION_STRING, "LIST", &command.overcommits, 0, 0,
         "KV demand over KV memory, from 0.1 to 100, with commas; default 1,1.5,2,4", NULL},
        {"runs", QR_OPTION_INT, "N", &command.n_runs, 1, QR_MAX_RUNS,
         "with other seeds, 1 to 32; 1 where nothing is drawn; default 5", NULL},
        {"page-size", QR_OPTION_INT, "TOKENS", &command.page_size, 8, 256,
         "tokens a KV page, a power of two from 8 to 256; default 16", NULL},
        {"max-running", QR_OPTION_INT, "N", &command.max_running, 1, 1 << 16,
         "sequences that hold pages at one time, 1 to 65536; default 512", NULL},
        {"max-batch-tokens", QR_OPTION_INT, "N", &command.max_batch_tokens, 1, 1 << 20,
         "rows of one step, 1 to 1048576; default 2048", NULL},
        {"output-limit", QR_OPTION_INT, "TOKENS", &command.output_limit, 0, 1 << 20,
         "max_tokens of a request, which may end sooner; default 0: the longest of the trace",
         NULL},
        {"model-context", QR_OPTION_INT, "TOKENS", &command.context, 0, 1 << 24,
         "bound of prompt and max_tokens together; default 0: none", NULL},
        {"weights", QR_OPTION_SIZE, "SIZE", &command.weights, 1, 0x1p50,
         "bytes of 16-bit weights, read in every step; default 16GB", NULL},
        {"kv-bytes", QR_OPTION_SIZE, "SIZE", &command.kv_bytes, 1, 0x1p30,
         "KV bytes of a token in all layers; default 128KiB", NULL},
        {"device-bandwidth", QR_OPTION_FLOAT, "GB/S", &command.gigabytes_per_s, 1e-3, 1e6,
         "of the device's memory; default 3840 (80 % of 4800)", NULL},
        {"device-compute", QR_OPTION_FLOAT, "TFLOP/S", &command.teraflops, 1e-3, 1e6,
         "default 593.4 (60 % of 989)", NULL},
        {"step-overhead", QR_OPTION_FLOAT, "MS", &command.step_ms, 0, 1e4,
         "what each step takes beside that; default 1", NULL},
        {"swap-bandwidth", QR_OPTION_FLOAT, "GB/S", &command.swap_gigabytes_per_s, 1e-3, 1e4,
         "between device and host memory, each way, beside the computing; default 50", NULL},
        {"disk-bandwidth", QR_OPTION_FLOAT, "GB/S", &command.disk_gigabytes_per_s, 1e-3, 1e4,
         "between device and disk, each way, beside the computing; default 5", NULL},
        {"swap-memory", QR_OPTION_SIZE, "SIZE", &command.swap_memory, 0, 0x1p45,
         "host memory of cost and swap; default 256GB", NULL},
        {"swap-disk", QR_OPTION_SIZE, "SIZE", &command.swap_disk, 0, 0x1p45,
         "disk of cost and swap; default 0", NULL},
        {"ttft-goal", QR_OPTION_FLOAT, "SECONDS", &command.ttft_goal_s, 0, 1e6,
         "of goodput; default 2", NULL},
        {"tpot-goal", QR_OPTION_FLOAT, "SECONDS", &command.tpot_goal_s, 0, 1e6,
         "of goodput; default 0.1", NULL},
        {"title", QR_OPTION_STRING, "TEXT", &command.title, 0, 0,
         "of table and plots; default: the format of the trace", NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the figures there", NULL},
        {"plots", QR_OPTION_STRING, "STEM", &command.plots, 0, 0,
         "write STEM-NAME.gp, .dat, .png and .svg (with gnuplot)", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench simulate",
        .synopsis = "--trace FILE [options]",
        .description =
            "Runs the scheduler and block manager on a trace, with a model of the device "
            "and a virtual\nclock, under four disciplines, with less and less KV memory.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if ((command.page_size & (command.page_size - 1)) != 0 ||
        command.max_batch_tokens < command.max_running) {
        fprintf(stderr, "quire bench simulate: --page-size must be a power of two, and "
                        "--max-batch-tokens at least --max-running\n");
        return QR_EXIT_USAGE;
    }
    return qr_command_exit("bench simulate", simulate(&command, argc, argv, &err), &err);
}
