/*
 * sampling_options.h - the options that say how to sample and when to stop.
 *
 * They fill a struct qr_generate_options, which remembers what was given: what was
 * not is left to the preset, or to the server.
 */
#ifndef QUIRE_RUNTIME_CLI_SAMPLING_OPTIONS_H
#define QUIRE_RUNTIME_CLI_SAMPLING_OPTIONS_H

#include "runtime/cli/options.h"
#include "runtime/engine/request.h"
#include "scheduler/scheduler.h"

struct qr_generate_options {
    const char *prompt;
    const char *preset;
    struct qr_sampling_params sampling;
    bool temperature_set;
    bool top_k_set;
    bool top_p_set;
    bool min_p_set;
    bool repetition_penalty_set;
    bool presence_penalty_set;
    bool frequency_penalty_set;
    bool seed_set;
    int32_t max_tokens;
    int32_t min_tokens;
    struct qr_string_list stops;
    struct qr_string_list stop_token_ids;
    struct qr_string_list logit_bias; /* "ID=BIAS" */
    bool ignore_eos;
    bool include_stop;
    bool show_special;
    bool no_bos;
    bool parse_special;
    int32_t n;
    int32_t best_of;
    struct qr_beam_params beam;
    int32_t priority;
    const char *tenant;
    const char *cache_salt;
    int32_t first_token_ms;
};

/* clang-format off */
#define QR_GENERATE_OPTION_ROWS(o)                                                                \
    {"prompt", QR_OPTION_STRING, "TEXT", &(o)->prompt, 0, 0,                                      \
     "the text to continue; \"-\" reads standard input", NULL},                                   \
    {"preset", QR_OPTION_STRING, "NAME", &(o)->preset, 0, 0,                                      \
     "factual, chat, creative or code; the options below override it", NULL},                     \
    {"temperature", QR_OPTION_FLOAT, "T", &(o)->sampling.temperature, 0, 100,                     \
     "0 to 100; 0 is greedy; default 1", &(o)->temperature_set},                                  \
    {"top-k", QR_OPTION_INT, "K", &(o)->sampling.top_k, 0, INT32_MAX,                             \
     "keep the K likeliest tokens; default 0: off", &(o)->top_k_set},                             \
    {"top-p", QR_OPTION_FLOAT, "P", &(o)->sampling.top_p, 0, 1,                                   \
     "keep the likeliest tokens that make up P, above 0 to 1; default 1: off", &(o)->top_p_set},  \
    {"min-p", QR_OPTION_FLOAT, "P", &(o)->sampling.min_p, 0, 1,                                   \
     "keep tokens at least P times as likely as the likeliest; default 0: off", &(o)->min_p_set}, \
    {"repetition-penalty", QR_OPTION_FLOAT, "X", &(o)->sampling.repetition_penalty, 0, 10,        \
     "above 0 to 10, over prompt and output; default 1: off", &(o)->repetition_penalty_set},      \
    {"presence-penalty", QR_OPTION_FLOAT, "X", &(o)->sampling.presence_penalty, -2, 2,            \
     "-2 to 2, over the output; default 0: off", &(o)->presence_penalty_set},                     \
    {"frequency-penalty", QR_OPTION_FLOAT, "X", &(o)->sampling.frequency_penalty, -2, 2,          \
     "-2 to 2, over the output; default 0: off", &(o)->frequency_penalty_set},                    \
    {"logit-bias", QR_OPTION_LIST, "ID=BIAS", &(o)->logit_bias, 0, 0,                             \
     "add BIAS (-100 to 100) to a token's logit; may be repeated", NULL},                         \
    {"seed", QR_OPTION_UINT64, "S", &(o)->sampling.seed, 0, 0,                                    \
     "0 to 2^64 - 1; default: a random one", &(o)->seed_set},                                     \
    {"logprobs", QR_OPTION_INT, "N", &(o)->sampling.n_logprobs, 0, QR_MAX_LOGPROBS,               \
     "likeliest tokens reported with each token (--json), 0 to 20; default 0", NULL},             \
    {"max-tokens", QR_OPTION_INT, "N", &(o)->max_tokens, 0, INT32_MAX,                            \
     "most tokens to generate; default 0: until the context is full", NULL},                      \
    {"min-tokens", QR_OPTION_INT, "N", &(o)->min_tokens, 0, INT32_MAX,                            \
     "no end before that many tokens; default 0", NULL},                                          \
    {"stop", QR_OPTION_LIST, "TEXT", &(o)->stops, 0, 0,                                           \
     "end before this text; may be repeated, up to 16", NULL},                                    \
    {"stop-token-id", QR_OPTION_LIST, "ID", &(o)->stop_token_ids, 0, 0,                           \
     "end at this token; may be repeated, up to 64", NULL},                                       \
    {"ignore-eos", QR_OPTION_FLAG, NULL, &(o)->ignore_eos, 0, 0,                                  \
     "go on past the model's end of text", NULL},                                                 \
    {"include-stop", QR_OPTION_FLAG, NULL, &(o)->include_stop, 0, 0,                              \
     "show the stop text too", NULL},                                                             \
    {"show-special", QR_OPTION_FLAG, NULL, &(o)->show_special, 0, 0,                              \
     "show special tokens in the text", NULL},                                                    \
    {"no-bos", QR_OPTION_FLAG, NULL, &(o)->no_bos, 0, 0,                                          \
     "do not begin with the model's BOS token", NULL},                                            \
    {"parse-special", QR_OPTION_FLAG, NULL, &(o)->parse_special, 0, 0,                            \
     "recognise special tokens in the prompt", NULL},                                             \
    {"n", QR_OPTION_INT, "N", &(o)->n, 1, QR_MAX_WIDTH,                                           \
     "outputs to return, 1 to 64; default 1", NULL},                                              \
    {"best-of", QR_OPTION_INT, "N", &(o)->best_of, 0, QR_MAX_WIDTH,                               \
     "outputs to generate, the --n most probable are returned, up to 64; default 0: --n", NULL},  \
    {"beam-width", QR_OPTION_INT, "N", &(o)->beam.width, 0, QR_MAX_WIDTH,                         \
     "search with N beams instead of sampling, up to 64; default 0: off", NULL},                  \
    {"length-penalty", QR_OPTION_FLOAT, "X", &(o)->beam.length_penalty, -10, 10,                  \
     "of beams: above 0 prefers long outputs, -10 to 10; default 1", NULL},                       \
    {"early-stopping", QR_OPTION_FLAG, NULL, &(o)->beam.early_stopping, 0, 0,                     \
     "of beams: end as soon as --beam-width outputs have ended", NULL},                           \
    {"priority", QR_OPTION_INT, "N", &(o)->priority, -QR_MAX_PRIORITY, QR_MAX_PRIORITY,           \
     "-10 to 10, higher is served sooner; default 0", NULL},                                      \
    {"tenant", QR_OPTION_STRING, "NAME", &(o)->tenant, 0, 0,                                      \
     "whom the request is for, up to 63 bytes; default: none", NULL},                             \
    {"cache-salt", QR_OPTION_STRING, "TEXT", &(o)->cache_salt, 0, 0,                              \
     "share cached prompts only with requests of this salt, up to 64 bytes; default: none", NULL},\
    {"first-token-objective", QR_OPTION_INT, "MS", &(o)->first_token_ms, 0, 86400000,             \
     "wanted milliseconds until the first token, up to a day; default 0: none", NULL}
/* clang-format on */

QR_BEGIN_DECLS

void qr_generate_options_default(struct qr_generate_options *options);
/*
 * Applies the preset below what was given, draws a seed if none was, and fills in
 * everything of `request` but the prompt.
 */
QR_MUST_CHECK enum qr_status qr_generate_options_apply(struct qr_generate_options *options,
                                                       struct qr_request *request,
                                                       struct qr_error *err);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_CLI_SAMPLING_OPTIONS_H */
