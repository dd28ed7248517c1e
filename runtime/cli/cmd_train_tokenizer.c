/* cmd_train_tokenizer.c - quire train-tokenizer: learns a vocabulary from text files. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"
#include "runtime/tokenizer/trainer.h"

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

enum type { BYTE_LEVEL_BPE, SENTENCEPIECE_BPE, UNIGRAM };

struct train_command {
    enum type type;
    const char *output;
    int32_t min_frequency;
    int32_t n_threads;
    struct qr_string_list special;
    struct qr_trainer_config config;
};

static enum qr_status train(struct train_command *command, const struct qr_positionals *files,
                            struct qr_error *err)
{
    static enum qr_status (*const trainers[])(const struct qr_trainer_config *, const char *const *,
                                              int32_t, const char *, struct qr_error *) = {
        [BYTE_LEVEL_BPE] = qr_train_byte_level_bpe,
        [SENTENCEPIECE_BPE] = qr_train_sentencepiece_bpe,
        [UNIGRAM] = qr_train_unigram,
    };
    struct progress progress = {.is_terminal = isatty(STDERR_FILENO) == 1};

    command->config.min_frequency = command->min_frequency;
    command->config.n_threads =
        command->n_threads > 0 ? command->n_threads : (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    command->config.special_tokens = command->special.items;
    command->config.n_special = command->special.count;
    command->config.progress = show_progress;
    command->config.progress_arg = &progress;
    return trainers[command->type](&command->config, (const char *const *)files->items,
                                   files->count, command->output, err);
}

int qr_cmd_train_tokenizer(int argc, char **argv)
{
    struct train_command command = {
        .min_frequency = 2,
        .config = {.character_coverage = 0.9995F, .max_piece_length = 16},
    };
    struct qr_trainer_config *config = &command.config;
    const struct qr_option options[] = {
        {"type", QR_OPTION_CHOICE, "byte-level-bpe|sentencepiece-bpe|unigram", &command.type, 0, 0,
         "the model; default byte-level-bpe", NULL},
        {"vocab-size", QR_OPTION_INT, "N", &config->vocab_size, 1, 10000000,
         "tokens in all, with special tokens, bytes and characters; required", NULL},
        {"output", QR_OPTION_STRING, "DIR", &command.output, 0, 0,
         "directory for tokenizer.json (byte-level) or tokenizer.model, made if need be; required",
         NULL},
        {"special-token", QR_OPTION_LIST, "TEXT", &command.special, 0, 0,
         "a special token; may be repeated. They get the first ids, after <unk>, <s> and </s> in "
         "tokenizer.model",
         NULL},
        {"min-frequency", QR_OPTION_INT, "N", &command.min_frequency, 1, 2147483647,
         "byte-level-bpe: pairs seen less often are not merged; default 2", NULL},
        {"character-coverage", QR_OPTION_FLOAT, "SHARE", &config->character_coverage, 0.5, 1,
         "tokenizer.model: share of the text whose characters become pieces, 0.5 to 1; default "
         "0.9995",
         NULL},
        {"byte-fallback", QR_OPTION_FLAG, NULL, &config->byte_fallback, 0, 0,
         "tokenizer.model: 256 pieces for the bytes of other characters; else they are <unk>",
         NULL},
        {"max-piece-length", QR_OPTION_INT, "N", &config->max_piece_length, 1, 512,
         "tokenizer.model: characters of a piece, 1 to 512; default 16", NULL},
        {"threads", QR_OPTION_INT, "N", &command.n_threads, 0, 1024,
         "the result does not depend on it; 0, the default: one for each processor", NULL},
    };
    const struct qr_command_line line = {
        .command = "train-tokenizer",
        .synopsis = "--vocab-size N --output DIR [options] FILE...",
        .description = "Learns a vocabulary from text files.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .min_positionals = 1,
        .max_positionals = 1 << 20,
    };
    struct qr_positionals files;
    struct qr_error err = {0};

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &files);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if (config->vocab_size == 0 || command.output == NULL) {
        fprintf(stderr, "quire train-tokenizer: %s is required; see quire train-tokenizer --help\n",
                config->vocab_size == 0 ? "--vocab-size" : "--output");
        return QR_EXIT_USAGE;
    }
    return qr_command_exit("train-tokenizer", train(&command, &files, &err), &err);
}
