/*
 * trace.h - recorded traffic of LLM services, as requests for a benchmark: when each
 * arrives, how long its prompt and its output are, and the ids of its prompt.
 *
 * Formats:
 *   azure     CSV TIMESTAMP,ContextTokens,GeneratedTokens (Azure LLM inference trace 2023)
 *   mooncake  JSON lines {timestamp (ms), input_length, output_length, hash_ids}; a hash id
 *             stands for a block of 512 prompt tokens, equal ids are equal blocks
 *             (Qin et al., Mooncake, FAST 2025)
 *   sharegpt  JSON lines {input_toks, output_toks, arrival_time_ns, input_tok_ids}
 *   lengths   CSV num_prefill_tokens,num_decode_tokens,...: a distribution, from which
 *             requests are drawn
 * Single-threaded while it is read, immutable afterwards.
 */
#ifndef QUIRE_RUNTIME_BENCH_TRACE_H
#define QUIRE_RUNTIME_BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum qr_trace_format {
    QR_TRACE_AZURE,
    QR_TRACE_MOONCAKE,
    QR_TRACE_SHAREGPT,
    QR_TRACE_LENGTHS,
};

/* Zero is the default of every field: the trace as it was recorded. */
struct qr_trace_options {
    int32_t n_requests; /* the first so many; 0: all. Of lengths: drawn, 0: as many as there are */
    int32_t divide;     /* lengths are divided by this, and are at least 1; 0 and 1: not */
    bool exchange;      /* prompts take the lengths of the outputs and the other way round: long
                           answers to short questions. Not of sharegpt, which has the prompts */
    int32_t context;    /* prompt and output together at most, at least 2; 0: no bound. The
                           prompt gives way first, down to half of it, then the output */
    double speed;       /* arrivals come so many times as fast; 0: as recorded */
    double rate;        /* Poisson arrivals a second instead of the recorded; 0: as recorded;
                           of lengths: needed */
    uint64_t seed;      /* of what is drawn, and of made-up ids */
};

struct qr_trace_request {
    int64_t arrival_ns; /* from the beginning of the trace; they ascend */
    int32_t n_prompt;   /* tokens, at least 1 */
    int32_t n_output;   /* tokens, at least 1 */
    int32_t first_id;   /* private: into the trace's ids */
    int32_t n_ids;      /* private */
};

struct qr_trace {
    enum qr_trace_format format;
    int32_t n_requests;
    struct qr_trace_request *requests;
    int32_t divide; /* private, as the following */
    uint64_t seed;
    int32_t *ids; /* hash ids or token ids of all requests */
};

QR_BEGIN_DECLS

/* "azure", "mooncake", "sharegpt" or "lengths". */
QR_MUST_CHECK enum qr_status qr_trace_format_parse(const char *name, enum qr_trace_format *format,
                                                   struct qr_error *err);
const char *qr_trace_format_name(enum qr_trace_format format);

/*
 * On QR_OK *trace has at least one request and is freed by qr_trace_free. Errors name the
 * file, the line and the value; *trace is zeroed then.
 */
QR_MUST_CHECK enum qr_status qr_trace_read(const char *path, enum qr_trace_format format,
                                           const struct qr_trace_options *options,
                                           struct qr_trace *trace, struct qr_error *err);
/* As qr_trace_read, of a text in memory; `name` is what errors call it. */
QR_MUST_CHECK enum qr_status qr_trace_parse(const char *name, const char *text, size_t n_bytes,
                                            enum qr_trace_format format,
                                            const struct qr_trace_options *options,
                                            struct qr_trace *trace, struct qr_error *err);
void qr_trace_free(struct qr_trace *trace); /* accepts a zeroed one */

/*
 * Writes the ids of a request's prompt, each in [low, high), to ids[n_prompt]. The same in
 * every call. Recorded ids are taken modulo the range. Those of a Mooncake block are a
 * function of its hash id. Where a trace has no ids, they are drawn for each request, so
 * that two share their first page only by an accident of 1 in (high - low)^page_size.
 */
void qr_trace_prompt(const struct qr_trace *trace, int32_t request, int32_t low, int32_t high,
                     int32_t *ids);
/* The longest prompt and output together, and the longest output. */
int32_t qr_trace_max_tokens(const struct qr_trace *trace);
int32_t qr_trace_max_output(const struct qr_trace *trace);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_TRACE_H */
