/*
 * attn_prefill.cuh - attention of many queries of one sequence over its pages, and of the queries
 * of many sequences over a prefix that they share, or of few over the keys of one (plan.h: ranges).
 *
 * A block takes 64 queries (32 for head_dim 256), which are pairs of a row and a head of the group,
 * row by row; each warp has two n8 tiles of them (one). The four warps share stages of 64 keys (32)
 * that cp.async brings two deep. Queries keep the state of the split at hand and the sum of its
 * group's splits before it in registers: 4 * D / 16 floats each a thread and tile, 128 registers at
 * head_dim 128, which leaves room for two blocks a multiprocessor. The total of the groups before
 * is in global memory, that is in the second-level cache: 36 KB are read and written once in 1024
 * keys, which are 512 KB.
 *
 * Tiles of keys that no query of a warp sees are skipped; the mask is applied only to tiles that
 * some query sees in part. The grid is fixed, blocks take items in turn.
 */
#ifndef QUIRE_ATTENTION_CUDA_ATTN_PREFILL_CUH
#define QUIRE_ATTENTION_CUDA_ATTN_PREFILL_CUH

#include "attention/cuda/prefill_item.cuh"
#include "attention/cuda/split.cuh"

template <class KV, int D> struct qr_prefill {
    enum {
        NT = qr_prefill_tiles(D),
        KEYS = qr_prefill_keys(D),
        ROW = D * qr_kv_traits<KV>::bytes,
        CHUNKS = ROW / 16,
        STAGE = 2 * KEYS * ROW, /* bytes: K, then V */
        WARP_QUERIES = 8 * NT,
    };

    const qr_attend_kernel_params &p;
    unsigned char *shared;
    int lane, warp;
    const int32_t *tables;
    const qr_plan_row *rows;
    const qr_range_row *range_rows; /* NULL: rows are counted from first_row */

    /* Of the item at hand. */
    const qr_prefill_item *item;
    int kv_head;
    /* Of this warp's queries. */
    bool active;
    int first, last; /* the least and the greatest position among them */

    QR_DEVICE qr_prefill(const qr_attend_kernel_params &params, unsigned char *shared_memory)
        : p(params), shared(shared_memory)
    {
        lane = qr_thread_index() & 31;
        warp = qr_thread_index() >> 5;
    }

    QR_DEVICE int row_of(int i) const
    {
        return qr_item_row(p, item, range_rows, i);
    }
    QR_DEVICE int64_t offset_of(int i) const
    {
        return qr_item_offset(p, item, range_rows, kv_head, i, D);
    }

    QR_DEVICE int window() const
    {
        return p.window != 0 ? p.window : QR_NO_WINDOW;
    }
    /* Column h of n8 tile j, of this lane. */
    QR_DEVICE int position_of(int j, int h) const
    {
        return rows[row_of(warp * WARP_QUERIES + 8 * j + 2 * (lane & 3) + h)].position;
    }

    QR_DEVICE void enter_queries(qr_queries<D, NT> *q)
    {
        active = warp * WARP_QUERIES < item->n_queries;
        first = 0x7fffffff;
        last = -1;
        QR_UNROLL
        for (int j = 0; j < NT; j++) {
            int query = warp * WARP_QUERIES + 8 * j + (lane >> 2);
            const uint16_t *from =
                query < item->n_queries ? (const uint16_t *)p.q + offset_of(query) : nullptr;
            qr_load_queries<KV, D>(q->b[j], from, p.activation_is_bf16 != 0, lane & 3);
            QR_UNROLL
            for (int h = 0; h < 2; h++) {
                first = min_of(first, position_of(j, h));
                last = max_of(last, position_of(j, h));
            }
        }
        QR_UNROLL
        for (int x = 1; x < 4; x <<= 1) { /* the other columns: lanes of the same row */
            first = min_of(first, qr_shuffle_xor(first, x));
            last = max_of(last, qr_shuffle_xor(last, x));
        }
    }
    QR_DEVICE static int min_of(int a, int b)
    {
        return a < b ? a : b;
    }
    QR_DEVICE static int max_of(int a, int b)
    {
        return a > b ? a : b;
    }

    /* KEYS keys from `key` on; zeros behind the last one that exists. */
    QR_DEVICE void load(int slot, int key) const
    {
        const int32_t *table = tables + item->table;
        unsigned char *stage = shared + slot * STAGE;
        enum { N = KEYS * CHUNKS };
        QR_UNROLL
        for (int i = 0; i < (N + QR_ATTENTION_THREADS - 1) / QR_ATTENTION_THREADS; i++) {
            int chunk = i * QR_ATTENTION_THREADS + qr_thread_index();
            if (N % QR_ATTENTION_THREADS != 0 && chunk >= N)
                continue;
            int token = key + chunk / CHUNKS;
            bool ok = token < item->end_key;
            const unsigned char *k = p.kv.pool;
            if (ok)
                k = qr_kv_row(p.kv, table, kv_head, token, ROW) + chunk % CHUNKS * 16;
            qr_copy_async(stage + chunk * 16, k, ok);
            qr_copy_async(stage + KEYS * ROW + chunk * 16, k + (ok ? p.kv.value_bytes : 0), ok);
        }
    }

    QR_DEVICE void tile(qr_split_state<D, NT> *state, const qr_queries<D, NT> &q, int key,
                        const unsigned char *k, const unsigned char *v) const
    {
        float s[NT][4];
        qr_tile_scores<KV, D, NT>(s, k, q, lane);
        if (p.cap_in != 0.0f)
            qr_cap_scores<NT>(s, p.cap_in);
        int end = key + QR_TILE_KEYS; /* some query does not see all of [key, end) */
        if (end > first + 1 || end > item->end_key || key <= last - window()) {
            qr_visible<NT> visible; /* read again: tiles in part are few, registers fewer */
            QR_UNROLL
            for (int j = 0; j < NT; j++)
                QR_UNROLL
            for (int h = 0; h < 2; h++)
                visible.position[j][h] = position_of(j, h);
            visible.window = window();
            visible.end = item->end_key;
            qr_mask_scores<NT>(s, visible, key + (lane >> 2));
        }
        qr_tile_softmax<D, NT>(s, state, p.scale);
        qr_tile_values<KV, D, NT, false>(state, s, v, 0, lane);
    }

    QR_DEVICE void stage(qr_split_state<D, NT> *state, const qr_queries<D, NT> &q, int key,
                         const unsigned char *stage) const
    {
        for (int i = 0; i < KEYS / QR_TILE_KEYS; i++) {
            int at = key + i * QR_TILE_KEYS;
            if (!active || at > last || at >= item->end_key ||
                at + QR_TILE_KEYS <= first - window() + 1)
                continue;
            const unsigned char *k = stage + i * QR_TILE_KEYS * ROW;
            tile(state, q, at, k, k + KEYS * ROW);
        }
    }

    /* ---- folding ---- */

    /* is_first: the group is empty, whatever `group` holds: to select costs fewer registers than to
     * set it to zeros while the one before is written. */
    QR_DEVICE void fold_split(qr_split_state<D, NT> *group, const qr_split_state<D, NT> &split,
                              bool is_first) const
    {
        QR_UNROLL
        for (int j = 0; j < NT; j++)
            QR_UNROLL
        for (int h = 0; h < 2; h++) {
            float m = is_first ? QR_MINUS_INFINITY : group->m[j][h];
            float max = qr_max(m, split.m[j][h]);
            float a = qr_rescale(m, max, p.scale);
            float b = qr_rescale(split.m[j][h], max, p.scale);
            group->m[j][h] = max;
            group->l[j][h] = qr_fold(is_first ? 0.0f : group->l[j][h], a, split.l[j][h], b);
            QR_UNROLL
            for (int i = 0; i < D / 16; i++)
                QR_UNROLL
            for (int r = h; r < 4; r += 2) {
                float o = is_first ? 0.0f : group->o[j][i][r];
                group->o[j][i][r] = qr_fold(o, a, split.o[j][i][r], b);
            }
        }
    }

    /* This thread's i-th float of the total. */
    QR_DEVICE float *total_at(int i) const
    {
        return p.totals + (int64_t)qr_block_index() * qr_prefill_total_floats(D) +
               i * QR_ATTENTION_THREADS + qr_thread_index();
    }

    /* The group becomes the total that it is folded into: an empty one where it is the first. */
    QR_DEVICE void fold_group(qr_split_state<D, NT> *group, bool is_first) const
    {
        QR_UNROLL
        for (int j = 0; j < NT; j++)
            QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int at = (2 * j + h) * (2 + D / 16 * 2);
            float m = is_first ? QR_MINUS_INFINITY : *total_at(at);
            float l = is_first ? 0.0f : *total_at(at + 1);
            float max = qr_max(m, group->m[j][h]);
            float a = qr_rescale(m, max, p.scale);
            float b = qr_rescale(group->m[j][h], max, p.scale);
            group->m[j][h] = max;
            group->l[j][h] = qr_fold(l, a, group->l[j][h], b);
            QR_UNROLL
            for (int i = 0; i < D / 16; i++)
                QR_UNROLL
            for (int r = 0; r < 2; r++) {
                float o = is_first ? 0.0f : *total_at(at + 2 + 2 * i + r);
                group->o[j][i][2 * r + h] = qr_fold(o, a, group->o[j][i][2 * r + h], b);
            }
        }
    }
    QR_DEVICE void keep_total(const qr_split_state<D, NT> &total) const
    {
        QR_UNROLL
        for (int j = 0; j < NT; j++)
            QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int at = (2 * j + h) * (2 + D / 16 * 2);
            *total_at(at) = total.m[j][h];
            *total_at(at + 1) = total.l[j][h];
            QR_UNROLL
            for (int i = 0; i < D / 16; i++)
                QR_UNROLL
            for (int r = 0; r < 2; r++)
                *total_at(at + 2 + 2 * i + r) = total.o[j][i][2 * r + h];
        }
    }

    /* Keys that are folded together before they join the total, or, of a range, are left as a
     * part; and the part that the one at `key` is in. */
    QR_DEVICE int keys_of_group() const
    {
        return p.in_ranges && item->begin_key % QR_GROUP_KEYS != 0 ? QR_SPLIT_KEYS : QR_GROUP_KEYS;
    }
    QR_DEVICE int part_of(int key) const
    {
        return item->part + (key - item->begin_key) / keys_of_group();
    }

    /* The first key of the first stage that some query sees. */
    QR_DEVICE int first_stage() const
    {
        int seen = p.window != 0 ? item->first_key & ~(KEYS - 1) : 0;
        return max_of(seen, item->begin_key);
    }

    /* Whether the split of `key` is the first of its group that some query sees. */
    QR_DEVICE bool starts_group(int key) const
    {
        int split = key & ~(QR_SPLIT_KEYS - 1);
        return split % keys_of_group() == 0 || split <= first_stage();
    }

    /* Parts of which no query sees a key, up to the first that one sees. */
    QR_DEVICE void leave_unseen(int begin) const
    {
        int key = item->begin_key;
        for (int end; !item->is_folded && key < item->end_key; key = end) {
            end = min_of(key + keys_of_group(), item->end_key);
            if (end > begin)
                return;
            leave_empty(part_of(key), end);
        }
        if (item->is_folded && begin >= item->end_key)
            leave_empty(item->part, item->end_key);
    }

    /* What comes before `end` is folded into the total, or, of a range, left. group: the output
     * after the last one. */
    QR_DEVICE void end_group(qr_split_state<D, NT> *group, int end) const
    {
        bool is_last = end >= item->end_key;
        bool is_part = p.in_ranges && !item->is_folded;
        if (!is_part) /* the first group finds no total yet */
            fold_group(group, (end - 1) / QR_GROUP_KEYS == first_stage() / QR_GROUP_KEYS);
        if (active && (is_part || (p.in_ranges && is_last)))
            leave_state(*group, is_part ? part_of(end - 1) : item->part, end);
        if (!is_last && !is_part)
            keep_total(*group);
    }

    /* group: what becomes the output. */
    QR_DEVICE void attend(qr_split_state<D, NT> *group, const qr_queries<D, NT> &q)
    {
        qr_split_state<D, NT> state;
        int begin = first_stage();
        if (p.in_ranges)
            leave_unseen(begin);
        qr_split_start<D, NT>(group);
        qr_split_start<D, NT>(&state);
        if (begin < item->end_key) /* a window may lie behind a range */
            load(0, begin);
        qr_copy_async_commit();
        for (int key = begin, slot = 0; key < item->end_key; slot ^= 1) {
            if (key + KEYS < item->end_key)
                load(slot ^ 1, key + KEYS);
            qr_copy_async_commit();
            qr_copy_async_wait<1>();
            qr_sync_block();
            stage(&state, q, key, shared + slot * STAGE);
            key += KEYS;
            if (key % QR_SPLIT_KEYS == 0 || key >= item->end_key) {
                qr_split_finish<D, NT>(&state);
                fold_split(group, state, starts_group(key - 1));
                if (key % keys_of_group() == 0 || key >= item->end_key)
                    end_group(group, key);
                qr_split_start<D, NT>(&state);
            }
            qr_sync_block(); /* the slot may be filled again */
        }
    }

    QR_DEVICE void write_out(const qr_split_state<D, NT> &total) const
    {
        QR_UNROLL
        for (int j = 0; j < NT; j++) {
            int query = warp * WARP_QUERIES + 8 * j;
            float inverse[2] = {p.v_scale / total.l[j][0], p.v_scale / total.l[j][1]};
            if (qr_kv_traits<KV>::bytes == 2)
                write_transposed(total.o[j], inverse, query);
            else
                write_pairs(total.o[j], inverse, query);
        }
    }
    /* Element pairs of two queries, transposed: (element 2t, 2t + 1) of query g. */
    QR_DEVICE void write_transposed(const float (*o)[4], const float *inverse, int query) const
    {
        using operand = typename qr_kv_traits<KV>::operand;
        query += lane >> 2;
        uint32_t *to =
            query < item->n_queries ? (uint32_t *)((uint16_t *)p.out + offset_of(query)) : nullptr;
        QR_UNROLL
        for (int i = 0; i < 2 * (D / 16); i++) {
            const float *c = o[i / 2] + (i & 1) * 2;
            uint32_t pair =
                qr_transpose_8x8(qr_pack(operand{}, c[0] * inverse[0], c[1] * inverse[1]));
            if (to != nullptr)
                to[i * 4 + (lane & 3)] = pair;
        }
    }
    /* E4M3: a lane has elements 2g and 2g + 1 of its two queries. */
    QR_DEVICE void write_pairs(const float (*o)[4], const float *inverse, int query) const
    {
        QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int at = query + 2 * (lane & 3) + h;
            if (at >= item->n_queries)
                continue;
            uint32_t *to = (uint32_t *)((uint16_t *)p.out + offset_of(at));
            QR_UNROLL
            for (int i = 0; i < D / 16; i++) {
                float low = o[i][h] * inverse[h], high = o[i][2 + h] * inverse[h];
                to[i * 8 + (lane >> 2)] = p.activation_is_bf16 ? qr_pack(qr_bf16{}, low, high)
                                                               : qr_pack(qr_f16{}, low, high);
            }
        }
    }

    /* ---- states of a range: of each row one for each of its chains, KV head by KV head ---- */

    /* Of query i of the item: where it is in that state, *at, and the state of a part of its chain.
     */
    QR_DEVICE float *state_of(int i, int part, int *at) const
    {
        int chains = (p.group + p.chain_queries - 1) / p.chain_queries;
        int query = item->first_query + i;
        const qr_range_row &row = range_rows[item->first_row + query / p.group];
        int head = query % p.group;
        int chain = kv_head * chains + head / p.chain_queries;
        *at = head % p.chain_queries;
        return p.states + (int64_t)(row.parts + chain * row.n_parts + part) * p.state_floats;
    }
    /* end: behind the last key of the part. */
    QR_DEVICE void leave_sums(float *to, float m, float l, int end) const
    {
        to[0] = m;
        to[1] = l;
        to[2] = end % QR_GROUP_KEYS == 0 ? 1.0f : 0.0f;
    }
    QR_DEVICE void leave_state(const qr_split_state<D, NT> &sum, int part, int end) const
    {
        int g = lane >> 2;
        QR_UNROLL
        for (int j = 0; j < NT; j++)
            QR_UNROLL
        for (int h = 0; h < 2; h++) {
            int query = warp * WARP_QUERIES + 8 * j + 2 * (lane & 3) + h, at;
            if (query >= item->n_queries)
                continue;
            float *to = state_of(query, part, &at);
            QR_UNROLL
            for (int i = 0; i < D / 16; i++) {
                to[at * D + qr_output_row<KV>(i, g, 0)] = sum.o[j][i][h];
                to[at * D + qr_output_row<KV>(i, g, 1)] = sum.o[j][i][2 + h];
            }
            if (g == 0)
                leave_sums(to + p.chain_queries * D + 3 * at, sum.m[j][h], sum.l[j][h], end);
        }
    }
    QR_DEVICE void leave_empty(int part, int end) const
    {
        for (int i = qr_thread_index(); i < item->n_queries * D; i += QR_ATTENTION_THREADS) {
            int at;
            float *to = state_of(i / D, part, &at);
            to[at * D + i % D] = 0.0f;
            if (i % D == 0)
                leave_sums(to + p.chain_queries * D + 3 * at, QR_MINUS_INFINITY, 0.0f, end);
        }
    }

    QR_DEVICE void run()
    {
        qr_wait_for_previous_kernel();
        qr_allow_next_kernel();
        const unsigned char *plan = (const unsigned char *)p.plan;
        const qr_prefill_item *items =
            (const qr_prefill_item *)(plan + (p.in_ranges ? p.plan->range_items : p.plan->prefill));
        int n_work = (p.in_ranges ? p.plan->n_range_items : p.plan->n_prefill) * p.n_kv_heads;
        int n_blocks = p.in_ranges ? p.plan->n_range_ctas : qr_grid_size();
        tables = (const int32_t *)(plan + p.plan->tables);
        rows = (const qr_plan_row *)(plan + p.plan->rows);
        range_rows = p.in_ranges ? (const qr_range_row *)(plan + p.plan->range_rows) : nullptr;

        if (qr_block_index() >= n_blocks)
            return;
        for (int work = qr_block_index(); work < n_work; work += n_blocks) {
            qr_queries<D, NT> q;
            qr_split_state<D, NT> total;
            item = items + work / p.n_kv_heads;
            kv_head = work % p.n_kv_heads;
            enter_queries(&q);
            attend(&total, q);
            if (active && !p.in_ranges)
                write_out(total);
        }
    }
};

#define QR_PREFILL_KERNEL(TYPE, KV, D)                                                             \
    QR_KERNEL(qr_attn_prefill_##TYPE##_d##D, struct qr_attend_kernel_params, QR_ATTENTION_THREADS, \
              2)                                                                                   \
    {                                                                                              \
        QR_SHARED(shared);                                                                         \
        qr_prefill<KV, D> prefill(p, shared);                                                      \
        prefill.run();                                                                             \
    }
#define QR_PREFILL_KERNELS(TYPE, KV) \
    QR_PREFILL_KERNEL(TYPE, KV, 64)  \
    QR_PREFILL_KERNEL(TYPE, KV, 80)  \
    QR_PREFILL_KERNEL(TYPE, KV, 96)  \
    QR_PREFILL_KERNEL(TYPE, KV, 128) \
    QR_PREFILL_KERNEL(TYPE, KV, 256)

#endif /* QUIRE_ATTENTION_CUDA_ATTN_PREFILL_CUH */
