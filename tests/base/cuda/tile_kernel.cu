/*
 * tile_kernel.cu - small products that use most primitives together: copies in the background,
 * matrix loads, products, and a sum over warps in shared memory; one with bulk copies.
 */
#include "base/cuda/primitives.cuh"
#include "tests/base/cuda/tile_kernel.h"

/* One 16x16 step of A by ldmatrix, and of x straight from global memory. */
QR_DEVICE void step_product(float *c, const unsigned char *tile, const unsigned char *x)
{
    int lane = qr_thread_index() % 32, i = lane / 8, row = lane % 8 + 8 * (i % 2);
    uint32_t a[4], b[2];
    qr_load_matrix_x4(a, tile + row * 32 + 16 * (i / 2));
    for (int h = 0; h < 2; h++)
        b[h] = *(const uint32_t *)(x + (lane / 4) * 32 + 16 * h + 4 * (lane % 4));
    qr_mma(qr_bf16{}, c, a, b);
}

/* The warps' sums, added in the order of the warps. */
QR_DEVICE void add_warps(const qr_test_tile_params &p, float *sums, const float *c)
{
    int warp = qr_thread_index() / 32, lane = qr_thread_index() % 32;
    qr_sync_block();
    for (int i = 0; i < 4; i++)
        sums[warp * 128 + (lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = c[i];
    qr_sync_block();
    float total = 0.0f;
    for (int w = 0; w < TILE_WARPS; w++)
        total += sums[w * 128 + qr_thread_index()];
    p.out[qr_block_index() * 128 + qr_thread_index()] = total;
}

/* Each warp copies and multiplies every fourth step, two steps ahead. */
QR_KERNEL(qr_test_tile_async, qr_test_tile_params, 128, 1)
{
    QR_SHARED(shared);
    int warp = qr_thread_index() / 32, lane = qr_thread_index() % 32;
    const unsigned char *w =
        (const unsigned char *)p.w + (size_t)qr_block_index() * (size_t)p.n_steps * 512;
    unsigned char *ring = shared + warp * 3 * 512;
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    auto copy = [&](int step, int stage) {
        bool ok = step < p.n_steps;
        qr_copy_async(ring + stage * 512 + lane * 16, ok ? w + step * 512 + lane * 16 : w, ok);
        qr_copy_async_commit();
    };
    copy(warp, 0);
    copy(warp + TILE_WARPS, 1);
    int stage = 0;
    for (int step = warp; step < p.n_steps; step += TILE_WARPS) {
        qr_copy_async_wait<1>();
        qr_sync_warp();
        step_product(c, ring + stage * 512, (const unsigned char *)p.x + step * 256);
        copy(step + 2 * TILE_WARPS, (stage + 2) % 3);
        stage = (stage + 1) % 3;
    }
    qr_copy_async_wait<0>();
    add_warps(p, (float *)(void *)shared, c);
}

/* A fifth warp copies for the four others. */
QR_KERNEL(qr_test_tile_bulk, qr_test_tile_params, 160, 1)
{
#if QR_HAS_BULK_COPY
    constexpr int N_STAGES = 8; /* a multiple of the warps: a stage is always the same warp's */
    QR_SHARED(shared);
    uint64_t *full = (uint64_t *)(void *)(shared + N_STAGES * 512), *empty = full + N_STAGES;
    int warp = qr_thread_index() / 32;
    if (qr_thread_index() == 0) {
        for (int i = 0; i < N_STAGES; i++) {
            qr_mbarrier_init(full + i, 1);
            qr_mbarrier_init(empty + i, 1);
        }
        qr_mbarrier_init_fence();
    }
    qr_sync_block();
    const unsigned char *w =
        (const unsigned char *)p.w + (size_t)qr_block_index() * (size_t)p.n_steps * 512;
    if (warp == TILE_WARPS) {
        for (int step = 0; qr_thread_index() % 32 == 0 && step < p.n_steps; step++) {
            int stage = step % N_STAGES;
            if (step >= N_STAGES)
                qr_mbarrier_wait(empty + stage, (step / N_STAGES - 1) & 1);
            qr_mbarrier_arrive_expect(full + stage, 512);
            qr_bulk_copy(shared + stage * 512, w + step * 512, 512, full + stage);
        }
        return;
    }
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int step = warp; step < p.n_steps; step += TILE_WARPS) {
        int stage = step % N_STAGES;
        qr_mbarrier_wait(full + stage, (step / N_STAGES) & 1);
        step_product(c, shared + stage * 512, (const unsigned char *)p.x + step * 256);
        qr_sync_warp();
        if (qr_thread_index() % 32 == 0)
            qr_mbarrier_arrive(empty + stage);
    }
    qr_sync_some(1, 128); /* the ring is free: it becomes the sums */
    float *sums = (float *)(void *)shared;
    int lane = qr_thread_index() % 32;
    for (int i = 0; i < 4; i++)
        sums[warp * 128 + (lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = c[i];
    qr_sync_some(1, 128);
    float total = 0.0f;
    for (int i = 0; i < TILE_WARPS; i++)
        total += sums[i * 128 + qr_thread_index()];
    p.out[qr_block_index() * 128 + qr_thread_index()] = total;
#endif
}
