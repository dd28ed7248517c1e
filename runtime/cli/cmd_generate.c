/* cmd_generate.c - `quire generate`: one prompt, by a server or by an engine of its own. */
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/engine_options.h"
#include "runtime/cli/generation_output.h"
#include "runtime/cli/read_input.h"
#include "runtime/cli/sampling_options.h"
#include "runtime/client/grpc_client.h"
#include "runtime/engine/waiter.h"

struct generate_command {
    struct qr_engine_config engine;
    struct qr_generate_options options;
    const char *addr;
    const char *log_level;
    bool json;
    bool echo;
    struct qr_buffer prompt;
};

/* Where a generation is shown, and whether that still works. */
struct show {
    struct qr_generation_output *output;
    enum qr_status status;
    bool ended;               /* the stream said its last words, shown or not */
    struct qr_finish failure; /* of an output that did not end well; reason NONE: there is none */
};

static void show_news(void *arg, struct qr_stream *stream)
{
    struct show *show = arg;
    struct qr_stream_chunk chunk;

    for (qr_stream_take(stream, &chunk); !qr_stream_chunk_is_empty(&chunk);
         qr_stream_take(stream, &chunk)) {
        if (show->status == QR_OK)
            show->status = qr_generation_output_chunk(show->output, &chunk);
        if (show->status != QR_OK)
            qr_stream_cancel(stream);
        if (chunk.finish != NULL && chunk.finish->reason == QR_FINISH_ERROR)
            show->failure = *chunk.finish;
        if (chunk.last) {
            show->ended = true;
            return;
        }
    }
}

static bool show_chunk(void *arg, const struct qr_stream_chunk *chunk)
{
    struct show *show = arg;

    show->status = qr_generation_output_chunk(show->output, chunk);
    return show->status == QR_OK;
}

static struct qr_encode_options encode_options(const struct generate_command *command)
{
    return (struct qr_encode_options){.add_bos = !command->options.no_bos,
                                      .parse_special = command->options.parse_special};
}

/* The request that the options and the tokenized prompt make. NULL on error. */
static struct qr_request *make_request(struct generate_command *command,
                                       const struct qr_token_ids *ids, struct qr_error *err)
{
    struct qr_request *request = qr_request_create();

    if (request == NULL || qr_request_set_prompt(request, ids->ids, ids->count) != QR_OK)
        qr_fail(err, QR_ERR_NOMEM, "out of memory for the prompt");
    else if (qr_generate_options_apply(&command->options, request, err) == QR_OK)
        return request;
    qr_request_destroy(request);
    return NULL;
}

/* Runs the request on an engine of this process and waits for its end. Takes over `request`. */
static enum qr_status run_locally(struct qr_engine *engine, struct qr_request *request,
                                  struct qr_generation_output *output, struct qr_error *err)
{
    struct qr_waiter waiter;
    struct qr_stream *stream;
    const char *field;
    int64_t retry_after_ns;
    struct show show = {.output = output, .status = QR_OK};

    qr_waiter_init(&waiter);
    enum qr_status status = qr_engine_submit(engine, request, &waiter.group, NULL, &stream, &field,
                                             &retry_after_ns, err);
    if (status != QR_OK) {
        qr_request_destroy(request);
    } else {
        while (!show.ended)
            qr_waiter_wait(&waiter, show_news, &show);
        qr_stream_unref(stream);
        status = show.status;
        if (status != QR_OK)
            qr_fail(err, status, "cannot write the output: %s", qr_status_name(status));
        else if (show.failure.reason == QR_FINISH_ERROR)
            status = qr_fail(err, QR_ERR_DEVICE, "%s", show.failure.error.message);
    }
    qr_waiter_destroy(&waiter);
    return status;
}

static enum qr_status generate_locally(struct generate_command *command,
                                       struct qr_token_ids *prompt_ids,
                                       struct qr_generation_output *output, struct qr_error *err)
{
    struct qr_encode_options encode = encode_options(command);
    struct qr_engine *engine;

    QR_TRY(qr_engine_create(&command->engine, &engine, err));
    enum qr_status status = qr_tokenizer_encode(qr_engine_tokenizer(engine), command->prompt.data,
                                                command->prompt.length, &encode, prompt_ids, err);
    if (status == QR_OK) {
        struct qr_request *request = make_request(command, prompt_ids, err);
        status = request != NULL ? run_locally(engine, request, output, err) : QR_ERR_INVALID;
    }
    qr_engine_destroy(engine);
    return status;
}

static enum qr_status say_result(const struct qr_grpc_result *result, struct qr_error *err)
{
    return qr_fail(err, QR_ERR_IO, "%s: %s", result->code_name, result->message);
}

static enum qr_status run_remotely(struct qr_grpc_client *client, struct generate_command *command,
                                   struct qr_token_ids *prompt_ids,
                                   struct qr_generation_output *output, struct qr_error *err)
{
    struct qr_encode_options encode = encode_options(command);
    struct qr_grpc_result result;
    struct show show = {.output = output, .status = QR_OK};

    if (qr_grpc_client_tokenize(client, command->prompt.data, command->prompt.length, &encode,
                                prompt_ids, &result) != QR_OK)
        return say_result(&result, err);
    struct qr_request *request = make_request(command, prompt_ids, err);
    if (request == NULL)
        return QR_ERR_INVALID;
    enum qr_status status = qr_grpc_client_generate(client, request, show_chunk, &show, &result);
    qr_request_destroy(request);
    if (show.status != QR_OK)
        return qr_fail(err, show.status, "cannot write the output: %s",
                       qr_status_name(show.status));
    return status == QR_OK ? QR_OK : say_result(&result, err);
}

static enum qr_status generate_remotely(struct generate_command *command,
                                        struct qr_token_ids *prompt_ids,
                                        struct qr_generation_output *output, struct qr_error *err)
{
    struct qr_grpc_client *client;

    QR_TRY(qr_grpc_client_create(command->addr, 0, &client, err));
    enum qr_status status = run_remotely(client, command, prompt_ids, output, err);
    qr_grpc_client_destroy(client);
    return status;
}

static enum qr_status generate(struct generate_command *command, struct qr_error *err)
{
    struct qr_token_ids prompt_ids = {.arena = QR_ARENA_REQUEST};
    struct qr_generation_output output;
    enum qr_status status = qr_generation_output_init(&output, command->options.n, command->json,
                                                      command->options.sampling.n_logprobs > 0);

    if (status != QR_OK)
        qr_fail(err, status, "out of memory");
    else if (command->echo && !command->json)
        fwrite(command->prompt.data, 1, command->prompt.length, stdout);
    if (status == QR_OK && command->addr != NULL)
        status = generate_remotely(command, &prompt_ids, &output, err);
    else if (status == QR_OK)
        status = generate_locally(command, &prompt_ids, &output, err);
    if (status == QR_OK)
        status = qr_generation_output_end(&output, prompt_ids.ids, (int32_t)prompt_ids.count);
    qr_token_ids_free(&prompt_ids);
    qr_generation_output_free(&output);
    return status;
}

static enum qr_status read_prompt(struct generate_command *command, struct qr_error *err)
{
    const char *prompt = command->options.prompt;

    command->prompt.arena = QR_ARENA_REQUEST;
    if (prompt == NULL)
        return qr_fail(err, QR_ERR_INVALID,
                       "--prompt TEXT is missing (\"-\" reads standard input)");
    if (qr_buffer_reserve(&command->prompt, 0) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for the prompt");
    if (strcmp(prompt, "-") == 0)
        return qr_read_all(stdin, &command->prompt, err);
    if (qr_buffer_append(&command->prompt, prompt, strlen(prompt)) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for the prompt");
    return QR_OK;
}

static enum qr_status run_command(struct generate_command *command, struct qr_error *err)
{
    QR_TRY(qr_command_log_level(command->log_level, err));
    QR_TRY(read_prompt(command, err));
    return generate(command, err);
}

int qr_cmd_generate(int argc, char **argv)
{
    struct generate_command command = {.log_level = "warn"};
    struct qr_positionals positionals;
    struct qr_error err = {{0}};
    qr_engine_config_default(&command.engine);
    qr_generate_options_default(&command.options);
    const struct qr_option options[] = {
        {"addr", QR_OPTION_STRING, "ADDR", &command.addr, 0, 0,
         "host:port or unix:PATH of a server; default: an engine in this process", NULL},
        {"json", QR_OPTION_FLAG, NULL, &command.json, 0, 0,
         "print one JSON object: prompt_ids, ids, text, finish_reason, usage, timings; of several "
         "outputs, all but prompt_ids in an array outputs",
         NULL},
        {"echo", QR_OPTION_FLAG, NULL, &command.echo, 0, 0,
         "print the prompt before its continuation", NULL},
        {"log-level", QR_OPTION_STRING, "LEVEL", &command.log_level, 0, 0,
         "debug, info, warn, error or off; default warn", NULL},
        QR_GENERATE_OPTION_ROWS(&command.options),
        QR_ENGINE_OPTION_ROWS(&command.engine),
    };
    const struct qr_command_line line = {
        .command = "generate",
        .synopsis = "[--addr ADDR | --model PATH] --prompt TEXT [options]",
        .description = "Streams the continuation of a prompt to standard output.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    enum qr_status status = run_command(&command, &err);
    qr_buffer_free(&command.prompt);
    return qr_command_exit("generate", status, &err);
}
