/*
 * generation.h - what the engine knows of one accepted request: its tokens, the text
 * they have become, and where it stands.
 *
 * Created by the thread that submits, then owned by the engine thread. All memory is
 * taken at create: a step allocates nothing.
 */
#ifndef QUIRE_RUNTIME_ENGINE_GENERATION_H
#define QUIRE_RUNTIME_ENGINE_GENERATION_H

#include "runtime/engine/request.h"
#include "runtime/engine/stream_producer.h"
#include "runtime/models/model_config.h"
#include "runtime/sampling/sampler.h"
#include "runtime/sampling/stop_matcher.h"
#include "runtime/tokenizer/tokenizer.h"

struct qr_generation {
    struct qr_request *request; /* owned */
    struct qr_stream *stream;   /* one reference, until finish */
    struct qr_generation *next; /* in the inbox */
    int32_t slot;               /* in the scheduler, -1 before it is known there */
    int32_t live_index;         /* in the engine's list of live sequences */
    bool paused;                /* its reader is slow */
    bool queued;                /* counts against max_queue: never planned yet */

    int32_t *tokens; /* [max_tokens_total] prompt, then output */
    int32_t n_tokens;
    int32_t max_tokens_total;
    int32_t
        n_scored; /* prompt tokens whose log-probability has been reported, the first included */

    int32_t *banned; /* [n_banned] ids that may not come before min_tokens */
    int32_t n_banned;
    struct qr_detokenizer detokenizer;
    struct qr_stop_matcher stop_matcher;
    char *text; /* [text_capacity] scratch for one token's text */

    int64_t submit_ns;
    int64_t first_plan_ns;
    int64_t first_token_ns;
    int32_t peak_pages;
};

struct qr_generation_context {
    const struct qr_tokenizer *tokenizer;
    const struct qr_model_config *config;
    int32_t max_seq_tokens;
    struct qr_bell *bell;
    struct qr_wake_group *group;
    void *owner;
};

QR_BEGIN_DECLS

/* Takes over `request` on QR_OK only. *stream is the consumer's reference. */
QR_MUST_CHECK enum qr_status qr_generation_create(const struct qr_generation_context *context,
                                                  struct qr_request *request, int64_t now_ns,
                                                  struct qr_generation **out,
                                                  struct qr_stream **stream);
/* Accepts NULL. The stream must have been finished, or never handed out. */
void qr_generation_destroy(struct qr_generation *seq);

int32_t qr_generation_n_output(const struct qr_generation *seq);

/* Reports the log-probability of prompt token number n_scored. */
void qr_generation_push_scored(struct qr_generation *seq, const struct qr_sampled *scored);

/*
 * Takes one sampled token: appends it, turns it into text, looks for stops and puts
 * it on the stream. True when the sequence ends; *finish then has reason,
 * stop_string and stop_token_id, and the stream awaits qr_generation_finish.
 */
bool qr_generation_push_token(struct qr_generation *seq, const struct qr_model_config *config,
                              const struct qr_sampled *sampled, int64_t now_ns,
                              struct qr_finish *finish);

/*
 * Says the last words on the stream: fills in usage and timings, releases held text
 * unless a stop string matched. The sequence is then only good for destroy.
 */
void qr_generation_finish(struct qr_generation *seq, struct qr_finish *finish,
                          int32_t n_preemptions, int64_t now_ns);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_GENERATION_H */
