/* cmd_train_tokenizer.c - quire train-tokenizer: learns a vocabulary from text files. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"
#include "runtime/tokenizer/bpe_trainer.h"

enum { BAR_WIDTH = 32 };

/* What is on the terminal, or the last line where there is none. */
struct progress {
    bool is_terminal;
    const char *phase;
    int64_t begin_ns;
    int64_t last_ns;
};

static void show_bar(const char *phase, int64_t done, int64_t total)
{
    int filled = total > 0 ? (int)(done * BAR_WIDTH / total) : BAR_WIDTH;

    fprintf(stderr, "\r%-8s [", phase);
    for (int i = 0; i < BAR_WIDTH; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %3d %%", total > 0 ? (int)(done * 100 / total) : 100);
    if (done >= total)
        fputc('\n', stderr);
    fflush(stderr);
}

/* A bar that moves on a terminal; elsewhere one plain line at the end of each phase. */
static void show_progress(void *arg, const char *phase, int64_t done, int64_t total)
{
    struct progress *progress = arg;
    int64_t now = qr_now_ns();

    if (progress->phase != phase) {
        progress->phase = phase;
        progress->begin_ns = now;
        progress->last_ns = 0;
    }
    if (progress->is_terminal) {
        if (done < total && now - progress->last_ns < QR_NS_PER_SEC / 20)
            return;
        progress->last_ns = now;
        show_bar(phase, done, total);
    } else if (done >= total) {
        fprintf(stderr, "%s: %lld done\n", phase, (long long)done);
    }
}

int qr_cmd_train_tokenizer(int argc, char **argv)
{
    const char *type = "bpe";
    const char *output = NULL;
    int32_t vocab_size = 0;
    int32_t min_frequency = 2;
    struct qr_string_list special = {0};
    const struct qr_option options[] = {
        {"type", QR_OPTION_STRING, "TYPE", &type, 0, 0, "the algorithm: bpe (default)", NULL},
        {"vocab-size", QR_OPTION_INT, "N", &vocab_size, 256, 10000000,
         "tokens in all, the special ones and the 256 bytes included; required", NULL},
        {"output", QR_OPTION_STRING, "DIR", &output, 0, 0,
         "directory for tokenizer.json, made if need be; required", NULL},
        {"special-token", QR_OPTION_LIST, "TEXT", &special, 0, 0,
         "a special token; may be repeated, gets the first ids in this order", NULL},
        {"min-frequency", QR_OPTION_INT, "N", &min_frequency, 1, 2147483647,
         "pairs seen less often are not merged; default 2", NULL},
    };
    const struct qr_command_line line = {
        .command = "train-tokenizer",
        .synopsis = "--vocab-size N --output DIR [options] FILE...",
        .description =
            "Learns a byte-level BPE vocabulary from text files and writes DIR/tokenizer.json.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .min_positionals = 1,
        .max_positionals = 1 << 20,
    };
    struct qr_positionals files;

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &files);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if (strcmp(type, "bpe") != 0) {
        fprintf(stderr, "quire train-tokenizer: --type: \"%s\" is not known; use bpe\n", type);
        return QR_EXIT_USAGE;
    }
    if (vocab_size == 0 || output == NULL) {
        fprintf(stderr, "quire train-tokenizer: %s is required; see quire train-tokenizer --help\n",
                vocab_size == 0 ? "--vocab-size" : "--output");
        return QR_EXIT_USAGE;
    }

    struct progress progress = {.is_terminal = isatty(STDERR_FILENO) == 1};
    struct qr_bpe_trainer_config config = {
        .vocab_size = vocab_size,
        .min_frequency = min_frequency,
        .special_tokens = special.items,
        .n_special = special.count,
        .progress = show_progress,
        .progress_arg = &progress,
    };
    struct qr_error err = {0};
    enum qr_status status =
        qr_bpe_train(&config, (const char *const *)files.items, files.count, output, &err);
    return qr_command_exit("train-tokenizer", status, &err);
}
