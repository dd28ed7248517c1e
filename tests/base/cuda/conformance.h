/* conformance.h - kernels with one primitive each (conformance.cu): words in, words out. */
#ifndef QUIRE_TESTS_BASE_CUDA_CONFORMANCE_H
#define QUIRE_TESTS_BASE_CUDA_CONFORMANCE_H

#include <stdint.h>

enum { CONFORMANCE_THREADS = 128, CONFORMANCE_SHARED = 9216 };

/* Thread i of the grid takes words i of `in` and gives words i of `out`; how many words, each
 * kernel says. */
struct qr_conformance_params {
    const uint32_t *in;
    uint32_t *out;
};

#endif /* QUIRE_TESTS_BASE_CUDA_CONFORMANCE_H */
