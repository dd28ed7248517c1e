/* cmd_bench_cpu.c - `quire bench cpu`: a model's steps on the processor, against its limits. */
#include <stdio.h>

#include "base/thread_pool.h"
#include "runtime/bench/cpu/cpu_bench.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/engine_options.h"
#include "runtime/cli/options.h"

enum { MAX_BATCH = 1024, MAX_CONTEXT = 1 << 20, MAX_STEPS = 1 << 12, MAX_PROMPT = 1 << 16 };

struct cpu_command {
    struct qr_cpu_bench_config config;
    const char *batches; /* "1,2,4" */
    const char *json;
};

static enum qr_status parse_batches(struct cpu_command *command, struct qr_error *err)
{
    struct qr_cpu_bench_config *config = &command->config;
    double numbers[QR_CPU_BENCH_MAX_BATCHES];

    QR_TRY(qr_parse_numbers("batches", command->batches, 1, MAX_BATCH, QR_CPU_BENCH_MAX_BATCHES,
                            numbers, &config->n_batches, err));
    for (int32_t i = 0; i < config->n_batches; i++)
        config->batches[i] = (int32_t)numbers[i];
    return QR_OK;
}

static enum qr_status run_cpu(struct cpu_command *command, int argc, char **argv,
                              struct qr_error *err)
{
    struct qr_cpu_bench bench;

    QR_TRY(parse_batches(command, err));
    if (command->config.n_threads == 0)
        command->config.n_threads = qr_usable_cores();
    enum qr_status status = qr_cpu_bench_run(&bench, &command->config, err);
    if (status == QR_OK)
        qr_cpu_bench_print(&bench, stdout);
    if (status == QR_OK && command->json != NULL)
        status = qr_bench_json_write(qr_cpu_bench_json(&bench), argc, argv, command->json, err);
    qr_cpu_bench_close(&bench);
    return status;
}

static void set_defaults(struct cpu_command *command)
{
    *command = (struct cpu_command){
        .config = {.n_runs = 5,
                   .prompt = 512,
                   .context = 64,
                   .n_steps = 32,
                   .long_context = 4096,
                   .long_batch = 8,
                   .probe_bytes = INT64_C(512) << 20},
        .batches = "1,2,4,8,16,32,64",
    };
}

int qr_cmd_bench_cpu(int argc, char **argv)
{
    struct cpu_command command;
    struct qr_cpu_bench_config *config = &command.config;
    struct qr_positionals positionals;
    struct qr_error err = {""};
    set_defaults(&command);
    const struct qr_option options[] = {
        {"model", QR_OPTION_STRING, "PATH", &config->model, 0, 0,
         "model directory, FILE.gguf, or synthetic:CONFIG.json[,bf16|f16|f32]; required", NULL},
        {"threads", QR_OPTION_INT, "N", &config->n_threads, 0, 1024,
         "0 to 1024; default 0: one a core", NULL},
        {"isa", QR_OPTION_STRING, "NAME", &config->isa, 0, 0,
         "kernels: auto, scalar, neon, avx2, avx512, avx512vnni, avx512bf16 or amx; default auto "
         "(the best that runs here)",
         NULL},
        {"kv-dtype", QR_OPTION_CHOICE, "auto|f32|f16|bf16|fp8", &config->kv_dtype, 0, 0,
         "numbers in KV pages; default auto", NULL},
        {"quantize", QR_OPTION_CHOICE, QR_QUANTIZE_NAMES, &config->quantize, 0, 0,
         "what matrices of F32, F16 and BF16 become when they are loaded (docs/models.md); default "
         "none",
         NULL},
        {"weights-cache", QR_OPTION_STRING, "DIR", &config->weights_cache, 0, 0,
         "folder where packed matrices are kept for the next start (docs/cpu.md); default: none",
         NULL},
        {"runs", QR_OPTION_INT, "N", &config->n_runs, 1, QR_MAX_RUNS,
         "of each case, 1 to 32; default 5", NULL},
        {"prompt", QR_OPTION_INT, "TOKENS", &config->prompt, 0, MAX_PROMPT,
         "of the prefill, 0 to 65536; 0: none; default 512", NULL},
        {"batches", QR_OPTION_STRING, "LIST", &command.batches, 0, 0,
         "sequences of the decodes, 1 to 1024, joined by commas; default 1,2,4,8,16,32,64", NULL},
        {"context", QR_OPTION_INT, "TOKENS", &config->context, 1, MAX_CONTEXT,
         "before the decodes; default 64", NULL},
        {"steps", QR_OPTION_INT, "N", &config->n_steps, 1, MAX_STEPS,
         "decoded in a run, 1 to 4096; default 32", NULL},
        {"long-context", QR_OPTION_INT, "TOKENS", &config->long_context, 0, MAX_CONTEXT,
         "before one more decode; 0: none; default 4096", NULL},
        {"long-batch", QR_OPTION_INT, "N", &config->long_batch, 1, MAX_BATCH,
         "its sequences, 1 to 1024; default 8", NULL},
        {"probe-memory", QR_OPTION_SIZE, "SIZE", &config->probe_bytes, 1, 0x1p40,
         "that is read to find the bandwidth, many times the caches; default 512 MiB", NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the figures there", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench cpu",
        .synopsis = "--model PATH [options]",
        .description = "Measures prefill and decode steps of a model on the processor, without a "
                       "server, against\nwhat the machine's memory and arithmetic allow.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if (config->model == NULL) {
        fprintf(stderr, "quire bench cpu: --model is required; see quire bench cpu --help\n");
        return QR_EXIT_USAGE;
    }
    return qr_command_exit("bench cpu", run_cpu(&command, argc, argv, &err), &err);
}
