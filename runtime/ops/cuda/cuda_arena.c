/* cuda_arena.c - see cuda_arena.h for the contract. */
#include "runtime/ops/cuda/cuda_arena.h"

size_t qr_cuda_arena_round(size_t n_bytes)
{
    return (n_bytes + QR_CUDA_ALIGNMENT - 1) / QR_CUDA_ALIGNMENT * QR_CUDA_ALIGNMENT;
}

static qr_cu_address take_block(struct qr_cuda_arena *arena, size_t n_bytes)
{
    if (arena->n_blocks == QR_CUDA_ARENA_BLOCKS)
        return 0;
    qr_cu_address block = qr_cuda_alloc(arena->cuda, n_bytes);
    if (block == 0)
        return 0;
    arena->blocks[arena->n_blocks++] = block;
    qr_cuda_zero(arena->cuda, arena->what, block, n_bytes);
    return block;
}

enum qr_status qr_cuda_arena_open(struct qr_cuda *cuda, const char *what, size_t n_bytes,
                                  struct qr_cuda_arena *out, struct qr_error *err)
{
    *out = (struct qr_cuda_arena){
        .cuda = cuda, .what = what, .capacity = qr_cuda_arena_round(n_bytes)};
    if (take_block(out, out->capacity) == 0)
        return qr_fail(err, QR_ERR_NOMEM, "the device has no %zu bytes for the %s, %lld are free",
                       out->capacity, what, (long long)qr_cuda_free_bytes(cuda));
    return QR_OK;
}

void qr_cuda_arena_close(struct qr_cuda_arena *arena)
{
    for (int32_t i = 0; i < arena->n_blocks; i++)
        qr_cuda_free(arena->cuda, arena->blocks[i]);
    arena->n_blocks = 0;
}

void *qr_cuda_arena_take(struct qr_cuda_arena *arena, size_t n_bytes)
{
    size_t rounded = qr_cuda_arena_round(n_bytes > 0 ? n_bytes : 1);

    if (rounded > arena->capacity - arena->used)
        return (void *)(uintptr_t)take_block(arena, rounded);
    qr_cu_address piece = arena->blocks[0] + arena->used;
    arena->used += rounded;
    return (void *)(uintptr_t)piece;
}
