/*
 * experts_skinny.cu - products of an expert with up to 8 rows, bound by reading its weights once: a
 * block takes 16 outputs, of gate and of up, or of down.
 */
#include "runtime/ops/cuda/experts.cuh"
#include "runtime/ops/cuda/matmul_skinny.cuh"

template <class W, class A, qr_experts_product PRODUCT, int GROUP>
struct expert_skinny : qr_skinny<qr_experts_params, W, A, 1, PRODUCT, GROUP> {
    using base = qr_skinny<qr_experts_params, W, A, 1, PRODUCT, GROUP>;
    using base::p;

    QR_DEVICE expert_skinny(const qr_experts_params &params) : base(params)
    {
    }

    QR_DEVICE void start(int first_out)
    {
        const qr_experts_block<PRODUCT> block(p);
        int g = qr_thread_index() % 32 / 4;

        base::start();
        base::lane_row = g < block.tile.n ? block.pair(g) / p.x_pairs : p.n_rows;
        QR_UNROLL
        for (int i = 0; i < 2 * PRODUCT; i++) {
            /* Past the end the last row is read again, and its results are dropped. */
            int n = first_out + g + i % 2 * 8;
            n = n < p.n_out ? n : p.n_out - 1;
            base::row_offset[i] = (uint32_t)n * (uint32_t)p.row_bytes;
            base::weight[i / 2] = block.weight(i / 2);
        }
    }

    QR_DEVICE void finish(int first_out, float *shared) const
    {
        enum { RESULTS = base::LANE_SUMS / PRODUCT * 32 };
        const qr_experts_block<PRODUCT> block(p);

        base::share(shared);
        for (int at = qr_thread_index(); at < RESULTS; at += QR_SKINNY_THREADS) {
            int n = first_out + base::out_of(at);
            int i = base::row_of(at);
            if (n >= p.n_out || i >= block.tile.n)
                continue;
            float second = PRODUCT == QR_EXPERTS_GATE_UP ? base::total(shared, at + RESULTS) : 0.0f;
            block.template store<A>(block.pair(i), n, base::total(shared, at), second);
        }
    }

    QR_DEVICE void run(float *shared)
    {
        int first_out = qr_block_index_y() * 16;
        typename base::weights even;

        if (!qr_experts_begin(p))
            return;
        start(first_out);
        base::load(even, 0);
        base::run_steps(even);
        finish(first_out, shared);
    }
};

#define EXPERTS(name, W, A, product, group)                          \
    QR_KERNEL(name, struct qr_experts_params, QR_SKINNY_THREADS, 2)  \
    {                                                                \
        QR_SHARED(shared);                                           \
        expert_skinny<W, A, product, group>(p).run((float *)shared); \
    }
/* Each thread reads 128 bytes at a time. */
#define EXPERTS_16(suffix, T)                                          \
    EXPERTS(qr_experts_gate_up8_##suffix, T, T, QR_EXPERTS_GATE_UP, 1) \
    EXPERTS(qr_experts_down8_##suffix, T, T, QR_EXPERTS_DOWN, 2)
#define EXPERTS_8(suffix, W, A)                                        \
    EXPERTS(qr_experts_gate_up8_##suffix, W, A, QR_EXPERTS_GATE_UP, 2) \
    EXPERTS(qr_experts_down8_##suffix, W, A, QR_EXPERTS_DOWN, 4)

EXPERTS_16(bf16, qr_bf16)
EXPERTS_16(f16, qr_f16)
EXPERTS_8(e4m3_bf16, qr_e4m3, qr_bf16)
EXPERTS_8(e4m3_f16, qr_e4m3, qr_f16)
EXPERTS_8(int8_bf16, qr_int8, qr_bf16)
EXPERTS_8(int8_f16, qr_int8, qr_f16)
