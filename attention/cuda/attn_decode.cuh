/*
 * attn_decode.cuh - attention of rows that are alone in their sequence: memory-bound, so everything
 * is arranged for bytes in flight.
 *
 * A block has four warps and a run of splits that the host gave it (plan.h), which lie in one or
 * more chains. Split i of the run is warp i % 4's, from its first key to its last. Each warp keeps
 * its own ring of tiles (16 keys, K and V) in shared memory and fills a slot again as soon as it
 * has read it, across the ends of splits and chains: on sm_90 one lane issues one bulk copy for K
 * and one for V, on sm_80 each lane issues its share of cp.async. There is no warp that only
 * produces: a single thread would issue too slowly for the small tiles of FP8.
 *
 * After each round of four splits the warps leave their states in shared memory, and all threads
 * fold them in ascending order, element by element: into the sum of their group of splits, and that
 * into the total of the chain, or, where the block has not the whole chain, into global memory.
 *
 * Registers: o takes D / 4 a thread and n8 tile, the queries D / 8, sum and total D / 16 each.
 */
#ifndef QUIRE_ATTENTION_CUDA_ATTN_DECODE_CUH
#define QUIRE_ATTENTION_CUDA_ATTN_DECODE_CUH

#include "attention/cuda/split.cuh"

/* One split, as a warp walks over it. */
struct qr_split_walk {
    const qr_decode_piece *piece;
    int flat;  /* splits of the block before this one */
    int begin; /* flat of the piece's first split */
    int key;   /* first of the current tile */
    int end;   /* behind the split's last key that exists */
};

template <class KV, int D, int NT, bool BULK> struct qr_decode {
    enum {
        ROW = D * qr_kv_traits<KV>::bytes,
        TILE = QR_TILE_KEYS * ROW, /* bytes of K, and of V */
        STAGES = qr_decode_stages(ROW),
        STRIDE = qr_decode_state_stride(D),
        OWNED = (8 * NT * D + QR_ATTENTION_THREADS - 1) / QR_ATTENTION_THREADS,
    };

    const qr_attend_kernel_params &p;
    const int32_t *tables;
    const qr_decode_piece *first_piece;
    int n_splits; /* of the block */
    int lane, warp;
    unsigned char *ring; /* of this warp: [STAGES][K, V][TILE] */
    float *states;       /* [4][chain_queries][STRIDE] */
    float *sums;         /* [4][chain_queries][2]: m, l */
    uint64_t *full;      /* [STAGES] of this warp */

    QR_DEVICE qr_decode(const qr_attend_kernel_params &params, unsigned char *shared) : p(params)
    {
        lane = qr_thread_index() & 31;
        warp = qr_thread_index() >> 5;
        ring = shared + warp * (STAGES * 2 * TILE);
        states = (float *)(shared + QR_ATTENTION_WARPS * STAGES * 2 * TILE);
        sums = states + QR_ATTENTION_WARPS * p.chain_queries * STRIDE;
        full = (uint64_t *)(sums + QR_ATTENTION_WARPS * p.chain_queries * 2) + warp * STAGES;
    }

    /* ---- where a warp is ---- */

    /* Sets the tile range of the split that `w` stands at. */
    QR_DEVICE void enter(qr_split_walk *w) const
    {
        int first = (w->piece->first_split + w->flat - w->begin) * QR_SPLIT_KEYS;
        int n_keys = w->piece->n_keys;
        int first_key = w->piece->first_key;
        w->end = first + QR_SPLIT_KEYS < n_keys ? first + QR_SPLIT_KEYS : n_keys;
        /* Tiles before the window change no bit: they are left out. */
        w->key = first_key > first ? first_key & ~(QR_TILE_KEYS - 1) : first;
    }
    QR_DEVICE qr_split_walk start(int flat) const
    {
        qr_split_walk w = {first_piece, flat, 0, 0, 0};
        settle(&w);
        return w;
    }
    /* Finds the piece of w->flat, if there is one. */
    QR_DEVICE void settle(qr_split_walk *w) const
    {
        if (w->flat >= n_splits)
            return;
        while (w->flat >= w->piece->end) {
            w->begin = w->piece->end;
            w->piece++;
        }
        enter(w);
    }
    QR_DEVICE void next_tile(qr_split_walk *w) const
    {
        w->key += QR_TILE_KEYS;
        if (w->key >= w->end) {
            w->flat += QR_ATTENTION_WARPS;
            settle(w);
        }
    }

    /* ---- loading ---- */

    QR_DEVICE void load_async(unsigned char *slot, const qr_split_walk &w) const
    {
        const int32_t *table = tables + w.piece->table;
        enum { CHUNKS = ROW / 16, HALF = 8 * CHUNKS };
        QR_UNROLL
        for (int half = 0; half < 2; half++) { /* 8 tokens: never in two pages */
            int key = w.key + 8 * half;
            bool there = key < w.end;
            const unsigned char *k =
                there ? qr_kv_row(p.kv, table, w.piece->kv_head, key, ROW) : p.kv.pool;
            QR_UNROLL
            for (int i = 0; i < (HALF + 31) / 32; i++) {
                int chunk = i * 32 + lane;
                if (HALF % 32 != 0 && chunk >= HALF)
                    continue;
                bool ok = there && key + chunk / CHUNKS < w.end;
                int from = ok ? chunk * 16 : 0;
                unsigned char *to = slot + half * (TILE / 2) + chunk * 16;
                qr_copy_async(to, k + from, ok);
                qr_copy_async(to + TILE, k + (ok ? p.kv.value_bytes : 0) + from, ok);
            }
        }
    }
#if QR_HAS_BULK_COPY
    QR_DEVICE void load_bulk(unsigned char *slot, uint64_t *barrier, const qr_split_walk &w) const
    {
        const int32_t *table = tables + w.piece->table;
        int n_halves = w.key + 8 < w.end ? 2 : 1;
        if (p.kv.page_shift == 3) { /* pages of half a tile */
            if (lane == 0)
                qr_mbarrier_arrive_expect(barrier, n_halves * TILE);
            qr_sync_warp();
            if (lane < n_halves) {
                const unsigned char *k =
                    qr_kv_row(p.kv, table, w.piece->kv_head, w.key + 8 * lane, ROW);
                qr_bulk_copy(slot + lane * (TILE / 2), k, TILE / 2, barrier);
                qr_bulk_copy(slot + TILE + lane * (TILE / 2), k + p.kv.value_bytes, TILE / 2,
                             barrier);
            }
        } else if (lane == 0) {
            const unsigned char *k = qr_kv_row(p.kv, table, w.piece->kv_head, w.key, ROW);
            qr_mbarrier_arrive_expect(barrier, 2 * TILE);
            qr_bulk_copy(slot, k, TILE, barrier);
            qr_bulk_copy(slot + TILE, k + p.kv.value_bytes, TILE, barrier);
        }
    }
#endif
    QR_DEVICE void load(int slot, const qr_split_walk &w) const
    {
#if QR_HAS_BULK_COPY
        if (BULK) {
            if (w.flat < n_splits)
                load_bulk(ring + slot * 2 * TILE, full + slot, w);
            return;
        }
#endif
        if (w.flat < n_splits)
            load_async(ring + slot * 2 * TILE, w);
        qr_copy_async_commit(); /* empty groups too, so that the oldest can be waited for */
    }
    /* All lanes see what was loaded into the slot. */
    QR_DEVICE void wait(int slot, int parity) const
    {
#if QR_HAS_BULK_COPY
        if (BULK) {
            qr_mbarrier_wait(full + slot, parity);
            return;
        }
#endif
        qr_copy_async_wait<STAGES - 1>();
        qr_sync_warp();
    }

    /* ---- one split ---- */

    QR_DEVICE void load_queries(qr_queries<D, NT> *q, const qr_decode_piece *piece) const
    {
        int t = lane & 3;
        QR_UNROLL
        for (int j = 0; j < NT; j++) {
            int query = 8 * j + (lane >> 2);
            const uint16_t *row =
                (const uint16_t *)p.q + ((int64_t)piece->row * p.n_heads + piece->head + query) * D;
            qr_load_queries<KV, D>(q->b[j], query < piece->n_queries ? row : nullptr,
                                   p.activation_is_bf16 != 0, t);
        }
    }

    QR_DEVICE void tile(qr_split_state<D, NT> *state, const qr_queries<D, NT> &q,
                        const qr_split_walk &w, const unsigned char *slot) const
    {
        float s[NT][4];
        qr_tile_scores<KV, D, NT>(s, slot, q, lane);
        if (p.cap_in != 0.0f)
            qr_cap_scores<NT>(s, p.cap_in);
        bool partial = w.key + QR_TILE_KEYS > w.end;
        if (partial || w.key < w.piece->first_key) {
            qr_visible<NT> visible;
            QR_UNROLL
            for (int j = 0; j < NT; j++)
                QR_UNROLL
            for (int h = 0; h < 2; h++)
                visible.position[j][h] = w.piece->n_keys - 1;
            visible.window = p.window != 0 ? p.window : QR_NO_WINDOW;
            visible.end = w.end;
            qr_mask_scores<NT>(s, visible, w.key + (lane >> 2));
        }
        qr_tile_softmax<D, NT>(s, state, p.scale);
        if (BULK && partial) /* cp.async has put zeros there */
            qr_tile_values<KV, D, NT, true>(state, s, slot + TILE, w.end - w.key, lane);
        else
            qr_tile_values<KV, D, NT, false>(state, s, slot + TILE, 0, lane);
    }

    /* ---- folding ---- */

    QR_DEVICE void leave_state(const qr_split_state<D, NT> &state) const
    {
        int g = lane >> 2, t = lane & 3;
        QR_UNROLL
        for (int j = 0; j < NT; j++)
            QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int query = 8 * j + 2 * t + h;
            if (query >= p.chain_queries)
                continue;
            float *o = states + (warp * p.chain_queries + query) * STRIDE;
            QR_UNROLL
            for (int i = 0; i < D / 16; i++) {
                o[qr_output_row<KV>(i, g, 0)] = state.o[j][i][h];
                o[qr_output_row<KV>(i, g, 1)] = state.o[j][i][2 + h];
            }
            if (g == 0) {
                sums[(warp * p.chain_queries + query) * 2] = state.m[j][h];
                sums[(warp * p.chain_queries + query) * 2 + 1] = state.l[j][h];
            }
        }
    }

    /* What splits are folded into: m and l of query `lane` in each warp, and the elements that this
     * thread owns, [n_queries][D] counted through. */
    struct folded {
        float m, l;
        float o[OWNED];
    };

    QR_DEVICE int element(int i) const
    {
        return i * QR_ATTENTION_THREADS + qr_thread_index();
    }

    QR_DEVICE void begin(folded *sum) const
    {
        sum->m = QR_MINUS_INFINITY;
        sum->l = 0.0f;
        QR_UNROLL
        for (int i = 0; i < OWNED; i++)
            sum->o[i] = 0.0f;
    }

    /* Both factors of query `lane`, whose m and l become those of the sum with (m, l). */
    QR_DEVICE void fold_sums(folded *sum, float m, float l, float *sum_factor, float *factor) const
    {
        float max = qr_max(sum->m, m);
        *sum_factor = qr_rescale(sum->m, max, p.scale);
        *factor = qr_rescale(m, max, p.scale);
        sum->m = max;
        sum->l = qr_fold(sum->l, *sum_factor, l, *factor);
    }

    /* The state that warp `from` left is folded into the sum of its group. */
    QR_DEVICE void fold_split(folded *sum, const qr_decode_piece &piece, int from) const
    {
        const float *o = states + from * p.chain_queries * STRIDE;
        float sum_factor = 0.0f, factor = 0.0f;
        if (lane < piece.n_queries) {
            const float *split = sums + (from * p.chain_queries + lane) * 2;
            fold_sums(sum, split[0], split[1], &sum_factor, &factor);
        }
        QR_UNROLL
        for (int i = 0; i < OWNED; i++) {
            int query = element(i) / D;
            if (i * QR_ATTENTION_THREADS >= piece.n_queries * D)
                break;
            float a = qr_shuffle(sum_factor, query & 31), b = qr_shuffle(factor, query & 31);
            if (query < piece.n_queries)
                sum->o[i] = qr_fold(sum->o[i], a, o[query * STRIDE + element(i) % D], b);
        }
    }

    /* A group into the total. */
    QR_DEVICE void fold_group(folded *total, const folded &group, int n_queries) const
    {
        float total_factor = 0.0f, factor = 0.0f;
        if (lane < n_queries)
            fold_sums(total, group.m, group.l, &total_factor, &factor);
        QR_UNROLL
        for (int i = 0; i < OWNED; i++) {
            if (i * QR_ATTENTION_THREADS >= n_queries * D)
                break;
            float a = qr_shuffle(total_factor, element(i) / D & 31);
            float b = qr_shuffle(factor, element(i) / D & 31);
            total->o[i] = qr_fold(total->o[i], a, group.o[i], b);
        }
    }

    QR_DEVICE void write_out(const folded &sum, const qr_decode_piece &piece) const
    {
        float inverse = p.v_scale / sum.l;
        int64_t out = ((int64_t)piece.row * p.n_heads + piece.head) * D;
        QR_UNROLL
        for (int i = 0; i < OWNED; i++) {
            if (i * QR_ATTENTION_THREADS >= piece.n_queries * D)
                break;
            float factor = qr_shuffle(inverse, element(i) / D & 31);
            if (element(i) < piece.n_queries * D)
                qr_store_activation<KV>(p.out, (size_t)(out + element(i)), sum.o[i] * factor,
                                        p.activation_is_bf16 != 0);
        }
    }

    /* The state of the piece's split, and of the others of its group that are folded. */
    QR_DEVICE float *state_of(const qr_decode_piece &piece, int split) const
    {
        int n = qr_states_left(piece.first_split, split + 1, piece.n_separate);
        return p.states + (int64_t)(piece.state + n - 1) * p.state_floats;
    }
    QR_DEVICE void write_sums(float *to, float m, float l, int split) const
    {
        to += p.chain_queries * D + 3 * lane;
        to[0] = m;
        to[1] = l;
        to[2] = qr_ends_group(split) ? 1.0f : 0.0f;
    }
    QR_DEVICE void write_group(const folded &sum, const qr_decode_piece &piece, int split) const
    {
        float *to = state_of(piece, split);
        QR_UNROLL
        for (int i = 0; i < OWNED; i++)
            if (element(i) < piece.n_queries * D)
                to[element(i)] = sum.o[i];
        if (warp == 0 && lane < piece.n_queries)
            write_sums(to, sum.m, sum.l, split);
    }
    QR_DEVICE void write_split(const qr_decode_piece &piece, int split, int from) const
    {
        const float *o = states + from * p.chain_queries * STRIDE;
        const float *sum = sums + (from * p.chain_queries + lane) * 2;
        float *to = state_of(piece, split);
        QR_UNROLL
        for (int i = 0; i < OWNED; i++)
            if (element(i) < piece.n_queries * D)
                to[element(i)] = o[element(i) / D * STRIDE + element(i) % D];
        if (warp == 0 && lane < piece.n_queries)
            write_sums(to, sum[0], sum[1], split);
    }

    /* A chain that this block has as a whole, or the groups of its splits by themselves. */
    struct sums_of_chain {
        folded total, group;
    };

    /* The state that warp `from` left, of the split that `w` stands at. */
    QR_DEVICE void take_split(sums_of_chain *sum, const qr_split_walk &w, int from) const
    {
        const qr_decode_piece &piece = *w.piece;
        int split = piece.first_split + w.flat - w.begin;
        if (w.flat < w.begin + piece.n_separate) {
            write_split(piece, split, from);
            return;
        }
        if (w.flat == w.begin)
            begin(&sum->total);
        if (w.flat == w.begin + piece.n_separate || split % QR_GROUP_SPLITS == 0)
            begin(&sum->group);
        fold_split(&sum->group, piece, from);
        bool is_last = w.flat + 1 == piece.end;
        if (!is_last && !qr_ends_group(split))
            return;
        if (piece.state >= 0) {
            write_group(sum->group, piece, split);
            return;
        }
        fold_group(&sum->total, sum->group, piece.n_queries);
        if (is_last)
            write_out(sum->total, piece);
    }

    /* What the four warps left, in the order of the splits. `w` walks over all splits. */
    QR_DEVICE void fold_round(sums_of_chain *sum, qr_split_walk *w) const
    {
        for (int from = 0; from < QR_ATTENTION_WARPS && w->flat < n_splits; from++) {
            take_split(sum, *w, from);
            w->flat++;
            settle(w);
        }
    }

    /* ---- the block ---- */

    QR_DEVICE void init_barriers() const
    {
#if QR_HAS_BULK_COPY
        if (BULK && lane == 0) {
            for (int i = 0; i < STAGES; i++)
                qr_mbarrier_init(full + i, 1);
            qr_mbarrier_init_fence();
        }
#endif
        qr_sync_warp(); /* a ring is its warp's own */
    }

    /* Ranges of keys are computed beside this: it starts when all blocks of that launch have seen
     * the end of the ones before, needs nothing of it, and ends after it, so that the merge finds
     * the states of both. The fence stands for the wait: nothing older is left in the first-level
     * cache. */
    QR_DEVICE void run()
    {
        init_barriers();
        if (p.in_ranges)
            qr_fence();
        else
            qr_wait_for_previous_kernel();
        qr_allow_next_kernel();
        compute();
        if (p.in_ranges)
            qr_wait_for_previous_kernel();
    }

    QR_DEVICE void compute()
    {
        const unsigned char *plan = (const unsigned char *)p.plan;
        const qr_decode_list &list = p.plan->decode[p.sliding];
        const int32_t *block_first = (const int32_t *)(plan + list.block_first) + qr_block_index();
        if (block_first[0] == block_first[1])
            return;
        tables = (const int32_t *)(plan + p.plan->tables);
        first_piece = (const qr_decode_piece *)(plan + list.pieces) + block_first[0];
        n_splits = first_piece[block_first[1] - block_first[0] - 1].end;

        qr_split_walk loading = start(warp), current = loading, folding = start(0);
        for (int i = 0; i < STAGES; i++) {
            load(i, loading);
            if (loading.flat < n_splits)
                next_tile(&loading);
        }
        walk_splits(&current, &loading, &folding);
        if (!BULK)
            qr_copy_async_wait<0>();
    }

    QR_DEVICE void walk_splits(qr_split_walk *current, qr_split_walk *loading,
                               qr_split_walk *folding)
    {
        qr_queries<D, NT> q;
        sums_of_chain sum = {{QR_MINUS_INFINITY, 0.0f, {}}, {QR_MINUS_INFINITY, 0.0f, {}}};
        const qr_decode_piece *loaded = nullptr; /* whose queries q holds */
        int slot = 0, parity = 0;

        for (int round = 0; round * QR_ATTENTION_WARPS < n_splits; round++) {
            qr_split_state<D, NT> state;
            bool mine = current->flat < n_splits;
            if (mine) {
                if (current->piece != loaded)
                    load_queries(&q, current->piece);
                loaded = current->piece;
                qr_split_start<D, NT>(&state);
            }
            for (int flat = current->flat; mine && current->flat == flat; next_tile(current)) {
                wait(slot, parity);
                tile(&state, q, *current, ring + slot * 2 * TILE);
                qr_sync_warp(); /* all lanes have read the slot */
                load(slot, *loading);
                if (loading->flat < n_splits)
                    next_tile(loading);
                slot = slot + 1 == STAGES ? 0 : slot + 1;
                parity ^= slot == 0;
            }
            qr_sync_block(); /* the states of the round before have been folded */
            if (mine) {
                qr_split_finish<D, NT>(&state);
                leave_state(state);
            }
            qr_sync_block();
            fold_round(&sum, folding);
        }
    }
};

/* Two blocks a multiprocessor where registers allow: 128 * 2 threads of 255 registers fit. */
#define QR_DECODE_KERNEL(NAME, KV, D, NT, BULK)                              \
    QR_KERNEL(NAME, struct qr_attend_kernel_params, QR_ATTENTION_THREADS, 2) \
    {                                                                        \
        QR_SHARED(shared);                                                   \
        qr_decode<KV, D, NT, BULK> decode(p, shared);                        \
        decode.run();                                                        \
    }
/* A device has the kernels of its own way to load; the emulator has both. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define QR_DECODE_BULK(TYPE, KV, D, NT) \
    QR_DECODE_KERNEL(qr_attn_decode_##TYPE##_d##D##_n##NT##_bulk, KV, D, NT, true)
#else
#define QR_DECODE_BULK(TYPE, KV, D, NT)
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 900
#define QR_DECODE_ASYNC(TYPE, KV, D, NT) \
    QR_DECODE_KERNEL(qr_attn_decode_##TYPE##_d##D##_n##NT##_async, KV, D, NT, false)
#else
#define QR_DECODE_ASYNC(TYPE, KV, D, NT)
#endif
#define QR_DECODE_BOTH(TYPE, KV, D, NT) \
    QR_DECODE_BULK(TYPE, KV, D, NT) QR_DECODE_ASYNC(TYPE, KV, D, NT)
/* All of one KV type; the second n8 tile is for groups of 9 to 16 heads. */
#define QR_DECODE_KERNELS(TYPE, KV)  \
    QR_DECODE_BOTH(TYPE, KV, 64, 1)  \
    QR_DECODE_BOTH(TYPE, KV, 64, 2)  \
    QR_DECODE_BOTH(TYPE, KV, 80, 1)  \
    QR_DECODE_BOTH(TYPE, KV, 80, 2)  \
    QR_DECODE_BOTH(TYPE, KV, 96, 1)  \
    QR_DECODE_BOTH(TYPE, KV, 96, 2)  \
    QR_DECODE_BOTH(TYPE, KV, 128, 1) \
    QR_DECODE_BOTH(TYPE, KV, 128, 2) \
    QR_DECODE_BOTH(TYPE, KV, 256, 1)

#endif /* QUIRE_ATTENTION_CUDA_ATTN_DECODE_CUH */
