/*
 * attn_generic.cu - attention for every head_dim that is a multiple of 8 up to 256, every group
 * and pair of types, without mma: F32 models and shapes that have no kernel of their own.
 *
 * A warp takes one row and head and goes through its keys 32 at a time, from position 0 on: a lane
 * computes one score with F32 multiply-adds in ascending order, then the lanes share the elements
 * of the output. A row is computed by itself, so nothing that stands beside it can change its bits.
 */
#include "attention/cuda/split.cuh"

enum { GENERIC_MAX_OWNED = 256 / 32 }; /* elements of the output a lane */

QR_DEVICE float qr_to_float(qr_e4m3 x)
{
    return qr_f16_bits_to_float((uint16_t)qr_e4m3x2_to_f16x2(x.bits));
}

template <class T, class KV> struct generic_row {
    const qr_attend_kernel_params &p;
    const float *q; /* [head_dim], shared memory */
    const int32_t *table;
    int kv_head, position, lane;
    float m, l;
    float o[GENERIC_MAX_OWNED]; /* elements lane, lane + 32, ... */

    QR_DEVICE const KV *row_of(int key) const
    {
        return (const KV *)qr_kv_row(p.kv, table, kv_head, key, p.head_dim * (int)sizeof(KV));
    }
    /* Element d of a row stands at this index, for the token at `key`. */
    QR_DEVICE int index_of(int d, int key) const
    {
        const int elements = 16 / (int)sizeof(KV); /* a chunk */
        int x = qr_kv_swizzle(p.head_dim / elements, key & 7);
        return (d / elements ^ x) * elements + d % elements;
    }

    QR_DEVICE float score_of(int key) const
    {
        const KV *k = row_of(key);
        float s = 0.0f;
        for (int d = 0; d < p.head_dim; d++)
            s = qr_fma(q[d], qr_to_float(k[index_of(d, key)]), s);
        return p.cap_in != 0.0f ? qr_tanh_of(s * p.cap_in) : s;
    }

    QR_DEVICE void add_values(int first, float weight)
    {
        for (int j = 0; j < 32 && first + j <= position; j++) {
            float w = qr_shuffle(weight, j);
            const KV *v = (const KV *)((const unsigned char *)row_of(first + j) + p.kv.value_bytes);
            QR_UNROLL
            for (int i = 0; i < GENERIC_MAX_OWNED; i++) {
                int d = lane + 32 * i;
                if (d < p.head_dim && w != 0.0f)
                    o[i] = qr_fma(w, qr_to_float(v[index_of(d, first + j)]), o[i]);
            }
        }
    }

    QR_DEVICE void attend(int first_key)
    {
        m = QR_MINUS_INFINITY;
        l = 0.0f;
        QR_UNROLL
        for (int i = 0; i < GENERIC_MAX_OWNED; i++)
            o[i] = 0.0f;
        for (int first = first_key & ~31; first <= position; first += 32) {
            int key = first + lane;
            float s = QR_MINUS_INFINITY;
            if (key >= first_key && key <= position)
                s = score_of(key);
            float max = s;
            for (int x = 16; x > 0; x >>= 1)
                max = qr_max(max, qr_shuffle_xor(max, x));
            max = qr_max(max, m);
            float c = qr_rescale(m, max, p.scale);
            float weight = qr_exp2(qr_fma(s, p.scale, -(max * p.scale)));
            float sum = weight;
            for (int x = 16; x > 0; x >>= 1)
                sum += qr_shuffle_xor(sum, x);
            m = max;
            l = qr_fma(l, c, sum);
            QR_UNROLL
            for (int i = 0; i < GENERIC_MAX_OWNED; i++)
                o[i] *= c;
            add_values(first, weight);
        }
    }
};

template <class T, class KV>
QR_DEVICE void attend_generic(const qr_attend_kernel_params &p, float *shared)
{
    qr_wait_for_previous_kernel();
    qr_allow_next_kernel();
    int lane = qr_thread_index() & 31, warp = qr_thread_index() >> 5;
    const unsigned char *plan = (const unsigned char *)p.plan;
    const qr_plan_row *rows = (const qr_plan_row *)(plan + p.plan->rows);
    float *q = shared + warp * p.head_dim;

    for (int work = qr_block_index() * QR_ATTENTION_WARPS + warp; work < p.plan->n_rows * p.n_heads;
         work += qr_grid_size() * QR_ATTENTION_WARPS) {
        int row = work / p.n_heads, head = work % p.n_heads;
        int64_t at = (int64_t)work * p.head_dim;
        qr_sync_warp(); /* the row before has been read */
        for (int d = lane; d < p.head_dim; d += 32)
            q[d] = qr_to_float(((const T *)p.q)[at + d]);
        qr_sync_warp();
        int position = rows[row].position;
        const int32_t *table = (const int32_t *)(plan + p.plan->tables) + rows[row].table;
        generic_row<T, KV> r = {p, q, table, head / p.group, position, lane, 0.0f, 0.0f, {}};
        r.attend(p.window == 0 || position < p.window ? 0 : position - p.window + 1);
        for (int i = 0; i < GENERIC_MAX_OWNED; i++)
            if (lane + 32 * i < p.head_dim)
                qr_from_float(r.o[i] * (p.v_scale / r.l), (T *)p.out + at + lane + 32 * i);
    }
}

#define QR_GENERIC_KERNEL(NAME, T, KV)                                       \
    QR_KERNEL(NAME, struct qr_attend_kernel_params, QR_ATTENTION_THREADS, 4) \
    {                                                                        \
        QR_SHARED(shared);                                                   \
        attend_generic<T, KV>(p, (float *)shared);                           \
    }
QR_GENERIC_KERNEL(qr_attn_generic_f32_f32, float, float)
QR_GENERIC_KERNEL(qr_attn_generic_bf16_bf16, qr_bf16, qr_bf16)
QR_GENERIC_KERNEL(qr_attn_generic_f16_f16, qr_f16, qr_f16)
QR_GENERIC_KERNEL(qr_attn_generic_bf16_e4m3, qr_bf16, qr_e4m3)
QR_GENERIC_KERNEL(qr_attn_generic_f16_e4m3, qr_f16, qr_e4m3)
