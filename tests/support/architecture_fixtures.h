/*
 * architecture_fixtures.h - the small models of tests/runtime/models/data and what transformers
 * computes with them (tools/fixtures/architectures.py).
 */
#ifndef QUIRE_TESTS_SUPPORT_ARCHITECTURE_FIXTURES_H
#define QUIRE_TESTS_SUPPORT_ARCHITECTURE_FIXTURES_H

#include "base/cpu_features.h"
#include "tests/support/model_rig.h"

struct architecture_fixture {
    char dir[512];
    int32_t n_prompt;
    int32_t n_tokens;
    int32_t ids[MODEL_RIG_TOKENS]; /* [n_tokens] prompt, then what greedy decoding chose */
    float *logits;                 /* [n_tokens][vocab_size], for the caller to free() */
    size_t n_floats;
};

/* Names of all, NULL-terminated. */
extern const char *const architecture_fixture_names[];

void architecture_fixture_load(const char *name, struct architecture_fixture *fixture);
/* How far logits may be off on the CPU: 1e-4, but of weights in BF16 more where their activations
 * are rounded to it, by 2^-9, which moves logits of up to 6 by less than 0.15. */
float architecture_fixture_tolerance(const char *name, enum qr_isa isa);

/* The prompt at once, then token by token, as transformers was run; fails where logits differ by
 * more than `tolerance` or greedy decoding chooses another token. Returns the logits, for the
 * caller to free(). */
float *architecture_fixture_check(struct model_rig *rig, const char *name,
                                  const struct architecture_fixture *fixture, float tolerance);

#endif /* QUIRE_TESTS_SUPPORT_ARCHITECTURE_FIXTURES_H */
