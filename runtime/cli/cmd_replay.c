/* cmd_replay.c - `quire replay`: runs a recorded scheduler again, compares, and explains. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"
#include "runtime/cli/replay_output.h"
#include "runtime/replay/story.h"

struct replay_command {
    const char *path;
    const char *explain; /* a request's id or number; NULL: none */
    bool list;
    bool json;
    struct qr_mapped_file file;
    struct qr_record_reader *reader;
    struct qr_replay *replay;
    int32_t number;         /* of the request to be explained */
    struct qr_story *story; /* NULL: nothing is to be explained */
    struct qr_replay_result result;
};

/* "#17" and "17" to 17; 0: it is no number. */
static int32_t parse_number(const char *text)
{
    char *end;

    if (text[0] == '#')
        text++;
    long value = strtol(text, &end, 10);
    return isdigit((unsigned char)text[0]) && *end == '\0' && value > 0 && value < INT32_MAX
               ? (int32_t)value
               : 0;
}

/* Whether the client's id of a request, as far as it was recorded, is this one. */
static bool is_name(const char *recorded, const char *name)
{
    size_t n_bytes = qr_utf8_valid_prefix(recorded, strlen(recorded));

    return n_bytes > 0 && strncmp(recorded, name, n_bytes) == 0 &&
           (name[n_bytes] == '\0' || n_bytes + 4 > QR_RECORD_MAX_TEXT);
}

/* The first request of that id, by its number; 0: there is none. *n_requests: those there are. */
static enum qr_status find_name(struct qr_record_reader *reader, const char *name, int32_t *number,
                                int32_t *n_requests)
{
    int32_t n_slots = qr_scheduler_n_slots(&qr_record_reader_header(reader)->scheduler);
    int32_t *number_of_slot = qr_calloc(QR_ARENA_ENGINE, (size_t)n_slots, sizeof(int32_t));
    struct qr_record record;

    *number = *n_requests = 0;
    if (number_of_slot == NULL)
        return QR_ERR_NOMEM;
    do {
        if (qr_record_reader_next(reader, &record, NULL) != QR_OK)
            break; /* what comes before the damage can be explained */
        if (record.kind == QR_RECORD_ADD && record.seq != QR_SEQ_NONE)
            number_of_slot[record.seq] = ++*n_requests;
        if (record.kind == QR_RECORD_NAME && *number == 0 && is_name(record.name, name))
            *number = number_of_slot[record.seq];
    } while (record.kind != QR_RECORD_END);
    qr_free(number_of_slot);
    return QR_OK;
}

/* The client's own id comes first, then the number; "#17" is a number for certain. */
static enum qr_status find_request(struct replay_command *command, int32_t *number,
                                   struct qr_error *err)
{
    struct qr_record_reader *reader;
    int32_t n_requests;

    QR_TRY(
        qr_record_reader_open(command->path, command->file.data, command->file.size, &reader, err));
    enum qr_status status = find_name(reader, command->explain, number, &n_requests);
    qr_record_reader_close(reader);
    if (status != QR_OK)
        return qr_fail(err, status, "%s: out of memory", command->path);
    if (*number == 0)
        *number = parse_number(command->explain);
    if (*number < 1 || *number > n_requests)
        return qr_fail(err, QR_ERR_NOT_FOUND,
                       "%s: no request \"%s\" among its %d; quire replay --list FILE shows them, "
                       "by number and by id",
                       command->path, command->explain, n_requests);
    return QR_OK;
}

static enum qr_status open_command(struct replay_command *command, struct qr_error *err)
{
    QR_TRY(qr_mapped_file_open(command->path, &command->file, err));
    QR_TRY(qr_record_reader_open(command->path, command->file.data, command->file.size,
                                 &command->reader, err));
    if (command->explain != NULL)
        QR_TRY(find_request(command, &command->number, err));
    enum qr_status status =
        qr_replay_create(qr_record_reader_header(command->reader), &command->replay, err);
    if (status != QR_OK) {
        qr_error_prefix(err, "%s", command->path);
        return status;
    }
    if (command->explain != NULL &&
        qr_story_create(command->replay, command->number, &command->story) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory", command->path);
    return QR_OK;
}

static enum qr_status run_record(struct replay_command *command, const struct qr_record *record,
                                 struct qr_error *err)
{
    if (command->story != NULL && qr_story_before(command->story, record) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    QR_TRY(qr_replay_apply(command->replay, record, err));
    if (command->story != NULL && qr_story_after(command->story, record) != QR_OK)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    return QR_OK;
}

/* To the end, to the first difference, or to where the file is damaged. */
static enum qr_status run_recording(struct replay_command *command, struct qr_error *err)
{
    struct qr_replay_result *result = &command->result;
    enum qr_status status = QR_OK;
    int64_t start_ns = qr_now_ns();

    do {
        status = qr_record_reader_next(command->reader, &result->end, &result->damage);
        if (status != QR_OK)
            break;
        status = run_record(command, &result->end, &result->damage);
        if (status != QR_OK)
            qr_error_prefix(&result->damage, "%s", command->path);
    } while (status == QR_OK && result->end.kind != QR_RECORD_END &&
             qr_replay_difference(command->replay) == NULL);
    result->wall_ns = qr_now_ns() - start_ns;
    result->is_damaged = status == QR_ERR_INVALID;
    if (status != QR_OK && !result->is_damaged)
        *err = result->damage;
    return result->is_damaged ? QR_OK : status;
}

/* A difference or damage may have ended the replay before the request arrived. */
static bool has_story(const struct replay_command *command)
{
    struct qr_replay_stats stats;

    qr_replay_get_stats(command->replay, &stats);
    return command->story != NULL && stats.n_requests >= command->number;
}

static enum qr_status print_json(const struct replay_command *command, struct qr_error *err)
{
    json_t *object = qr_replay_summary_json(&command->result);
    bool ok = object != NULL;

    if (ok && command->list)
        ok = json_object_set_new(object, "list", qr_replay_requests_json(&command->result)) == 0;
    if (ok && has_story(command))
        ok = json_object_set_new(object, "story", qr_story_to_json(command->story)) == 0;
    if (ok)
        ok = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0;
    json_decref(object);
    if (!ok)
        return qr_fail(err, QR_ERR_IO, "cannot write the JSON");
    printf("\n");
    return QR_OK;
}

static enum qr_status print_story(const struct replay_command *command, struct qr_error *err)
{
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    const char *difference = qr_replay_difference(command->replay);

    enum qr_status status = qr_story_write(command->story, command->result.header, &text);
    if (status == QR_OK && difference != NULL)
        status = qr_buffer_printf(&text, "\nthe replay ends here: %s", difference);
    if (status == QR_OK)
        fwrite(text.data, 1, text.length, stdout);
    qr_buffer_free(&text);
    return status == QR_OK ? QR_OK : qr_fail(err, status, "%s: out of memory", command->path);
}

static enum qr_status print_text(const struct replay_command *command, struct qr_error *err)
{
    if (has_story(command))
        return print_story(command, err);
    qr_replay_print_summary(&command->result);
    if (command->list)
        qr_replay_print_requests(&command->result);
    return QR_OK;
}

/* The replay as a whole: has it shown what it should show? */
static enum qr_status judge(const struct replay_command *command, struct qr_error *err)
{
    if (command->result.is_damaged) {
        *err = command->result.damage;
        return QR_ERR_INVALID;
    }
    if (qr_replay_difference(command->replay) != NULL)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: the scheduler does not decide as it was recorded; see above",
                       command->path);
    return QR_OK;
}

static enum qr_status run_command(struct replay_command *command, struct qr_error *err)
{
    QR_TRY(open_command(command, err));
    command->result.path = command->path;
    command->result.n_bytes = (int64_t)command->file.size;
    command->result.header = qr_record_reader_header(command->reader);
    command->result.replay = command->replay;
    QR_TRY(run_recording(command, err));
    QR_TRY(command->json ? print_json(command, err) : print_text(command, err));
    return judge(command, err);
}

static void close_command(struct replay_command *command)
{
    qr_story_destroy(command->story);
    qr_replay_destroy(command->replay);
    qr_record_reader_close(command->reader);
    qr_mapped_file_close(&command->file);
}

int qr_cmd_replay(int argc, char **argv)
{
    struct replay_command command = {0};
    const struct qr_option options[] = {
        {"explain", QR_OPTION_STRING, "ID", &command.explain, 0, 0,
         "tell what happened to one request: its request_id, or its number in order of arrival",
         NULL},
        {"list", QR_OPTION_FLAG, NULL, &command.list, 0, 0, "print a line for every request", NULL},
        {"json", QR_OPTION_FLAG, NULL, &command.json, 0, 0, "print one JSON object", NULL},
    };
    const struct qr_command_line line = {
        .command = "replay",
        .synopsis = "[options] FILE",
        .description = "Runs a scheduler again from FILE, which quire serve --record FILE wrote, "
                       "without a\nmodel, and compares every decision with the recorded one. Ends "
                       "with 1 when one is\ndifferent or FILE is damaged.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .min_positionals = 1,
        .max_positionals = 1,
    };
    struct qr_positionals positionals;
    struct qr_error err = {""};

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    command.path = positionals.items[0];
    int code = qr_command_exit("replay", run_command(&command, &err), &err);
    close_command(&command);
    return code;
}
