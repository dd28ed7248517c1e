/* attn_decode_f16.cu - the decode kernels over KV pages of F16; see attn_decode.cuh. */
#include "attention/cuda/attn_decode.cuh"

QR_DECODE_KERNELS(f16, qr_f16)
