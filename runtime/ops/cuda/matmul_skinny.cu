/*
 * matmul_skinny.cu - matrix products of few rows, bound by reading the weights once.
 *
 * A block takes 16 outputs of up to 8 rows, or 32 of up to 16. The first group of weights is read
 * before the kernel waits for the one that makes x.
 */
#include "runtime/ops/cuda/matmul_skinny.cuh"

template <class W, class A, int ROW_TILES, int OUT_TILES, int GROUP>
struct skinny : qr_skinny<qr_matmul_params, W, A, ROW_TILES, OUT_TILES, GROUP> {
    using base = qr_skinny<qr_matmul_params, W, A, ROW_TILES, OUT_TILES, GROUP>;

    using base::p;

    QR_DEVICE skinny(const qr_matmul_params &params) : base(params)
    {
    }

    QR_DEVICE void start(const qr_matmul_part *part, int first_out)
    {
        const unsigned char *from =
            (const unsigned char *)part->weight + (size_t)first_out * (size_t)p.row_bytes;

        base::start();
        base::lane_row = qr_block_index_y() * base::ROWS + qr_thread_index() % 32 / 4;
        QR_UNROLL
        for (int i = 0; i < 2 * OUT_TILES; i++) {
            /* Past the end the last row is read again, and its results are dropped. */
            int n = qr_thread_index() % 32 / 4 + 8 * i;
            n = first_out + n < part->n_out ? n : part->n_out - 1 - first_out;
            base::row_offset[i] = (uint32_t)n * (uint32_t)p.row_bytes;
            base::weight[i / 2] = from;
        }
    }

    QR_DEVICE void finish(const qr_matmul_part *part, int first_out, float *shared) const
    {
        base::share(shared);
        for (int at = qr_thread_index(); at < base::LANE_SUMS * 32; at += QR_SKINNY_THREADS) {
            float result = base::total(shared, at);
            int n = first_out + base::out_of(at);
            int r = qr_block_index_y() * base::ROWS + base::row_of(at);
            if (n < part->n_out && r < p.n_rows)
                qr_store_result<A>(part, p.epilogue, n, r, result);
        }
    }

    QR_DEVICE void run(float *shared)
    {
        const qr_matmul_part *part = qr_find_part(p, qr_block_index());
        int first_out = (qr_block_index() - part->first_tile) * base::OUTS;
        typename base::weights even;

        start(part, first_out);
        base::load(even, 0);
        qr_allow_next_kernel();
        qr_wait_for_previous_kernel();
        base::run_steps(even);
        finish(part, first_out, shared);
    }
};

/* Rows that no 16-byte access fits (n_in no multiple of 8): the same sums, element by element. */
template <class W, class A> struct skinny_odd : skinny<W, A, 4, 1, 1> {
    using base = skinny<W, A, 4, 1, 1>;
    using layout = typename base::layout;

    QR_DEVICE skinny_odd(const qr_matmul_params &params) : base(params)
    {
    }

    /* n elements of a row, of which those from `k` on that are below `end`; zeros besides. */
    template <class T> QR_DEVICE qr_chunk gather(const void *from, int k) const
    {
        qr_chunk chunk = {{0, 0, 0, 0}};

        QR_UNROLL
        for (int i = 0; i < (int)(16 / sizeof(T)); i++) {
            if (k + i < base::end) {
                uint32_t bits = sizeof(T) == 2 ? ((const uint16_t *)from)[k + i]
                                               : ((const uint8_t *)from)[k + i];
                chunk.word[i * (int)sizeof(T) / 4] |= bits << (i * (int)sizeof(T) % 4 * 8);
            }
        }
        return chunk;
    }

    QR_DEVICE void run_odd(float *shared)
    {
        const qr_matmul_part *part = qr_find_part(base::p, qr_block_index());
        int first_out = (qr_block_index() - part->first_tile) * base::OUTS;

        base::start(part, first_out);
        qr_wait_for_previous_kernel();
        for (int step = 0; step < base::n_steps; step++) {
            int k = base::begin + step * QR_MATMUL_STEP;
            qr_chunk w[2][layout::CHUNKS];
            qr_chunk rows[4][2] = {};
            for (int i = 0; i < 2 * layout::CHUNKS; i++)
                w[i / layout::CHUNKS][i % layout::CHUNKS] =
                    gather<W>(base::weight[0] + base::row_offset[i / layout::CHUNKS],
                              k + layout::weight_k(i % layout::CHUNKS, base::t));
            for (int i = 0; i < 8; i++) {
                int r = base::lane_row + i / 2 * 8;
                if (r < base::p.n_rows)
                    rows[i / 2][i % 2] =
                        gather<A>((const A *)base::p.x + (size_t)r * (size_t)base::p.n_in,
                                  k + layout::x_k(i % 2, base::t));
            }
            base::compute_step(w, rows);
        }
        base::finish(part, first_out, shared);
    }
};

#define SKINNY(name, W, A, row_tiles, out_tiles, group)                    \
    QR_KERNEL(name, struct qr_matmul_params, QR_SKINNY_THREADS, 2)         \
    {                                                                      \
        QR_SHARED(shared);                                                 \
        skinny<W, A, row_tiles, out_tiles, group>(p).run((float *)shared); \
    }
/* Each thread reads 128 bytes at a time. */
#define SKINNY_16(suffix, T)                           \
    SKINNY(qr_matmul_skinny8_##suffix, T, T, 1, 1, 2)  \
    SKINNY(qr_matmul_skinny16_##suffix, T, T, 2, 2, 1) \
    SKINNY_ODD(suffix, T, T)
#define SKINNY_8(suffix, W, A)                         \
    SKINNY(qr_matmul_skinny8_##suffix, W, A, 1, 1, 4)  \
    SKINNY(qr_matmul_skinny16_##suffix, W, A, 2, 2, 2) \
    SKINNY_ODD(suffix, W, A)
#define SKINNY_ODD(suffix, W, A)                                                     \
    QR_KERNEL(qr_matmul_odd_##suffix, struct qr_matmul_params, QR_SKINNY_THREADS, 2) \
    {                                                                                \
        QR_SHARED(shared);                                                           \
        skinny_odd<W, A>(p).run_odd((float *)shared);                                \
    }

SKINNY_16(bf16, qr_bf16)
SKINNY_16(f16, qr_f16)
SKINNY_8(e4m3_bf16, qr_e4m3, qr_bf16)
SKINNY_8(e4m3_f16, qr_e4m3, qr_f16)
SKINNY_8(int8_bf16, qr_int8, qr_bf16)
SKINNY_8(int8_f16, qr_int8, qr_f16)
