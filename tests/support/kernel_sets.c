/* kernel_sets.c - see kernel_sets.h for the contract. */
#include "tests/support/kernel_sets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

int kernel_sets(const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX])
{
    int n = 0;

    for (int isa = 0; isa < QR_ISA_COUNT; isa++) {
        if (qr_isa_supported((enum qr_isa)isa))
            sets[n++] = qr_cpu_kernels_of((enum qr_isa)isa);
        else
            print_message("skipped: no %s here\n", qr_isa_name((enum qr_isa)isa));
    }
    if (qr_isa_supported(QR_ISA_AVX2) && kernels_emulated_avx512 != NULL)
        sets[n++] = kernels_emulated_avx512;
    else
        print_message("skipped: emulated AVX-512 (it needs AVX2 and libsimde-dev)\n");
    return n;
}
