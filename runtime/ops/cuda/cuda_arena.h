/*
 * cuda_arena.h - device memory taken in one piece and handed out from its beginning.
 *
 * Pieces are aligned to 256 bytes, zeroed, and given back all at once. What does not fit any more
 * gets a block of its own, so that an estimate that was too small costs an allocation and no more.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_CUDA_ARENA_H
#define QUIRE_RUNTIME_OPS_CUDA_CUDA_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/cuda/cuda.h"

enum { QR_CUDA_ALIGNMENT = 256, QR_CUDA_ARENA_BLOCKS = 64 };

struct qr_cuda_arena {
    struct qr_cuda *cuda; /* borrowed */
    const char *what;     /* for messages */
    qr_cu_address blocks[QR_CUDA_ARENA_BLOCKS];
    int32_t n_blocks;
    size_t capacity; /* of the first block */
    size_t used;     /* of it */
};

QR_BEGIN_DECLS

/* n_bytes rounded up to what a piece takes. */
size_t qr_cuda_arena_round(size_t n_bytes);
/* Takes n_bytes. QR_ERR_NOMEM: the device has not so much; err says how much it has. */
QR_MUST_CHECK enum qr_status qr_cuda_arena_open(struct qr_cuda *cuda, const char *what,
                                                size_t n_bytes, struct qr_cuda_arena *out,
                                                struct qr_error *err);
void qr_cuda_arena_close(struct qr_cuda_arena *arena); /* accepts a zeroed struct */
/* A piece, or NULL when the device's memory is exhausted. */
void *qr_cuda_arena_take(struct qr_cuda_arena *arena, size_t n_bytes);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CUDA_CUDA_ARENA_H */
