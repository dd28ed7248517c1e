/*
 * stream.h - the token ring: what the engine says of one request, on its way to
 * whoever asked.
 *
 * Producer: the engine thread. Consumer: one thread at a time (a completion-queue
 * thread of the server, or the command line). Each output of the request has two fixed
 * buffers, which swap under a lock that is held for a few instructions; when a back
 * buffer is full the engine pauses the request until the consumer has taken it (flow
 * control). Two owners, reference-counted.
 *
 * Wake-ups are batched: during a step the engine puts every stream that has news on
 * the ready stack of its wake group; at the end of the step it calls `post` once for
 * each group that has any and has not been posted yet.
 */
#ifndef QUIRE_RUNTIME_ENGINE_STREAM_H
#define QUIRE_RUNTIME_ENGINE_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/sampling/sampler.h"

struct qr_stream;

struct qr_wake_group {
    _Atomic(struct qr_stream *) ready; /* stack of streams with news */
    atomic_bool posted;
    /* Engine thread; must not block: makes the consumer call qr_wake_group_drain soon. */
    void (*post)(struct qr_wake_group *group);
};

enum qr_finish_reason {
    QR_FINISH_NONE,      /* not finished */
    QR_FINISH_STOP,      /* end-of-text, a stop token id or a stop string */
    QR_FINISH_LENGTH,    /* max_tokens, or the context is full */
    QR_FINISH_CANCELLED, /* qr_stream_cancel */
    QR_FINISH_DEADLINE,
    QR_FINISH_SHUTDOWN, /* the engine stopped first */
    QR_FINISH_ERROR,    /* see error */
};

/* Preemptions are those of the whole request so far, with all its outputs. */
struct qr_usage {
    int32_t n_prompt_tokens;
    int32_t n_output_tokens;
    int32_t n_cached_tokens; /* prompt tokens found in the prefix cache */
    int32_t n_swapped;       /* preemptions, by kind */
    int32_t n_recomputed;
    int32_t n_parked;
    int32_t n_pages; /* the most KV pages that one output held at one time */
};

/* Nanoseconds since the request was submitted; 0: never happened. */
struct qr_timings {
    int64_t queue_ns;       /* until first planned */
    int64_t first_token_ns; /* until the first output token */
    int64_t total_ns;       /* until the end */
};

struct qr_finish {
    enum qr_finish_reason reason;
    int32_t stop_string;   /* index of the stop string that matched, or -1 */
    int32_t stop_token_id; /* the token id that ended it, or -1 */
    uint64_t seed;         /* of this output (see qr_philox_output_seed) */
    double sum_logprob;    /* of the output tokens */
    struct qr_usage usage;
    struct qr_timings timings;
    struct qr_error error; /* of QR_FINISH_ERROR */
};

struct qr_token_event {
    bool is_prompt;   /* a scored prompt token; otherwise an output token */
    uint32_t n_bytes; /* of the chunk's text that came with this token */
    struct qr_sampled sampled;
};

/* What is new of one output. Valid until the next qr_stream_take of the same stream. */
struct qr_stream_chunk {
    int32_t output; /* in [0, n) of the request */
    int32_t n_tokens;
    const struct qr_token_event *tokens; /* [n_tokens] */
    const char *text;                    /* [n_text_bytes], whole UTF-8 characters */
    size_t n_text_bytes;
    const struct qr_finish *finish; /* not NULL: the output ends with this chunk */
    bool last;                      /* all outputs have ended: this is the stream's last chunk */
};

QR_BEGIN_DECLS

/*
 * Takes everything there is of one output, of each in turn; an empty chunk (no tokens,
 * no text, no finish) when there is nothing of any. A wake-up may stand for several.
 */
void qr_stream_take(struct qr_stream *stream, struct qr_stream_chunk *chunk);
/* Any thread. The engine frees the sequence's pages before its next step. */
void qr_stream_cancel(struct qr_stream *stream);
/* The consumer's own pointer, given at submit. */
void *qr_stream_owner(const struct qr_stream *stream);
void qr_stream_unref(struct qr_stream *stream); /* accepts NULL */

void qr_wake_group_init(struct qr_wake_group *group, void (*post)(struct qr_wake_group *group));
/*
 * Consumer side, after a post: calls `ready` for every stream with news. A stream on
 * the stack is kept alive by it. Once its last chunk was taken, it is not called for
 * any more.
 */
void qr_wake_group_drain(struct qr_wake_group *group,
                         void (*ready)(void *arg, struct qr_stream *stream), void *arg);

static inline bool qr_stream_chunk_is_empty(const struct qr_stream_chunk *chunk)
{
    return chunk->n_tokens == 0 && chunk->n_text_bytes == 0 && chunk->finish == NULL;
}

static inline int32_t qr_usage_preemptions(const struct qr_usage *usage)
{
    return usage->n_swapped + usage->n_recomputed + usage->n_parked;
}

const char *qr_finish_reason_name(enum qr_finish_reason reason); /* "stop", "length", ... */

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_STREAM_H */
