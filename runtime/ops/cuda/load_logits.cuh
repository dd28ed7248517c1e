/*
 * load_logits.cuh - four neighbours of a row of logits, in one access where they are aligned.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_LOAD_LOGITS_CUH
#define QUIRE_RUNTIME_OPS_CUDA_LOAD_LOGITS_CUH

#include "base/cuda/primitives.cuh"

/* Logits [4] from `at` on; -inf past the end. */
QR_DEVICE void qr_load_logits(const float *row, int vocab_size, int at, float *logit)
{
    bool whole = at + 4 <= vocab_size && ((uintptr_t)(row + at) & 15u) == 0;
    qr_chunk chunk = {{0, 0, 0, 0}};

    if (whole)
        chunk = qr_load_chunk(row + at);
    QR_UNROLL
    for (int j = 0; j < 4; j++) {
        if (!whole)
            chunk.word[j] = at + j < vocab_size ? qr_float_bits(row[at + j]) : 0xff800000u;
        logit[j] = qr_bits_float(chunk.word[j]);
    }
}

#endif /* QUIRE_RUNTIME_OPS_CUDA_LOAD_LOGITS_CUH */
