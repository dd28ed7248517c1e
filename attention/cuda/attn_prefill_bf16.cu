/* attn_prefill_bf16.cu - the prefill kernels over KV pages of BF16; see attn_prefill.cuh. */
#include "attention/cuda/attn_prefill.cuh"

QR_PREFILL_KERNELS(bf16, qr_bf16)
