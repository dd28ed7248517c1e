/*
 * probe_kernels.c - see probe_kernels.h for the contract.
 *
 * A multiply-add takes 4 to 6 cycles and a processor begins one or two in each: 12 chains of them,
 * none of which waits for another, keep it busy.
 */
#include "runtime/bench/cpu/probe_kernels.h"

#include <string.h>

#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define FOR_EACH_CHAIN(STEP) \
    STEP(0)                  \
    STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)

/* A chain begins at memory of its own: of equal ones a compiler would compute one. */
#define DEFINE_PEAK(name, isa, vector, MULTIPLY_ADD)                                             \
    __attribute__((target(isa))) static void name(int64_t n, const void *factors, void *chains_) \
    {                                                                                            \
        vector *starts = chains_, chains[QR_PEAK_CHAINS];                                        \
        const vector a = *(const vector *)factors;                                               \
        FOR_EACH_CHAIN(LOAD_CHAIN)                                                               \
        for (int64_t i = 0; i < n; i++) {                                                        \
            FOR_EACH_CHAIN(MULTIPLY_ADD)                                                         \
        }                                                                                        \
        FOR_EACH_CHAIN(STORE_CHAIN)                                                              \
    }

#define LOAD_CHAIN(i)  chains[i] = starts[i];
#define STORE_CHAIN(i) starts[i] = chains[i];

#define F32_256(i) chains[i] = _mm256_fmadd_ps(a, a, chains[i]);
DEFINE_PEAK(f32_avx2, "avx2,fma", __m256, F32_256)

#define F32_512(i) chains[i] = _mm512_fmadd_ps(a, a, chains[i]);
DEFINE_PEAK(f32_avx512, "avx512f", __m512, F32_512)

#define BF16_512(i) chains[i] = _mm512_dpbf16_ps(chains[i], (__m512bh)a, (__m512bh)a);
DEFINE_PEAK(bf16_avx512, "avx512f,avx512bf16", __m512, BF16_512)

/* Without VNNI: products of neighbours are added as 16 bits, theirs as 32. */
#define INT8_256(i)               \
    chains[i] = _mm256_add_epi32( \
        chains[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, chains[i]), _mm256_set1_epi16(1)));
DEFINE_PEAK(int8_avx2, "avx2", __m256i, INT8_256)

#define INT8_VNNI_256(i) chains[i] = _mm256_dpbusd_avx_epi32(chains[i], a, a);
DEFINE_PEAK(int8_avxvnni, "avx2,avxvnni", __m256i, INT8_VNNI_256)

#define INT8_VNNI_512(i) chains[i] = _mm512_dpbusd_epi32(chains[i], a, a);
DEFINE_PEAK(int8_avx512vnni, "avx512f,avx512vnni", __m512i, INT8_VNNI_512)

static bool has_avx2(void)
{
    return qr_isa_supported(QR_ISA_AVX2);
}

static bool has_avx512(void)
{
    return qr_isa_supported(QR_ISA_AVX512);
}

static bool has_avx512_vnni(void)
{
    return qr_isa_supported(QR_ISA_AVX512VNNI);
}

static bool has_avx512_bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

/* clang 14 does not know the name "avxvnni". */
static bool has_avx_vnni(void)
{
    unsigned eax, ebx, ecx, edx;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
           (eax & 1u << 4) != 0;
}

const struct qr_peak_kernel qr_peak_kernels[] = {
    {"f32 avx2", QR_DTYPE_F32, QR_PEAK_CHAINS * 8 * 2, has_avx2, f32_avx2},
    {"f32 avx512", QR_DTYPE_F32, QR_PEAK_CHAINS * 16 * 2, has_avx512, f32_avx512},
    {"bf16 avx512", QR_DTYPE_BF16, QR_PEAK_CHAINS * 32 * 2, has_avx512_bf16, bf16_avx512},
    {"int8 avx2", QR_DTYPE_INT8, QR_PEAK_CHAINS * 32 * 2, has_avx2, int8_avx2},
    {"int8 avx-vnni", QR_DTYPE_INT8, QR_PEAK_CHAINS * 32 * 2, has_avx_vnni, int8_avxvnni},
    {"int8 avx512-vnni", QR_DTYPE_INT8, QR_PEAK_CHAINS * 64 * 2, has_avx512_vnni, int8_avx512vnni},
};
const int32_t qr_n_peak_kernels = sizeof(qr_peak_kernels) / sizeof(qr_peak_kernels[0]);

#define READ_LOOP(name, isa, vector, add)                                                \
    __attribute__((target(isa))) static uint64_t name(const void *bytes, size_t n_bytes) \
    {                                                                                    \
        enum { STREAMS = 4 };                                                            \
        const vector *from = bytes;                                                      \
        vector sums[STREAMS] = {{0}};                                                    \
        uint64_t words[sizeof(vector) / sizeof(uint64_t)], sum = 0;                      \
        for (size_t i = 0; i < n_bytes / sizeof(vector); i += STREAMS) {                 \
            sums[0] = add(sums[0], from[i]);                                             \
            sums[1] = add(sums[1], from[i + 1]);                                         \
            sums[2] = add(sums[2], from[i + 2]);                                         \
            sums[3] = add(sums[3], from[i + 3]);                                         \
        }                                                                                \
        sums[0] = add(add(sums[0], sums[1]), add(sums[2], sums[3]));                     \
        memcpy(words, &sums[0], sizeof(words));                                          \
        for (size_t i = 0; i < sizeof(vector) / sizeof(uint64_t); i++)                   \
            sum += words[i];                                                             \
        return sum;                                                                      \
    }

READ_LOOP(read_avx2, "avx2", __m256i, _mm256_add_epi64)
READ_LOOP(read_avx512, "avx512f", __m512i, _mm512_add_epi64)

#else

const struct qr_peak_kernel qr_peak_kernels[1];
const int32_t qr_n_peak_kernels;

#endif

static uint64_t read_words(const void *bytes, size_t n_bytes)
{
    const uint64_t *from = bytes;
    uint64_t sums[4] = {0};

    for (size_t i = 0; i < n_bytes / sizeof(*from); i += 4) {
        for (size_t k = 0; k < 4; k++)
            sums[k] += from[i + k];
    }
    return sums[0] + sums[1] + sums[2] + sums[3];
}

qr_probe_read qr_probe_reader(void)
{
#if defined(__x86_64__)
    if (qr_isa_supported(QR_ISA_AVX512))
        return read_avx512;
    if (qr_isa_supported(QR_ISA_AVX2))
        return read_avx2;
#endif
    return read_words;
}
