/* cmd_bench_tokenizer.c - `quire bench tokenizer`: megabytes and tokens a second of encoding. */
#include <stdio.h>

#include "runtime/bench/report.h"
#include "runtime/bench/tokenizer.h"
#include "runtime/cli/bench_commands.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"

struct tokenizer_command {
    const char *tokenizer;
    const char *text;
    bool is_jsonl;
    int32_t n_runs;
    const char *json;
};

struct speed {
    double seconds[QR_MAX_RUNS];
    double mb_per_s; /* of the median run; 1 MB = 10^6 bytes */
    double tokens_per_s;
    size_t n_tokens;
};

static enum qr_status measure(const struct tokenizer_command *command,
                              const struct qr_tokenizer *tok, const struct qr_bench_texts *texts,
                              struct speed *speed, struct qr_error *err)
{
    double sorted[QR_MAX_RUNS];
    struct qr_encode_run run;

    /* What comes to memory with the first text that a server sees is not measured. */
    QR_TRY(qr_measure_encode(tok, texts, &run, err));
    for (int32_t i = 0; i < command->n_runs; i++) {
        QR_TRY(qr_measure_encode(tok, texts, &run, err));
        speed->seconds[i] = sorted[i] = run.seconds;
    }
    double seconds = qr_median(sorted, command->n_runs);
    speed->n_tokens = run.n_tokens;
    speed->mb_per_s = (double)texts->bytes.length / 1e6 / seconds;
    speed->tokens_per_s = (double)run.n_tokens / seconds;
    return QR_OK;
}

static enum qr_status write_json(const struct tokenizer_command *command,
                                 const struct qr_bench_texts *texts, const struct speed *speed,
                                 int argc, char **argv, struct qr_error *err)
{
    json_t *runs = json_array();
    for (int32_t i = 0; i < command->n_runs; i++)
        json_array_append_new(runs, json_real(speed->seconds[i]));
    json_t *root = json_pack("{s:i, s:I, s:I, s:f, s:f, s:o}", "texts", texts->count, "bytes",
                             (json_int_t)texts->bytes.length, "tokens", (json_int_t)speed->n_tokens,
                             "mb_per_s", speed->mb_per_s, "tokens_per_s", speed->tokens_per_s,
                             "cpu_seconds", runs);
    return qr_bench_json_write(root, argc, argv, command->json, err);
}

static enum qr_status run_tokenizer(const struct tokenizer_command *command, int argc, char **argv,
                                    struct qr_error *err)
{
    struct qr_bench_texts texts = {.bytes = {.arena = QR_ARENA_REQUEST}};
    struct qr_tokenizer *tok = NULL;
    struct speed speed = {.n_tokens = 0};

    enum qr_status status = qr_bench_texts_read(&texts, command->text, command->is_jsonl, err);
    if (status == QR_OK)
        status = qr_tokenizer_open(command->tokenizer, &tok, err);
    if (status == QR_OK)
        status = measure(command, tok, &texts, &speed, err);
    if (status == QR_OK)
        printf("%s: %.1f MB/s, %.2f million tokens/s; %zu bytes in %d text%s, %zu tokens; CPU time "
               "of one thread, median of %d run%s\n",
               qr_tokenizer_kind(tok), speed.mb_per_s, speed.tokens_per_s / 1e6, texts.bytes.length,
               texts.count, texts.count == 1 ? "" : "s", speed.n_tokens, command->n_runs,
               command->n_runs == 1 ? "" : "s");
    if (status == QR_OK && command->json != NULL)
        status = write_json(command, &texts, &speed, argc, argv, err);
    qr_tokenizer_close(tok);
    qr_bench_texts_free(&texts);
    return status;
}

int qr_cmd_bench_tokenizer(int argc, char **argv)
{
    struct tokenizer_command command = {.n_runs = 5};
    struct qr_positionals positionals;
    struct qr_error err = {""};
    const struct qr_option options[] = {
        {"tokenizer", QR_OPTION_STRING, "PATH", &command.tokenizer, 0, 0,
         "a tokenizer file or a model directory; required", NULL},
        {"text", QR_OPTION_STRING, "FILE", &command.text, 0, 0, "what to encode; required", NULL},
        {"jsonl", QR_OPTION_FLAG, NULL, &command.is_jsonl, 0, 0,
         "the file holds one JSON string a line, each a text of its own; else it is one text",
         NULL},
        {"runs", QR_OPTION_INT, "N", &command.n_runs, 1, QR_MAX_RUNS, "1 to 32; default 5", NULL},
        {"json", QR_OPTION_STRING, "FILE", &command.json, 0, 0, "write the figures there", NULL},
    };
    const struct qr_command_line line = {
        .command = "bench tokenizer",
        .synopsis = "--tokenizer PATH --text FILE [options]",
        .description = "Measures how fast one thread turns text into token ids.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if (command.tokenizer == NULL || command.text == NULL) {
        fprintf(stderr,
                "quire bench tokenizer: --%s is required; see quire bench tokenizer --help\n",
                command.tokenizer == NULL ? "tokenizer" : "text");
        return QR_EXIT_USAGE;
    }
    return qr_command_exit("bench tokenizer", run_tokenizer(&command, argc, argv, &err), &err);
}
