/* sampling_params.h - how the next token is chosen, and when a request ends. */
#ifndef QUIRE_RUNTIME_SAMPLING_SAMPLING_PARAMS_H
#define QUIRE_RUNTIME_SAMPLING_SAMPLING_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { QR_MAX_LOGPROBS = 20, QR_MAX_LOGIT_BIAS = 1024 };

struct qr_logit_bias {
    int32_t token_id;
    float bias; /* added to the logit, in [-100, 100] */
};

struct qr_sampling_params {
    float temperature;        /* 0: greedy; in [0, 100] */
    int32_t top_k;            /* 0: off */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    float repetition_penalty; /* (0, 10]; 1: off; over prompt and output (CTRL, Keskar 2019) */
    float presence_penalty;   /* [-2, 2]; 0: off; over the output (as OpenAI's API) */
    float frequency_penalty;  /* [-2, 2]; 0: off; over the output */
    uint64_t seed;
    int32_t n_logprobs; /* top log-probabilities a token, in [0, QR_MAX_LOGPROBS] */
    int32_t n_logit_bias;
    const struct qr_logit_bias *logit_bias; /* [n_logit_bias], borrowed */
};

QR_BEGIN_DECLS

/* Temperature 1, nothing else: the model's own distribution. */
void qr_sampling_params_default(struct qr_sampling_params *params);
/* "factual", "chat", "creative" or "code" (design page); false when it is none of them. */
bool qr_sampling_preset(const char *name, struct qr_sampling_params *params);
/* On QR_ERR_INVALID *field is the name of the field at fault, a constant. */
QR_MUST_CHECK enum qr_status qr_sampling_params_check(const struct qr_sampling_params *params,
                                                      int32_t vocab_size, const char **field,
                                                      struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SAMPLING_SAMPLING_PARAMS_H */
