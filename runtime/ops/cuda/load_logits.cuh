/*
 * load_logits.cuh - where a row of logits is, and four neighbours of it, in one access where they
 * are aligned.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_LOAD_LOGITS_CUH
#define QUIRE_RUNTIME_OPS_CUDA_LOAD_LOGITS_CUH

#include "base/cuda/primitives.cuh"

/* The row that the index-th of a launch stands for; Params: of a launch over `rows`. */
template <class Params> QR_DEVICE const float *qr_logits_of(const Params &p, size_t index)
{
    size_t row = p.rows != nullptr ? (size_t)p.rows[index].logit_row : index;
    return p.logits + row * (size_t)p.vocab_size;
}

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
