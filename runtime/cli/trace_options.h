/*
 * trace_options.h - the options that say which traffic a benchmark replays.
 *
 * Rows for a command's table, written into a struct qr_trace_arguments.
 */
#ifndef QUIRE_RUNTIME_CLI_TRACE_OPTIONS_H
#define QUIRE_RUNTIME_CLI_TRACE_OPTIONS_H

#include "runtime/bench/trace.h"
#include "runtime/cli/options.h"

struct qr_trace_arguments {
    const char *path;
    int32_t format; /* enum qr_trace_format */
    int32_t n_requests;
    int32_t divide;
    int32_t context;
    bool exchange;
    float speed;
    float rate;
    uint64_t seed;
};

/* clang-format off */
#define QR_TRACE_OPTION_ROWS(t)                                                                   \
    {"trace", QR_OPTION_STRING, "FILE", &(t)->path, 0, 0,                                         \
     "recorded traffic; needed", NULL},                                                           \
    {"trace-format", QR_OPTION_CHOICE, "azure|mooncake|sharegpt|lengths", &(t)->format, 0, 0,     \
     "Azure 2023 CSV, Mooncake JSON lines, ShareGPT JSON lines with token ids, CSV of prompt "    \
     "and output lengths; default lengths", NULL},                                                \
    {"requests", QR_OPTION_INT, "N", &(t)->n_requests, 0, 1 << 24,                                \
     "the first N of the trace; of lengths: drawn from it; default 0: all", NULL},                \
    {"divide-lengths", QR_OPTION_INT, "N", &(t)->divide, 1, 1 << 16,                              \
     "prompts and outputs N times as short, at least 1 token; default 1", NULL},                  \
    {"exchange-lengths", QR_OPTION_FLAG, NULL, &(t)->exchange, 0, 0,                              \
     "prompts as long as the recorded outputs, and outputs as the prompts", NULL},                \
    {"trace-context", QR_OPTION_INT, "TOKENS", &(t)->context, 0, 1 << 24,                         \
     "prompt and output together are cut to this; default 0: not", NULL},                         \
    {"speed", QR_OPTION_FLOAT, "X", &(t)->speed, 0, 1e6,                                          \
     "arrivals come X times as fast as recorded; default 1", NULL},                               \
    {"rate", QR_OPTION_FLOAT, "PER_SECOND", &(t)->rate, 0, 1e6,                                   \
     "Poisson arrivals, so many a second, instead of the recorded; default 0: recorded", NULL},   \
    {"seed", QR_OPTION_UINT64, "N", &(t)->seed, 0, 0,                                             \
     "of what is drawn; default 1", NULL}
/* clang-format on */

QR_BEGIN_DECLS

void qr_trace_arguments_default(struct qr_trace_arguments *arguments);
/* The trace that the arguments name, with seed + `run`. See qr_trace_read. */
QR_MUST_CHECK enum qr_status qr_trace_arguments_read(const struct qr_trace_arguments *arguments,
                                                     int32_t run, struct qr_trace *trace,
                                                     struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_TRACE_OPTIONS_H */
