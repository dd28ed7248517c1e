/*
 * rope.h - the angles of rotary position embeddings (RoFormer, Su et al., 2021) and of the ways to
 * stretch them, in the definitions of Hugging Face transformers (modeling_rope_utils.py).
 *
 * Where transformers chooses frequencies by the length of what it is given at once, a position
 * here has the angle that it gets when tokens come one by one: so the angle depends on the position
 * alone, however a prompt is cut into chunks.
 */
#ifndef QUIRE_RUNTIME_OPS_ROPE_H
#define QUIRE_RUNTIME_OPS_ROPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { QR_ROPE_MAX_PAIRS = 256 };

enum qr_rope_kind {
    QR_ROPE_PLAIN,
    QR_ROPE_LINEAR,  /* all frequencies divided by `factor` */
    QR_ROPE_DYNAMIC, /* a larger theta for positions beyond original_max_position */
    QR_ROPE_YARN,    /* Peng et al., 2023 */
    QR_ROPE_LLAMA3,
    QR_ROPE_LONG, /* LongRoPE, Ding et al., 2024: a factor for each frequency */
};

struct qr_rope {
    enum qr_rope_kind kind;
    int32_t rotary_dim; /* leading elements of a head that turn, even; 0: no rotation at all */
    float theta;
    float factor;
    int32_t original_max_position; /* of the training before the stretch */
    float attention_factor;        /* cos and sin are multiplied by it */
    float beta_fast, beta_slow;    /* YaRN: rotations within the original length */
    bool untruncated;              /* YaRN: the ramp's ends are not rounded to whole dimensions */
    float low_freq_factor, high_freq_factor; /* Llama 3 */
    bool is_long; /* LongRoPE: long_factors, for sequences beyond original_max_position */
    float short_factors[QR_ROPE_MAX_PAIRS]; /* [rotary_dim / 2] */
    float long_factors[QR_ROPE_MAX_PAIRS];  /* [rotary_dim / 2] */
};

QR_BEGIN_DECLS

/* cos and sin of the n positions from `first` on: turns [n][rotary_dim / 2][2 (cos, sin)]. Taken
 * in double, so that far positions keep their angle. */
void qr_rope_fill(const struct qr_rope *rope, int32_t first, int32_t n, float *turns);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_ROPE_H */
