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
#include "runtime/sampling/sampling_params.h"
#include "runtime/sampling/stop_matcher.h"

enum { QR_MAX_STOP_TOKENS = 64, QR_MAX_TOKENS_TO_CONTEXT = 0 };

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
};

struct qr_request_limits {
    int32_t vocab_size;
    int32_t max_seq_tokens; /* prompt and output together */
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

/*
 * Checks every field against the limits. On QR_ERR_INVALID *field is the name of
 * the field at fault (as in quire.v1), a constant, and the message says what to do.
 */
QR_MUST_CHECK enum qr_status qr_request_check(const struct qr_request *request,
                                              const struct qr_request_limits *limits,
                                              const char **field, struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_REQUEST_H */
