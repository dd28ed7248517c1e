/*
 * conformance.cu - one kernel a primitive, so that its result can be held against its definition:
 * on the emulator always, on a GPU where there is one.
 *
 * CASE(name, n_in, n_out): thread i has its n_in words in `in` and leaves n_out words in `out`.
 */
#include "base/cuda/primitives.cuh"
#include "tests/base/cuda/conformance.h"

#define CASE(name, n_in, n_out)                                                             \
    QR_DEVICE void name##_case(const uint32_t *in, uint32_t *out, int thread,               \
                               unsigned char *shared);                                      \
    QR_KERNEL(qr_conformance_##name, qr_conformance_params, CONFORMANCE_THREADS, 1)         \
    {                                                                                       \
        QR_SHARED(shared);                                                                  \
        qr_wait_for_previous_kernel();                                                      \
        int64_t i = (int64_t)qr_block_index() * CONFORMANCE_THREADS + qr_thread_index();    \
        name##_case(p.in + i * (n_in), p.out + i * (n_out), qr_thread_index(), shared);     \
    }                                                                                       \
    QR_DEVICE void name##_case([[maybe_unused]] const uint32_t *in,                         \
                               [[maybe_unused]] uint32_t *out, [[maybe_unused]] int thread, \
                               [[maybe_unused]] unsigned char *shared)

struct pair_of_words {
    uint32_t low, high;
};

/* ---- exchange ---- */

CASE(shuffle, 2, 4)
{
    out[0] = qr_shuffle(in[0], (int)(in[1] % 32));
    out[1] = qr_shuffle_xor(in[0], (int)(in[1] % 32));
    double wide; /* eight bytes at a time */
    pair_of_words words = {in[0], in[1]};
    memcpy(&wide, &words, 8);
    wide = qr_shuffle(wide, (int)(in[1] % 32));
    memcpy(&words, &wide, 8);
    out[2] = words.low;
    out[3] = words.high;
}

CASE(ballot, 1, 2)
{
    out[0] = qr_ballot(in[0] % 2 == 1);
    out[1] = (uint32_t)qr_count_bits(in[0]);
}

/* The sum of a half of the block behind a named barrier, then of the whole block. */
CASE(barriers, 1, 2)
{
    uint32_t *words = (uint32_t *)(void *)shared;
    words[thread] = in[0];
    int half = thread / 64;
    qr_sync_some(1 + half, 64);
    uint32_t sum = 0;
    for (int k = 0; k < 64; k++)
        sum += words[64 * half + k];
    out[0] = sum;
    qr_sync_block();
    words[thread] = sum;
    qr_sync_block();
    out[1] = words[0] + words[64];
}

CASE(sync_warp, 1, 1)
{
    uint32_t *words = (uint32_t *)(void *)shared;
    words[thread] = in[0];
    qr_sync_warp();
    out[0] = words[thread ^ 5];
}

CASE(atomics, 1, 2)
{
    int *sum = (int *)(void *)shared;
    uint32_t *most = (uint32_t *)(void *)shared + 1;
    if (thread == 0) {
        *sum = 0;
        *most = 0;
    }
    qr_sync_block();
    qr_atomic_add(sum, (int)(in[0] % 1000));
    qr_atomic_max(most, in[0]);
    qr_sync_block();
    out[0] = (uint32_t)*sum;
    out[1] = *most;
}

/* ---- memory ---- */

CASE(chunks, 4, 8)
{
    qr_store_chunk(out, qr_load_stream(in));
    qr_store_chunk(shared + 16 * thread, qr_load_chunk(in));
    qr_sync_warp();
    qr_store_chunk(out + 4, qr_load_chunk(shared + 16 * (thread ^ 1)));
}

/* The neighbour's chunk after the first of two groups, zeros after the second. */
CASE(copy_async, 4, 8)
{
    unsigned char *zeros = shared + 16 * CONFORMANCE_THREADS;
    qr_copy_async(shared + 16 * thread, in, true);
    qr_copy_async_commit();
    qr_copy_async(zeros + 16 * thread, in, false);
    qr_copy_async_commit();
    qr_copy_async_wait<1>();
    qr_sync_warp();
    qr_store_chunk(out, qr_load_chunk(shared + 16 * (thread ^ 1)));
    qr_copy_async_wait<0>();
    qr_sync_warp();
    qr_store_chunk(out + 4, qr_load_chunk(zeros + 16 * (thread ^ 1)));
}

/* Each warp's 512 bytes are copied at once, twice over the same barrier. */
CASE(bulk_copy, 4, 8)
{
#if QR_HAS_BULK_COPY
    uint64_t *barriers = (uint64_t *)(void *)(shared + 4096);
    int warp = thread / 32, lane = thread % 32;
    if (thread == 0) {
        for (int i = 0; i < 4; i++)
            qr_mbarrier_init(barriers + i, 2);
        qr_mbarrier_init_fence();
    }
    qr_sync_block();
    for (int round = 0; round < 2; round++) {
        if (lane == 0) {
            qr_mbarrier_arrive_expect(barriers + warp, 512);
            qr_bulk_copy(shared + 512 * warp, in, 512, barriers + warp);
        } else if (lane == 1) {
            qr_mbarrier_arrive(barriers + warp);
        }
        qr_mbarrier_wait(barriers + warp, round);
        qr_store_chunk(out + 4 * round, qr_load_chunk(shared + 16 * (thread ^ 1)));
        qr_sync_warp();
    }
#endif
}

/* ---- matrices ---- */

CASE(load_matrix, 4, 4)
{
    qr_store_chunk(shared + 16 * thread, qr_load_chunk(in));
    qr_sync_warp();
    qr_load_matrix_x4(out, shared + 16 * thread);
}

CASE(load_matrix_transposed, 4, 4)
{
    qr_store_chunk(shared + 16 * thread, qr_load_chunk(in));
    qr_sync_warp();
    qr_load_matrix_x4_transposed(out, shared + 16 * thread);
}

CASE(transpose_8x8, 1, 1)
{
    out[0] = qr_transpose_8x8(in[0]);
}

template <class T> QR_DEVICE void multiply(const uint32_t *in, uint32_t *out)
{
    float c[4];
    for (int i = 0; i < 4; i++)
        c[i] = qr_bits_float(in[6 + i]);
    qr_mma(T{}, c, in, in + 4);
    for (int i = 0; i < 4; i++)
        out[i] = qr_float_bits(c[i]);
}

CASE(mma_bf16, 10, 4)
{
    multiply<qr_bf16>(in, out);
}

CASE(mma_f16, 10, 4)
{
    multiply<qr_f16>(in, out);
}

/* A B + A B. Of B a thread has 8 elements: of row k = thread / 8, or of column thread / 2, whose 16
 * stand from the third chunk of its row on. */
template <class T, bool ROWS_ARE_K>
QR_DEVICE void multiply_wide(const uint32_t *in, uint32_t *out, int thread, unsigned char *shared)
{
#if QR_HAS_WGMMA
    unsigned char *b = shared + (-qr_shared_address(shared) & 1023u);
    int row = ROWS_ARE_K ? thread / 8 : thread / 2;
    int chunk = ROWS_ARE_K ? thread % 8 : 2 + thread % 2;
    uint32_t a[4] = {in[0], in[1], in[2], in[3]};
    float c[32];

    qr_store_chunk(b + row * 128 + (chunk ^ row % 8) * 16, qr_load_chunk(in + 4));
    qr_wgmma_fence_shared();
    qr_sync_block();
    QR_UNROLL
    for (int i = 0; i < 32; i++)
        c[i] = qr_bits_float(0x7fc00000u);
    qr_wgmma_fence();
    qr_wgmma<ROWS_ARE_K>(T{}, c, a, qr_wgmma_operand(b + (ROWS_ARE_K ? 0 : 32)), false);
    qr_wgmma<ROWS_ARE_K>(T{}, c, a, qr_wgmma_operand(b + (ROWS_ARE_K ? 0 : 32)), true);
    qr_wgmma_commit();
    qr_wgmma_wait<0>();
    qr_wgmma_settle(c);
    QR_UNROLL
    for (int i = 0; i < 32; i++)
        out[i] = qr_float_bits(c[i]);
#else
    (void)in, (void)out, (void)thread, (void)shared;
#endif
}

CASE(wgmma_columns_bf16, 8, 32)
{
    multiply_wide<qr_bf16, false>(in, out, thread, shared);
}

CASE(wgmma_columns_f16, 8, 32)
{
    multiply_wide<qr_f16, false>(in, out, thread, shared);
}

CASE(wgmma_rows_bf16, 8, 32)
{
    multiply_wide<qr_bf16, true>(in, out, thread, shared);
}

CASE(wgmma_rows_f16, 8, 32)
{
    multiply_wide<qr_f16, true>(in, out, thread, shared);
}

/* ---- arithmetic ---- */

CASE(exp2, 1, 1)
{
    out[0] = qr_float_bits(qr_exp2(qr_bits_float(in[0])));
}

CASE(log2, 1, 1)
{
    out[0] = qr_float_bits(qr_log2(qr_bits_float(in[0])));
}

CASE(sqrt, 1, 1)
{
    out[0] = qr_float_bits(qr_sqrt(qr_bits_float(in[0])));
}

CASE(fma, 3, 1)
{
    out[0] =
        qr_float_bits(qr_fma(qr_bits_float(in[0]), qr_bits_float(in[1]), qr_bits_float(in[2])));
}

CASE(max, 2, 1)
{
    out[0] = qr_float_bits(qr_max(qr_bits_float(in[0]), qr_bits_float(in[1])));
}

CASE(permute_bytes, 3, 1)
{
    out[0] = qr_permute_bytes(in[0], in[1], in[2]);
}

/* Plain C++ operators, which the compilers must not fuse or reorder. */
CASE(plain_f32, 3, 3)
{
    float a = qr_bits_float(in[0]), b = qr_bits_float(in[1]), c = qr_bits_float(in[2]);
    out[0] = qr_float_bits(a + b);
    out[1] = qr_float_bits(a / b);
    out[2] = qr_float_bits(a * b + c);
}

/* ---- conversions ---- */

CASE(pack_bf16, 2, 1)
{
    out[0] = qr_pack(qr_bf16{}, qr_bits_float(in[0]), qr_bits_float(in[1]));
}

CASE(pack_f16, 2, 1)
{
    out[0] = qr_pack(qr_f16{}, qr_bits_float(in[0]), qr_bits_float(in[1]));
}

CASE(f16_to_float, 1, 2)
{
    out[0] = qr_float_bits(qr_f16_bits_to_float((uint16_t)in[0]));
    float low, high;
    qr_unpack(qr_f16{}, in[0], &low, &high);
    out[1] = qr_float_bits(high);
}

CASE(mul_bf16x2, 2, 1)
{
    out[0] = qr_mul_bf16x2(in[0], in[1]);
}

CASE(e4m3_to_f16, 1, 1)
{
    out[0] = qr_e4m3x2_to_f16x2((uint16_t)in[0]);
}

CASE(pack_e4m3, 2, 1)
{
    out[0] = qr_pack_e4m3(qr_bits_float(in[0]), qr_bits_float(in[1]));
}

/* ---- launches that start early ---- */

CASE(chain, 1, 1)
{
    qr_allow_next_kernel();
    out[0] += 1;
}
