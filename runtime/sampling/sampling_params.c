/* sampling_params.c - see sampling_params.h for the contract. */
#include "runtime/sampling/sampling_params.h"

#include <string.h>

void qr_sampling_params_default(struct qr_sampling_params *params)
{
    *params =
        (struct qr_sampling_params){.temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
}

bool qr_sampling_preset(const char *name, struct qr_sampling_params *params)
{
    static const struct {
        const char *name;
        float temperature;
        float top_p;
        int32_t top_k;
    } presets[] = {
        {"factual", 0.2f, 0.4f, 15},
        {"chat", 0.6f, 0.85f, 45},
        {"creative", 1.0f, 0.95f, 120},
        {"code", 0.1f, 0.7f, 30},
    };

    for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
        if (strcmp(name, presets[i].name) != 0)
            continue;
        qr_sampling_params_default(params);
        params->temperature = presets[i].temperature;
        params->top_p = presets[i].top_p;
        params->top_k = presets[i].top_k;
        return true;
    }
    return false;
}

/* One float field and where it may lie; NaN lies nowhere. */
struct bound {
    const char *field;
    float value;
    float min;
    float max;
    bool above_min; /* min itself is not allowed */
};

static enum qr_status check_bound(const struct bound *bound, const char **field,
                                  struct qr_error *err)
{
    bool low = bound->above_min ? bound->value > bound->min : bound->value >= bound->min;

    if (low && bound->value <= bound->max)
        return QR_OK;
    *field = bound->field;
    return qr_fail(err, QR_ERR_INVALID, "%s is %g; it must be in %c%g, %g]", bound->field,
                   (double)bound->value, bound->above_min ? '(' : '[', (double)bound->min,
                   (double)bound->max);
}

static enum qr_status check_logit_bias(const struct qr_sampling_params *params, int32_t vocab_size,
                                       const char **field, struct qr_error *err)
{
    *field = "logit_bias";
    if (params->n_logit_bias < 0 || params->n_logit_bias > QR_MAX_LOGIT_BIAS)
        return qr_fail(err, QR_ERR_INVALID, "logit_bias has %d entries; at most %d are allowed",
                       params->n_logit_bias, QR_MAX_LOGIT_BIAS);
    for (int32_t i = 0; i < params->n_logit_bias; i++) {
        const struct qr_logit_bias *bias = &params->logit_bias[i];
        if (bias->token_id < 0 || bias->token_id >= vocab_size)
            return qr_fail(err, QR_ERR_INVALID,
                           "logit_bias of token %d; the vocabulary has ids 0 to %d", bias->token_id,
                           vocab_size - 1);
        if (!(bias->bias >= -100 && bias->bias <= 100))
            return qr_fail(err, QR_ERR_INVALID,
                           "logit_bias of token %d is %g; it must be in [-100, 100]",
                           bias->token_id, (double)bias->bias);
    }
    return QR_OK;
}

enum qr_status qr_sampling_params_check(const struct qr_sampling_params *params, int32_t vocab_size,
                                        const char **field, struct qr_error *err)
{
    const struct bound bounds[] = {
        {"temperature", params->temperature, 0, 100, false},
        {"top_p", params->top_p, 0, 1, true},
        {"min_p", params->min_p, 0, 1, false},
        {"repetition_penalty", params->repetition_penalty, 0, 10, true},
        {"presence_penalty", params->presence_penalty, -2, 2, false},
        {"frequency_penalty", params->frequency_penalty, -2, 2, false},
    };

    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
        QR_TRY(check_bound(&bounds[i], field, err));
    if (params->top_k < 0) {
        *field = "top_k";
        return qr_fail(err, QR_ERR_INVALID, "top_k is %d; it must be 0 (off) or more",
                       params->top_k);
    }
    if (params->n_logprobs < 0 || params->n_logprobs > QR_MAX_LOGPROBS) {
        *field = "logprobs";
        return qr_fail(err, QR_ERR_INVALID, "logprobs is %d; it must be in [0, %d]",
                       params->n_logprobs, QR_MAX_LOGPROBS);
    }
    return check_logit_bias(params, vocab_size, field, err);
}
