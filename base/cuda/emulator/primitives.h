/*
 * primitives.h - the functions of primitives.cuh on the emulator.
 *
 * Included by base/cuda/primitives.cuh alone, which describes the functions and defines the types.
 * Functions of PTX that are arithmetic are computed here; whatever concerns other threads,
 * copies or checks is the machine's (machine.h).
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_PRIMITIVES_H
#define QUIRE_BASE_CUDA_EMULATOR_PRIMITIVES_H

#include <math.h>
#include <string.h>

#include "base/cuda/emulator/machine.h"
#include "base/dtype.h"

/* Inlined as nvcc does it. Under a sanitizer that would take the compiler minutes a file. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QR_DEVICE inline
#else
#define QR_DEVICE inline __attribute__((always_inline))
#endif
#define QR_UNROLL

/* A compiler that cannot do it leaves the padding as it is. */
template <typename Params> static void qr_emulator_clear_padding(void *params)
{
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(static_cast<Params *>(params));
#else
    (void)params;
#endif
}

/* The names may be macros themselves: they are expanded once before they are pasted. */
#define QR_KERNEL(name, params_type, threads, min_blocks) \
    QR_EMULATOR_KERNEL(name, params_type, threads, min_blocks)
#define QR_EMULATOR_KERNEL(name, params_type, threads, min_blocks)                                 \
    static void name(const params_type &p);                                                        \
    static void name##_run(const void *p)                                                          \
    {                                                                                              \
        name(*static_cast<const params_type *>(p));                                                \
    }                                                                                              \
    static qr_emulator_kernel name##_kernel = {#name,      sizeof(params_type),                    \
                                               threads,    min_blocks,                             \
                                               name##_run, qr_emulator_clear_padding<params_type>, \
                                               nullptr};                                           \
    __attribute__((constructor)) static void name##_register()                                     \
    {                                                                                              \
        qr_emulator_register(&name##_kernel);                                                      \
    }                                                                                              \
    static void name(const params_type &p)
#define QR_SHARED(name) unsigned char *const name = qr_emulator_self->shared

/* ---- where a thread is ---- */

QR_DEVICE int qr_thread_index()
{
    return qr_emulator_self->index;
}
QR_DEVICE int qr_block_index()
{
    return qr_emulator_self->block_x;
}
QR_DEVICE int qr_block_index_y()
{
    return qr_emulator_self->block_y;
}
QR_DEVICE int qr_grid_size()
{
    return qr_emulator_self->grid_x;
}
QR_DEVICE uint32_t qr_shared_address(const void *p)
{
    qr_emulator_check_shared(p, 1, 1, "qr_shared_address");
    return (uint32_t)(static_cast<const unsigned char *>(p) - qr_emulator_self->shared);
}

/* ---- barriers and exchange ---- */

QR_DEVICE void qr_sync_block()
{
    qr_emulator_sync_block();
}
QR_DEVICE void qr_sync_some(int id, int n_threads)
{
    qr_emulator_sync_some(id, n_threads);
}
QR_DEVICE void qr_sync_warp()
{
    qr_emulator_exchange(QR_EMULATOR_SYNC_WARP, nullptr, 0);
}
/* What lane `lane` (mod 32) passes. */
template <class T> QR_DEVICE T qr_shuffle(T value, int lane)
{
    constexpr int n_words = sizeof(T) / 4;
    static_assert(sizeof(T) % 4 == 0 && n_words <= QR_EMULATOR_SLOT_WORDS, "in words");
    uint32_t words[n_words];
    memcpy(words, &value, sizeof(T));
    const qr_emulator_slots *slots = qr_emulator_exchange(QR_EMULATOR_SHUFFLE, words, n_words);
    memcpy(&value, slots->word[lane & (QR_EMULATOR_WARP - 1)], sizeof(T));
    return value;
}
template <class T> QR_DEVICE T qr_shuffle_xor(T value, int mask)
{
    return qr_shuffle(value, qr_emulator_self->lane ^ mask);
}
QR_DEVICE uint32_t qr_ballot(bool vote)
{
    uint32_t word = vote ? 1 : 0, votes = 0;
    const qr_emulator_slots *slots = qr_emulator_exchange(QR_EMULATOR_BALLOT, &word, 1);
    for (int lane = 0; lane < QR_EMULATOR_WARP; lane++)
        votes |= slots->word[lane][0] << lane;
    return votes;
}
QR_DEVICE int qr_count_bits(uint32_t bits)
{
    return __builtin_popcount(bits);
}

/* ---- memory ---- */

QR_DEVICE qr_chunk qr_load_chunk(const void *p)
{
    qr_emulator_check_aligned(p, "qr_load_chunk");
    return *static_cast<const qr_chunk *>(p);
}
QR_DEVICE qr_chunk qr_load_stream(const void *p)
{
    qr_emulator_check_aligned(p, "qr_load_stream");
    qr_emulator_check_global(p, "qr_load_stream");
    return *static_cast<const qr_chunk *>(p);
}
QR_DEVICE void qr_store_chunk(void *p, qr_chunk c)
{
    qr_emulator_check_aligned(p, "qr_store_chunk");
    *static_cast<qr_chunk *>(p) = c;
}
/* Atomic and nothing more: what must be seen with it needs fences (qr_fence). */
QR_DEVICE int qr_atomic_add(int *p, int value)
{
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
QR_DEVICE void qr_atomic_max(uint32_t *p, uint32_t value)
{
    uint32_t now = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (now < value &&
           !__atomic_compare_exchange_n(p, &now, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}
QR_DEVICE void qr_fence()
{
    qr_emulator_fence();
}

QR_DEVICE void qr_copy_async(void *shared, const void *global, bool ok)
{
    qr_emulator_copy_async(shared, global, ok);
}
QR_DEVICE void qr_copy_async_commit()
{
    qr_emulator_copy_async_commit();
}
template <int N> QR_DEVICE void qr_copy_async_wait()
{
    qr_emulator_copy_async_wait(N);
}

QR_DEVICE void qr_mbarrier_init(uint64_t *barrier, int n_arrivals)
{
    qr_emulator_mbarrier_init(barrier, n_arrivals);
}
QR_DEVICE void qr_mbarrier_init_fence()
{
    qr_emulator_mbarrier_init_fence();
}
QR_DEVICE void qr_mbarrier_arrive(uint64_t *barrier)
{
    qr_emulator_mbarrier_arrive(barrier, 0);
}
QR_DEVICE void qr_mbarrier_arrive_expect(uint64_t *barrier, int n_bytes)
{
    qr_emulator_mbarrier_arrive(barrier, n_bytes);
}
QR_DEVICE void qr_mbarrier_wait(uint64_t *barrier, int parity)
{
    qr_emulator_mbarrier_wait(barrier, parity);
}
QR_DEVICE void qr_bulk_copy(void *shared, const void *global, int n_bytes, uint64_t *barrier)
{
    qr_emulator_bulk_copy(shared, global, n_bytes, barrier);
}

QR_DEVICE void qr_wait_for_previous_kernel()
{
    qr_emulator_wait_for_previous_kernel();
}
QR_DEVICE void qr_allow_next_kernel()
{
}

/* ---- matrices of a warp ---- */

/* Element `column` of the row that lane 8i + row passed the address of. */
QR_DEVICE uint32_t qr_emulator_element(const qr_emulator_slots *slots, int i, int row, int column)
{
    uintptr_t address;
    memcpy(&address, slots->word[8 * i + row], sizeof(address));
    return reinterpret_cast<const uint16_t *>(address)[column];
}
QR_DEVICE const qr_emulator_slots *qr_emulator_pass_rows(const void *row)
{
    qr_emulator_check_shared(row, 16, 16, "qr_load_matrix_x4");
    uint32_t words[2];
    uintptr_t address = reinterpret_cast<uintptr_t>(row);
    memcpy(words, &address, sizeof(address));
    return qr_emulator_exchange(QR_EMULATOR_LOAD_MATRIX, words, 2);
}
QR_DEVICE void qr_load_matrix_x4(uint32_t *r, const void *row)
{
    const qr_emulator_slots *slots = qr_emulator_pass_rows(row);
    int g = qr_emulator_self->lane / 4, t = qr_emulator_self->lane % 4;
    for (int i = 0; i < 4; i++)
        r[i] = qr_emulator_element(slots, i, g, 2 * t) | qr_emulator_element(slots, i, g, 2 * t + 1)
                                                             << 16;
}
QR_DEVICE void qr_load_matrix_x4_transposed(uint32_t *r, const void *row)
{
    const qr_emulator_slots *slots = qr_emulator_pass_rows(row);
    int g = qr_emulator_self->lane / 4, t = qr_emulator_self->lane % 4;
    for (int i = 0; i < 4; i++)
        r[i] = qr_emulator_element(slots, i, 2 * t, g) | qr_emulator_element(slots, i, 2 * t + 1, g)
                                                             << 16;
}
QR_DEVICE uint32_t qr_transpose_8x8(uint32_t a)
{
    const qr_emulator_slots *slots = qr_emulator_exchange(QR_EMULATOR_TRANSPOSE, &a, 1);
    int g = qr_emulator_self->lane / 4, t = qr_emulator_self->lane % 4;
    uint32_t pair = 0;
    for (int half = 0; half < 2; half++) { /* element (2t + half, g) is with lane 4 row + g / 2 */
        uint32_t word = slots->word[4 * (2 * t + half) + g / 2][0];
        pair |= (g % 2 == 0 ? word & 0xffffu : word >> 16) << (16 * half);
    }
    return pair;
}
QR_DEVICE void qr_emulator_multiply(qr_emulator_warp_function function, float *c, const uint32_t *a,
                                    const uint32_t *b)
{
    uint32_t words[10] = {a[0], a[1], a[2], a[3], b[0], b[1], 0, 0, 0, 0};
    memcpy(words + 6, c, 16);
    const qr_emulator_slots *slots = qr_emulator_exchange(function, words, 10);
    memcpy(c, slots->word[qr_emulator_self->lane] + 6, 16);
}
QR_DEVICE void qr_mma(qr_bf16, float *c, const uint32_t *a, const uint32_t *b)
{
    qr_emulator_multiply(QR_EMULATOR_MMA_BF16, c, a, b);
}
QR_DEVICE void qr_mma(qr_f16, float *c, const uint32_t *a, const uint32_t *b)
{
    qr_emulator_multiply(QR_EMULATOR_MMA_F16, c, a, b);
}

/* ---- matrices of a warpgroup ---- */

QR_DEVICE void qr_wgmma_fence()
{
    qr_emulator_wgmma_fence();
}
QR_DEVICE void qr_wgmma_fence_shared()
{
    qr_emulator_wgmma_fence_shared();
}
QR_DEVICE void qr_wgmma_commit()
{
    qr_emulator_wgmma_commit();
}
template <int N> QR_DEVICE void qr_wgmma_wait()
{
    qr_emulator_wgmma_wait(N);
}
QR_DEVICE void qr_wgmma_settle(float *c)
{
    qr_emulator_wgmma_settle(c);
}
template <bool ROWS_ARE_K>
QR_DEVICE void qr_wgmma(qr_bf16, float *c, const uint32_t *a, uint64_t b, bool adds)
{
    qr_emulator_wgmma(QR_EMULATOR_WGMMA_BF16, c, a, b, ROWS_ARE_K, adds);
}
template <bool ROWS_ARE_K>
QR_DEVICE void qr_wgmma(qr_f16, float *c, const uint32_t *a, uint64_t b, bool adds)
{
    qr_emulator_wgmma(QR_EMULATOR_WGMMA_F16, c, a, b, ROWS_ARE_K, adds);
}

/* ---- arithmetic ---- */

QR_DEVICE uint32_t qr_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}
QR_DEVICE float qr_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}
/* Subnormal numbers become zero of the same sign (.ftz). */
QR_DEVICE float qr_emulator_flush(float x)
{
    return (qr_float_bits(x) & 0x7f800000u) == 0 ? qr_bits_float(qr_float_bits(x) & 0x80000000u)
                                                 : x;
}
QR_DEVICE float qr_exp2(float x)
{
    return qr_emulator_flush(exp2f(qr_emulator_flush(x)));
}
QR_DEVICE float qr_log2(float x)
{
    return log2f(qr_emulator_flush(x));
}
QR_DEVICE float qr_sqrt(float x)
{
    return sqrtf(x);
}
QR_DEVICE float qr_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}
QR_DEVICE float qr_mul(float a, float b)
{
    return a * b;
}
/* The one that is a number, when only one is; +0 is larger than -0. */
QR_DEVICE float qr_max(float a, float b)
{
    if (a != a || b != b)
        return a != a ? b : a;
    if (a == b)
        return qr_bits_float(qr_float_bits(a) & qr_float_bits(b));
    return a > b ? a : b;
}
QR_DEVICE uint32_t qr_permute_bytes(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t nibble = selector >> (4 * i) & 0xfu;
        uint32_t byte = (uint32_t)(both >> (8 * (nibble & 7u))) & 0xffu;
        if (nibble & 8u) /* the sign of the byte, eight times */
            byte = byte & 0x80u ? 0xffu : 0;
        result |= byte << (8 * i);
    }
    return result;
}

/* ---- conversions ---- */

QR_DEVICE uint32_t qr_emulator_to_bf16(float x)
{
    if (x != x)
        return 0x7fff; /* the one NaN that the GPU makes */
    uint32_t bits = qr_float_bits(x);
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
QR_DEVICE uint32_t qr_emulator_to_f16(float x)
{
    return x != x ? 0x7fff : qr_f32_to_f16(x);
}
QR_DEVICE uint32_t qr_pack(qr_bf16, float low, float high)
{
    return qr_emulator_to_bf16(low) | qr_emulator_to_bf16(high) << 16;
}
QR_DEVICE uint32_t qr_pack(qr_f16, float low, float high)
{
    return qr_emulator_to_f16(low) | qr_emulator_to_f16(high) << 16;
}
QR_DEVICE float qr_f16_bits_to_float(uint16_t bits)
{
    return qr_f16_to_f32(bits);
}
QR_DEVICE uint32_t qr_mul_bf16x2(uint32_t a, uint32_t b)
{
    float low = qr_bits_float(a << 16) * qr_bits_float(b << 16);
    float high = qr_bits_float(a & 0xffff0000u) * qr_bits_float(b & 0xffff0000u);
    return qr_pack(qr_bf16{}, low, high); /* the products are exact, this rounds once */
}

#endif /* QUIRE_BASE_CUDA_EMULATOR_PRIMITIVES_H */
