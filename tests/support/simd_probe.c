/* simd_probe.c - see simd_probe.h for the contract. */
#include "tests/support/simd_probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cpu_features.h"

int simd_probes(const struct simd_probe *probes[4])
{
    int n = 0;

    probes[n++] = &simd_probe_scalar;
#if defined(__x86_64__)
    if (qr_isa_supported(QR_ISA_AVX2))
        probes[n++] = &simd_probe_avx2;
    else
        print_message("skipped: no AVX2 here\n");
    if (qr_isa_supported(QR_ISA_AVX512))
        probes[n++] = &simd_probe_avx512;
    else
        print_message("skipped: no AVX-512 here\n");
    if (qr_isa_supported(QR_ISA_AVX2) && simd_probe_emulated_avx512 != NULL)
        probes[n++] = simd_probe_emulated_avx512;
    else
        print_message("skipped: emulated AVX-512 (it needs AVX2 and libsimde-dev)\n");
#elif defined(__aarch64__)
    if (qr_isa_supported(QR_ISA_NEON))
        probes[n++] = &simd_probe_neon;
    else
        print_message("skipped: no dot products of bytes here\n");
#endif
    return n;
}
