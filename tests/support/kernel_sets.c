/* kernel_sets.c - see kernel_sets.h for the contract. */
#include "tests/support/kernel_sets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Whether the set runs here; says so where it does not. */
static bool is_here(enum qr_isa isa)
{
    if (!qr_isa_supported(isa))
        print_message("skipped: no %s here\n", qr_isa_name(isa));
    return qr_isa_supported(isa);
}

static bool is_emulated_here(const void *emulated)
{
    if (qr_isa_supported(QR_ISA_AVX2) && emulated != NULL)
        return true;
    print_message("skipped: emulated AVX-512 (it needs AVX2 and libsimde-dev)\n");
    return false;
}

int kernel_sets(const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX])
{
    int n = 0;

    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (is_here((enum qr_isa)isa))
            sets[n++] = qr_cpu_kernels_of((enum qr_isa)isa);
    }
    if (is_emulated_here(kernels_emulated_avx512))
        sets[n++] = kernels_emulated_avx512;
    return n;
}

int packed_kernel_sets(const struct qr_packed_kernels *sets[KERNEL_SETS_MAX])
{
    int n = 0;

    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (is_here((enum qr_isa)isa))
            sets[n++] = qr_packed_kernels_of((enum qr_isa)isa);
    }
    if (is_emulated_here(packed_emulated_avx512))
        sets[n++] = packed_emulated_avx512;
    if (is_emulated_here(packed_emulated_bf16))
        sets[n++] = packed_emulated_bf16;
    if (is_emulated_here(packed_emulated_amx))
        sets[n++] = packed_emulated_amx;
    return n;
}

const struct qr_packed_kernels *packed_bf16_reference(const struct qr_packed_kernels *set)
{
    if (set->round_to_bf16 == NULL)
        return &qr_packed_kernels_scalar;
    bool is_bf16 = set == packed_emulated_bf16 || set == qr_packed_kernels_of(QR_ISA_AVX512BF16);
    const struct qr_packed_kernels *emulated = is_bf16 ? packed_emulated_bf16 : packed_emulated_amx;
    return is_emulated_here(emulated) ? emulated : NULL;
}

bool rounds_to_bf16(enum qr_isa isa)
{
    return qr_packed_kernels_of(isa)->round_to_bf16 != NULL;
}
