/*
 * philox.h - Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and
 * Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * A draw is a function of (key, counter): nothing has to be saved or replayed.
 */
#ifndef QUIRE_RUNTIME_SAMPLING_PHILOX_H
#define QUIRE_RUNTIME_SAMPLING_PHILOX_H

#include <stdint.h>

/* Kernels draw too (runtime/ops/cuda/elementwise.cu). */
#ifdef __CUDACC__
#define QR_PHILOX_FUNCTION static __host__ __device__ inline
#else
#define QR_PHILOX_FUNCTION static inline
#endif

struct qr_philox_block {
    uint32_t word[4];
};

QR_PHILOX_FUNCTION struct qr_philox_block qr_philox(struct qr_philox_block counter, uint64_t key)
{
    uint32_t key0 = (uint32_t)key;
    uint32_t key1 = (uint32_t)(key >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter.word[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * counter.word[2];
        struct qr_philox_block next = {{(uint32_t)(b >> 32) ^ counter.word[1] ^ key0, (uint32_t)b,
                                        (uint32_t)(a >> 32) ^ counter.word[3] ^ key1, (uint32_t)a}};
        counter = next;
        key0 += 0x9E3779B9u; /* the golden ratio, and the square root of 3 less 1 */
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* Uniform in [0, 1), a multiple of 2^-53, for one position of one sequence. */
static inline double qr_philox_uniform(uint64_t seed, uint64_t position)
{
    struct qr_philox_block counter = {{(uint32_t)position, (uint32_t)(position >> 32), 0, 0}};
    struct qr_philox_block block = qr_philox(counter, seed);
    uint64_t bits = ((uint64_t)(block.word[0] >> 5) << 26) | (block.word[1] >> 6);

    return (double)bits * 0x1p-53;
}

/*
 * The seed of output number `output` of a request: the first has the request's own, the
 * others a draw keyed by it, from counters that no position has. Below 2^53, so that it
 * survives a client that keeps numbers as doubles.
 */
static inline uint64_t qr_philox_output_seed(uint64_t seed, uint32_t output)
{
    struct qr_philox_block counter = {{output, 0, 0, 1}};
    struct qr_philox_block block = qr_philox(counter, seed);
    uint64_t bits = ((uint64_t)(block.word[0] >> 5) << 26) | (block.word[1] >> 6);

    return output == 0 ? seed : bits;
}

#endif /* QUIRE_RUNTIME_SAMPLING_PHILOX_H */
