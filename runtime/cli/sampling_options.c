/* sampling_options.c - see sampling_options.h for the contract. */
#include "runtime/cli/sampling_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

void qr_generate_options_default(struct qr_generate_options *options)
{
    *options = (struct qr_generate_options){.n = 1, .beam.length_penalty = 1};
    qr_sampling_params_default(&options->sampling);
}

/* The preset is the ground; what was given on the command line stands on it. */
static enum qr_status apply_preset(struct qr_generate_options *options, struct qr_error *err)
{
    if (options->preset == NULL)
        return QR_OK;
    struct qr_sampling_params given = options->sampling;
    struct qr_sampling_params *params = &options->sampling;
    if (!qr_sampling_preset(options->preset, params))
        return qr_fail(err, QR_ERR_INVALID,
                       "--preset: \"%s\" is none of factual, chat, creative, code",
                       options->preset);
    if (options->temperature_set)
        params->temperature = given.temperature;
    if (options->top_k_set)
        params->top_k = given.top_k;
    if (options->top_p_set)
        params->top_p = given.top_p;
    if (options->min_p_set)
        params->min_p = given.min_p;
    if (options->repetition_penalty_set)
        params->repetition_penalty = given.repetition_penalty;
    if (options->presence_penalty_set)
        params->presence_penalty = given.presence_penalty;
    if (options->frequency_penalty_set)
        params->frequency_penalty = given.frequency_penalty;
    params->seed = given.seed;
    params->n_logprobs = given.n_logprobs;
    return QR_OK;
}

static enum qr_status parse_id(const char *text, const char *end_chars, const char **end,
                               int32_t *id, struct qr_error *err)
{
    char *stop;

    *id = 0; /* gcc cannot tell that qr_fail never returns QR_OK */
    *end = text;
    errno = 0;
    long value = strtol(text, &stop, 10);
    if (stop == text || errno != 0 || value < 0 || value > INT32_MAX ||
        strchr(end_chars, *stop) == NULL)
        return qr_fail(err, QR_ERR_INVALID, "\"%s\" does not begin with a token id", text);
    *id = (int32_t)value;
    *end = stop;
    return QR_OK;
}

static enum qr_status add_bias(const char *text, struct qr_request *request, struct qr_error *err)
{
    const char *equals = NULL;
    char *end = NULL;
    int32_t id = 0;

    QR_TRY(parse_id(text, "=", &equals, &id, err));
    float bias = *equals == '=' ? strtof(equals + 1, &end) : 0;
    if (*equals != '=' || end == equals + 1 || *end != '\0')
        return qr_fail(err, QR_ERR_INVALID, "--logit-bias: \"%s\" is not ID=BIAS", text);
    return qr_request_add_logit_bias(request, id, bias, err);
}

static enum qr_status apply_scheduling(const struct qr_generate_options *options,
                                       struct qr_request *request, struct qr_error *err)
{
    request->n = options->n;
    request->best_of = options->best_of;
    request->beam = options->beam;
    request->priority = options->priority;
    request->first_token_ns = options->first_token_ms * (QR_NS_PER_SEC / 1000);
    if (options->tenant != NULL)
        QR_TRY(qr_request_set_tenant(request, options->tenant, strlen(options->tenant), err));
    if (options->cache_salt == NULL)
        return QR_OK;
    return qr_request_set_salt(request, options->cache_salt, strlen(options->cache_salt), err);
}

enum qr_status qr_generate_options_apply(struct qr_generate_options *options,
                                         struct qr_request *request, struct qr_error *err)
{
    QR_TRY(apply_preset(options, err));
    if (!options->seed_set && getrandom(&options->sampling.seed, sizeof(uint64_t), 0) < 0)
        return qr_fail(err, QR_ERR_IO, "cannot draw a seed: %s; give --seed", strerror(errno));
    request->sampling = options->sampling;
    request->max_tokens = options->max_tokens;
    request->min_tokens = options->min_tokens;
    request->ignore_eos = options->ignore_eos;
    request->include_stop = options->include_stop;
    request->show_special = options->show_special;
    QR_TRY(apply_scheduling(options, request, err));
    for (int32_t i = 0; i < options->logit_bias.count; i++)
        QR_TRY(add_bias(options->logit_bias.items[i], request, err));
    for (int32_t i = 0; i < options->stops.count; i++)
        QR_TRY(qr_request_add_stop_string(request, options->stops.items[i], err));
    for (int32_t i = 0; i < options->stop_token_ids.count; i++) {
        const char *end = NULL;
        int32_t id = 0;
        QR_TRY(parse_id(options->stop_token_ids.items[i], "", &end, &id, err));
        QR_TRY(qr_request_add_stop_token(request, id, err));
    }
    return QR_OK;
}
