/*
 * cmd_score.c - `quire score`: how likely a model finds a text.
 *
 * A text longer than the context is cut into windows; each window begins with the
 * last token of the one before (or the BOS), so every token but the very first is
 * scored exactly once.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/log.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/engine_options.h"
#include "runtime/cli/read_input.h"
#include "runtime/engine/waiter.h"

struct score_command {
    struct qr_engine_config engine;
    int32_t window;
    bool no_bos;
    bool json;
};

struct score {
    double log_likelihood; /* natural logarithm, summed in the order of the text */
    int64_t n_scored;
    int64_t n_windows;
};

struct window_run {
    struct score *score;
    struct qr_finish finish;
    bool ended;
};

static void add_scores(void *arg, struct qr_stream *stream)
{
    struct window_run *run = arg;
    struct qr_stream_chunk chunk;

    qr_stream_take(stream, &chunk);
    for (int32_t i = 0; i < chunk.n_tokens; i++) {
        run->score->log_likelihood += (double)chunk.tokens[i].sampled.logprob;
        run->score->n_scored++;
    }
    if (chunk.finish != NULL) {
        run->finish = *chunk.finish;
        run->ended = true;
    }
}

static enum qr_status score_window(struct qr_engine *engine, const int32_t *ids, size_t count,
                                   struct score *score, struct qr_error *err)
{
    struct qr_waiter waiter;
    struct qr_stream *stream;
    const char *field;
    int64_t retry_after_ns;
    struct window_run run = {.score = score};
    struct qr_request *request = qr_request_create();

    if (request == NULL || qr_request_set_prompt(request, ids, count) != QR_OK) {
        qr_request_destroy(request);
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for a window of %zu tokens", count);
    }
    request->score_prompt = request->score_only = true;
    qr_waiter_init(&waiter);
    enum qr_status status = qr_engine_submit(engine, request, &waiter.group, NULL, &stream, &field,
                                             &retry_after_ns, err);
    if (status == QR_OK) {
        while (!run.ended)
            qr_waiter_wait(&waiter, add_scores, &run);
        qr_stream_unref(stream);
        if (run.finish.reason == QR_FINISH_ERROR)
            status = qr_fail(err, QR_ERR_DEVICE, "%s", run.finish.error.message);
    } else {
        qr_request_destroy(request);
    }
    qr_waiter_destroy(&waiter);
    score->n_windows++;
    return status;
}

static enum qr_status score_ids(struct qr_engine *engine, const struct score_command *command,
                                const struct qr_token_ids *ids, struct score *score,
                                struct qr_error *err)
{
    size_t window = (size_t)qr_engine_max_seq_tokens(engine);

    if (command->window > 0 && (size_t)command->window < window)
        window = (size_t)command->window;
    if (ids->count < 2)
        return qr_fail(err, QR_ERR_INVALID,
                       "the text has %zu tokens; at least 2 are needed to score one", ids->count);
    for (size_t from = 0; from + 1 < ids->count; from += window - 1) {
        size_t count = ids->count - from < window ? ids->count - from : window;
        QR_TRY(score_window(engine, ids->ids + from, count, score, err));
    }
    return QR_OK;
}

static void print_score(const struct score *score, size_t n_bytes, bool json)
{
    double nll = -score->log_likelihood;
    double perplexity = exp(nll / (double)score->n_scored);
    double bits_per_byte = nll / log(2) / (double)n_bytes;

    if (json) {
        json_t *root = json_pack("{s:f, s:f, s:f, s:I, s:I, s:I}", "log_likelihood",
                                 score->log_likelihood, "perplexity", perplexity, "bits_per_byte",
                                 bits_per_byte, "tokens", (json_int_t)score->n_scored, "windows",
                                 (json_int_t)score->n_windows, "bytes", (json_int_t)n_bytes);
        json_dumpf(root, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(root);
        return;
    }
    printf("tokens          %lld (in %lld windows)\n", (long long)score->n_scored,
           (long long)score->n_windows);
    printf("log-likelihood  %.4f\n", score->log_likelihood);
    printf("perplexity      %.4f\n", perplexity);
    printf("bits per byte   %.4f\n", bits_per_byte);
}

static enum qr_status run_command(struct score_command *command, struct qr_error *err)
{
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_encode_options encode = {.add_bos = !command->no_bos};
    struct score score = {0};
    struct qr_engine *engine = NULL;
    enum qr_status status;

    if ((status = qr_read_all(stdin, &text, err)) != QR_OK ||
        (status = qr_engine_create(&command->engine, &engine, err)) != QR_OK)
        goto done;
    const char *bytes = text.data != NULL ? text.data : "";
    if ((status = qr_tokenizer_encode(qr_engine_tokenizer(engine), bytes, text.length, &encode,
                                      &ids, err)) != QR_OK ||
        (status = score_ids(engine, command, &ids, &score, err)) != QR_OK)
        goto done;
    print_score(&score, text.length, command->json);

done:
    qr_engine_destroy(engine);
    qr_token_ids_free(&ids);
    qr_buffer_free(&text);
    return status;
}

int qr_cmd_score(int argc, char **argv)
{
    struct score_command command = {0};
    struct qr_positionals positionals;
    struct qr_error err = {{0}};
    qr_engine_config_default(&command.engine);
    const struct qr_option options[] = {
        {"window", QR_OPTION_INT, "TOKENS", &command.window, 0, 1 << 30,
         "longest piece scored at once, 2 or more; default 0: the context", NULL},
        {"no-bos", QR_OPTION_FLAG, NULL, &command.no_bos, 0, 0,
         "do not begin with the model's BOS token", NULL},
        {"json", QR_OPTION_FLAG, NULL, &command.json, 0, 0, "print one JSON object", NULL},
        QR_ENGINE_OPTION_ROWS(&command.engine),
    };
    const struct qr_command_line line = {
        .command = "score",
        .synopsis = "[--model PATH] [options] < TEXT",
        .description = "Prints the log-likelihood and the perplexity of standard input.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if (command.window == 1) {
        fprintf(stderr, "quire score: --window is 1; a window needs 2 tokens to score one\n");
        return QR_EXIT_USAGE;
    }
    qr_log_set_level(QR_LOG_WARN);
    return qr_command_exit("score", run_command(&command, &err), &err);
}
