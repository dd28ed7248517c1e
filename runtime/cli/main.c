/* main.c - finds the command and hands over to it. */
#include <stdio.h>
#include <string.h>

#include "runtime/cli/commands.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    {"serve", qr_cmd_serve, "serve a model over gRPC"},
    {"generate", qr_cmd_generate, "generate text, with or without a server"},
    {"score", qr_cmd_score, "log-likelihood and perplexity of a text"},
    {"replay", qr_cmd_replay, "run a recorded scheduler again, explain what it did"},
    {"bench", qr_cmd_bench, "benchmarks: scheduling under memory pressure, page operations"},
    {"info", qr_cmd_info, "shapes, parameters and KV memory of a model"},
    {"tokenize", qr_cmd_tokenize, "text to token ids"},
    {"detokenize", qr_cmd_detokenize, "token ids to text"},
    {"train-tokenizer", qr_cmd_train_tokenizer, "learn a vocabulary from text files"},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_usage(FILE *out)
{
    fprintf(out, "usage: quire COMMAND [options]\n\n"
                 "Serves language models from a paged KV cache over gRPC.\n\n"
                 "commands:\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-16s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\nquire COMMAND --help lists a command's options.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return QR_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return QR_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("quire %s\n", QUIRE_VERSION);
        return QR_EXIT_OK;
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "quire: unknown command \"%s\"; see quire --help\n", argv[1]);
    return QR_EXIT_USAGE;
}
