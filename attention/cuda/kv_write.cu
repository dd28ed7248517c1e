/*
 * kv_write.cu - rotary position embedding of q and k, and the write of K and V into their pages.
 *
 * RoFormer, Su et al., 2021, half-split pairing: (i, i + rotary_dim / 2); what follows rotary_dim
 * in a head is copied. A thread takes 4 pairs of one head, or 8 neighbours that are copied, so q
 * can be rotated in place and any head_dim that is a multiple of 8 will do; where rotary_dim is
 * none, a thread takes a pair, or 2 neighbours. Bytes a row: q read and written, k and v read, K
 * and V written, and rotary_dim * 4 of the table.
 */
#include "attention/cuda/kv_layout.cuh"

/* A unit is 4 elements, aligned, or 1. */
QR_DEVICE void load_unit(const float *from, float (&x)[4])
{
    qr_chunk c = qr_load_chunk(from);
    for (int i = 0; i < 4; i++)
        x[i] = qr_bits_float(c.word[i]);
}
template <class T> QR_DEVICE void load_unit(const T *from, float (&x)[4])
{
    const uint32_t *words = (const uint32_t *)from;
    qr_unpack(T{}, words[0], &x[0], &x[1]);
    qr_unpack(T{}, words[1], &x[2], &x[3]);
}
template <class T> QR_DEVICE void load_unit(const T *from, float (&x)[1])
{
    x[0] = qr_to_float(from[0]);
}
QR_DEVICE void store_unit(float *to, const float (&x)[4])
{
    qr_chunk c;
    for (int i = 0; i < 4; i++)
        c.word[i] = qr_float_bits(x[i]);
    qr_store_chunk(to, c);
}
template <class T> QR_DEVICE void store_unit(T *to, const float (&x)[4])
{
    uint32_t *words = (uint32_t *)to;
    words[0] = qr_pack(T{}, x[0], x[1]);
    words[1] = qr_pack(T{}, x[2], x[3]);
}
QR_DEVICE void store_unit(qr_e4m3 *to, const float (&x)[4])
{
    *(uint32_t *)to = qr_pack_e4m3(x[0], x[1]) | (uint32_t)qr_pack_e4m3(x[2], x[3]) << 16;
}
template <class T> QR_DEVICE void store_unit(T *to, const float (&x)[1])
{
    qr_from_float(x[0], to);
}
QR_DEVICE void store_unit(qr_e4m3 *to, const float (&x)[1])
{
    to->bits = (uint8_t)qr_pack_e4m3(x[0], 0.0f);
}

/* turns: (cos, sin) of each pair. */
template <int UNIT>
QR_DEVICE void rotate_unit(const float *turns, float (&low)[UNIT], float (&high)[UNIT])
{
    for (int i = 0; i < UNIT; i++) {
        float a = low[i], b = high[i], cos = turns[2 * i], sin = turns[2 * i + 1];
        low[i] = qr_fma(a, cos, -(b * sin));
        high[i] = qr_fma(b, cos, a * sin);
    }
}

/* Elements from `d` on of a row of KV; scaled, rounded. */
template <class KV, int UNIT>
QR_DEVICE void write_unit(unsigned char *row, int n_chunks, int slot, int d, const float (&x)[UNIT],
                          float scale)
{
    const int elements = 16 / (int)sizeof(KV);
    float y[UNIT];
    for (int i = 0; i < UNIT; i++)
        y[i] = x[i] * scale;
    int chunk = d / elements ^ qr_kv_swizzle(n_chunks, slot);
    store_unit((KV *)(row + chunk * 16) + d % elements, y);
}

template <class T, class KV, int UNIT> struct row_writer {
    const qr_write_kv_params &p;
    const int32_t *tables;
    qr_plan_row row;

    /* head: of the query heads, then K's, then V's. unit: of the head's pairs of units, those that
     * turn first. */
    QR_DEVICE void write(int index, int head, int unit) const
    {
        int kv_head = head - p.n_heads, half = p.rotary_dim / 2, turning = half / UNIT;
        float low[UNIT], high[UNIT];
        bool is_value = kv_head >= p.n_kv_heads, turns = unit < turning;
        int d = turns ? unit * UNIT : p.rotary_dim + (unit - turning) * 2 * UNIT;
        int high_d = d + (turns ? half : UNIT);
        if (is_value)
            kv_head -= p.n_kv_heads;
        T *x = kv_head < 0 ? (T *)p.q + ((int64_t)index * p.n_heads + head) * p.head_dim
                           : (T *)(is_value ? p.v : p.k) +
                                 ((int64_t)index * p.n_kv_heads + kv_head) * p.head_dim;
        load_unit(x + d, low);
        load_unit(x + high_d, high);
        if (!is_value && turns)
            rotate_unit(p.rope + ((int64_t)row.position * half + d) * 2, low, high);
        if (kv_head < 0) {
            store_unit(x + d, low);
            store_unit(x + high_d, high);
            return;
        }
        int row_bytes = p.head_dim * (int)sizeof(KV), slot = row.position & 7;
        unsigned char *to =
            (unsigned char *)qr_kv_row(p.kv, tables + row.table, kv_head, row.position, row_bytes) +
            (is_value ? p.kv.value_bytes : 0);
        float scale = is_value ? p.v_scale : p.k_scale;
        write_unit<KV>(to, row_bytes / 16, slot, d, low, scale);
        write_unit<KV>(to, row_bytes / 16, slot, high_d, high, scale);
    }
};

template <class T, class KV, int UNIT> QR_DEVICE void write_rows(const qr_write_kv_params &p)
{
    const unsigned char *plan = (const unsigned char *)p.plan;
    const qr_plan_row *rows = (const qr_plan_row *)(plan + p.plan->rows);
    int units = p.head_dim / (2 * UNIT), heads = p.n_heads + 2 * p.n_kv_heads;
    row_writer<T, KV, UNIT> writer = {p, (const int32_t *)(plan + p.plan->tables), {0, 0}};

    /* Blocks take rows in turn, threads the units of a row: divisions by 32-bit values only. */
    for (int index = qr_block_index(); index < p.plan->n_rows; index += qr_grid_size()) {
        writer.row = rows[index];
        for (int i = qr_thread_index(); i < heads * units; i += QR_WRITE_THREADS)
            writer.write(index, i / units, i % units);
    }
}

template <class T, class KV> QR_DEVICE void write_kv(const qr_write_kv_params &p)
{
    qr_wait_for_previous_kernel();
    qr_allow_next_kernel();
    if (p.rotary_dim % 8 == 0)
        write_rows<T, KV, 4>(p);
    else
        write_rows<T, KV, 1>(p);
}

#define QR_WRITE_KERNEL(NAME, T, KV)                                \
    QR_KERNEL(NAME, struct qr_write_kv_params, QR_WRITE_THREADS, 4) \
    {                                                               \
        write_kv<T, KV>(p);                                         \
    }
QR_WRITE_KERNEL(qr_write_kv_f32_f32, float, float)
QR_WRITE_KERNEL(qr_write_kv_bf16_bf16, qr_bf16, qr_bf16)
QR_WRITE_KERNEL(qr_write_kv_f16_f16, qr_f16, qr_f16)
QR_WRITE_KERNEL(qr_write_kv_bf16_e4m3, qr_bf16, qr_e4m3)
QR_WRITE_KERNEL(qr_write_kv_f16_e4m3, qr_f16, qr_e4m3)
