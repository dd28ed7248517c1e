/* paged_attention_scalar.c - the kernel of paged_attention.inc.h for this instruction set. */
#include "base/simd_scalar.h"

#define QR_ATTENTION_KERNEL  qr_attention_kernel_scalar
#define QR_ATTENTION_COLUMNS 1

#include "attention/cpu/paged_attention.inc.h"
