/* cmd_tokenize.c - quire tokenize and quire detokenize: text to token ids and back. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"
#include "runtime/models/model_tokenizer.h"

enum { READ_BYTES = 1 << 16 };

struct command {
    const char *name;
    const char *model;
    bool add_bos;
    bool parse_special;
    bool json;
    bool jsonl;
    bool lines;
    bool skip_special;
    struct qr_tokenizer *tok;
    struct qr_token_ids ids;
    struct qr_buffer text;
    struct qr_error err;
};

static enum qr_status read_input(struct command *command)
{
    char chunk[READ_BYTES];
    size_t n;

    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
        QR_TRY(qr_buffer_append(&command->text, chunk, n));
    if (ferror(stdin))
        return qr_fail(&command->err, QR_ERR_IO, "standard input cannot be read");
    return QR_OK;
}

static enum qr_status encode(struct command *command, const char *text, size_t n_bytes)
{
    const struct qr_encode_options options = {
        .add_bos = command->add_bos,
        .parse_special = command->parse_special,
    };

    command->ids.count = 0;
    return qr_tokenizer_encode(command->tok, text, n_bytes, &options, &command->ids, &command->err);
}

static void print_ids(const struct qr_token_ids *ids, const char *separator)
{
    for (size_t i = 0; i < ids->count; i++)
        printf("%s%d", i == 0 ? "" : separator, ids->ids[i]);
}

/* The text of the ids as a JSON string; what is not UTF-8 becomes U+FFFD. */
static enum qr_status print_json_text(const struct command *command)
{
    struct qr_buffer text = {.arena = QR_ARENA_REQUEST};
    size_t max = qr_tokenizer_max_push_bytes(command->tok);
    struct qr_detokenizer detok;
    enum qr_status status = qr_buffer_reserve(&text, max);

    qr_detokenizer_init(&detok, command->tok, command->skip_special, false);
    for (size_t i = 0; i < command->ids.count && status == QR_OK; i++) {
        text.length += qr_detokenizer_push(&detok, command->ids.ids[i], text.data + text.length);
        status = qr_buffer_reserve(&text, max);
    }
    if (status == QR_OK) {
        text.length += qr_detokenizer_flush(&detok, text.data + text.length);
        json_t *string = json_stringn(text.data, text.length);
        if (string == NULL || json_dumpf(string, stdout, JSON_ENCODE_ANY) != 0)
            status = QR_ERR_NOMEM;
        putchar('\n');
        json_decref(string);
    }
    qr_buffer_free(&text);
    return status;
}

/* Ids from a JSON array, or from an object that has one as "ids". */
static enum qr_status take_json_ids(struct command *command, const json_t *value)
{
    const json_t *list = json_is_object(value) ? json_object_get(value, "ids") : value;
    json_t *id;
    size_t i;

    command->ids.count = 0;
    if (!json_is_array(list))
        return qr_fail(&command->err, QR_ERR_INVALID, "it must be an array of token ids");
    json_array_foreach(list, i, id)
    {
        int32_t n = (int32_t)json_integer_value(id);
        if (!json_is_integer(id) || json_integer_value(id) != n || n < 0 ||
            n >= qr_tokenizer_vocab_size(command->tok))
            return qr_fail(&command->err, QR_ERR_INVALID,
                           "item %zu must be a token id, a whole number in [0, %d)", i,
                           qr_tokenizer_vocab_size(command->tok));
        QR_TRY(qr_token_ids_append(&command->ids, n));
    }
    return QR_OK;
}

static void print_json_ids(const struct qr_token_ids *ids)
{
    putchar('[');
    print_ids(ids, ",");
    puts("]");
}

/* One line of JSON to one line of JSON. */
static enum qr_status convert_line(struct command *command, const char *line, size_t n_bytes,
                                   bool to_ids)
{
    json_error_t error;
    json_t *value = json_loadb(line, n_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    enum qr_status status;

    if (value == NULL)
        return qr_fail(&command->err, QR_ERR_INVALID, "it is not valid JSON: %s", error.text);
    if (!to_ids) {
        status = take_json_ids(command, value);
        if (status == QR_OK)
            status = print_json_text(command);
    } else if (!json_is_string(value)) {
        status = qr_fail(&command->err, QR_ERR_INVALID, "it must be a JSON string");
    } else {
        status = encode(command, json_string_value(value), json_string_length(value));
        if (status == QR_OK)
            print_json_ids(&command->ids);
    }
    json_decref(value);
    return status;
}

/* A line that is the text itself, of any bytes. */
static enum qr_status encode_line(struct command *command, const char *line, size_t n_bytes)
{
    if (n_bytes > 0 && line[n_bytes - 1] == '\n')
        n_bytes--;
    QR_TRY(encode(command, line, n_bytes));
    print_json_ids(&command->ids);
    return QR_OK;
}

static bool is_blank(const char *line, size_t n_bytes)
{
    return line[strspn(line, " \t\r\n")] == '\0' && strlen(line) == n_bytes;
}

static enum qr_status convert_lines(struct command *command, bool to_ids)
{
    char *line = NULL;
    size_t capacity = 0;
    enum qr_status status = QR_OK;
    ssize_t n;

    for (int number = 1; status == QR_OK && (n = getline(&line, &capacity, stdin)) >= 0; number++) {
        if (command->lines)
            status = encode_line(command, line, (size_t)n);
        else if (!is_blank(line, (size_t)n))
            status = convert_line(command, line, (size_t)n, to_ids);
        fflush(stdout);
        if (status != QR_OK)
            qr_error_prefix(&command->err, "standard input, line %d", number);
    }
    free(line);
    return status;
}

static enum qr_status tokenize(struct command *command)
{
    if (command->jsonl || command->lines)
        return convert_lines(command, true);
    QR_TRY(read_input(command));
    QR_TRY(encode(command, command->text.data, command->text.length));
    printf(command->json ? "{\"ids\":[" : "");
    print_ids(&command->ids, command->json ? "," : " ");
    puts(command->json ? "]}" : "");
    return QR_OK;
}

/* Ids separated by white space or commas. */
static enum qr_status take_plain_ids(struct command *command)
{
    static const char separators[] = " \t\r\n,";
    char *p = command->text.data;

    for (p += strspn(p, separators); *p != '\0'; p += strspn(p, separators)) {
        char *number_end;
        long id = strtol(p, &number_end, 10);
        if (number_end == p || (*number_end != '\0' && strchr(separators, *number_end) == NULL) ||
            id < 0 || id >= qr_tokenizer_vocab_size(command->tok))
            return qr_fail(&command->err, QR_ERR_INVALID,
                           "standard input: \"%.*s\" is not a token id, a whole number in [0, %d)",
                           (int)strcspn(p, separators), p, qr_tokenizer_vocab_size(command->tok));
        QR_TRY(qr_token_ids_append(&command->ids, (int32_t)id));
        p = number_end;
    }
    return QR_OK;
}

static enum qr_status detokenize(struct command *command)
{
    if (command->jsonl)
        return convert_lines(command, false);
    QR_TRY(read_input(command));
    size_t blank = command->text.data != NULL ? strspn(command->text.data, " \t\r\n") : 0;
    if (blank < command->text.length && strchr("[{", command->text.data[blank]) != NULL) {
        json_error_t error;
        json_t *value = json_loadb(command->text.data, command->text.length, 0, &error);
        if (value == NULL)
            return qr_fail(&command->err, QR_ERR_INVALID,
                           "standard input: it is not valid JSON: %s", error.text);
        enum qr_status status = take_json_ids(command, value);
        json_decref(value);
        if (status != QR_OK)
            qr_error_prefix(&command->err, "standard input");
        QR_TRY(status);
    } else if (command->text.data != NULL) {
        QR_TRY(take_plain_ids(command));
    }
    qr_buffer_clear(&command->text);
    QR_TRY(qr_tokenizer_decode(command->tok, command->ids.ids, command->ids.count,
                               command->skip_special, &command->text, &command->err));
    fwrite(command->text.data != NULL ? command->text.data : "", 1, command->text.length, stdout);
    return QR_OK;
}

static int run(struct command *command, enum qr_status (*convert)(struct command *))
{
    enum qr_status status;

    command->ids.arena = command->text.arena = QR_ARENA_REQUEST;
    if (command->model == NULL) {
        fprintf(stderr, "quire %s: --model is required; see quire %s --help\n", command->name,
                command->name);
        return QR_EXIT_USAGE;
    }
    status = qr_model_open_tokenizer(command->model, &command->tok, &command->err);
    if (status == QR_OK)
        status = convert(command);
    if (fflush(stdout) != 0 && status == QR_OK)
        status = qr_fail(&command->err, QR_ERR_IO, "standard output cannot be written");
    qr_token_ids_free(&command->ids);
    qr_buffer_free(&command->text);
    qr_tokenizer_close(command->tok);
    return qr_command_exit(command->name, status, &command->err);
}

int qr_cmd_tokenize(int argc, char **argv)
{
    struct command command = {.name = "tokenize"};
    const struct qr_option options[] = {
        {"model", QR_OPTION_STRING, "PATH", &command.model, 0, 0,
         "model directory, tokenizer file or FILE.gguf; required", NULL},
        {"bos", QR_OPTION_FLAG, NULL, &command.add_bos, 0, 0,
         "begin with the BOS, where the tokenizer has one; default off", NULL},
        {"special", QR_OPTION_FLAG, NULL, &command.parse_special, 0, 0,
         "recognise special tokens in the text; default off: they are plain text", NULL},
        {"json", QR_OPTION_FLAG, NULL, &command.json, 0, 0, "print {\"ids\":[...]}", NULL},
        {"jsonl", QR_OPTION_FLAG, NULL, &command.jsonl, 0, 0,
         "read one JSON string a line, print one array of ids a line", NULL},
        {"lines", QR_OPTION_FLAG, NULL, &command.lines, 0, 0,
         "read one text a line, without its newline, print one array of ids a line", NULL},
    };
    const struct qr_command_line line = {
        .command = "tokenize",
        .synopsis = "--model PATH [options] <TEXT",
        .description = "Turns standard input into token ids, separated by spaces.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };
    struct qr_positionals none;

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &none);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if (command.jsonl && command.lines) {
        fprintf(stderr, "quire tokenize: --jsonl and --lines: a line is one or the other\n");
        return QR_EXIT_USAGE;
    }
    return run(&command, tokenize);
}

int qr_cmd_detokenize(int argc, char **argv)
{
    struct command command = {.name = "detokenize"};
    const struct qr_option options[] = {
        {"model", QR_OPTION_STRING, "PATH", &command.model, 0, 0,
         "model directory, tokenizer file or FILE.gguf; required", NULL},
        {"jsonl", QR_OPTION_FLAG, NULL, &command.jsonl, 0, 0,
         "read one array of ids a line, print one JSON string a line", NULL},
        {"skip-special", QR_OPTION_FLAG, NULL, &command.skip_special, 0, 0,
         "leave special tokens out; default off: they are printed", NULL},
    };
    const struct qr_command_line line = {
        .command = "detokenize",
        .synopsis = "--model PATH [options] <IDS",
        .description = "Turns token ids into text: numbers with spaces or commas between, a JSON\n"
                       "array, or what quire tokenize --json printed.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };
    struct qr_positionals none;

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &none);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    return run(&command, detokenize);
}
