/*
 * matmul_skinny.cuh - how a block sums the products of few rows: its eight warps are the slices of
 * k, and it takes OUT_TILES m16 tiles of outputs of ROW_TILES n8 tiles of rows. Where the weights
 * and the rows lie, and what becomes of the sums, its users say.
 *
 * A lane reads its weights straight into registers, one group of steps ahead of the group it
 * computes on: 128 bytes in flight a thread while it computes, 64 KiB a multiprocessor with the
 * two blocks that fit. x is small and stays in the first-level cache, which the weights pass by.
 */
#ifndef QUIRE_RUNTIME_OPS_CUDA_MATMUL_SKINNY_CUH
#define QUIRE_RUNTIME_OPS_CUDA_MATMUL_SKINNY_CUH

#include "runtime/ops/cuda/matmul_fragments.cuh"

/* GROUP steps are loaded together. P: qr_matmul_params, or what has its x, row_bytes,
 * n_rows, n_in, slice_length and n_slices. */
template <class P, class W, class A, int ROW_TILES, int OUT_TILES, int GROUP> struct qr_skinny {
    using layout = qr_weight_layout<W>;
    static constexpr int ROWS = 8 * ROW_TILES;
    static constexpr int OUTS = 16 * OUT_TILES;
    static constexpr int LANE_SUMS = 4 * ROW_TILES * OUT_TILES;

    struct weights {
        qr_chunk chunk[GROUP][2 * OUT_TILES][layout::CHUNKS];
    };

    const P &p;
    const unsigned char *weight[OUT_TILES]; /* of each m16 tile */
    uint32_t row_offset[2 * OUT_TILES];     /* from there to its outputs g and g + 8 */
    int lane_row; /* of x, of the first n8 tile; those of the next ones follow by 8 */
    int t;
    int begin; /* of the slice */
    int end;
    int n_steps;
    float sum[OUT_TILES][ROW_TILES][4];

    QR_DEVICE qr_skinny(const P &params) : p(params)
    {
    }

    QR_DEVICE void start()
    {
        t = qr_thread_index() % 4;
        begin = qr_thread_index() / 32 * p.slice_length;
        end = begin + p.slice_length < p.n_in ? begin + p.slice_length : p.n_in;
        n_steps = begin < end ? (end - begin + QR_MATMUL_STEP - 1) / QR_MATMUL_STEP : 0;
        QR_UNROLL
        for (int i = 0; i < LANE_SUMS; i++)
            (&sum[0][0][0])[i] = 0.0f;
    }

    QR_DEVICE void load(weights &to, int step)
    {
        QR_UNROLL
        for (int j = 0; j < GROUP; j++) {
            QR_UNROLL
            for (int c = 0; c < layout::CHUNKS; c++) {
                int k = begin + (step + j) * QR_MATMUL_STEP + layout::weight_k(c, t);
                QR_UNROLL
                for (int i = 0; i < 2 * OUT_TILES; i++) {
                    uint32_t offset = row_offset[i] + (uint32_t)k * (uint32_t)sizeof(W);
                    to.chunk[j][i][c] =
                        k < end ? qr_load_stream(weight[i / 2] + offset) : qr_chunk{{0, 0, 0, 0}};
                }
            }
        }
    }

    QR_DEVICE void load_x(qr_chunk (*to)[2], int step) const
    {
        const A *from = (const A *)p.x + (uint32_t)(lane_row * p.n_in);

        QR_UNROLL
        for (int i = 0; i < 2 * ROW_TILES; i++) {
            int k = begin + step * QR_MATMUL_STEP + layout::x_k(i % 2, t);
            to[i / 2][i % 2] = lane_row + i / 2 * 8 < p.n_rows && k < end
                                   ? qr_load_chunk(from + i / 2 * 8 * p.n_in + k)
                                   : qr_chunk{{0, 0, 0, 0}};
        }
    }

    /* x comes from the first-level cache; the registers hold two steps of 8 rows, one of 16. */
    QR_DEVICE void compute(const weights &from, int step)
    {
        constexpr int AHEAD = ROW_TILES == 1 && GROUP > 1 ? 2 : 1;
        qr_chunk rows[AHEAD][ROW_TILES][2];

        QR_UNROLL
        for (int j = 0; j < GROUP; j++) {
            if (j % AHEAD == 0) {
                QR_UNROLL
                for (int i = 0; i < AHEAD; i++)
                    load_x(rows[i], step + j + i);
            }
            if (step + j < n_steps)
                compute_step(from.chunk[j], rows[j % AHEAD]);
        }
    }

    QR_DEVICE void compute_step(const qr_chunk (*w)[layout::CHUNKS], const qr_chunk (*rows)[2])
    {
        QR_UNROLL
        for (int o = 0; o < OUT_TILES; o++) {
            uint32_t low[8];
            uint32_t high[8];
            qr_weight_pairs(W{}, A{}, w[2 * o], low);
            qr_weight_pairs(W{}, A{}, w[2 * o + 1], high);
            QR_UNROLL
            for (int q = 0; q < 4; q++) {
                QR_UNROLL
                for (int r = 0; r < ROW_TILES; r++)
                    qr_step_product<A>(q, sum[o][r], low, high, rows[r][q / 2]);
            }
        }
    }

    /* All steps of the slice; `even` holds the first group. */
    QR_DEVICE void run_steps(weights &even)
    {
        weights odd;

        for (int step = 0; step < n_steps; step += 2 * GROUP) {
            load(odd, step + GROUP);
            compute(even, step);
            load(even, step + 2 * GROUP);
            compute(odd, step + GROUP);
        }
    }

    /* The sums to where total() finds them. shared: [8 slices][LANE_SUMS][32] */
    QR_DEVICE void share(float *shared) const
    {
        float *mine = shared + qr_thread_index() / 32 * LANE_SUMS * 32 + qr_thread_index() % 32;

        QR_UNROLL
        for (int i = 0; i < LANE_SUMS; i++)
            mine[i * 32] = (&sum[0][0][0])[i];
        qr_sync_block();
    }

    /* Result `at` in [0, LANE_SUMS * 32), of output out_of(at) and row row_of(at) of the block: the
     * slices in ascending order. */
    QR_DEVICE float total(const float *shared, int at) const
    {
        float total = shared[at];
        for (int slice = 1; slice < p.n_slices; slice++)
            total += shared[slice * LANE_SUMS * 32 + at];
        return total;
    }
    QR_DEVICE static int out_of(int at)
    {
        int i = at / 32;
        return i / (4 * ROW_TILES) * 16 + at % 32 / 4 + i % 4 / 2 * 8;
    }
    QR_DEVICE static int row_of(int at)
    {
        int i = at / 32;
        return i / 4 % ROW_TILES * 8 + at % 4 * 2 + i % 2;
    }
};

#endif /* QUIRE_RUNTIME_OPS_CUDA_MATMUL_SKINNY_CUH */
