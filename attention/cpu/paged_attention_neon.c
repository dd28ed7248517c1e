/* paged_attention_neon.c - the kernel of paged_attention.inc.h for this instruction set. */
#include "attention/cpu/paged_attention.h"

#if defined(__aarch64__)
#include "base/simd_neon.h"

#define QR_ATTENTION_KERNEL  qr_attention_kernel_neon
#define QR_ATTENTION_COLUMNS 1

#include "attention/cpu/paged_attention.inc.h"
#endif
