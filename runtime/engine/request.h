/*
 * request.h - one request for generated text, as the engine takes it.
 *
 * The server and the command line fill it in; qr_request_check says which field is
 * wrong. One block owns everything inside it.
 */
#ifndef QUIRE_RUNTIME_ENGINE_REQUEST_H
#define QUIRE_RUNTIME_ENGINE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "blockmgr/block_manager.h"
#include "runtime/sampling/sampling_params.h"
#include "runtime/sampling/stop_matcher.h"

enum {
    QR_MAX_STOP_TOKENS = 64,
    QR_MAX_TOKENS_TO_CONTEXT = 0,
    QR_MAX_WIDTH = 64,       /* sequences of one request: best_of, or beams */
    QR_TENANT_NAME_MAX = 64, /* bytes, the end included */
};

/* Beam search (docs/scheduling.md has how its sequences are scheduled). */
struct qr_beam_params {
    int32_t width;        /* 0: no beam search, the request samples */
    float length_penalty; /* score = sum of log-probabilities / length^length_penalty */
    bool early_stopping;  /* end once `width` hypotheses have ended, whatever the others promise */
};

struct qr_request {
    char request_id[64]; /* the caller's name for it; may be empty */
    int32_t *prompt_ids; /* [n_prompt], owned */
    int32_t n_prompt;
    struct qr_sampling_params sampling; /* its logit_bias is the array below */
    struct qr_logit_bias *logit_bias;   /* owned */
    int32_t max_tokens;                 /* QR_MAX_TOKENS_TO_CONTEXT: until the context is full */
    int32_t min_tokens; /* before that, no end-of-text and no stop token id may come */
    char *stop_strings[QR_MAX_STOP_STRINGS]; /* owned */
    int32_t n_stop_strings;
    int32_t stop_token_ids[QR_MAX_STOP_TOKENS];
    int32_t n_stop_token_ids;
    bool ignore_eos;
    bool include_stop;   /* the stop string that ended the text is part of the text */
    bool show_special;   /* special tokens appear in the text */
    bool score_prompt;   /* report the log-probability of every prompt token but the first */
    bool score_only;     /* with score_prompt: generate nothing */
    int64_t deadline_ns; /* of the monotonic clock; QR_TIME_NEVER: none */
    int32_t n;           /* outputs returned */
    int32_t best_of;     /* outputs sampled, of which the n best are returned; 0: n */
    struct qr_beam_params beam;
    int32_t priority;                /* in [-QR_MAX_PRIORITY, QR_MAX_PRIORITY]; higher is sooner */
    char tenant[QR_TENANT_NAME_MAX]; /* may be empty */
    char cache_salt[QR_MAX_SALT_BYTES]; /* [n_salt_bytes] any bytes */
    size_t n_salt_bytes;
    int64_t first_token_ns; /* wanted time until the first token; 0: none */
};

struct qr_request_limits {
    int32_t vocab_size;
    int32_t max_seq_tokens; /* prompt and output together */
    int32_t max_width;      /* sequences of one request, at most QR_MAX_WIDTH */
};

QR_BEGIN_DECLS

/* Defaults of every field, no prompt. NULL when memory is exhausted. */
struct qr_request *qr_request_create(void);
void qr_request_destroy(struct qr_request *request); /* accepts NULL */

/* Copy into the request. */
QR_MUST_CHECK enum qr_status qr_request_set_prompt(struct qr_request *request, const int32_t *ids,
                                                   size_t count);
QR_MUST_CHECK enum qr_status qr_request_add_stop_string(struct qr_request *request,
                                                        const char *text, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_request_add_stop_token(struct qr_request *request, int32_t id,
                                                       struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_request_add_logit_bias(struct qr_request *request, int32_t id,
                                                       float bias, struct qr_error *err);
/* QR_ERR_INVALID when there are more than QR_MAX_SALT_BYTES. */
QR_MUST_CHECK enum qr_status qr_request_set_salt(struct qr_request *request, const void *bytes,
                                                 size_t n_bytes, struct qr_error *err);
QR_MUST_CHECK enum qr_status qr_request_set_tenant(struct qr_request *request, const char *name,
                                                   size_t n_bytes, struct qr_error *err);

/* Sequences that the request can have at one time: beams, or best_of. */
int32_t qr_request_width(const struct qr_request *request);
/* The outputs are known only when all sequences have ended: best_of > n, or beams. */
bool qr_request_is_withheld(const struct qr_request *request);
/* Tokens of its longest sequence, the prompt included. */
int32_t qr_request_max_seq_tokens(const struct qr_request *request, int32_t max_seq_tokens);

/*
 * Checks every field against the limits. On QR_ERR_INVALID *field is the name of
 * the field at fault (as in quire.v1), a constant, and the message says what to do.
 */
QR_MUST_CHECK enum qr_status qr_request_check(const struct qr_request *request,
                                              const struct qr_request_limits *limits,
                                              const char **field, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_REQUEST_H */
