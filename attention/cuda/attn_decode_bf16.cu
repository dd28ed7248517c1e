/* attn_decode_bf16.cu - the decode kernels over KV pages of BF16; see attn_decode.cuh. */
#include "attention/cuda/attn_decode.cuh"

QR_DECODE_KERNELS(bf16, qr_bf16)
