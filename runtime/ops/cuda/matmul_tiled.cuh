/*
 * matmul_tiled.cuh - how a block sums the products of many rows: a tile of 128 outputs by 32, 64 or
 * 128 rows. Where the weights and the rows lie, and what becomes of the sums, its users say.
 *
 * Weights and x pass through shared memory in steps of 64 elements of k, several steps ahead
 * (cp.async). A warp computes 32 outputs of 32 or 64 rows. The slices of k follow each other in a
 * block: each is summed from zero and added to the total.
 *
 * Shared memory: a row of a step is 128 bytes (8-bit weights: 64), and a quarter warp reads the
 * 16-byte chunks of rows g and g + 1 at a time. Chunk c of row r stands at c ^ swizzle(r), so that
 * the eight chunks lie in different banks.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_MATMUL_TILED_CUH
#define QUIRE_RUNTIME_OPS_CUDA_MATMUL_TILED_CUH

#include "runtime/ops/cuda/matmul_fragments.cuh"

template <class W, class A, int ROWS, int STAGES> struct qr_tiled {
    using layout = qr_weight_layout<W>;
    static constexpr int ROW_TILES = ROWS == 32 ? 4 : 8; /* of a warp, 8 rows each */
    static constexpr int OUT_TILES = 2;                  /* of a warp, 16 outputs each */
    static constexpr int THREADS = ROWS == 128 ? 256 : 128;
    static constexpr int W_CHUNKS = QR_MATMUL_STEP * (int)sizeof(W) / 16; /* of a row and step */
    static constexpr int X_CHUNKS = QR_MATMUL_STEP * 2 / 16;
    static constexpr int W_BYTES = QR_TILED_OUTS * W_CHUNKS * 16;
    static constexpr int STAGE_BYTES = W_BYTES + ROWS * X_CHUNKS * 16;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;
    static constexpr int LANE_SUMS = OUT_TILES * ROW_TILES * 4;
    /* A thread copies the same chunk of every so many'th row; these rows have one swizzle. */
    static constexpr int W_APART = THREADS / W_CHUNKS;
    static constexpr int X_APART = THREADS / X_CHUNKS;

    unsigned char *shared;
    float sum[OUT_TILES][ROW_TILES][4];   /* of the slice */
    float total[OUT_TILES][ROW_TILES][4]; /* of the slices before */

    QR_DEVICE qr_tiled(unsigned char *memory) : shared(memory)
    {
    }

    QR_DEVICE static int w_place(int row, int c)
    {
        return (row * W_CHUNKS + (sizeof(W) == 2 ? c ^ (row & 1) << 2 : c)) * 16;
    }
    QR_DEVICE static int x_place(int row, int c)
    {
        return W_BYTES + (row * X_CHUNKS + (c ^ (sizeof(W) == 2 ? (row & 1) << 2 : row & 1))) * 16;
    }

    QR_DEVICE unsigned char *stage(int step) const
    {
        return shared + step % STAGES * STAGE_BYTES;
    }
    /* Where this thread's first row of weights, and of x, goes; the others follow. */
    QR_DEVICE unsigned char *stage_weights(int step) const
    {
        return stage(step) + w_place(qr_thread_index() / W_CHUNKS, qr_thread_index() % W_CHUNKS);
    }
    QR_DEVICE unsigned char *stage_x(int step) const
    {
        return stage(step) + x_place(qr_thread_index() / X_CHUNKS, qr_thread_index() % X_CHUNKS);
    }

    QR_DEVICE void compute(int step)
    {
        const unsigned char *from = this->stage(step);
        int lane = qr_thread_index() % 32;
        int warp = qr_thread_index() / 32;
        int g = lane / 4;
        int t = lane % 4;
        uint32_t pairs[2 * OUT_TILES][8];

        QR_UNROLL
        for (int i = 0; i < 2 * OUT_TILES; i++) {
            int row = warp % 4 * 32 + 8 * i + g;
            qr_chunk chunk[layout::CHUNKS];
            QR_UNROLL
            for (int c = 0; c < layout::CHUNKS; c++)
                chunk[c] = qr_load_chunk(
                    from + w_place(row, layout::weight_k(c, t) / layout::CHUNK_LENGTH));
            qr_weight_pairs(W{}, A{}, chunk, pairs[i]);
        }
        QR_UNROLL
        for (int c = 0; c < 2; c++) {
            QR_UNROLL
            for (int r = 0; r < ROW_TILES; r++) {
                int row = warp / 4 * 64 + 8 * r + g;
                qr_chunk x = qr_load_chunk(from + x_place(row, layout::x_k(c, t) / 8));
                QR_UNROLL
                for (int i = 0; i < 2 * OUT_TILES; i++)
                    qr_step_product<A>(2 * c + i / OUT_TILES, sum[i % OUT_TILES][r],
                                       pairs[2 * (i % OUT_TILES)], pairs[2 * (i % OUT_TILES) + 1],
                                       x);
            }
        }
    }

    /* The slice is complete: its sums go to the total. */
    QR_DEVICE void add_to_total(bool first)
    {
        QR_UNROLL
        for (int i = 0; i < LANE_SUMS; i++) {
            float *s = &sum[0][0][0] + i;
            float *all = &total[0][0][0] + i;
            *all = first ? *s : *all + *s;
            *s = 0.0f;
        }
    }

    /* Output and row in the tile of this thread's sum i. */
    QR_DEVICE static int out_of(int i)
    {
        int thread = qr_thread_index();
        return thread / 32 % 4 * 32 + i / (4 * ROW_TILES) * 16 + thread % 32 / 4 + i % 4 / 2 * 8;
    }
    QR_DEVICE static int row_of(int i)
    {
        int thread = qr_thread_index();
        return thread / 128 * 64 + i / 4 % ROW_TILES * 8 + thread % 4 * 2 + i % 2;
    }

    /* All steps. work: load_weights(step) and load_x(step) copy, also of steps past the end, where
     * they copy zeros; end_of_slice(slice). Returns with no copy under way. */
    template <class Work>
    QR_DEVICE void run_steps(Work &work, int n_steps, int slice, int steps_per_slice)
    {
        int left = steps_per_slice;

        for (int i = 0; i < STAGES - 1; i++)
            work.load_weights(i);
        qr_allow_next_kernel();
        qr_wait_for_previous_kernel();
        for (int i = 0; i < STAGES - 1; i++) {
            work.load_x(i);
            qr_copy_async_commit();
        }
        QR_UNROLL
        for (int i = 0; i < LANE_SUMS; i++)
            (&sum[0][0][0])[i] = 0.0f;
        for (int step = 0; step < n_steps; step++) {
            qr_copy_async_wait<STAGES - 2>();
            qr_sync_block(); /* all see the step, and none still reads the stage loaded next */
            work.load_weights(step + STAGES - 1);
            work.load_x(step + STAGES - 1);
            qr_copy_async_commit();
            compute(step);
            if (--left == 0 || step == n_steps - 1) {
                work.end_of_slice(slice++);
                left = steps_per_slice;
            }
        }
        qr_copy_async_wait<0>();
    }
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_MATMUL_TILED_CUH */
