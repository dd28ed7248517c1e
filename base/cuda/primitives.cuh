/*
 * primitives.cuh - everything that a kernel may use of the machine: the only file with PTX.
 *
 * Kernels are written once and compiled twice. nvcc makes GPU code of them; g++ makes them run
 * on the emulator of the execution model (base/cuda/emulator), where a CUDA thread is a fiber.
 * So a kernel uses what is declared here, plain C++17, and nothing of the CUDA headers.
 *
 *     QR_KERNEL(qr_scale_f32, struct qr_scale_params, 128, 1)
 *     {
 *         int i = qr_block_index() * 128 + qr_thread_index();
 *         if (i < p.n)
 *             p.x[i] *= p.factor;
 *     }
 *
 * A kernel takes one struct of parameters by value, `p`, and has a one-dimensional block. It is
 * found by its name (cuda.h). "Warp" functions are called by all 32 lanes of a warp together.
 * Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16". With g = lane / 4 and
 * t = lane % 4, a register of two 16-bit elements holds, lower half first:
 *   A 16x16  a[0] (g, 2t..)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)
 *   B 16x8   b[0] (2t.., g)  b[1] (2t + 8.., g)           (row = k, column = n)
 *   C 16x8   c[0] (g, 2t)  c[1] (g, 2t + 1)  c[2] (g + 8, 2t)  c[3] (g + 8, 2t + 1)
 */
#ifndef QUIRE_BASE_CUDA_PRIMITIVES_CUH
#define QUIRE_BASE_CUDA_PRIMITIVES_CUH

#include <stddef.h>
#include <stdint.h>

/* Storage of two and one bytes; arithmetic is done in F32. */
struct qr_bf16 {
    uint16_t bits;
};
struct qr_f16 {
    uint16_t bits;
};
struct qr_e4m3 { /* FP8: 4 bits of exponent, 3 of mantissa, no infinity, largest 448 */
    uint8_t bits;
};
/* 16 bytes, the widest access of a thread. */
struct alignas(16) qr_chunk {
    uint32_t word[4];
};

#ifdef __CUDACC__

#define QR_DEVICE __device__ __forceinline__
#define QR_UNROLL _Pragma("unroll")
#define QR_KERNEL(name, params_type, threads, min_blocks)             \
    extern "C" __global__ void __launch_bounds__(threads, min_blocks) \
        name(const __grid_constant__ params_type p)
/* The block's dynamic shared memory, aligned to 128 bytes: the only shared memory of a kernel. */
#define QR_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

/* ---- where a thread is ---- */

QR_DEVICE int qr_thread_index()
{
    return (int)threadIdx.x;
}
QR_DEVICE int qr_block_index()
{
    return (int)blockIdx.x;
}
QR_DEVICE int qr_block_index_y()
{
    return (int)blockIdx.y;
}
QR_DEVICE int qr_grid_size()
{
    return (int)gridDim.x;
}
QR_DEVICE uint32_t qr_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- barriers and exchange ---- */

QR_DEVICE void qr_sync_block()
{
    __syncthreads();
}
/* Barrier `id` in [1, 15] of n_threads threads, a multiple of 32; orders their memory. */
QR_DEVICE void qr_sync_some(int id, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}
QR_DEVICE void qr_sync_warp()
{
    __syncwarp();
}
template <class T> QR_DEVICE T qr_shuffle(T value, int lane)
{
    return __shfl_sync(0xffffffffu, value, lane);
}
template <class T> QR_DEVICE T qr_shuffle_xor(T value, int mask)
{
    return __shfl_xor_sync(0xffffffffu, value, mask);
}
/* Bit l: what lane l passed. */
QR_DEVICE uint32_t qr_ballot(bool vote)
{
    return __ballot_sync(0xffffffffu, vote);
}
QR_DEVICE int qr_count_bits(uint32_t bits)
{
    return __popc(bits);
}

/* ---- memory ---- */

/* Read once and not again soon: leaves the first-level cache to others. Aligned to 16. */
QR_DEVICE qr_chunk qr_load_stream(const void *p)
{
    qr_chunk c;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(c.word[0]), "=r"(c.word[1]), "=r"(c.word[2]), "=r"(c.word[3])
                 : "l"(p));
    return c;
}
QR_DEVICE qr_chunk qr_load_chunk(const void *p)
{
    return *(const qr_chunk *)p;
}
QR_DEVICE void qr_store_chunk(void *p, qr_chunk c)
{
    *(qr_chunk *)p = c;
}
/* Adds to an int in global or shared memory; the value before. */
QR_DEVICE int qr_atomic_add(int *p, int value)
{
    return atomicAdd(p, value);
}
/* The larger of *p and value, unsigned, into *p. */
QR_DEVICE void qr_atomic_max(uint32_t *p, uint32_t value)
{
    atomicMax(p, value);
}
/* This thread's writes are seen by other blocks before what it writes afterwards. */
QR_DEVICE void qr_fence()
{
    __threadfence();
}

/* 16 bytes from global to shared memory in the background; zeros when not `ok`. */
QR_DEVICE void qr_copy_async(void *shared, const void *global, bool ok)
{
    asm volatile(
        "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(qr_shared_address(shared)),
        "l"(global), "r"(ok ? 16 : 0)
        : "memory");
}
/* Closes a group of this thread's copies. */
QR_DEVICE void qr_copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until all but the last N groups of this thread have landed. */
template <int N> QR_DEVICE void qr_copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- barriers in shared memory and bulk copies (sm_90); elsewhere QR_HAS_BULK_COPY is 0 ---- */

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define QR_HAS_BULK_COPY 1
#else
#define QR_HAS_BULK_COPY 0
#endif

#if QR_HAS_BULK_COPY
QR_DEVICE void qr_mbarrier_init(uint64_t *barrier, int n_arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(qr_shared_address(barrier)),
                 "r"(n_arrivals)
                 : "memory");
}
/* After the inits, by the thread that made them, before the block's barrier. */
QR_DEVICE void qr_mbarrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
QR_DEVICE void qr_mbarrier_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(qr_shared_address(barrier))
                 : "memory");
}
/* Arrives, and lets the phase wait for n_bytes of bulk copies besides. */
QR_DEVICE void qr_mbarrier_arrive_expect(uint64_t *barrier, int n_bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(qr_shared_address(barrier)),
        "r"(n_bytes)
        : "memory");
}
/* Waits for the end of the phase of this parity (0 for the first phase). */
QR_DEVICE void qr_mbarrier_wait(uint64_t *barrier, int parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again_%=:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again_%=;\n"
                 "}" ::"r"(qr_shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}
/* n_bytes (a multiple of 16, both addresses aligned to 16) from global to shared memory; lands on
 * `barrier`. One thread issues it. */
QR_DEVICE void qr_bulk_copy(void *shared, const void *global, int n_bytes, uint64_t *barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(qr_shared_address(shared)),
                 "l"(global), "r"(n_bytes), "r"(qr_shared_address(barrier))
                 : "memory");
}
#endif

/* ---- programmatic dependent launch (sm_90); elsewhere the launches are in order anyway ---- */

/* Before the first read of what the launch before wrote. */
QR_DEVICE void qr_wait_for_previous_kernel()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/* From here on the next launch may start; it still waits for the end before it reads. */
QR_DEVICE void qr_allow_next_kernel()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* ---- matrices of a warp ---- */

/* Four 8x8 matrices of 16-bit elements: lane 8i + j passes the address of row j of matrix i, and
 * gets of each matrix the elements (g, 2t) and (g, 2t + 1). */
QR_DEVICE void qr_load_matrix_x4(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(qr_shared_address(row))
                 : "memory");
}
/* The same of the transposed matrices: elements (2t, g) and (2t + 1, g). */
QR_DEVICE void qr_load_matrix_x4_transposed(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(qr_shared_address(row))
                 : "memory");
}
/* Transposes one 8x8 matrix of 16-bit elements that the warp holds, (g, 2t..) in each lane. */
QR_DEVICE uint32_t qr_transpose_8x8(uint32_t a)
{
    uint32_t d;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(a));
    return d;
}
/* c += A B with F32 sums. */
QR_DEVICE void qr_mma(qr_bf16, float *c, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
QR_DEVICE void qr_mma(qr_f16, float *c, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * ---- matrices of a warpgroup (sm_90a); elsewhere QR_HAS_WGMMA is 0 ----
 *
 * Four warps, the first a multiple of 4, call these together. Products are computed in the
 * background: between qr_wgmma and the qr_wgmma_wait that ends it neither its sums nor its A may be
 * touched, nor what it reads of shared memory be written.
 */

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QR_HAS_WGMMA 1
#else
#define QR_HAS_WGMMA 0
#endif

#if QR_HAS_WGMMA
/* The 32 sums of a thread, in the instruction and as its operands. */
#define QR_WGMMA_SUMS                                               \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, " \
    "%14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, "  \
    "%26, %27, %28, %29, %30, %31}, "
#define QR_WGMMA_FOUR(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define QR_WGMMA_REGISTERS(c)                                                            \
    QR_WGMMA_FOUR(c, 0), QR_WGMMA_FOUR(c, 4), QR_WGMMA_FOUR(c, 8), QR_WGMMA_FOUR(c, 12), \
        QR_WGMMA_FOUR(c, 16), QR_WGMMA_FOUR(c, 20), QR_WGMMA_FOUR(c, 24), QR_WGMMA_FOUR(c, 28)

/* Before the first product, and where A or sums were written since the last wait. */
QR_DEVICE void qr_wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/* This thread's writes to shared memory are seen by products that come behind the next barrier. */
QR_DEVICE void qr_wgmma_fence_shared()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/* Closes a group of products. */
QR_DEVICE void qr_wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits until all but the last N groups have been computed. */
template <int N> QR_DEVICE void qr_wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/* Sums that a wait has ended, or that a product will take: nothing moves past this. */
QR_DEVICE void qr_wgmma_settle(float *c)
{
    QR_UNROLL
    for (int i = 0; i < 32; i++)
        asm volatile("" : "+f"(c[i])::"memory");
}
/*
 * c[4 j + i] += A B for columns 8 j.. of 64, laid out as c[i] of qr_mma; without `adds`, = A B. A:
 * this warp's 16 rows, as for qr_mma. b: of qr_wgmma_operand. ROWS_ARE_K: its rows are k, 16 of
 * them with 64 columns each; else they are the 64 columns, with 16 k each.
 */
template <bool ROWS_ARE_K>
QR_DEVICE void qr_wgmma(qr_bf16, float *c, const uint32_t *a, uint64_t b, bool adds)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " QR_WGMMA_SUMS
                 "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
                 : QR_WGMMA_REGISTERS(c)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)adds),
                   "n"(ROWS_ARE_K ? 1 : 0));
}
template <bool ROWS_ARE_K>
QR_DEVICE void qr_wgmma(qr_f16, float *c, const uint32_t *a, uint64_t b, bool adds)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " QR_WGMMA_SUMS
                 "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
                 : QR_WGMMA_REGISTERS(c)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)adds),
                   "n"(ROWS_ARE_K ? 1 : 0));
}
#endif

/* ---- arithmetic ---- */

/* 2^x, relative error about 2^-22; 0 for -infinity. */
QR_DEVICE float qr_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* log2(x), absolute error about 2^-22. */
QR_DEVICE float qr_log2(float x)
{
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
QR_DEVICE float qr_sqrt(float x)
{
    return __fsqrt_rn(x);
}
QR_DEVICE float qr_fma(float a, float b, float c)
{
    return __fmaf_rn(a, b, c);
}
/* a * b rounded, also where it is added to something: nvcc fuses no such product. */
QR_DEVICE float qr_mul(float a, float b)
{
    return __fmul_rn(a, b);
}
QR_DEVICE float qr_max(float a, float b)
{
    return fmaxf(a, b);
}
QR_DEVICE uint32_t qr_float_bits(float x)
{
    return __float_as_uint(x);
}
QR_DEVICE float qr_bits_float(uint32_t bits)
{
    return __uint_as_float(bits);
}
/* Bytes of {b, a} chosen by the four nibbles of `selector`, as PTX prmt. */
QR_DEVICE uint32_t qr_permute_bytes(uint32_t a, uint32_t b, uint32_t selector)
{
    return __byte_perm(a, b, selector);
}

/* ---- conversions, round to nearest even ---- */

QR_DEVICE uint32_t qr_pack(qr_bf16, float low, float high)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
QR_DEVICE uint32_t qr_pack(qr_f16, float low, float high)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
QR_DEVICE float qr_f16_bits_to_float(uint16_t bits)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}
/* a * b of two bf16 each, rounded once. */
QR_DEVICE uint32_t qr_mul_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(0x80008000u));
    return r;
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#define QR_HAS_E4M3 1
#else
#define QR_HAS_E4M3 0
#endif
#if QR_HAS_E4M3
/* Two e4m3 (lower byte first) to two f16, exact. */
QR_DEVICE uint32_t qr_e4m3x2_to_f16x2(uint16_t pair)
{
    uint32_t r;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(pair));
    return r;
}
/* Saturates at 448. */
QR_DEVICE uint16_t qr_pack_e4m3(float low, float high)
{
    uint16_t r;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));
    return r;
}
#endif

#else /* g++: the emulator */
#define QR_HAS_BULK_COPY 1
#define QR_HAS_WGMMA     1
#define QR_HAS_E4M3      0
#include "base/cuda/emulator/primitives.h"
#endif

/* ---- what both have in common ---- */

#if QR_HAS_WGMMA
/*
 * B of qr_wgmma from shared memory, for instance at `p`: rows of 128 bytes, 64 elements, eight of
 * them in 1024 bytes at a multiple of 1024, the next eight behind; chunk c of 16 bytes of row r
 * stands at c ^ (r % 8). PTX ISA, "Matrix descriptor": start, distance of eights of rows, 128-byte
 * swizzle; the distance of further 64 columns (bits 16 to 29) is not used.
 */
QR_DEVICE uint64_t qr_wgmma_operand(const void *p)
{
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 16 |
           (qr_shared_address(p) >> 4 & 0x3fffu);
}
#endif

QR_DEVICE float qr_to_float(float x)
{
    return x;
}
QR_DEVICE float qr_to_float(qr_bf16 x)
{
    return qr_bits_float((uint32_t)x.bits << 16);
}
QR_DEVICE float qr_to_float(qr_f16 x)
{
    return qr_f16_bits_to_float(x.bits);
}
/* Two elements of a register. */
QR_DEVICE void qr_unpack(qr_bf16, uint32_t pair, float *low, float *high)
{
    *low = qr_bits_float(pair << 16);
    *high = qr_bits_float(pair & 0xffff0000u);
}
QR_DEVICE void qr_unpack(qr_f16, uint32_t pair, float *low, float *high)
{
    *low = qr_f16_bits_to_float((uint16_t)pair);
    *high = qr_f16_bits_to_float((uint16_t)(pair >> 16));
}
QR_DEVICE void qr_from_float(float x, float *out)
{
    *out = x;
}
QR_DEVICE void qr_from_float(float x, qr_bf16 *out)
{
    out->bits = (uint16_t)qr_pack(qr_bf16{}, x, 0.0f);
}
QR_DEVICE void qr_from_float(float x, qr_f16 *out)
{
    out->bits = (uint16_t)qr_pack(qr_f16{}, x, 0.0f);
}

#if !QR_HAS_E4M3
/* e4m3 to f16: the exponent's bias grows from 7 to 15, which a multiplication by 2^8 does, exact
 * for subnormal numbers as well. NaN (0x7f) becomes 480. */
QR_DEVICE uint16_t qr_e4m3_bits_to_f16(uint32_t byte)
{
    qr_f16 scaled;
    uint16_t f16_bits = (uint16_t)((byte & 0x80u) << 8 | (byte & 0x7fu) << 7);
    qr_from_float(qr_f16_bits_to_float(f16_bits) * 256.0f, &scaled);
    return scaled.bits;
}
QR_DEVICE uint32_t qr_e4m3x2_to_f16x2(uint16_t pair)
{
    return qr_e4m3_bits_to_f16(pair & 0xffu) | (uint32_t)qr_e4m3_bits_to_f16(pair >> 8) << 16;
}
/* To the nearest e4m3, ties to even, 448 at most: adding 2^23 of the right unit rounds. */
QR_DEVICE uint32_t qr_float_to_e4m3_bits(float x)
{
    uint32_t sign = qr_float_bits(x) >> 24 & 0x80u;
    float magnitude = qr_bits_float(qr_float_bits(x) & 0x7fffffffu);
    if (!(magnitude < 464.0f)) /* half way from 448 to the next number, and NaN */
        return sign | (magnitude == magnitude ? 0x7eu : 0x7fu);
    int exponent = (int)(qr_float_bits(magnitude) >> 23) - 127;
    if (exponent < -6)
        exponent = -6; /* subnormal numbers share the smallest exponent's unit, 2^-9 */
    /* unit = 2^(exponent - 3); magnitude / unit is below 16 and exact */
    float units = magnitude * qr_bits_float((uint32_t)(127 + 3 - exponent) << 23);
    float rounded = units + 8388608.0f - 8388608.0f;
    uint32_t n = (uint32_t)rounded; /* in [0, 16] */
    /* A normal number has n in [8, 16]: its bits are those of the exponent plus what n exceeds. */
    uint32_t bits = n < 8 ? n : ((uint32_t)(exponent + 7) << 3) + (n - 8);
    return sign | bits;
}
QR_DEVICE uint16_t qr_pack_e4m3(float low, float high)
{
    return (uint16_t)(qr_float_to_e4m3_bits(low) | qr_float_to_e4m3_bits(high) << 8);
}
#endif

#endif /* QUIRE_BASE_CUDA_PRIMITIVES_CUH */
