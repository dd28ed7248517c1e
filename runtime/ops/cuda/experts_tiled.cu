/*
 * experts_tiled.cu - products of an expert with up to 32 rows: a block takes 64 outputs of gate and
 * of up, or 128 of down. The tile's outputs are gate's and up's by turns of 16, so that a thread
 * holds both sums of an output.
 */
#include "runtime/ops/cuda/experts.cuh"
#include "runtime/ops/cuda/matmul_tiled.cuh"

template <class W, class A, qr_experts_product PRODUCT, int STAGES>
struct expert_tiled : qr_tiled<W, A, QR_EXPERT_MANY, STAGES> {
    using base = qr_tiled<W, A, QR_EXPERT_MANY, STAGES>;
    using layout = typename base::layout;
    static constexpr int OUTS = QR_TILED_OUTS / PRODUCT;

    /* In shared memory, behind the stages. */
    struct found {
        const unsigned char *weight[PRODUCT];
        int32_t pairs[QR_EXPERT_MANY];    /* -1: none */
        int32_t x_chunks[QR_EXPERT_MANY]; /* where their rows of x start, in chunks of 16 bytes */
    };

    const qr_experts_params &p;
    found *rows;

    QR_DEVICE expert_tiled(const qr_experts_params &params, unsigned char *memory)
        : base(memory), p(params), rows((found *)(memory + base::SHARED_BYTES))
    {
    }

    QR_DEVICE void find_rows()
    {
        const qr_experts_block<PRODUCT> block(p);
        int i = qr_thread_index();

        if (i < QR_EXPERT_MANY) {
            int pair = i < block.tile.n ? block.pair(i) : -1;
            rows->pairs[i] = pair;
            rows->x_chunks[i] = pair < 0 ? -1 : pair / p.x_pairs * (p.n_in / 8);
        }
        if (i < PRODUCT)
            rows->weight[i] = block.weight(i) + (int64_t)first_out() * p.row_bytes;
        qr_sync_block();
    }

    QR_DEVICE static int first_out()
    {
        return qr_block_index_y() * OUTS;
    }

    /* Where output `at` of the tile is among the OUTS of its matrix. */
    QR_DEVICE static int out_in_matrix(int at)
    {
        return PRODUCT == QR_EXPERTS_GATE_UP ? at / 32 * 16 + at % 16 : at;
    }

    QR_DEVICE void load_weights(int step)
    {
        constexpr int APART = base::W_APART;
        unsigned char *to = base::stage_weights(step);
        int row = qr_thread_index() / base::W_CHUNKS; /* in [0, APART) */
        int k = step * QR_MATMUL_STEP + qr_thread_index() % base::W_CHUNKS * layout::CHUNK_LENGTH;
        int left = k < p.n_in ? p.n_out - first_out() - out_in_matrix(row) : 0;
        int64_t offset =
            (int64_t)out_in_matrix(row) * p.row_bytes + (int64_t)k * (int64_t)sizeof(W);

        QR_UNROLL
        for (int i = 0; i < QR_TILED_OUTS / APART; i++) {
            int matrix = PRODUCT == QR_EXPERTS_DOWN ? 0 : APART == 16 ? i % 2 : row / 16;
            bool ok = out_in_matrix(i * APART) < left;
            qr_copy_async(to + i * APART * base::W_CHUNKS * 16,
                          ok ? rows->weight[matrix] + offset : (const unsigned char *)p.x, ok);
            offset += (out_in_matrix((i + 1) * APART) - out_in_matrix(i * APART)) * p.row_bytes;
        }
    }

    QR_DEVICE void load_x(int step)
    {
        unsigned char *to = base::stage_x(step);
        int row = qr_thread_index() / base::X_CHUNKS;
        int k = step * QR_MATMUL_STEP + qr_thread_index() % base::X_CHUNKS * 8;

        QR_UNROLL
        for (int i = 0; i < QR_EXPERT_MANY / base::X_APART; i++) {
            int start = rows->x_chunks[row + i * base::X_APART];
            bool ok = k < p.n_in && start >= 0;
            qr_copy_async(to + i * base::X_APART * base::X_CHUNKS * 16,
                          (const qr_chunk *)p.x + (ok ? start + k / 8 : 0), ok);
        }
    }

    QR_DEVICE void end_of_slice(int slice)
    {
        base::add_to_total(slice == 0);
    }

    QR_DEVICE void store() const
    {
        enum { RESULTS = base::LANE_SUMS / PRODUCT };
        const qr_experts_block<PRODUCT> block(p);
        const float *sums = &base::total[0][0][0];

        QR_UNROLL
        for (int i = 0; i < RESULTS; i++) {
            int n = first_out() + out_in_matrix(base::out_of(i));
            int pair = rows->pairs[base::row_of(i)];
            if (n < p.n_out && pair >= 0)
                block.template store<A>(
                    pair, n, sums[i],
                    PRODUCT == QR_EXPERTS_GATE_UP ? sums[i + base::LANE_SUMS / 2] : 0.0f);
        }
    }

    QR_DEVICE void run()
    {
        if (!qr_experts_begin(p))
            return;
        find_rows();
        base::run_steps(*this, (p.n_in + QR_MATMUL_STEP - 1) / QR_MATMUL_STEP, 0,
                        p.slice_length / QR_MATMUL_STEP);
        store();
    }
};

#define EXPERTS(name, W, A, product, stages)                 \
    QR_KERNEL(name, struct qr_experts_params, 128, 2)        \
    {                                                        \
        QR_SHARED(shared);                                   \
        expert_tiled<W, A, product, stages> work(p, shared); \
        work.run();                                          \
    }
#define EXPERTS_BOTH(suffix, W, A, stages)                                   \
    EXPERTS(qr_experts_gate_up32_##suffix, W, A, QR_EXPERTS_GATE_UP, stages) \
    EXPERTS(qr_experts_down32_##suffix, W, A, QR_EXPERTS_DOWN, stages)

EXPERTS_BOTH(bf16, qr_bf16, qr_bf16, 4)
EXPERTS_BOTH(f16, qr_f16, qr_f16, 4)
EXPERTS_BOTH(e4m3_bf16, qr_e4m3, qr_bf16, 6)
EXPERTS_BOTH(e4m3_f16, qr_e4m3, qr_f16, 6)
EXPERTS_BOTH(int8_bf16, qr_int8, qr_bf16, 6)
EXPERTS_BOTH(int8_f16, qr_int8, qr_f16, 6)
