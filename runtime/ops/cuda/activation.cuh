/* activation.cuh - the functions of enum qr_activation. */
#ifndef QUIRE_RUNTIME_OPS_CUDA_ACTIVATION_CUH
#define QUIRE_RUNTIME_OPS_CUDA_ACTIVATION_CUH

#include "base/cuda/primitives.cuh"

/* enum qr_activation, whose header is C's. */
enum : int32_t { QR_GATE_SILU, QR_GATE_GELU, QR_GATE_GELU_TANH };

/* x / (1 + e^-z) */
QR_DEVICE float qr_times_sigmoid(float x, float z)
{
    const float log2_e = 1.44269504f;
    return x / (1.0f + qr_exp2(-z * log2_e));
}

/* The cubic inside of GELU's tanh form: 1 + tanh(z) is 2 / (1 + e^-2z). */
QR_DEVICE float qr_gelu_tanh(float x)
{
    const float twice_sqrt_2_over_pi = 1.5957691216f;
    return qr_times_sigmoid(x, qr_fma(x * x * x, 0.044715f, x) * twice_sqrt_2_over_pi);
}

/* erf by formula 7.1.26 of Abramowitz and Stegun, as on the CPU. */
QR_DEVICE float qr_gelu(float x)
{
    const float log2_e = 1.44269504f;
    float size = x < 0.0f ? -x : x;
    float z = size * 0.70710678f;
    float t = 1.0f / qr_fma(z, 0.3275911f, 1.0f);
    float p = qr_fma(1.061405429f, t, -1.453152027f);
    p = qr_fma(p, t, 1.421413741f);
    p = qr_fma(p, t, -0.284496736f);
    p = qr_fma(p, t, 0.254829592f);
    float erf = 1.0f - p * t * qr_exp2(-z * z * log2_e);
    return qr_fma(size, erf, x) * 0.5f;
}

QR_DEVICE float qr_activated(int32_t activation, float x)
{
    if (activation == QR_GATE_SILU)
        return qr_times_sigmoid(x, x);
    return activation == QR_GATE_GELU ? qr_gelu(x) : qr_gelu_tanh(x);
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_ACTIVATION_CUH */
