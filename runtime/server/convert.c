/* convert.c - see convert.h for the contract. */
#include "runtime/server/convert.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/utf8.h"

/* Every number up to 2^53 survives a client that keeps numbers as doubles. */
#define SEED_MASK ((UINT64_C(1) << 53) - 1)

const char *qr_convert_field_path(const char *name)
{
    static const char *const paths[] = {
        "sampling.temperature",
        "sampling.top_k",
        "sampling.top_p",
        "sampling.min_p",
        "sampling.repetition_penalty",
        "sampling.presence_penalty",
        "sampling.frequency_penalty",
        "sampling.logit_bias",
        "sampling.seed",
        "sampling.logprobs",
        "stopping.max_tokens",
        "stopping.min_tokens",
        "stopping.stop",
        "stopping.stop_token_ids",
        "beam_search.beam_width",
        "beam_search.length_penalty",
    };

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (strcmp(strchr(paths[i], '.') + 1, name) == 0)
            return paths[i];
    }
    return name;
}

enum qr_status qr_convert_text(const ProtobufCBinaryData *text, const char *name,
                               const char **field, struct qr_error *err)
{
    size_t valid = qr_utf8_valid_prefix((const char *)text->data, text->len);

    if (valid == text->len)
        return QR_OK;
    *field = name;
    return qr_fail(err, QR_ERR_INVALID, "%s is not valid UTF-8 at byte %zu (0x%02x)", name, valid,
                   text->data[valid]);
}

/* A number that the engine keeps in 31 bits. */
static enum qr_status to_int32(uint32_t value, const char *name, int32_t *out, const char **field,
                               struct qr_error *err)
{
    if (value <= INT32_MAX) {
        *out = (int32_t)value;
        return QR_OK;
    }
    *field = name;
    return qr_fail(err, QR_ERR_INVALID, "%s is %u; it must be below 2147483648", name, value);
}

static enum qr_status convert_token_ids(const Quire__V1__TokenIds *message,
                                        struct qr_request *request, const char **field,
                                        struct qr_error *err)
{
    int32_t ignored = 0;

    for (size_t i = 0; i < message->n_ids; i++)
        QR_TRY(to_int32(message->ids[i], "token_ids", &ignored, field, err));
    /* The same bits, now that all are known to be in range. */
    return qr_request_set_prompt(request, (const int32_t *)message->ids, message->n_ids);
}

static enum qr_status convert_text_prompt(const Quire__V1__GenerateRequest *message,
                                          const struct qr_tokenizer *tokenizer,
                                          int32_t max_seq_tokens, struct qr_request *request,
                                          const char **field, struct qr_error *err)
{
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    struct qr_encode_options options = {
        .add_bos = message->has_add_bos_case == 0 || message->add_bos,
        .parse_special = message->has_parse_special_case != 0 && message->parse_special,
    };
    size_t most_bytes = (size_t)max_seq_tokens * qr_tokenizer_max_push_bytes(tokenizer);

    QR_TRY(qr_convert_text(&message->text, "text", field, err));
    if (message->text.len > most_bytes) {
        *field = "text";
        return qr_fail(err, QR_ERR_INVALID,
                       "text has %zu bytes, more than the %d tokens of the context can hold",
                       message->text.len, max_seq_tokens);
    }
    enum qr_status status = qr_tokenizer_encode(tokenizer, (const char *)message->text.data,
                                                message->text.len, &options, &ids, err);
    if (status == QR_OK)
        status = qr_request_set_prompt(request, ids.ids, ids.count);
    if (status == QR_ERR_INVALID)
        *field = "text";
    qr_token_ids_free(&ids);
    return status;
}

static enum qr_status convert_preset(Quire__V1__SamplingPreset preset,
                                     struct qr_sampling_params *params, const char **field,
                                     struct qr_error *err)
{
    static const char *const names[] = {NULL, "factual", "chat", "creative", "code"};

    if (preset == QUIRE__V1__SAMPLING_PRESET__SAMPLING_PRESET_UNSPECIFIED)
        return QR_OK;
    if (preset > 0 && (size_t)preset < sizeof(names) / sizeof(names[0]) &&
        qr_sampling_preset(names[preset], params))
        return QR_OK;
    *field = "sampling.preset";
    return qr_fail(err, QR_ERR_INVALID, "sampling.preset is %d, which names no preset",
                   (int)preset);
}

static enum qr_status convert_logit_bias(const Quire__V1__SamplingOptions *options,
                                         struct qr_request *request, const char **field,
                                         struct qr_error *err)
{
    int32_t id = 0;

    for (size_t i = 0; i < options->n_logit_bias; i++) {
        const Quire__V1__SamplingOptions__LogitBiasEntry *entry = options->logit_bias[i];
        QR_TRY(to_int32(entry->key, "sampling.logit_bias", &id, field, err));
        enum qr_status status = qr_request_add_logit_bias(request, id, entry->value, err);
        if (status == QR_ERR_INVALID)
            *field = "sampling.logit_bias";
        QR_TRY(status);
    }
    return QR_OK;
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    /* Up to 256 bytes come whole or not at all, and only an early boot has none. */
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = 0;
    return seed & SEED_MASK;
}

static enum qr_status convert_sampling(const Quire__V1__SamplingOptions *options,
                                       struct qr_request *request, bool *wants_logprobs,
                                       const char **field, struct qr_error *err)
{
    struct qr_sampling_params *params = &request->sampling;

    QR_TRY(convert_preset(options->preset, params, field, err));
    if (options->has_temperature_case != 0)
        params->temperature = options->temperature;
    if (options->has_top_k_case != 0)
        QR_TRY(to_int32(options->top_k, "sampling.top_k", &params->top_k, field, err));
    if (options->has_top_p_case != 0)
        params->top_p = options->top_p;
    if (options->has_min_p_case != 0)
        params->min_p = options->min_p;
    if (options->has_repetition_penalty_case != 0)
        params->repetition_penalty = options->repetition_penalty;
    if (options->has_presence_penalty_case != 0)
        params->presence_penalty = options->presence_penalty;
    if (options->has_frequency_penalty_case != 0)
        params->frequency_penalty = options->frequency_penalty;
    if (options->has_seed_case != 0)
        params->seed = options->seed;
    *wants_logprobs = options->has_logprobs_case != 0;
    if (*wants_logprobs)
        QR_TRY(to_int32(options->logprobs, "sampling.logprobs", &params->n_logprobs, field, err));
    return convert_logit_bias(options, request, field, err);
}

/* The engine's stop strings are C strings. */
static enum qr_status add_stop_string(struct qr_request *request, const ProtobufCBinaryData *stop,
                                      const char **field, struct qr_error *err)
{
    char text[QR_MAX_STOP_BYTES + 1];

    QR_TRY(qr_convert_text(stop, "stopping.stop", field, err));
    *field = "stopping.stop";
    if (stop->len > QR_MAX_STOP_BYTES)
        return qr_fail(err, QR_ERR_INVALID, "a stop string of %zu bytes; 1 to %d are allowed",
                       stop->len, QR_MAX_STOP_BYTES);
    if (stop->len > 0 && memchr(stop->data, '\0', stop->len) != NULL)
        return qr_fail(err, QR_ERR_INVALID, "a stop string holds U+0000, which cannot be matched");
    if (stop->len > 0)
        memcpy(text, stop->data, stop->len);
    text[stop->len] = '\0';
    QR_TRY(qr_request_add_stop_string(request, text, err));
    *field = NULL;
    return QR_OK;
}

static enum qr_status convert_max_tokens(const Quire__V1__StoppingOptions *options,
                                         struct qr_request *request, const char **field,
                                         struct qr_error *err)
{
    if (options->has_max_tokens_case == 0)
        return QR_OK;
    /* More than any context holds: no need to refuse it. */
    request->max_tokens =
        options->max_tokens > INT32_MAX ? INT32_MAX : (int32_t)options->max_tokens;
    if (options->max_tokens > 0)
        return QR_OK;
    request->score_only = request->score_prompt;
    if (request->score_only)
        return QR_OK;
    *field = "stopping.max_tokens";
    return qr_fail(err, QR_ERR_INVALID,
                   "stopping.max_tokens is 0, so there is nothing to do: leave it out to fill the "
                   "context, or ask for output.prompt_logprobs");
}

static enum qr_status convert_stopping(const Quire__V1__StoppingOptions *options,
                                       struct qr_request *request, const char **field,
                                       struct qr_error *err)
{
    int32_t id = 0;

    QR_TRY(convert_max_tokens(options, request, field, err));
    if (options->has_min_tokens_case != 0)
        QR_TRY(
            to_int32(options->min_tokens, "stopping.min_tokens", &request->min_tokens, field, err));
    for (size_t i = 0; i < options->n_stop; i++)
        QR_TRY(add_stop_string(request, &options->stop[i], field, err));
    for (size_t i = 0; i < options->n_stop_token_ids; i++) {
        QR_TRY(to_int32(options->stop_token_ids[i], "stopping.stop_token_ids", &id, field, err));
        enum qr_status status = qr_request_add_stop_token(request, id, err);
        if (status == QR_ERR_INVALID)
            *field = "stopping.stop_token_ids";
        QR_TRY(status);
    }
    request->ignore_eos = options->has_ignore_eos_case != 0 && options->ignore_eos;
    request->include_stop =
        options->has_include_stop_in_output_case != 0 && options->include_stop_in_output;
    return QR_OK;
}

static enum qr_status convert_request_id(const char *request_id, struct qr_request *request,
                                         const char **field, struct qr_error *err)
{
    size_t length = strlen(request_id);
    ProtobufCBinaryData text = {.len = length, .data = (uint8_t *)request_id};

    QR_TRY(qr_convert_text(&text, "request_id", field, err));
    if (length >= sizeof(request->request_id)) {
        *field = "request_id";
        return qr_fail(err, QR_ERR_INVALID, "request_id has %zu bytes; at most %zu are allowed",
                       length, sizeof(request->request_id) - 1);
    }
    memcpy(request->request_id, request_id, length + 1);
    return QR_OK;
}

static void convert_output(const Quire__V1__OutputOptions *options, struct qr_request *request)
{
    request->show_special =
        options->has_show_special_tokens_case != 0 && options->show_special_tokens;
    request->score_prompt = options->has_prompt_logprobs_case != 0 && options->prompt_logprobs;
}

static enum qr_status convert_beam_search(const Quire__V1__BeamSearch *message,
                                          struct qr_beam_params *beam, const char **field,
                                          struct qr_error *err)
{
    if (message->has_beam_width_case != 0)
        QR_TRY(to_int32(message->beam_width, "beam_search.beam_width", &beam->width, field, err));
    if (beam->width == 0) {
        *field = "beam_search.beam_width";
        return qr_fail(err, QR_ERR_INVALID,
                       "beam_search.beam_width is missing or 0; it must be in [1, %d]",
                       QR_MAX_WIDTH);
    }
    if (message->has_length_penalty_case != 0)
        beam->length_penalty = message->length_penalty;
    beam->early_stopping = message->has_early_stopping_case != 0 && message->early_stopping;
    return QR_OK;
}

static enum qr_status convert_outputs(const Quire__V1__GenerateRequest *message,
                                      struct qr_request *request, const char **field,
                                      struct qr_error *err)
{
    if (message->has_n_case != 0)
        QR_TRY(to_int32(message->n, "n", &request->n, field, err));
    if (message->has_best_of_case != 0) {
        QR_TRY(to_int32(message->best_of, "best_of", &request->best_of, field, err));
        if (request->best_of == 0) { /* which the engine takes for "not given" */
            *field = "best_of";
            return qr_fail(err, QR_ERR_INVALID, "best_of is 0; it must be at least n");
        }
    }
    if (message->beam_search == NULL)
        return QR_OK;
    return convert_beam_search(message->beam_search, &request->beam, field, err);
}

static enum qr_status convert_objective(const Google__Protobuf__Duration *duration,
                                        struct qr_request *request, const char **field,
                                        struct qr_error *err)
{
    bool valid = duration->seconds >= 0 && duration->nanos >= 0 && duration->nanos < QR_NS_PER_SEC;

    *field = "first_token_objective";
    if (!valid || duration->seconds > INT32_MAX || (duration->seconds == 0 && duration->nanos == 0))
        return qr_fail(err, QR_ERR_INVALID,
                       "first_token_objective is %lld s and %d ns; it must be above 0 and at most "
                       "a day",
                       (long long)duration->seconds, duration->nanos);
    request->first_token_ns = duration->seconds * QR_NS_PER_SEC + duration->nanos;
    *field = NULL;
    return QR_OK;
}

static enum qr_status convert_scheduling(const Quire__V1__GenerateRequest *message,
                                         struct qr_request *request, const char **field,
                                         struct qr_error *err)
{
    request->priority = message->has_priority_case != 0 ? message->priority : 0;
    if (message->first_token_objective != NULL)
        QR_TRY(convert_objective(message->first_token_objective, request, field, err));
    QR_TRY(qr_convert_text(&message->tenant, "tenant", field, err));
    *field = "tenant";
    QR_TRY(qr_request_set_tenant(request, (const char *)message->tenant.data, message->tenant.len,
                                 err));
    *field = "cache_salt";
    QR_TRY(qr_request_set_salt(request, message->cache_salt.data, message->cache_salt.len, err));
    *field = NULL;
    return QR_OK;
}

static enum qr_status convert_all(const Quire__V1__GenerateRequest *message,
                                  const struct qr_tokenizer *tokenizer, int32_t max_seq_tokens,
                                  struct qr_request *request, bool *wants_logprobs,
                                  const char **field, struct qr_error *err)
{
    QR_TRY(convert_request_id(message->request_id, request, field, err));
    request->sampling.seed = random_seed();
    if (message->sampling != NULL)
        QR_TRY(convert_sampling(message->sampling, request, wants_logprobs, field, err));
    if (message->output != NULL)
        convert_output(message->output, request);
    if (message->stopping != NULL)
        QR_TRY(convert_stopping(message->stopping, request, field, err));
    QR_TRY(convert_outputs(message, request, field, err));
    QR_TRY(convert_scheduling(message, request, field, err));

    switch (message->prompt_case) {
    case QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT:
        return convert_text_prompt(message, tokenizer, max_seq_tokens, request, field, err);
    case QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKEN_IDS:
        return convert_token_ids(message->token_ids, request, field, err);
    default:
        *field = "prompt";
        return qr_fail(err, QR_ERR_INVALID, "there is no prompt; set text or token_ids");
    }
}

enum qr_status qr_convert_generate_request(const Quire__V1__GenerateRequest *message,
                                           const struct qr_tokenizer *tokenizer,
                                           int32_t max_seq_tokens, struct qr_request **out,
                                           bool *wants_logprobs, const char **field,
                                           struct qr_error *err)
{
    *out = NULL;
    *wants_logprobs = false;
    *field = NULL;
    struct qr_request *request = qr_request_create();
    if (request == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for this request");
    enum qr_status status =
        convert_all(message, tokenizer, max_seq_tokens, request, wants_logprobs, field, err);
    if (status != QR_OK) {
        qr_request_destroy(request);
        return status;
    }
    *out = request;
    return QR_OK;
}
