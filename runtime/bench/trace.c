/* trace.c - see trace.h for the contract. */
#include "runtime/bench/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mapped_file.h"
#include "runtime/sampling/philox.h"

enum {
    BLOCK_TOKENS = 512, /* of a Mooncake hash id */
    CSV_LINE = 256,
    MAX_LENGTH = 1 << 24, /* of a prompt or an output, in tokens */
};

static const int64_t max_arrival_ns = INT64_C(1) << 60; /* 36 years */

static const char *const format_names[] = {
    [QR_TRACE_AZURE] = "azure",
    [QR_TRACE_MOONCAKE] = "mooncake",
    [QR_TRACE_SHAREGPT] = "sharegpt",
    [QR_TRACE_LENGTHS] = "lengths",
};

enum { N_FORMATS = sizeof(format_names) / sizeof(format_names[0]) };

/* What is drawn; the streams of one seed do not meet. */
enum { STREAM_IDS, STREAM_BLOCKS, STREAM_SAMPLE, STREAM_ARRIVALS };

struct reader {
    const char *name; /* of the file */
    int32_t line;     /* from 1 */
    struct qr_trace *trace;
    int32_t request_capacity;
    int32_t n_ids;
    int32_t id_capacity;
    struct qr_error *err;
};

enum qr_status qr_trace_format_parse(const char *name, enum qr_trace_format *format,
                                     struct qr_error *err)
{
    for (int i = 0; i < N_FORMATS; i++) {
        if (strcmp(name, format_names[i]) == 0) {
            *format = (enum qr_trace_format)i;
            return QR_OK;
        }
    }
    return qr_fail(err, QR_ERR_INVALID,
                   "\"%s\" is no trace format; there are azure, mooncake, sharegpt, lengths", name);
}

const char *qr_trace_format_name(enum qr_trace_format format)
{
    return format_names[format];
}

static struct qr_philox_block draw(uint64_t seed, uint32_t stream, uint64_t which, uint32_t index)
{
    const struct qr_philox_block counter = {
        {index, (uint32_t)which, (uint32_t)(which >> 32), stream}};
    return qr_philox(counter, seed);
}

/* In (0, 1). */
static double draw_uniform(uint64_t seed, uint32_t stream, uint32_t index)
{
    struct qr_philox_block block = draw(seed, stream, 0, index);
    uint64_t bits = (uint64_t)block.word[0] << 32 | block.word[1];

    return ((double)(bits >> 11) + 0.5) * 0x1p-53;
}

static enum qr_status nomem(const struct reader *reader)
{
    return qr_fail(reader->err, QR_ERR_NOMEM, "%s: not enough memory for its requests",
                   reader->name);
}

static enum qr_status add_request(struct reader *reader, const struct qr_trace_request *request)
{
    struct qr_trace *trace = reader->trace;
    struct qr_trace_request *requests =
        qr_array_grow(QR_ARENA_REQUEST, trace->requests, trace->n_requests,
                      &reader->request_capacity, sizeof(*requests));

    if (requests == NULL)
        return nomem(reader);
    trace->requests = requests;
    requests[trace->n_requests++] = *request;
    return QR_OK;
}

static enum qr_status add_id(struct reader *reader, int32_t id)
{
    int32_t *ids = qr_array_grow(QR_ARENA_REQUEST, reader->trace->ids, reader->n_ids,
                                 &reader->id_capacity, sizeof(*ids));

    if (ids == NULL)
        return nomem(reader);
    reader->trace->ids = ids;
    ids[reader->n_ids++] = id;
    return QR_OK;
}

/* A whole number of tokens at *text, which is moved behind it. Some traces have requests of none.
 */
static enum qr_status read_count(const struct reader *reader, const char *what, const char **text,
                                 int32_t *count)
{
    char *end;

    errno = 0;
    long value = strtol(*text, &end, 10);
    if (end == *text || errno != 0 || value < 0 || value > MAX_LENGTH)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s:%d: %s at \"%.40s\" is no whole number in [0, %d]", reader->name,
                       reader->line, what, *text, MAX_LENGTH);
    *text = end;
    *count = (int32_t)value;
    return QR_OK;
}

static enum qr_status read_comma(const struct reader *reader, const char **text)
{
    if (**text != ',')
        return qr_fail(reader->err, QR_ERR_INVALID, "%s:%d: no comma at \"%.40s\"", reader->name,
                       reader->line, *text);
    ++*text;
    return QR_OK;
}

/* "2023-11-16 18:15:46.6805900", in nanoseconds since 1970. */
static enum qr_status read_timestamp(const struct reader *reader, const char **text,
                                     int64_t *time_ns)
{
    struct tm date = {0};
    const char *fraction = strptime(*text, "%Y-%m-%d %H:%M:%S", &date);

    if (fraction == NULL || date.tm_year < 70 || date.tm_year > 200)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s:%d: \"%.40s\" does not begin with a time like "
                       "2023-11-16 18:15:46.6805900",
                       reader->name, reader->line, *text);
    *time_ns = (int64_t)timegm(&date) * QR_NS_PER_SEC;
    int64_t unit = QR_NS_PER_SEC / 10;
    if (*fraction == '.') {
        for (fraction++; *fraction >= '0' && *fraction <= '9'; fraction++, unit /= 10)
            *time_ns += unit * (*fraction - '0');
    }
    *text = fraction;
    return QR_OK;
}

static enum qr_status read_azure_line(struct reader *reader, const char *text, size_t n_bytes)
{
    struct qr_trace_request request = {0};

    (void)n_bytes;
    QR_TRY(read_timestamp(reader, &text, &request.arrival_ns));
    QR_TRY(read_comma(reader, &text));
    QR_TRY(read_count(reader, "ContextTokens", &text, &request.n_prompt));
    QR_TRY(read_comma(reader, &text));
    QR_TRY(read_count(reader, "GeneratedTokens", &text, &request.n_output));
    return add_request(reader, &request);
}

static enum qr_status read_lengths_line(struct reader *reader, const char *text, size_t n_bytes)
{
    struct qr_trace_request request = {0};

    (void)n_bytes;
    QR_TRY(read_count(reader, "num_prefill_tokens", &text, &request.n_prompt));
    QR_TRY(read_comma(reader, &text));
    QR_TRY(read_count(reader, "num_decode_tokens", &text, &request.n_output));
    return add_request(reader, &request);
}

/* A number in [0, max]. */
static enum qr_status read_number(const struct reader *reader, const json_t *object,
                                  const char *key, double max, double *out)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_number(value) || !(json_number_value(value) >= 0) ||
        json_number_value(value) > max)
        return qr_fail(reader->err, QR_ERR_INVALID, "%s:%d: %s is no number in [0, %.0f]",
                       reader->name, reader->line, key, max);
    *out = json_number_value(value);
    return QR_OK;
}

static enum qr_status read_ids(struct reader *reader, const json_t *object, const char *key,
                               struct qr_trace_request *request)
{
    const json_t *ids = json_object_get(object, key);

    if (!json_is_array(ids))
        return qr_fail(reader->err, QR_ERR_INVALID, "%s:%d: %s is no array", reader->name,
                       reader->line, key);
    request->first_id = reader->n_ids;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return qr_fail(reader->err, QR_ERR_INVALID,
                           "%s:%d: %s[%zu] is no whole number in [0, 2^31)", reader->name,
                           reader->line, key, i);
        QR_TRY(add_id(reader, (int32_t)json_integer_value(id)));
    }
    request->n_ids = reader->n_ids - request->first_id;
    return QR_OK;
}

struct json_keys {
    const char *arrival;
    double arrival_unit_ns;
    const char *prompt;
    const char *output;
    const char *ids;
};

static const struct json_keys mooncake_keys = {"timestamp", 1e6, "input_length", "output_length",
                                               "hash_ids"};
static const struct json_keys sharegpt_keys = {"arrival_time_ns", 1, "input_toks", "output_toks",
                                               "input_tok_ids"};

static enum qr_status read_object(struct reader *reader, const json_t *object,
                                  const struct json_keys *keys)
{
    struct qr_trace_request request = {0};
    double arrival = 0, n_prompt = 0, n_output = 0;

    QR_TRY(read_number(reader, object, keys->arrival,
                       (double)max_arrival_ns / keys->arrival_unit_ns, &arrival));
    QR_TRY(read_number(reader, object, keys->prompt, MAX_LENGTH, &n_prompt));
    QR_TRY(read_number(reader, object, keys->output, MAX_LENGTH, &n_output));
    QR_TRY(read_ids(reader, object, keys->ids, &request));
    request.arrival_ns = (int64_t)(arrival * keys->arrival_unit_ns);
    request.n_prompt = (int32_t)n_prompt;
    request.n_output = (int32_t)n_output;
    /* Token ids are the prompt itself. */
    if (reader->trace->format == QR_TRACE_SHAREGPT && request.n_ids < request.n_prompt)
        return qr_fail(reader->err, QR_ERR_INVALID, "%s:%d: %s has %d ids, and %s is %d",
                       reader->name, reader->line, keys->ids, request.n_ids, keys->prompt,
                       request.n_prompt);
    return add_request(reader, &request);
}

static enum qr_status read_json_line(struct reader *reader, const char *text, size_t n_bytes)
{
    const struct json_keys *keys =
        reader->trace->format == QR_TRACE_MOONCAKE ? &mooncake_keys : &sharegpt_keys;
    json_error_t why;
    json_t *object = json_loadb(text, n_bytes, 0, &why);

    if (!json_is_object(object)) {
        enum qr_status status =
            qr_fail(reader->err, QR_ERR_INVALID, "%s:%d: no JSON object: %s", reader->name,
                    reader->line, object == NULL ? why.text : "it is of another type");
        json_decref(object);
        return status;
    }
    enum qr_status status = read_object(reader, object, keys);
    json_decref(object);
    return status;
}

typedef enum qr_status (*read_line_fn)(struct reader *reader, const char *text, size_t n_bytes);

static enum qr_status read_csv_line(struct reader *reader, read_line_fn read_line, const char *text,
                                    size_t n_bytes)
{
    char line[CSV_LINE];

    if (n_bytes >= sizeof(line))
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s:%d: the line has %zu bytes; no line of this format is longer than %d",
                       reader->name, reader->line, n_bytes, CSV_LINE - 1);
    memcpy(line, text, n_bytes);
    line[n_bytes] = '\0';
    return read_line(reader, line, n_bytes);
}

/* The first line of a CSV names its columns. */
static enum qr_status read_lines(struct reader *reader, const char *text, size_t n_bytes,
                                 int32_t n_wanted)
{
    enum qr_trace_format format = reader->trace->format;
    bool is_csv = format == QR_TRACE_AZURE || format == QR_TRACE_LENGTHS;
    read_line_fn read_line = format == QR_TRACE_AZURE ? read_azure_line : read_lengths_line;
    const char *end = text + n_bytes;

    for (const char *next; text < end; text = next) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((newline != NULL ? newline : end) - text);
        next = newline != NULL ? newline + 1 : end;
        reader->line++;
        if (length == 0 || (is_csv && reader->line == 1))
            continue;
        QR_TRY(is_csv ? read_csv_line(reader, read_line, text, length)
                      : read_json_line(reader, text, length));
        if (n_wanted > 0 && reader->trace->n_requests == n_wanted)
            return QR_OK;
    }
    if (reader->trace->n_requests == 0)
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: it holds no request", reader->name);
    return QR_OK;
}

/* Requests with the lengths of lines drawn with repetition. */
static enum qr_status draw_requests(struct reader *reader, const struct qr_trace_options *options)
{
    struct qr_trace *trace = reader->trace;
    int32_t n_lines = trace->n_requests;
    int32_t n_drawn = options->n_requests > 0 ? options->n_requests : n_lines;
    struct qr_trace_request *lines = trace->requests;
    enum qr_status status = QR_OK;

    trace->requests = NULL;
    trace->n_requests = reader->request_capacity = 0;
    for (int32_t i = 0; i < n_drawn && status == QR_OK; i++) {
        double at = draw_uniform(options->seed, STREAM_SAMPLE, (uint32_t)i) * n_lines;
        status = add_request(reader, &lines[(int32_t)at]);
    }
    qr_free(lines);
    return status;
}

static int compare_arrivals(const void *a, const void *b)
{
    const struct qr_trace_request *left = a;
    const struct qr_trace_request *right = b;

    if (left->arrival_ns != right->arrival_ns)
        return left->arrival_ns < right->arrival_ns ? -1 : 1;
    return (left->n_prompt > right->n_prompt) - (left->n_prompt < right->n_prompt);
}

static bool is_ascending(const struct qr_trace *trace)
{
    for (int32_t i = 1; i < trace->n_requests; i++) {
        if (trace->requests[i].arrival_ns < trace->requests[i - 1].arrival_ns)
            return false;
    }
    return true;
}

static void set_arrivals(struct qr_trace *trace, const struct qr_trace_options *options)
{
    double now_s = 0;

    if (!is_ascending(trace))
        qsort(trace->requests, (size_t)trace->n_requests, sizeof(trace->requests[0]),
              compare_arrivals);
    int64_t first_ns = trace->requests[0].arrival_ns;
    for (int32_t i = 0; i < trace->n_requests; i++) {
        struct qr_trace_request *request = &trace->requests[i];
        request->arrival_ns -= first_ns;
        if (options->speed > 0)
            request->arrival_ns = (int64_t)((double)request->arrival_ns / options->speed);
        if (options->rate > 0) {
            now_s -= log(draw_uniform(options->seed, STREAM_ARRIVALS, (uint32_t)i)) / options->rate;
            request->arrival_ns = (int64_t)(now_s * 1e9);
        }
    }
}

static int32_t divided(int32_t length, int32_t divide)
{
    int32_t n_tokens = divide > 1 ? length / divide : length;

    return n_tokens < 1 ? 1 : n_tokens;
}

static void set_lengths(struct qr_trace *trace, const struct qr_trace_options *options)
{
    for (int32_t i = 0; i < trace->n_requests; i++) {
        struct qr_trace_request *request = &trace->requests[i];
        int32_t n_prompt = options->exchange ? request->n_output : request->n_prompt;
        int32_t n_output = options->exchange ? request->n_prompt : request->n_output;
        request->n_prompt = divided(n_prompt, options->divide);
        request->n_output = divided(n_output, options->divide);
        int32_t excess = request->n_prompt + request->n_output - options->context;
        if (options->context == 0 || excess <= 0)
            continue;
        int32_t shortest = options->context / 2;
        int32_t spare = request->n_prompt > shortest ? request->n_prompt - shortest : 0;
        request->n_prompt -= excess < spare ? excess : spare;
        request->n_output -= excess < spare ? 0 : excess - spare;
    }
}

static enum qr_status check_options(const char *name, enum qr_trace_format format,
                                    const struct qr_trace_options *options, struct qr_error *err)
{
    if (format == QR_TRACE_LENGTHS && !(options->rate > 0))
        return qr_fail(err, QR_ERR_INVALID, "%s: it has no arrival times; name a rate of arrivals",
                       name);
    QR_ASSERT(options->n_requests >= 0 && options->divide >= 0 && options->context >= 0);
    QR_ASSERT(options->context != 1 && options->speed >= 0 && options->rate >= 0);
    return QR_OK;
}

enum qr_status qr_trace_parse(const char *name, const char *text, size_t n_bytes,
                              enum qr_trace_format format, const struct qr_trace_options *options,
                              struct qr_trace *trace, struct qr_error *err)
{
    struct reader reader = {.name = name, .trace = trace, .err = err};
    bool draws = format == QR_TRACE_LENGTHS;

    *trace = (struct qr_trace){.format = format, .divide = options->divide, .seed = options->seed};
    enum qr_status status = check_options(name, format, options, err);
    if (status == QR_OK)
        status = read_lines(&reader, text, n_bytes, draws ? 0 : options->n_requests);
    if (status == QR_OK && draws)
        status = draw_requests(&reader, options);
    if (status != QR_OK) {
        qr_trace_free(trace);
        return status;
    }
    set_arrivals(trace, options);
    set_lengths(trace, options);
    return QR_OK;
}

enum qr_status qr_trace_read(const char *path, enum qr_trace_format format,
                             const struct qr_trace_options *options, struct qr_trace *trace,
                             struct qr_error *err)
{
    struct qr_mapped_file file;

    *trace = (struct qr_trace){0};
    QR_TRY(qr_mapped_file_open(path, &file, err));
    enum qr_status status =
        qr_trace_parse(path, (const char *)file.data, file.size, format, options, trace, err);
    qr_mapped_file_close(&file);
    return status;
}

void qr_trace_free(struct qr_trace *trace)
{
    qr_free(trace->requests);
    qr_free(trace->ids);
    *trace = (struct qr_trace){0};
}

/* Ids [first, end) of the stream that `which` names, in [low, high). */
static void draw_ids(uint64_t seed, uint32_t stream, uint64_t which, int32_t n_ids, int32_t low,
                     int32_t high, int32_t *ids)
{
    uint32_t range = (uint32_t)(high - low);
    struct qr_philox_block block = {{0}};

    for (int32_t i = 0; i < n_ids; i++) {
        if (i % 4 == 0)
            block = draw(seed, stream, which, (uint32_t)i / 4);
        ids[i] = low + (int32_t)(block.word[i % 4] % range);
    }
}

/* Blocks beyond those that the trace names are the request's own. */
static void draw_blocks(const struct qr_trace *trace, int32_t request, int32_t low, int32_t high,
                        int32_t *ids)
{
    const struct qr_trace_request *self = &trace->requests[request];
    int64_t divide = trace->divide > 1 ? trace->divide : 1;
    int32_t first = 0;

    for (int64_t block = 0; first < self->n_prompt; block++) {
        int64_t end = ((block + 1) * BLOCK_TOKENS + divide - 1) / divide;
        end = end < self->n_prompt ? end : self->n_prompt;
        bool is_named = block < self->n_ids;
        uint64_t which = is_named ? (uint64_t)trace->ids[self->first_id + block]
                                  : (uint64_t)block << 32 | (uint32_t)request;
        /* Equal blocks are equal whatever the seed. */
        draw_ids(is_named ? 0 : trace->seed, is_named ? STREAM_BLOCKS : STREAM_IDS, which,
                 (int32_t)end - first, low, high, ids + first);
        first = (int32_t)end;
    }
}

void qr_trace_prompt(const struct qr_trace *trace, int32_t request, int32_t low, int32_t high,
                     int32_t *ids)
{
    const struct qr_trace_request *self = &trace->requests[request];

    QR_ASSERT(request >= 0 && request < trace->n_requests && 0 <= low && low < high);
    switch (trace->format) {
    case QR_TRACE_MOONCAKE:
        draw_blocks(trace, request, low, high, ids);
        return;
    case QR_TRACE_SHAREGPT:
        for (int32_t i = 0; i < self->n_prompt; i++)
            ids[i] = low + (i < self->n_ids ? trace->ids[self->first_id + i] : 0) % (high - low);
        return;
    case QR_TRACE_AZURE:
    case QR_TRACE_LENGTHS:
        draw_ids(trace->seed, STREAM_IDS, (uint64_t)request, self->n_prompt, low, high, ids);
        return;
    }
}

int32_t qr_trace_max_tokens(const struct qr_trace *trace)
{
    int32_t longest = 0;

    for (int32_t i = 0; i < trace->n_requests; i++) {
        int32_t n_tokens = trace->requests[i].n_prompt + trace->requests[i].n_output;
        longest = n_tokens > longest ? n_tokens : longest;
    }
    return longest;
}

int32_t qr_trace_max_output(const struct qr_trace *trace)
{
    int32_t longest = 0;

    for (int32_t i = 0; i < trace->n_requests; i++) {
        int32_t n_tokens = trace->requests[i].n_output;
        longest = n_tokens > longest ? n_tokens : longest;
    }
    return longest;
}
