/* attn_prefill_f16.cu - the prefill kernels over KV pages of F16; see attn_prefill.cuh. */
#include "attention/cuda/attn_prefill.cuh"

QR_PREFILL_KERNELS(f16, qr_f16)
