/* request.c - see request.h for the contract. */
#include "runtime/engine/request.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

struct qr_request *qr_request_create(void)
{
    struct qr_request *request = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*request));
    if (request == NULL)
        return NULL;
    qr_sampling_params_default(&request->sampling);
    request->deadline_ns = QR_TIME_NEVER;
    return request;
}

void qr_request_destroy(struct qr_request *request)
{
    if (request == NULL)
        return;
    for (int32_t i = 0; i < request->n_stop_strings; i++)
        qr_free(request->stop_strings[i]);
    qr_free(request->logit_bias);
    qr_free(request->prompt_ids);
    qr_free(request);
}

enum qr_status qr_request_set_prompt(struct qr_request *request, const int32_t *ids, size_t count)
{
    if (count > INT32_MAX)
        return QR_ERR_INVALID;
    int32_t *copy = qr_malloc(QR_ARENA_REQUEST, count * sizeof(*ids));
    if (copy == NULL)
        return QR_ERR_NOMEM;
    if (count > 0)
        memcpy(copy, ids, count * sizeof(*ids));
    qr_free(request->prompt_ids);
    request->prompt_ids = copy;
    request->n_prompt = (int32_t)count;
    return QR_OK;
}

enum qr_status qr_request_add_stop_string(struct qr_request *request, const char *text,
                                          struct qr_error *err)
{
    size_t n_bytes = strlen(text);

    if (request->n_stop_strings == QR_MAX_STOP_STRINGS)
        return qr_fail(err, QR_ERR_INVALID, "more than %d stop strings", QR_MAX_STOP_STRINGS);
    if (n_bytes == 0 || n_bytes > QR_MAX_STOP_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "a stop string of %zu bytes; 1 to %d are allowed",
                       n_bytes, QR_MAX_STOP_BYTES);
    char *copy = qr_strdup(QR_ARENA_REQUEST, text);
    if (copy == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    request->stop_strings[request->n_stop_strings++] = copy;
    return QR_OK;
}

enum qr_status qr_request_add_stop_token(struct qr_request *request, int32_t id,
                                         struct qr_error *err)
{
    if (request->n_stop_token_ids == QR_MAX_STOP_TOKENS)
        return qr_fail(err, QR_ERR_INVALID, "more than %d stop token ids", QR_MAX_STOP_TOKENS);
    request->stop_token_ids[request->n_stop_token_ids++] = id;
    return QR_OK;
}

enum qr_status qr_request_add_logit_bias(struct qr_request *request, int32_t id, float bias,
                                         struct qr_error *err)
{
    int32_t count = request->sampling.n_logit_bias;

    if (count == QR_MAX_LOGIT_BIAS)
        return qr_fail(err, QR_ERR_INVALID, "more than %d biased tokens", QR_MAX_LOGIT_BIAS);
    if ((count & (count - 1)) == 0) { /* full at every power of two: double it */
        size_t capacity = count == 0 ? 1 : (size_t)count * 2;
        struct qr_logit_bias *grown =
            qr_realloc(QR_ARENA_REQUEST, request->logit_bias, capacity * sizeof(*grown));
        if (grown == NULL)
            return qr_fail(err, QR_ERR_NOMEM, "out of memory");
        request->logit_bias = grown;
        request->sampling.logit_bias = grown;
    }
    request->logit_bias[count] = (struct qr_logit_bias){id, bias};
    request->sampling.n_logit_bias = count + 1;
    return QR_OK;
}

static enum qr_status check_prompt(const struct qr_request *request,
                                   const struct qr_request_limits *limits, const char **field,
                                   struct qr_error *err)
{
    *field = "prompt";
    if (request->n_prompt < 1)
        return qr_fail(err, QR_ERR_INVALID, "prompt is empty; it needs at least one token");
    int32_t room = request->score_only ? 0 : 1;
    if (request->n_prompt > limits->max_seq_tokens - room)
        return qr_fail(err, QR_ERR_INVALID,
                       "prompt has %d tokens; the context holds %d, output included",
                       request->n_prompt, limits->max_seq_tokens);
    for (int32_t i = 0; i < request->n_prompt; i++) {
        if (request->prompt_ids[i] < 0 || request->prompt_ids[i] >= limits->vocab_size)
            return qr_fail(err, QR_ERR_INVALID,
                           "prompt token %d has id %d; the vocabulary has ids 0 to %d", i,
                           request->prompt_ids[i], limits->vocab_size - 1);
    }
    return QR_OK;
}

static enum qr_status check_stopping(const struct qr_request *request,
                                     const struct qr_request_limits *limits, const char **field,
                                     struct qr_error *err)
{
    *field = "max_tokens";
    if (request->max_tokens < 0)
        return qr_fail(err, QR_ERR_INVALID, "max_tokens is %d; it must not be negative",
                       request->max_tokens);
    *field = "min_tokens";
    if (request->min_tokens < 0)
        return qr_fail(err, QR_ERR_INVALID, "min_tokens is %d; it must not be negative",
                       request->min_tokens);
    if (request->max_tokens != QR_MAX_TOKENS_TO_CONTEXT &&
        request->min_tokens > request->max_tokens)
        return qr_fail(err, QR_ERR_INVALID, "min_tokens is %d, more than max_tokens (%d)",
                       request->min_tokens, request->max_tokens);
    *field = "stop_token_ids";
    for (int32_t i = 0; i < request->n_stop_token_ids; i++) {
        int32_t id = request->stop_token_ids[i];
        if (id < 0 || id >= limits->vocab_size)
            return qr_fail(err, QR_ERR_INVALID, "stop token id %d; the vocabulary has ids 0 to %d",
                           id, limits->vocab_size - 1);
    }
    *field = "stop";
    for (int32_t i = 0; i < request->n_stop_strings; i++) {
        if (!qr_utf8_is_valid(request->stop_strings[i], strlen(request->stop_strings[i])))
            return qr_fail(err, QR_ERR_INVALID, "stop string %d is not valid UTF-8", i);
    }
    return QR_OK;
}

enum qr_status qr_request_check(const struct qr_request *request,
                                const struct qr_request_limits *limits, const char **field,
                                struct qr_error *err)
{
    QR_TRY(check_prompt(request, limits, field, err));
    QR_TRY(check_stopping(request, limits, field, err));
    QR_TRY(qr_sampling_params_check(&request->sampling, limits->vocab_size, field, err));
    *field = NULL;
    return QR_OK;
}
