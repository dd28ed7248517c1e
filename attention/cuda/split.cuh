/*
 * split.cuh - attention of up to 8 * NT queries over one split of keys: the one arithmetic that
 * decode, prefill and merge share, so that a row has the same bits in all of them.
 *
 * Operands are swapped: keys (for the scores) and elements of the head (for the output) stand on
 * the 16 rows of the mma, queries on its 8 columns, so a group of 4 heads wastes half of the mma
 * and not three quarters. S = K Q^T, O^T = V^T P^T, 16 keys at a time; the online softmax is that
 * of Milakov and Gimelshein (2018) as in FlashAttention-2 (Dao, 2023), in base 2. A split starts
 * from (m, l, o) = (-inf, 0, 0). So does a group of 8 splits, which are folded in ascending order,
 * and the total, into which the groups are: what is computed apart leaves one state a group.
 *
 * A lane has g = lane / 4, t = lane % 4; its columns (queries) are 2t and 2t + 1 of each n8 tile,
 * its rows g and g + 8. A tile of keys that a column does not see leaves its bits alone.
 *
 * Every product that is added to something is an explicit qr_fma, and nothing else could be
 * contracted: the bits do not depend on -fmad or on what a kernel inlines this into.
 */
#ifndef QUIRE_ATTENTION_CUDA_SPLIT_CUH
#define QUIRE_ATTENTION_CUDA_SPLIT_CUH

#include "attention/cuda/kv_layout.cuh"

#define QR_MINUS_INFINITY qr_bits_float(0xff800000u)

template <class KV> struct qr_kv_traits { /* qr_bf16, qr_f16 */
    using operand = KV;                   /* of the mma */
    enum { bytes = 2 };
};
template <> struct qr_kv_traits<qr_e4m3> { /* exact in f16 */
    using operand = qr_f16;
    enum { bytes = 1 };
};

/* B operands of the scores: [n8 tile][16 elements of the head][2]. */
template <int D, int NT> struct qr_queries {
    uint32_t b[NT][D / 16][2];
};

/* m in units of unscaled scores; l of this lane's rows alone until qr_split_finish. */
template <int D, int NT> struct qr_split_state {
    float m[NT][2];
    float l[NT][2];
    float o[NT][D / 16][4]; /* C fragments: rows are elements of the head, see qr_output_row */
};

/* Which keys the columns of a lane see: (position - window, position], and none from `end` on. */
template <int NT> struct qr_visible {
    int position[NT][2];
    int window; /* QR_NO_WINDOW: all */
    int end;
};
enum { QR_NO_WINDOW = 1 << 30 };

/* Element of the head that row r (g or g + 8) of the output's m16 tile stands for. ldmatrix
 * transposes pairs of bytes, which leaves even elements of E4M3 in rows 0-7, odd ones in 8-15. */
template <class KV> QR_DEVICE int qr_output_row(int m_tile, int g, int upper)
{
    return m_tile * 16 + (qr_kv_traits<KV>::bytes == 1 ? 2 * g + upper : g + 8 * upper);
}

/* The queries of one n8 tile; q: of this lane's column g, NULL for zeros. */
template <class KV, int D>
QR_DEVICE void qr_load_queries(uint32_t b[D / 16][2], const void *q, bool q_is_bf16, int t)
{
    const uint32_t *words = (const uint32_t *)q;
    QR_UNROLL
    for (int k = 0; k < D / 16; k++) {
        uint32_t low = 0, high = 0;
        if (qr_kv_traits<KV>::bytes == 2) {
            if (q != nullptr) {
                low = words[8 * k + t];
                high = words[8 * k + 4 + t];
            }
        } else if (q != nullptr) {
            /* A lane's 4 bytes of K are elements 4t .. 4t + 3 of 16: the same order here. */
            low = words[8 * k + 2 * t];
            high = words[8 * k + 2 * t + 1];
            if (q_is_bf16) {
                float x, y;
                qr_unpack(qr_bf16{}, low, &x, &y);
                low = qr_pack(qr_f16{}, x, y);
                qr_unpack(qr_bf16{}, high, &x, &y);
                high = qr_pack(qr_f16{}, x, y);
            }
        }
        b[k][0] = low;
        b[k][1] = high;
    }
}

/* A lane's place in a tile of 16 rows for ldmatrix: matrix i = lane / 8 is rows `row`.. and the
 * chunk 2j + `odd` of step j. */
template <int ROW_BYTES> struct qr_tile_lane {
    uint32_t base;  /* bytes of the row */
    uint32_t mixed; /* (odd ^ swizzle) * 16 */
    QR_DEVICE qr_tile_lane(int row, int odd)
    {
        base = (uint32_t)(row * ROW_BYTES);
        mixed = (uint32_t)(odd ^ qr_kv_swizzle(ROW_BYTES / 16, row)) * 16;
    }
    /* Only the lower bits meet the swizzle: the rest is a constant the load can carry. */
    QR_DEVICE uint32_t at(int step) const
    {
        return base + (mixed ^ (uint32_t)(step * 32 & 127)) + (uint32_t)(step * 32 & ~127);
    }
};

template <class OPERAND, int D, int NT>
QR_DEVICE void qr_mma_scores(OPERAND type, float (*s)[4], const uint32_t *a,
                             const qr_queries<D, NT> &q, int k)
{
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        qr_mma(type, s[j], a, q.b[j][k]);
}

/* s[j]: C fragments of K Q^T for the 16 keys at `tile` (shared memory). Two chains of mma, of even
 * and odd steps, halve the time until the sum is there. */
template <class KV, int D, int NT>
QR_DEVICE void qr_tile_scores(float (*s)[4], const unsigned char *tile, const qr_queries<D, NT> &q,
                              int lane)
{
    typename qr_kv_traits<KV>::operand type{};
    float odd[NT][4];
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int i = 0; i < 4; i++)
        s[j][i] = odd[j][i] = 0.0f;

    if (qr_kv_traits<KV>::bytes == 2) {
        qr_tile_lane<D * 2> at((lane & 7) + (lane >> 3 & 1) * 8, lane >> 4);
        QR_UNROLL
        for (int k = 0; k < D / 16; k++) {
            uint32_t a[4];
            qr_load_matrix_x4(a, tile + at.at(k));
            qr_mma_scores(type, k % 2 == 0 ? s : odd, a, q, k);
        }
    } else {
        qr_tile_lane<D> even((lane & 7) + (lane >> 3 & 1) * 8, lane >> 4);
        qr_tile_lane<D> single((lane & 7) + (lane >> 3 & 1) * 8, 0);
        QR_UNROLL
        for (int k = 0; k < D / 16; k += 2) {
            bool pair = k + 1 < D / 16;
            uint32_t r[4], a[4];
            qr_load_matrix_x4(r, tile + (pair ? even : single).at(k / 2));
            QR_UNROLL
            for (int i = 0; i < (pair ? 2 : 1); i++) {
                a[0] = qr_e4m3x2_to_f16x2((uint16_t)r[2 * i]);
                a[1] = qr_e4m3x2_to_f16x2((uint16_t)r[2 * i + 1]);
                a[2] = qr_e4m3x2_to_f16x2((uint16_t)(r[2 * i] >> 16));
                a[3] = qr_e4m3x2_to_f16x2((uint16_t)(r[2 * i + 1] >> 16));
                qr_mma_scores(type, i == 0 ? s : odd, a, q, k + i);
            }
        }
    }
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int i = 0; i < 4; i++)
        s[j][i] += odd[j][i];
}

/* tanh(x) of a score that was multiplied by 2 log2(e) x / score: one exponential. */
QR_DEVICE float qr_tanh_of(float doubled)
{
    return 1.0f - 2.0f / (qr_exp2(doubled) + 1.0f);
}

template <int NT> QR_DEVICE void qr_cap_scores(float (*s)[4], float cap_in)
{
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int i = 0; i < 4; i++)
        s[j][i] = qr_tanh_of(s[j][i] * cap_in);
}

/* key: of row g. */
template <int NT>
QR_DEVICE void qr_mask_scores(float (*s)[4], const qr_visible<NT> &visible, int key)
{
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int i = 0; i < 4; i++) {
        int k = key + (i >> 1) * 8, position = visible.position[j][i & 1];
        if (k > position || k <= position - visible.window || k >= visible.end)
            s[j][i] = QR_MINUS_INFINITY;
    }
}

/* What a sum with maximum m is multiplied by when the maximum becomes `max` >= m. */
QR_DEVICE float qr_rescale(float m, float max, float scale)
{
    return qr_exp2(m == max ? 0.0f : (m - max) * scale);
}

/* Scores to weights, in place; o is rescaled where a maximum grew. */
template <int D, int NT>
QR_DEVICE void qr_tile_softmax(float (*s)[4], qr_split_state<D, NT> *state, float scale)
{
    float c[NT][2];
    bool grew = false;
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int h = 0; h < 2; h++) {
        float max = qr_max(s[j][h], s[j][2 + h]);
        max = qr_max(max, qr_shuffle_xor(max, 4));
        max = qr_max(max, qr_shuffle_xor(max, 8));
        max = qr_max(max, qr_shuffle_xor(max, 16));
        max = qr_max(max, state->m[j][h]);
        grew |= max != state->m[j][h];
        c[j][h] = qr_rescale(state->m[j][h], max, scale);
        state->m[j][h] = max;
        float base = max == QR_MINUS_INFINITY ? 0.0f : -(max * scale);
        s[j][h] = qr_exp2(qr_fma(s[j][h], scale, base));
        s[j][2 + h] = qr_exp2(qr_fma(s[j][2 + h], scale, base));
        state->l[j][h] = qr_fma(state->l[j][h], c[j][h], s[j][h] + s[j][2 + h]);
    }
    if (qr_ballot(grew) == 0) /* c is 1 everywhere: the products would change no bit */
        return;
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int i = 0; i < D / 16; i++)
        QR_UNROLL
    for (int r = 0; r < 4; r++)
        state->o[j][i][r] *= c[j][r & 1];
}

/* Halves of an A register that stand for keys which exist: 2t and 2t + 1 of 8. */
QR_DEVICE uint32_t qr_key_mask(int n_keys, int first)
{
    return (first < n_keys ? 0xffffu : 0) | (first + 1 < n_keys ? 0xffff0000u : 0);
}

/*
 * o += V^T P^T for the 16 keys at `tile`. With MASK only the first n_keys rows of the tile exist;
 * what stands in the others is not used: they may hold NaN, which a weight of 0 would not silence.
 */
template <class KV, int D, int NT, bool MASK>
QR_DEVICE void qr_tile_values(qr_split_state<D, NT> *state, const float (*p)[4],
                              const unsigned char *tile, int n_keys, int lane)
{
    typename qr_kv_traits<KV>::operand type{};
    uint32_t b[NT][2], mask[2] = {~0u, ~0u};
    QR_UNROLL
    for (int j = 0; j < NT; j++) {
        b[j][0] = qr_transpose_8x8(qr_pack(type, p[j][0], p[j][1]));
        b[j][1] = qr_transpose_8x8(qr_pack(type, p[j][2], p[j][3]));
    }
    if (MASK) {
        mask[0] = qr_key_mask(n_keys, 2 * (lane & 3));
        mask[1] = qr_key_mask(n_keys, 2 * (lane & 3) + 8);
    }
    if (qr_kv_traits<KV>::bytes == 2) {
        qr_tile_lane<D * 2> at((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
        QR_UNROLL
        for (int i = 0; i < D / 16; i++) {
            uint32_t a[4];
            qr_load_matrix_x4_transposed(a, tile + at.at(i));
            if (MASK) {
                a[0] &= mask[0], a[1] &= mask[0];
                a[2] &= mask[1], a[3] &= mask[1];
            }
            QR_UNROLL
            for (int j = 0; j < NT; j++)
                qr_mma(type, state->o[j][i], a, b[j]);
        }
    } else {
        qr_tile_lane<D> even((lane & 7) + (lane >> 3 & 1) * 8, lane >> 4);
        qr_tile_lane<D> single((lane & 7) + (lane >> 3 & 1) * 8, 0);
        QR_UNROLL
        for (int i = 0; i < D / 16; i += 2) {
            bool pair = i + 1 < D / 16;
            uint32_t r[4], a[4];
            qr_load_matrix_x4_transposed(r, tile + (pair ? even : single).at(i / 2));
            QR_UNROLL
            for (int n = 0; n < (pair ? 2 : 1); n++) {
                /* (key, element) bytes (0, 0) (0, 1) (1, 0) (1, 1): pair them by element. */
                uint32_t low = qr_permute_bytes(r[2 * n], 0, 0x3120);
                uint32_t high = qr_permute_bytes(r[2 * n + 1], 0, 0x3120);
                a[0] = qr_e4m3x2_to_f16x2((uint16_t)low) & mask[0];
                a[1] = qr_e4m3x2_to_f16x2((uint16_t)(low >> 16)) & mask[0];
                a[2] = qr_e4m3x2_to_f16x2((uint16_t)high) & mask[1];
                a[3] = qr_e4m3x2_to_f16x2((uint16_t)(high >> 16)) & mask[1];
                QR_UNROLL
                for (int j = 0; j < NT; j++)
                    qr_mma(type, state->o[j][i + n], a, b[j]);
            }
        }
    }
}

template <int D, int NT> QR_DEVICE void qr_split_start(qr_split_state<D, NT> *state)
{
    QR_UNROLL
    for (int j = 0; j < NT; j++) {
        QR_UNROLL
        for (int h = 0; h < 2; h++) {
            state->m[j][h] = QR_MINUS_INFINITY;
            state->l[j][h] = 0.0f;
        }
        QR_UNROLL
        for (int i = 0; i < D / 16; i++)
            QR_UNROLL
        for (int r = 0; r < 4; r++)
            state->o[j][i][r] = 0.0f;
    }
}

/* l over all rows, the same bits in all lanes of a column. */
template <int D, int NT> QR_DEVICE void qr_split_finish(qr_split_state<D, NT> *state)
{
    QR_UNROLL
    for (int j = 0; j < NT; j++)
        QR_UNROLL
    for (int h = 0; h < 2; h++) {
        float l = state->l[j][h];
        l += qr_shuffle_xor(l, 4);
        l += qr_shuffle_xor(l, 8);
        l += qr_shuffle_xor(l, 16);
        state->l[j][h] = l;
    }
}

/* The sum, with the factors of qr_rescale for both sides: everything that is folded, is so here. */
QR_DEVICE float qr_fold(float sum, float sum_factor, float more, float more_factor)
{
    return qr_fma(sum, sum_factor, more * more_factor);
}

/* Whether a group of splits ends with this one. */
QR_DEVICE bool qr_ends_group(int split)
{
    return split % QR_GROUP_SPLITS == QR_GROUP_SPLITS - 1;
}

/* out[i] = x of the activation type, which the KV type implies unless it is E4M3. */
template <class KV> QR_DEVICE void qr_store_activation(void *out, size_t i, float x, bool is_bf16)
{
    if (qr_kv_traits<KV>::bytes == 2)
        qr_from_float(x, (typename qr_kv_traits<KV>::operand *)out + i);
    else if (is_bf16)
        qr_from_float(x, (qr_bf16 *)out + i);
    else
        qr_from_float(x, (qr_f16 *)out + i);
}

#endif /* QUIRE_ATTENTION_CUDA_SPLIT_CUH */
