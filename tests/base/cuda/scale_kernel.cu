/* scale_kernel.cu - the least kernel: x[i] *= factor. */
#include "base/cuda/primitives.cuh"
#include "tests/base/cuda/scale_kernel.h"

QR_KERNEL(qr_test_scale, qr_test_scale_params, 128, 1)
{
    qr_wait_for_previous_kernel();
    int i = qr_block_index() * 128 + qr_thread_index();
    if (i < p.n)
        p.x[i] *= p.factor;
}
