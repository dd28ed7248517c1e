#include "base/cpu_features.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__aarch64__)
#define FLAGS_LINE "Features"
#else
#define FLAGS_LINE "flags"
#endif

/* The flags that the kernel lists for the first processor, with a space on each side. */
static char *read_flags(void)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char *line = NULL;
    size_t size = 0;

    assert_non_null(file);
    while (getline(&line, &size, file) > 0) {
        if (strncmp(line, FLAGS_LINE, strlen(FLAGS_LINE)) == 0) {
            fclose(file);
            line[strcspn(line, "\n")] = ' ';
            return line;
        }
    }
    free(line);
    fclose(file);
    return NULL;
}

static bool has_all(const char *flags, const char *const *wanted, int n)
{
    for (int i = 0; i < n; i++) {
        char word[32];
        snprintf(word, sizeof(word), " %s ", wanted[i]);
        if (strstr(flags, word) == NULL)
            return false;
    }
    return true;
}

static void support_is_what_the_kernel_says(void **state)
{
    (void)state;
    static const char *const avx512[] = {"avx2",        "fma",      "f16c",     "avx512f",
                                         "avx512bw",    "avx512dq", "avx512vl", "avx512_vnni",
                                         "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"};
    static const char *const neon[] = {"asimd", "asimddp"};
    char *flags = read_flags();

    if (flags == NULL) {
        print_message("skipped: no \"" FLAGS_LINE "\" in /proc/cpuinfo\n");
        return;
    }
    assert_int_equal(qr_isa_supported(QR_ISA_NEON), has_all(flags, neon, 2));
    assert_int_equal(qr_isa_supported(QR_ISA_AVX2), has_all(flags, avx512, 3));
    assert_int_equal(qr_isa_supported(QR_ISA_AVX512), has_all(flags, avx512, 7));
    assert_int_equal(qr_isa_supported(QR_ISA_AVX512VNNI), has_all(flags, avx512, 8));
    assert_int_equal(qr_isa_supported(QR_ISA_AVX512BF16), has_all(flags, avx512, 9));
    assert_int_equal(qr_isa_supported(QR_ISA_AMX), has_all(flags, avx512, 12));
    free(flags);
}

static void best_is_the_last_that_is_supported(void **state)
{
    (void)state;
    enum qr_isa best = qr_isa_best();

    assert_true(qr_isa_supported(QR_ISA_SCALAR));
    assert_true(qr_isa_supported(best));
    for (int isa = (int)best + 1; isa < QR_ISA_COUNT; isa++) {
        if (isa != QR_ISA_AVX512BF16) /* slower than its elder on some processors */
            assert_false(qr_isa_supported((enum qr_isa)isa));
    }
}

static void names_are_read_back(void **state)
{
    (void)state;
    enum qr_isa isa;

    for (int i = 0; i < QR_ISA_COUNT; i++) {
        assert_true(qr_isa_parse(qr_isa_name((enum qr_isa)i), &isa));
        assert_int_equal(isa, i);
    }
    assert_false(qr_isa_parse("AVX2", &isa));
    assert_false(qr_isa_parse("auto", &isa));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(support_is_what_the_kernel_says),
        cmocka_unit_test(best_is_the_last_that_is_supported),
        cmocka_unit_test(names_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
