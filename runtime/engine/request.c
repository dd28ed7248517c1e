/* request.c - see request.h for the contract. */
#include "runtime/engine/request.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "scheduler/scheduler.h"

#define MAX_LENGTH_PENALTY 10.0f
#define MAX_FIRST_TOKEN_NS (86400 * QR_NS_PER_SEC)

struct qr_request *qr_request_create(void)
{
    struct qr_request *request = qr_calloc(QR_ARENA_REQUEST, 1, sizeof(*request));
    if (request == NULL)
        return NULL;
    qr_sampling_params_default(&request->sampling);
    request->deadline_ns = QR_TIME_NEVER;
    request->n = 1;
    request->beam.length_penalty = 1;
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

enum qr_status qr_request_set_salt(struct qr_request *request, const void *bytes, size_t n_bytes,
                                   struct qr_error *err)
{
    if (n_bytes > QR_MAX_SALT_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "cache_salt has %zu bytes; at most %d are allowed",
                       n_bytes, QR_MAX_SALT_BYTES);
    if (n_bytes > 0)
        memcpy(request->cache_salt, bytes, n_bytes);
    request->n_salt_bytes = n_bytes;
    return QR_OK;
}

enum qr_status qr_request_set_tenant(struct qr_request *request, const char *name, size_t n_bytes,
                                     struct qr_error *err)
{
    if (n_bytes >= QR_TENANT_NAME_MAX)
        return qr_fail(err, QR_ERR_INVALID, "tenant has %zu bytes; at most %d are allowed", n_bytes,
                       QR_TENANT_NAME_MAX - 1);
    if (n_bytes > 0)
        memcpy(request->tenant, name, n_bytes);
    request->tenant[n_bytes] = '\0';
    if (strlen(request->tenant) != n_bytes)
        return qr_fail(err, QR_ERR_INVALID, "tenant holds U+0000, which no name can have");
    return QR_OK;
}

int32_t qr_request_width(const struct qr_request *request)
{
    if (request->beam.width > 0)
        return request->beam.width;
    return request->best_of > request->n ? request->best_of : request->n;
}

bool qr_request_is_withheld(const struct qr_request *request)
{
    return request->beam.width > 0 || request->best_of > request->n;
}

int32_t qr_request_max_seq_tokens(const struct qr_request *request, int32_t max_seq_tokens)
{
    if (request->score_only)
        return request->n_prompt;
    int32_t room = max_seq_tokens - request->n_prompt;
    if (request->max_tokens == QR_MAX_TOKENS_TO_CONTEXT || request->max_tokens > room)
        return max_seq_tokens;
    return request->n_prompt + request->max_tokens;
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

/* The beam is the search's own; what the sampler would do at random has no place in it. */
static enum qr_status check_beam(const struct qr_request *request,
                                 const struct qr_request_limits *limits, const char **field,
                                 struct qr_error *err)
{
    const struct qr_beam_params *beam = &request->beam;
    const struct qr_sampling_params *sampling = &request->sampling;

    *field = "beam_width";
    if (beam->width > limits->max_width)
        return qr_fail(err, QR_ERR_INVALID, "beam_width is %d; this server runs at most %d",
                       beam->width, limits->max_width);
    *field = "length_penalty";
    if (!(fabsf(beam->length_penalty) <= MAX_LENGTH_PENALTY))
        return qr_fail(err, QR_ERR_INVALID, "length_penalty is %g; it must be in [-10, 10]",
                       (double)beam->length_penalty);
    *field = "best_of";
    if (request->best_of != 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "best_of does not go with beam search, which returns its n best anyway");
    *field = "stop";
    if (request->n_stop_strings > 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "stop strings do not go with beam search; use stop_token_ids");
    *field = "temperature";
    if (sampling->temperature != 0 && sampling->temperature != 1)
        return qr_fail(err, QR_ERR_INVALID,
                       "temperature is %g, but beam search does not sample: leave it out",
                       (double)sampling->temperature);
    *field = sampling->top_k != 0 ? "top_k" : sampling->top_p != 1 ? "top_p" : "min_p";
    if (sampling->top_k != 0 || sampling->top_p != 1 || sampling->min_p != 0)
        return qr_fail(err, QR_ERR_INVALID, "%s is set, but beam search does not sample", *field);
    return QR_OK;
}

static enum qr_status check_outputs(const struct qr_request *request,
                                    const struct qr_request_limits *limits, const char **field,
                                    struct qr_error *err)
{
    int32_t most = request->beam.width > 0 ? request->beam.width : limits->max_width;

    *field = "beam_width";
    if (request->beam.width < 0)
        return qr_fail(err, QR_ERR_INVALID, "beam_width is %d; it must be at least 1",
                       request->beam.width);
    *field = "n";
    if (request->n < 1 || request->n > most)
        return qr_fail(err, QR_ERR_INVALID, "n is %d; it must be in [1, %d]", request->n, most);
    if (request->score_only && (qr_request_width(request) > 1 || request->beam.width > 0))
        return qr_fail(err, QR_ERR_INVALID,
                       "max_tokens is 0, so nothing is generated: there cannot be several outputs");
    if (request->beam.width > 0)
        return check_beam(request, limits, field, err);
    *field = "best_of";
    if (request->best_of != 0 && (request->best_of < request->n || request->best_of > most))
        return qr_fail(err, QR_ERR_INVALID, "best_of is %d; it must be in [%d, %d]",
                       request->best_of, request->n, most);
    return QR_OK;
}

static enum qr_status check_scheduling(const struct qr_request *request, const char **field,
                                       struct qr_error *err)
{
    *field = "priority";
    if (request->priority < -QR_MAX_PRIORITY || request->priority > QR_MAX_PRIORITY)
        return qr_fail(err, QR_ERR_INVALID, "priority is %d; it must be in [-%d, %d]",
                       request->priority, QR_MAX_PRIORITY, QR_MAX_PRIORITY);
    *field = "tenant";
    if (!qr_utf8_is_valid(request->tenant, strlen(request->tenant)))
        return qr_fail(err, QR_ERR_INVALID, "tenant is not valid UTF-8");
    *field = "first_token_objective";
    if (request->first_token_ns < 0 || request->first_token_ns > MAX_FIRST_TOKEN_NS)
        return qr_fail(err, QR_ERR_INVALID,
                       "first_token_objective is %g s; it must be above 0 and at most a day",
                       (double)request->first_token_ns / 1e9);
    *field = NULL;
    return QR_OK;
}

enum qr_status qr_request_check(const struct qr_request *request,
                                const struct qr_request_limits *limits, const char **field,
                                struct qr_error *err)
{
    QR_TRY(check_prompt(request, limits, field, err));
    QR_TRY(check_stopping(request, limits, field, err));
    QR_TRY(qr_sampling_params_check(&request->sampling, limits->vocab_size, field, err));
    QR_TRY(check_outputs(request, limits, field, err));
    QR_TRY(check_scheduling(request, field, err));
    *field = NULL;
    return QR_OK;
}
