/* cpu_features.c - see cpu_features.h for the contract. */
#include "base/cpu_features.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static const char *const names[QR_ISA_COUNT] = {"scalar",     "neon",       "avx2", "avx512",
                                                "avx512vnni", "avx512bf16", "amx"};

#if defined(__x86_64__)
/* clang 14 does not know the name "f16c"; the other sets imply that the system saves the registers.
 */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

/* Bits of leaf 7 that say tiles, their products of bytes, and of BF16. */
static bool has_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM_CODE = 0x1023, TILE_DATA = 18 };
    const unsigned wanted = 1u << 24 | 1u << 25 | 1u << 22;
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & wanted) == wanted &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_CODE, TILE_DATA) == 0;
}
#endif

bool qr_isa_supported(enum qr_isa isa)
{
    switch (isa) {
    case QR_ISA_SCALAR:
        return true;
#if defined(__aarch64__)
    case QR_ISA_NEON:
        return (~getauxval(AT_HWCAP) & (HWCAP_ASIMD | HWCAP_ASIMDDP)) == 0;
#endif
#if defined(__x86_64__)
    case QR_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case QR_ISA_AVX512:
        return qr_isa_supported(QR_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    case QR_ISA_AVX512VNNI:
        return qr_isa_supported(QR_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
    case QR_ISA_AVX512BF16:
        return qr_isa_supported(QR_ISA_AVX512VNNI) && __builtin_cpu_supports("avx512bf16");
    case QR_ISA_AMX:
        return qr_isa_supported(QR_ISA_AVX512BF16) && has_amx();
#endif
    default:
        return false;
    }
}

static bool is_wanted(enum qr_isa isa)
{
#if defined(__x86_64__)
    return isa != QR_ISA_AVX512BF16 || __builtin_cpu_is("amd");
#else
    (void)isa;
    return true;
#endif
}

enum qr_isa qr_isa_best(void)
{
    enum qr_isa best = QR_ISA_SCALAR;

    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (qr_isa_supported((enum qr_isa)isa) && is_wanted((enum qr_isa)isa))
            best = (enum qr_isa)isa;
    }
    return best;
}

const char *qr_isa_name(enum qr_isa isa)
{
    return names[isa];
}

bool qr_isa_parse(const char *name, enum qr_isa *isa)
{
    for (int i = 0; i < QR_ISA_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *isa = (enum qr_isa)i;
            return true;
        }
    }
    return false;
}
