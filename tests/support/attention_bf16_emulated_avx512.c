/* attention_bf16_emulated_avx512.c - the AVX512-BF16 kernel on SIMDe instead of the processor. */
#include "tests/support/attention_case.h"

#if defined(QUIRE_EMULATE_AVX512) && __has_include(<simde/x86/avx512.h>)

#include "base/simd_bf16_avx512.h"

#define QR_ATTENTION_KERNEL  attention_kernel_emulated_bf16
#define QR_ATTENTION_COLUMNS 4
#define QR_BF16_PAIRS

extern const struct qr_attention_kernel attention_kernel_emulated_bf16;

#include "attention/cpu/paged_attention.inc.h"

const struct qr_attention_kernel *const attention_emulated_bf16 = &attention_kernel_emulated_bf16;

#else

const struct qr_attention_kernel *const attention_emulated_bf16 = NULL;

#endif
