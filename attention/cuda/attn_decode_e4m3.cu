/* attn_decode_e4m3.cu - the decode kernels over KV pages of E4M3; see attn_decode.cuh. */
#include "attention/cuda/attn_decode.cuh"

QR_DECODE_KERNELS(e4m3, qr_e4m3)
