/* trace_options.c - see trace_options.h for the contract. */
#include "runtime/cli/trace_options.h"

#include <stdlib.h>

void qr_trace_arguments_default(struct qr_trace_arguments *arguments)
{
    *arguments = (struct qr_trace_arguments){
        .format = QR_TRACE_LENGTHS,
        .divide = 1,
        .speed = 1,
        .seed = 1,
    };
}

enum qr_status qr_trace_arguments_read(const struct qr_trace_arguments *arguments, int32_t run,
                                       struct qr_trace *trace, struct qr_error *err)
{
    const struct qr_trace_options options = {
        .n_requests = arguments->n_requests,
        .divide = arguments->divide,
        .exchange = arguments->exchange,
        .context = arguments->context,
        .speed = arguments->speed,
        .rate = arguments->rate,
        .seed = arguments->seed + (uint64_t)run,
    };

    if (arguments->path == NULL)
        return qr_fail(err, QR_ERR_INVALID, "--trace is needed: the file with recorded traffic");
    if (arguments->context == 1)
        return qr_fail(err, QR_ERR_INVALID,
                       "--trace-context is 1; a request has 2 tokens at least");
    return qr_trace_read(arguments->path, (enum qr_trace_format)arguments->format, &options, trace,
                         err);
}

enum qr_status qr_parse_overcommits(const char *text, double *overcommits, int32_t capacity,
                                    int32_t *count, struct qr_error *err)
{
    const char *at = text;

    for (*count = 0; *at != '\0'; (*count)++) {
        char *end;
        double value = strtod(at, &end);
        if (end == at || (*end != ',' && *end != '\0') || !(value >= 0.1) || value > 100 ||
            *count == capacity)
            return qr_fail(err, QR_ERR_INVALID,
                           "--overcommit: \"%s\" is no list of at most %d numbers from 0.1 to 100",
                           text, capacity);
        overcommits[*count] = value;
        at = *end == ',' ? end + 1 : end;
    }
    return QR_OK;
}
