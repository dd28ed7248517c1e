/* attn_prefill_wide.cu - the prefill kernels of warpgroups; see attn_prefill_wide.cuh. */
#include "attention/cuda/attn_prefill_wide.cuh"

QR_WIDE_PREFILL_KERNEL(bf16, qr_bf16, 64)
QR_WIDE_PREFILL_KERNEL(bf16, qr_bf16, 128)
QR_WIDE_PREFILL_KERNEL(f16, qr_f16, 64)
QR_WIDE_PREFILL_KERNEL(f16, qr_f16, 128)
