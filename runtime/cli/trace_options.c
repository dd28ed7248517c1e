/* trace_options.c - see trace_options.h for the contract. */
#include "runtime/cli/trace_options.h"

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
