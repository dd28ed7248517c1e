/*
 * attn_prefill_wide.cuh - attention of many queries of one sequence by products of warpgroups
 * (sm_90a), after FlashAttention-3 (Shah et al., 2024).
 *
 * A block takes 128 queries (pairs of a row and a head of the group, row by row), 64 for each of
 * its two warpgroups, which share stages of 64 keys that cp.async brings four deep. Queries stand
 * on the rows of the products and stay in registers; K and V are read where they lie in shared
 * memory. While a warpgroup makes weights of the scores of one stage, its product with V of the
 * stage before is computed.
 *
 * Softmax goes on by stages of 64 keys over the whole context, where split.cuh goes by tiles of
 * 16 in splits of 128: other roundings, so other bits than those of decode. It is used in steps of
 * many rows, and not where bits must be the same there too (qr_cuda_attention_config).
 *
 * A page's rows of 64 elements lie as the operand of a product wants them: chunk c of row r at
 * c ^ (r % 8) (kv_layout.cuh). Rows of 128 elements are two such panels.
 */
#ifndef QUIRE_ATTENTION_CUDA_ATTN_PREFILL_WIDE_CUH
#define QUIRE_ATTENTION_CUDA_ATTN_PREFILL_WIDE_CUH

#include "attention/cuda/prefill_item.cuh"
#include "attention/cuda/split.cuh"

#if QR_HAS_WGMMA
/* KV: qr_bf16 or qr_f16; D: 64 or 128. */
template <class KV, int D> struct qr_wide_prefill {
    enum {
        KEYS = QR_WIDE_KEYS,
        CHUNKS = D / 8,             /* of 16 bytes, a row */
        PANELS = D / 64,            /* of K and of V */
        PANEL = KEYS * 128,         /* bytes */
        STAGE = 2 * PANELS * PANEL, /* K, then V */
        STEPS = D / 16,             /* of the scores */
        COLUMNS = 2 * 16,           /* sums of a thread of one product: 2 rows x 16 */
    };

    const qr_attend_kernel_params &p;
    unsigned char *shared; /* aligned to 1024 */
    int lane, group;       /* which warpgroup */
    int query;             /* of the item: row g of this thread; the other one is 8 behind */
    const int32_t *tables;
    const qr_plan_row *rows;

    /* Of the item at hand. */
    const qr_prefill_item *item;
    int kv_head;
    int first, last; /* the least and the greatest position of the warpgroup */
    int position[2]; /* of this thread's rows */

    uint32_t q[STEPS][4];
    float o[PANELS][COLUMNS];
    float m[2], l[2]; /* l: of this thread's columns alone, until the end */

    QR_DEVICE qr_wide_prefill(const qr_attend_kernel_params &params, unsigned char *memory)
        : p(params)
    {
        int warp = qr_thread_index() >> 5;
        lane = qr_thread_index() & 31;
        group = warp >> 2;
        query = warp * 16 + (lane >> 2);
        shared = memory + (-qr_shared_address(memory) & 1023u);
    }

    QR_DEVICE int row_of(int i) const
    {
        return qr_item_row(p, item, nullptr, i);
    }
    QR_DEVICE int64_t offset_of(int i) const
    {
        return qr_item_offset(p, item, nullptr, kv_head, i, D);
    }
    QR_DEVICE int window() const
    {
        return p.window != 0 ? p.window : QR_NO_WINDOW;
    }

    QR_DEVICE void enter_queries()
    {
        int begin = group * QR_WIDE_GROUP_QUERIES, end = begin + QR_WIDE_GROUP_QUERIES;
        first = rows[row_of(begin)].position;
        last = rows[row_of(end - 1)].position;
        QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int at = query + 8 * h;
            bool is_there = at < item->n_queries;
            const uint32_t *from = (const uint32_t *)p.q + (is_there ? offset_of(at) / 2 : 0);
            position[h] = rows[row_of(at)].position;
            m[h] = QR_MINUS_INFINITY;
            l[h] = 0.0f;
            QR_UNROLL
            for (int k = 0; k < STEPS; k++) {
                q[k][h] = is_there ? from[8 * k + (lane & 3)] : 0;
                q[k][2 + h] = is_there ? from[8 * k + 4 + (lane & 3)] : 0;
            }
        }
        QR_UNROLL
        for (int n = 0; n < PANELS; n++)
            QR_UNROLL
        for (int i = 0; i < COLUMNS; i++)
            o[n][i] = 0.0f;
    }

    QR_DEVICE unsigned char *stage_of(int n) const
    {
        return shared + n % QR_WIDE_STAGES * STAGE;
    }

    /* KEYS keys from `key` on; zeros behind the last one that exists. */
    QR_DEVICE void load(unsigned char *stage, int key) const
    {
        const int32_t *table = tables + item->table;
        QR_UNROLL
        for (int i = 0; i < KEYS * CHUNKS / QR_WIDE_THREADS; i++) {
            int chunk = i * QR_WIDE_THREADS + qr_thread_index();
            int row = chunk / CHUNKS, at = chunk % CHUNKS;
            bool ok = key + row < item->end_key;
            const unsigned char *k = p.kv.pool;
            if (ok)
                k = qr_kv_row(p.kv, table, kv_head, key + row, D * 2) + at * 16;
            unsigned char *to = stage + at / 8 * PANEL + row * 128 + at % 8 * 16;
            qr_copy_async(to, k, ok);
            qr_copy_async(to + PANELS * PANEL, k + (ok ? p.kv.value_bytes : 0), ok);
        }
    }

    /* s = Q K^T, in the background. */
    QR_DEVICE void ask_for_scores(float *s, const unsigned char *stage) const
    {
        QR_UNROLL
        for (int k = 0; k < STEPS; k++)
            qr_wgmma<false>(KV{}, s, q[k], qr_wgmma_operand(stage + k / 4 * PANEL + k % 4 * 32),
                            k > 0);
        qr_wgmma_commit();
    }

    /* o += P V, in the background. */
    QR_DEVICE void ask_for_values(const uint32_t (*weights)[4], const unsigned char *stage)
    {
        const unsigned char *v = stage + PANELS * PANEL;
        QR_UNROLL
        for (int k = 0; k < KEYS / 16; k++)
            QR_UNROLL
        for (int n = 0; n < PANELS; n++)
            qr_wgmma<true>(KV{}, o[n], weights[k], qr_wgmma_operand(v + n * PANEL + k * 2048),
                           true);
        qr_wgmma_commit();
    }

    QR_DEVICE void cap(float *s) const
    {
        QR_UNROLL
        for (int i = 0; i < COLUMNS; i++)
            s[i] = qr_tanh_of(s[i] * p.cap_in);
    }

    QR_DEVICE void mask(float *s, int key) const
    {
        QR_UNROLL
        for (int i = 0; i < COLUMNS; i++) {
            int k = key + i / 4 * 8 + (lane & 3) * 2 + i % 2, at = position[i / 2 % 2];
            if (k > at || k <= at - window() || k >= item->end_key)
                s[i] = QR_MINUS_INFINITY;
        }
    }

    /* Scores become weights; factor: of what was summed up before. */
    QR_DEVICE void weigh(float *s, int key, float *factor)
    {
        if (p.cap_in != 0.0f)
            cap(s);
        if (key + KEYS > first + 1 || key + KEYS > item->end_key || key <= last - window())
            mask(s, key);
        QR_UNROLL
        for (int h = 0; h < 2; h++) {
            float max = m[h], sum = 0.0f;
            QR_UNROLL
            for (int i = 2 * h; i < COLUMNS; i += 4)
                max = qr_max(max, qr_max(s[i], s[i + 1]));
            max = qr_max(max, qr_shuffle_xor(max, 1));
            max = qr_max(max, qr_shuffle_xor(max, 2));
            factor[h] = qr_rescale(m[h], max, p.scale);
            float base = max == QR_MINUS_INFINITY ? 0.0f : -(max * p.scale);
            m[h] = max;
            QR_UNROLL
            for (int i = 2 * h; i < COLUMNS; i += 4) {
                s[i] = qr_exp2(qr_fma(s[i], p.scale, base));
                s[i + 1] = qr_exp2(qr_fma(s[i + 1], p.scale, base));
                sum += s[i] + s[i + 1];
            }
            l[h] = qr_fma(l[h], factor[h], sum);
        }
    }

    QR_DEVICE void rescale(const float *factor)
    {
        if (qr_ballot(factor[0] != 1.0f || factor[1] != 1.0f) == 0)
            return; /* it would change no bit */
        QR_UNROLL
        for (int n = 0; n < PANELS; n++)
            QR_UNROLL
        for (int i = 0; i < COLUMNS; i++)
            o[n][i] *= factor[i / 2 % 2];
    }

    QR_DEVICE static void pack(uint32_t (*weights)[4], const float *s)
    {
        QR_UNROLL
        for (int k = 0; k < KEYS / 16; k++)
            QR_UNROLL
        for (int i = 0; i < 4; i++)
            weights[k][i] = qr_pack(KV{}, s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
    }

    QR_DEVICE void settle_values()
    {
        QR_UNROLL
        for (int n = 0; n < PANELS; n++)
            qr_wgmma_settle(o[n]);
    }

    /* Stage n is there for all threads, and what was read two stages ago is not needed any more. */
    QR_DEVICE void enter_stage(int n, int begin) const
    {
        qr_copy_async_wait<1>();
        qr_wgmma_fence_shared();
        qr_sync_block();
        int key = begin + (n + 2) * KEYS;
        if (key < item->end_key)
            load(stage_of(n + 2), key);
        qr_copy_async_commit();
    }

    /* Both warpgroups go through all stages, though the first may not see the last of them: to
     * the compiler all products are then asked for by all, which keeps them in the background. */
    QR_DEVICE void attend()
    {
        int begin = p.window != 0 ? item->first_key & ~(KEYS - 1) : 0;
        int n_stages = (item->end_key - begin + KEYS - 1) / KEYS;
        uint32_t weights[KEYS / 16][4];
        float s[COLUMNS], factor[2];

        for (int n = 0; n < 2; n++) {
            if (begin + n * KEYS < item->end_key)
                load(stage_of(n), begin + n * KEYS);
            qr_copy_async_commit();
        }
        enter_stage(0, begin);
        start(s);
        ask_for_scores(s, stage_of(0));
        qr_wgmma_wait<0>();
        qr_wgmma_settle(s);
        weigh(s, begin, factor);
        pack(weights, s);
        for (int n = 1; n < n_stages; n++) {
            enter_stage(n, begin);
            start(s);
            ask_for_scores(s, stage_of(n));
            ask_for_values(weights, stage_of(n - 1));
            qr_wgmma_wait<1>();
            qr_wgmma_settle(s);
            weigh(s, begin + n * KEYS, factor);
            qr_wgmma_wait<0>();
            settle_values();
            rescale(factor);
            pack(weights, s);
        }
        qr_wgmma_fence();
        ask_for_values(weights, stage_of(n_stages - 1));
        qr_wgmma_wait<0>();
        settle_values();
        qr_copy_async_wait<0>();
        qr_sync_block(); /* the stages may be filled again */
    }

    /* Before products are asked for. */
    QR_DEVICE static void start(float *s)
    {
        QR_UNROLL
        for (int i = 0; i < COLUMNS; i++)
            s[i] = 0.0f;
        qr_wgmma_fence();
    }

    QR_DEVICE void write_out()
    {
        QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int at = query + 8 * h;
            float sum = l[h];
            sum += qr_shuffle_xor(sum, 1);
            sum += qr_shuffle_xor(sum, 2);
            if (at >= item->n_queries)
                continue;
            float inverse = p.v_scale / sum;
            uint32_t *to = (uint32_t *)p.out + offset_of(at) / 2 + (lane & 3);
            QR_UNROLL
            for (int n = 0; n < PANELS; n++)
                QR_UNROLL
            for (int j = 0; j < 8; j++) {
                const float *pair = &o[n][4 * j + 2 * h];
                to[n * 32 + j * 4] = qr_pack(KV{}, pair[0] * inverse, pair[1] * inverse);
            }
        }
    }

    QR_DEVICE void run()
    {
        qr_wait_for_previous_kernel();
        qr_allow_next_kernel();
        const unsigned char *plan = (const unsigned char *)p.plan;
        const qr_prefill_item *items = (const qr_prefill_item *)(plan + p.plan->prefill);
        int n_work = p.plan->n_prefill * p.n_kv_heads;
        tables = (const int32_t *)(plan + p.plan->tables);
        rows = (const qr_plan_row *)(plan + p.plan->rows);

        for (int work = qr_block_index(); work < n_work; work += qr_grid_size()) {
            item = items + work / p.n_kv_heads;
            kv_head = work % p.n_kv_heads;
            enter_queries();
            attend();
            write_out();
        }
    }
};
#endif

#if QR_HAS_WGMMA
#define QR_WIDE_PREFILL_BODY(KV, D)            \
    QR_SHARED(memory);                         \
    qr_wide_prefill<KV, D> prefill(p, memory); \
    prefill.run();
#else /* the host does not launch it there */
#define QR_WIDE_PREFILL_BODY(KV, D) (void)p;
#endif

#define QR_WIDE_PREFILL_KERNEL(TYPE, KV, D)                                                        \
    QR_KERNEL(qr_attn_prefill_wide_##TYPE##_d##D, struct qr_attend_kernel_params, QR_WIDE_THREADS, \
              1)                                                                                   \
    {                                                                                              \
        QR_WIDE_PREFILL_BODY(KV, D)                                                                \
    }

#endif /* QUIRE_ATTENTION_CUDA_ATTN_PREFILL_WIDE_CUH */
