/*
 * read_bytes.cu - reads memory once and does nothing else: the ceiling of every kernel that must
 * read its weights or its KV pages.
 *
 * Eight loads of 16 bytes are under way in each of 1024 threads of a multiprocessor: 128 KiB,
 * where bandwidth times latency is about 4.8 TB/s / 132 * 1 us = 36 KiB.
 */
#include "runtime/bench/cuda/read_bytes.h"

#include "base/cuda/primitives.cuh"

namespace
{

constexpr int n_in_flight = 8;

QR_DEVICE uint32_t sum_of(const qr_chunk &chunk)
{
    return chunk.word[0] + chunk.word[1] + chunk.word[2] + chunk.word[3];
}

} // namespace

QR_KERNEL(qr_read_bytes, struct qr_read_bytes_params, QR_READ_BYTES_THREADS, 2)
{
    const qr_chunk *from = (const qr_chunk *)p.from;
    const int thread = qr_block_index() * QR_READ_BYTES_THREADS + qr_thread_index();
    const int64_t step = (int64_t)qr_grid_size() * QR_READ_BYTES_THREADS;
    uint32_t sum = 0;
    int64_t i = thread;

    qr_wait_for_previous_kernel();
    for (; i + (n_in_flight - 1) * step < p.n_chunks; i += n_in_flight * step) {
        qr_chunk chunk[n_in_flight];
        QR_UNROLL
        for (int k = 0; k < n_in_flight; k++)
            chunk[k] = qr_load_stream(from + i + k * step);
        QR_UNROLL
        for (int k = 0; k < n_in_flight; k++)
            sum += sum_of(chunk[k]);
    }
    for (; i < p.n_chunks; i += step)
        sum += sum_of(qr_load_stream(from + i));

    for (int mask = 16; mask > 0; mask /= 2)
        sum += qr_shuffle_xor(sum, mask);
    if (thread % 32 == 0)
        p.sums[thread / 32] = sum;
}
