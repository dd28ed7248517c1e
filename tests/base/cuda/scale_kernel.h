/* scale_kernel.h - the parameters of scale_kernel.cu. */
#ifndef QUIRE_TESTS_BASE_CUDA_SCALE_KERNEL_H
#define QUIRE_TESTS_BASE_CUDA_SCALE_KERNEL_H

#include <stdint.h>

struct qr_test_scale_params {
    float *x; /* [n], in place */
    float factor;
    int32_t n;
};

#endif /* QUIRE_TESTS_BASE_CUDA_SCALE_KERNEL_H */
