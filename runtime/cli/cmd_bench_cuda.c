/* cmd_bench_cuda.c - `quire bench cuda`: kernels, steps and swapping on a CUDA device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/bench/cuda/cuda_bench.h"
#include "runtime/bench/report.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"

struct cuda_command {
    struct qr_cuda_bench_config config;
    const char *what; /* as given; NULL: everything */
    const char *json;
};

static const struct {
    const char *name;
    uint32_t bit;
} groups[] = {
    {"device", QR_BENCH_DEVICE},       {"bandwidth", QR_BENCH_BANDWIDTH},
    {"attention", QR_BENCH_ATTENTION}, {"matmul", QR_BENCH_MATMUL},
    {"swap", QR_BENCH_SWAP},           {"step", QR_BENCH_STEP},
};

enum { N_GROUPS = sizeof(groups) / sizeof(groups[0]) };

/* "attention,swap" as bits; without a word, all that --smoke can have. */
static enum qr_status parse_what(const char *what, struct qr_cuda_bench_config *config,
                                 struct qr_error *err)
{
    const char *next = what;

    config->what = 0;
    for (int i = 0; what == NULL && i < N_GROUPS; i++)
        config->what |= groups[i].bit;
    while (next != NULL) {
        size_t length = strcspn(next, ",");
        uint32_t bit = 0;
        for (int i = 0; i < N_GROUPS; i++) {
            if (strlen(groups[i].name) == length && strncmp(next, groups[i].name, length) == 0)
                bit = groups[i].bit;
        }
        if (bit == 0)
            return qr_fail(err, QR_ERR_INVALID,
                           "--what: \"%.*s\" is not device, bandwidth, attention, matmul, swap or "
                           "step",
                           (int)length, next);
        config->what |= bit;
        next = next[length] == ',' ? next + length + 1 : NULL;
    }
    return QR_OK;
}

/* Figures that there are are shown and written, also when a group has failed. */
static enum qr_status run_cuda(struct cuda_command *command, int argc, char **argv,
                               struct qr_error *err)
{
    struct qr_cuda_bench bench;
    struct qr_error failure;

    QR_TRY(parse_what(command->what, &command->config, err));
    QR_TRY(qr_cu_platform_open(&command->config.platform, err));
    QR_TRY(qr_cuda_bench_open(&bench, &command->config, err));
    enum qr_status status = qr_cuda_bench_run(&bench, err);
    int32_t n_wrong = qr_cuda_bench_n_wrong(&bench);
    if (status == QR_OK && n_wrong > 0)
        status = qr_fail(err, QR_ERR_DEVICE, "%d result%s wrong (see the column \"error\")",
                         n_wrong, n_wrong == 1 ? " is" : "s are");
    qr_cuda_bench_print(&bench, stdout);
    if (command->json != NULL) {
        enum qr_status written =
            qr_bench_json_write(qr_cuda_bench_json(&bench), argc, argv, command->json, &failure);
        if (status == QR_OK && written != QR_OK) {
            status = written;
            *err = failure;
        }
    }
    qr_cuda_bench_close(&bench);
    return status;
}

int qr_cmd_bench_cuda(int argc, char **argv)
{
    struct cuda_command command = {.config = {.backend = "cuda"}};
    struct qr_positionals positionals;
    struct qr_error err = {""};
    const struct qr_option options[] = {
        {"what", QR_OPTION_STRING, "LIST", &command.what, 0, 0,
         "of device, bandwidth, attention, matmul, swap and step, joined by commas; default: all",
         NULL},
        {"device", QR_OPTION_INT, "N", &command.config.device, 0, 1024, "its number; default 0",
         NULL},
        {"model", QR_OPTION_STRING, "PATH", &command.config.model, 0, 0,
         "of the steps, best synthetic:CONFIG.json; default: the demo model", NULL},
        {"smoke", QR_OPTION_FLAG, NULL, &command.config.smoke, 0, 0,
         "tiny sizes: that all kernels run, and are right", NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the figures there", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench cuda",
        .synopsis = "[options]",
        .description = "Measures attention, matrix products, decode steps and swapping on a CUDA "
                       "device\nagainst its own memory's bandwidth, and checks every result.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    return qr_command_exit("bench cuda", run_cuda(&command, argc, argv, &err), &err);
}
