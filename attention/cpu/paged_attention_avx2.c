/* paged_attention_avx2.c - the kernel of paged_attention.inc.h for this instruction set. */
#include "attention/cpu/paged_attention.h"

#if defined(__x86_64__)
#include "base/simd_avx2.h"

#define QR_ATTENTION_KERNEL  qr_attention_kernel_avx2
#define QR_ATTENTION_COLUMNS 1

#include "attention/cpu/paged_attention.inc.h"
#endif
