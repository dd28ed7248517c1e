/* attention_emulated_avx512.c - the AVX-512 kernel on SIMDe instead of the processor. */
#include "tests/support/attention_case.h"

#if defined(QUIRE_EMULATE_AVX512) && __has_include(<simde/x86/avx512.h>)

#include "base/simd_avx512.h"

#define QR_ATTENTION_KERNEL  attention_kernel_emulated_avx512
#define QR_ATTENTION_COLUMNS 4

extern const struct qr_attention_kernel attention_kernel_emulated_avx512;

#include "attention/cpu/paged_attention.inc.h"

const struct qr_attention_kernel *const attention_emulated_avx512 =
    &attention_kernel_emulated_avx512;

#else

const struct qr_attention_kernel *const attention_emulated_avx512 = NULL;

#endif
