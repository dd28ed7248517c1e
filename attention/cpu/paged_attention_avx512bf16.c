/* paged_attention_avx512bf16.c - the kernel of paged_attention.inc.h for this instruction set. */
#include "attention/cpu/paged_attention.h"

#if defined(__x86_64__)
#include "base/simd_bf16_avx512.h"

#define QR_ATTENTION_KERNEL  qr_attention_kernel_avx512bf16
#define QR_ATTENTION_COLUMNS 4
#define QR_BF16_PAIRS

#include "attention/cpu/paged_attention.inc.h"
#endif
