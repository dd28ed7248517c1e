/*
 * page_copy.cu - whole pages: within the pool (copy-on-write), and to and from pinned host memory,
 * which the device reads and writes at the address that the host uses.
 *
 * A thread has 4 chunks in flight: 256 threads, 16 KB a block.
 */
#include "attention/cuda/plan.h"
#include "base/cuda/primitives.cuh"

enum { COPY_DEPTH = 4 };

/* Chunks first, first + stride, ... below n; both addresses aligned to 16. */
QR_DEVICE void copy_chunks(unsigned char *to, const unsigned char *from, int64_t first,
                           int64_t stride, int64_t n)
{
    for (; first < n; first += COPY_DEPTH * stride) {
        qr_chunk c[COPY_DEPTH];
        QR_UNROLL
        for (int i = 0; i < COPY_DEPTH; i++)
            if (first + i * stride < n)
                c[i] = qr_load_chunk(from + (first + i * stride) * 16);
        QR_UNROLL
        for (int i = 0; i < COPY_DEPTH; i++)
            if (first + i * stride < n)
                qr_store_chunk(to + (first + i * stride) * 16, c[i]);
    }
}

/* grid: (blocks that share a page, copies). */
QR_KERNEL(qr_copy_pages, struct qr_copy_pages_params, QR_COPY_THREADS, 4)
{
    qr_wait_for_previous_kernel();
    qr_allow_next_kernel();
    int copy = qr_block_index_y();
    copy_chunks(p.pool + p.to[copy] * p.page_bytes, p.pool + p.from[copy] * p.page_bytes,
                qr_block_index() * QR_COPY_THREADS + qr_thread_index(),
                (int64_t)qr_grid_size() * QR_COPY_THREADS, p.page_bytes / 16);
}

/* grid: blocks that go through all pages together. */
QR_KERNEL(qr_transfer_pages, struct qr_transfer_pages_params, QR_COPY_THREADS, 4)
{
    for (int i = 0; i < p.n_pages; i++) {
        unsigned char *page = p.pool + p.pages[i] * p.page_bytes;
        copy_chunks(p.to_host ? p.host[i] : page, p.to_host ? page : p.host[i],
                    qr_block_index() * QR_COPY_THREADS + qr_thread_index(),
                    (int64_t)qr_grid_size() * QR_COPY_THREADS, p.page_bytes / 16);
    }
}
