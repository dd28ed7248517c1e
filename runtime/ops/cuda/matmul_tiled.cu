/*
 * matmul_tiled.cu - matrix products of many rows: tiles of 128 outputs by 32, 64 or 128 rows.
 *
 * Where tiles are fewer than multiprocessors, `split` blocks share a tile's slices; they leave
 * their sums in memory, and the last one to finish adds them up in ascending order, so the bits are
 * the same.
 */
#include "runtime/ops/cuda/matmul_tiled.cuh"

template <class W, class A, int ROWS, int STAGES> struct tiled : qr_tiled<W, A, ROWS, STAGES> {
    using base = qr_tiled<W, A, ROWS, STAGES>;
    using layout = typename base::layout;
    using base::shared;
    using base::sum;
    using base::total;
    static constexpr int ROW_TILES = base::ROW_TILES;
    static constexpr int OUT_TILES = base::OUT_TILES;
    static constexpr int THREADS = base::THREADS;
    static constexpr int W_CHUNKS = base::W_CHUNKS;
    static constexpr int X_CHUNKS = base::X_CHUNKS;

    const qr_matmul_params &p;
    const qr_matmul_part *part;
    int tile;
    int first_out;
    int first_row;
    int first_slice; /* of this block, and the end */
    int end_slice;
    int begin; /* of k, and the end */
    int end;
    int n_steps;

    QR_DEVICE tiled(const qr_matmul_params &params, unsigned char *memory) : base(memory), p(params)
    {
        int share = qr_block_index() % p.split;

        tile = qr_block_index() / p.split;
        part = qr_find_part(p, tile / p.n_row_tiles);
        first_out = (tile / p.n_row_tiles - part->first_tile) * QR_TILED_OUTS;
        first_row = tile % p.n_row_tiles * ROWS;
        first_slice = p.n_slices * share / p.split;
        end_slice = p.n_slices * (share + 1) / p.split;
        begin = first_slice * p.slice_length;
        end = end_slice * p.slice_length < p.n_in ? end_slice * p.slice_length : p.n_in;
        n_steps = (end - begin + QR_MATMUL_STEP - 1) / QR_MATMUL_STEP;
    }

    /* Rows of a step, those of `left` as they are and zeros for the rest. from: of this thread's
     * first row. */
    template <int N_ROWS, int CHUNKS>
    QR_DEVICE void copy_rows(unsigned char *to, const unsigned char *from, int64_t row_bytes,
                             int left)
    {
        QR_UNROLL
        for (int i = 0; i < N_ROWS * CHUNKS / THREADS; i++) {
            constexpr int APART = THREADS / CHUNKS;
            bool ok = i * APART < left;
            qr_copy_async(to + i * APART * CHUNKS * 16, ok ? from : (const unsigned char *)p.x, ok);
            from += APART * row_bytes;
        }
    }

    QR_DEVICE void load_weights(int step)
    {
        int row = qr_thread_index() / W_CHUNKS;
        int c = qr_thread_index() % W_CHUNKS;
        int k = begin + step * QR_MATMUL_STEP + c * layout::CHUNK_LENGTH;
        const unsigned char *from = (const unsigned char *)part->weight +
                                    (int64_t)(first_out + row) * p.row_bytes +
                                    (int64_t)k * (int64_t)sizeof(W);

        copy_rows<QR_TILED_OUTS, W_CHUNKS>(base::stage_weights(step), from, p.row_bytes,
                                           k < end ? part->n_out - first_out - row : 0);
    }

    QR_DEVICE void load_x(int step)
    {
        int row = qr_thread_index() / X_CHUNKS;
        int c = qr_thread_index() % X_CHUNKS;
        int k = begin + step * QR_MATMUL_STEP + c * 8;
        const A *from = (const A *)p.x + (int64_t)(first_row + row) * p.n_in + k;

        copy_rows<ROWS, X_CHUNKS>(base::stage_x(step), (const unsigned char *)from,
                                  (int64_t)p.n_in * (int64_t)sizeof(A),
                                  k < end ? p.n_rows - first_row - row : 0);
    }

    /* This thread's sums of a slice, in memory: four floats for each of its products. */
    QR_DEVICE float *partial(int slice) const
    {
        size_t slot = (size_t)tile * QR_MATMUL_SLICES + (size_t)slice;
        return p.partials + slot * QR_TILED_OUTS * ROWS + (size_t)qr_thread_index() * 4;
    }

    QR_DEVICE void write_partial(int slice, const float (*from)[ROW_TILES][4])
    {
        float *to = partial(slice);

        QR_UNROLL
        for (int i = 0; i < OUT_TILES * ROW_TILES; i++) {
            const float *c = from[i / ROW_TILES][i % ROW_TILES];
            qr_chunk chunk = {{qr_float_bits(c[0]), qr_float_bits(c[1]), qr_float_bits(c[2]),
                               qr_float_bits(c[3])}};
            qr_store_chunk(to + (size_t)i * THREADS * 4, chunk);
        }
    }

    /* Total = the sums of slice `from` when `first`, else the total plus them. */
    QR_DEVICE void add_partial(int slice, bool first)
    {
        const float *from = partial(slice);

        QR_UNROLL
        for (int i = 0; i < OUT_TILES * ROW_TILES; i++) {
            float *c = total[i / ROW_TILES][i % ROW_TILES];
            qr_chunk chunk = qr_load_chunk(from + (size_t)i * THREADS * 4);
            QR_UNROLL
            for (int j = 0; j < 4; j++)
                c[j] = first ? qr_bits_float(chunk.word[j]) : c[j] + qr_bits_float(chunk.word[j]);
        }
    }

    /* The slice is complete: into the total where all before it are there, else into memory. */
    QR_DEVICE void end_of_slice(int slice)
    {
        if (first_slice > 0)
            write_partial(slice, sum);
        base::add_to_total(slice == 0);
    }

    /* Of the blocks that share the tile: whether this is the last one, whose total is then the
     * tile's. The first share's slices are in memory as one sum. */
    QR_DEVICE bool combine()
    {
        int *done = (int *)shared;

        if (first_slice == 0)
            write_partial(0, total);
        qr_fence();
        qr_sync_block();
        if (qr_thread_index() == 0)
            *done = qr_atomic_add(&p.counters[tile], 1) + 1;
        qr_sync_block();
        if (*done < p.split)
            return false;
        qr_fence();
        add_partial(0, true);
        for (int slice = p.n_slices / p.split; slice < p.n_slices; slice++)
            add_partial(slice, false);
        if (qr_thread_index() == 0)
            qr_atomic_add(&p.counters[tile], -p.split); /* 0 for the next launch */
        return true;
    }

    QR_DEVICE void store()
    {
        QR_UNROLL
        for (int i = 0; i < base::LANE_SUMS; i++) {
            int n = first_out + base::out_of(i);
            int r = first_row + base::row_of(i);
            if (n < part->n_out && r < p.n_rows)
                qr_store_result<A>(part, p.epilogue, n, r, (&total[0][0][0])[i]);
        }
    }

    QR_DEVICE void run()
    {
        base::run_steps(*this, n_steps, first_slice, p.slice_length / QR_MATMUL_STEP);
        if (p.split > 1) {
            qr_sync_block(); /* shared memory is used again */
            if (!combine())
                return;
        }
        store();
    }
};

#define TILED(suffix, W, A, rows, stages, min_blocks)                                             \
    QR_KERNEL(qr_matmul_tiled##rows##_##suffix, struct qr_matmul_params, rows == 128 ? 256 : 128, \
              min_blocks)                                                                         \
    {                                                                                             \
        QR_SHARED(shared);                                                                        \
        tiled<W, A, rows, stages> work(p, shared);                                                \
        work.run();                                                                               \
    }
#define TILED_ALL(suffix, W, A, stages) \
    TILED(suffix, W, A, 32, stages, 2)  \
    TILED(suffix, W, A, 64, stages, 2)  \
    TILED(suffix, W, A, 128, stages, 1)

TILED_ALL(bf16, qr_bf16, qr_bf16, 4)
TILED_ALL(f16, qr_f16, qr_f16, 4)
TILED_ALL(e4m3_bf16, qr_e4m3, qr_bf16, 6)
TILED_ALL(e4m3_f16, qr_e4m3, qr_f16, 6)
TILED_ALL(int8_bf16, qr_int8, qr_bf16, 6)
TILED_ALL(int8_f16, qr_int8, qr_f16, 6)
