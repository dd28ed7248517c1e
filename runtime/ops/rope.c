/* rope.c - see rope.h for the contract. */
#include "runtime/ops/rope.h"

#include <math.h>
#include <stddef.h>

static const double tau = 6.283185307179586;

/* YaRN: the (fractional) pair that turns `rotations` times within the original length. */
static double pair_of_rotations(const struct qr_rope *rope, double rotations)
{
    return rope->rotary_dim * log(rope->original_max_position / (rotations * tau)) /
           (2.0 * log((double)rope->theta));
}

/* YaRN: 0 where a pair keeps its frequency, 1 where it is divided by the factor. */
static double yarn_ramp(const struct qr_rope *rope, int32_t pair)
{
    double low = pair_of_rotations(rope, (double)rope->beta_fast);
    double high = pair_of_rotations(rope, (double)rope->beta_slow);

    if (!rope->untruncated) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, rope->rotary_dim - 1.0);
    if (low == high)
        high += 0.001;
    return fmin(fmax((pair - low) / (high - low), 0.0), 1.0);
}

/* Llama 3: long wavelengths are stretched, short ones kept, those between blended. */
static double llama3_frequency(const struct qr_rope *rope, double plain)
{
    double wavelength = tau / plain;
    double original = rope->original_max_position;

    if (wavelength < original / (double)rope->high_freq_factor)
        return plain;
    if (wavelength > original / (double)rope->low_freq_factor)
        return plain / (double)rope->factor;
    double smooth = (original / wavelength - (double)rope->low_freq_factor) /
                    ((double)rope->high_freq_factor - (double)rope->low_freq_factor);
    return (1.0 - smooth) * plain / (double)rope->factor + smooth * plain;
}

static double plain_frequency(double theta, int32_t pair, int32_t rotary_dim)
{
    return pow(theta, -2.0 * pair / rotary_dim);
}

/* Radians a position, of all positions alike. */
static double frequency_of(const struct qr_rope *rope, int32_t pair)
{
    double plain = plain_frequency((double)rope->theta, pair, rope->rotary_dim);

    switch (rope->kind) {
    case QR_ROPE_PLAIN:
    case QR_ROPE_DYNAMIC:
        break;
    case QR_ROPE_LINEAR:
        return plain / (double)rope->factor;
    case QR_ROPE_YARN: {
        double ramp = yarn_ramp(rope, pair);
        return plain / (double)rope->factor * ramp + plain * (1.0 - ramp);
    }
    case QR_ROPE_LLAMA3:
        return llama3_frequency(rope, plain);
    case QR_ROPE_LONG:
        return plain /
               (double)(rope->is_long ? rope->long_factors[pair] : rope->short_factors[pair]);
    }
    return plain;
}

/* The dynamic kind's frequency of a position beyond the original length. */
static double dynamic_frequency(const struct qr_rope *rope, int32_t pair, int32_t position)
{
    double length = position + 1.0;
    double factor = (double)rope->factor;
    double dim = rope->rotary_dim;
    double stretch = factor * length / rope->original_max_position - (factor - 1.0);
    double theta = (double)rope->theta * pow(stretch, dim / (dim - 2.0));

    return plain_frequency(theta, pair, rope->rotary_dim);
}

void qr_rope_fill(const struct qr_rope *rope, int32_t first, int32_t n, float *turns)
{
    int32_t n_pairs = rope->rotary_dim / 2;

    for (int32_t pair = 0; pair < n_pairs; pair++) {
        double frequency = frequency_of(rope, pair);
        for (int32_t i = 0; i < n; i++) {
            int32_t position = first + i;
            double angle = position * frequency;
            if (rope->kind == QR_ROPE_DYNAMIC && position >= rope->original_max_position)
                angle = position * dynamic_frequency(rope, pair, position);
            float *turn = turns + ((size_t)i * (size_t)n_pairs + (size_t)pair) * 2;
            turn[0] = (float)(cos(angle) * (double)rope->attention_factor);
            turn[1] = (float)(sin(angle) * (double)rope->attention_factor);
        }
    }
}
