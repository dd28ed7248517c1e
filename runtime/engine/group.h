/*
 * group.h - what the engine knows of one accepted request: its sequences, and where it
 * stands.
 *
 * Created by the thread that submits, then owned by the engine thread. All memory is
 * taken at create: a step allocates nothing.
 *
 * The sequences begin as one, which computes the prompt; the others are forked from it
 * when its first token is sampled, and share its KV pages. So a request is admitted,
 * paused, cancelled and ended as one.
 */
#ifndef QUIRE_RUNTIME_ENGINE_GROUP_H
#define QUIRE_RUNTIME_ENGINE_GROUP_H

#include "runtime/engine/generation.h"
#include "runtime/engine/request.h"
#include "runtime/models/model_config.h"

/* Beam search over the sequences of a group (beam.c). */
struct qr_beam_search {
    int32_t n_ranked;              /* tokens that are kept of each row of logits */
    struct qr_generation **active; /* [width] best first */
    int32_t n_active;
    int32_t n_ready;              /* of these, how many have their row of logits */
    struct qr_generation **ended; /* [width] the best that have ended, in the order they did */
    int32_t n_ended;
    struct qr_generation **idle; /* [2 * width] */
    int32_t n_idle;
};

struct qr_group {
    struct qr_request *request; /* owned */
    struct qr_stream *stream;   /* one reference, until all outputs are finished */
    struct qr_group *next;      /* in the inbox; later, in the list of those that failed */
    const struct qr_tokenizer *tokenizer;
    int32_t tenant; /* its number; -1 until the engine thread has it */

    int32_t width;              /* sequences at one time, at most */
    struct qr_generation *seqs; /* [n_seqs] output i is seqs[i]; of a beam search, any of them */
    int32_t n_seqs;
    int32_t n_open;  /* sequences that the scheduler knows */
    bool forked;     /* the others have been made of the first */
    bool withheld;   /* see qr_request_is_withheld */
    bool delivering; /* all sequences have ended; the outputs are being said */
    bool failed;     /* it ends when the step is over, with `error` */
    struct qr_error error;
    int32_t n_done;                /* outputs that have been finished */
    struct qr_generation **chosen; /* [n] of withheld ones, which are the outputs, best first */
    struct qr_beam_search beam;

    int32_t max_tokens; /* prompt and output */
    int32_t *stop_ids;  /* [n_stop_ids] that end an output, and are banned before min_tokens */
    int32_t n_stop_ids;
    char *text;        /* [2][text_bytes] scratch for one token's text */
    size_t text_bytes; /* most that one token, or the end, can release */

    int32_t live_index;   /* in the engine's list of groups */
    bool paused;          /* its reader is slow */
    bool queued;          /* counts against max_queue: never planned yet */
    int64_t queue_tokens; /* that it counts for there */
    int64_t submit_ns;
    int64_t first_plan_ns;
    int64_t first_token_ns;
    struct qr_usage usage;        /* of the sequences that the scheduler no longer knows */
    enum qr_finish_reason reason; /* of the outputs that are finished: the highest */
};

struct qr_group_context {
    const struct qr_tokenizer *tokenizer;
    const struct qr_model_config *config;
    int32_t max_seq_tokens;
    struct qr_bell *bell;
    struct qr_wake_group *group;
    void *owner;
};

QR_BEGIN_DECLS

/* Takes over `request` on QR_OK only. *stream is the consumer's reference. */
QR_MUST_CHECK enum qr_status qr_group_create(const struct qr_group_context *context,
                                             struct qr_request *request, int64_t now_ns,
                                             struct qr_group **out, struct qr_stream **stream);
/* Accepts NULL. All outputs must have been finished, or the stream never handed out. */
void qr_group_destroy(struct qr_group *group);

/* The sequence has said nothing yet: its detokenizer and stop matcher as at the beginning. */
void qr_group_begin_text(const struct qr_group *group, struct qr_generation *seq);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_GROUP_H */
