/* attn_prefill_e4m3.cu - the prefill kernels over KV pages of E4M3; see attn_prefill.cuh. */
#include "attention/cuda/attn_prefill.cuh"

QR_PREFILL_KERNELS(e4m3, qr_e4m3)
