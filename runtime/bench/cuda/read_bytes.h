/* read_bytes.h - the kernel qr_read_bytes, which measures how fast device memory can be read. */
#ifndef QUIRE_RUNTIME_BENCH_CUDA_READ_BYTES_H
#define QUIRE_RUNTIME_BENCH_CUDA_READ_BYTES_H

#include <stdint.h>

enum { QR_READ_BYTES_THREADS = 512 };

struct qr_read_bytes_params {
    const void *from; /* device, [n_chunks] of 16 bytes, aligned to 16 */
    int64_t n_chunks;
    /* device, [blocks * QR_READ_BYTES_THREADS / 32]: for each warp the sum, modulo 2^32, of the
     * 32-bit words that it read; the compiler cannot leave reads out, and a test can add up */
    uint32_t *sums;
};

#endif /* QUIRE_RUNTIME_BENCH_CUDA_READ_BYTES_H */
