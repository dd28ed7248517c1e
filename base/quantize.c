/* quantize.c - see quantize.h for the contract: the choice of an instruction set. */
#include "base/quantize.h"

qr_quantize_fn qr_quantizer_of(enum qr_isa isa)
{
#if defined(__x86_64__)
    if (isa >= QR_ISA_AVX512)
        return qr_quantize_avx512;
    if (isa == QR_ISA_AVX2)
        return qr_quantize_avx2;
#else
    (void)isa;
#endif
    return qr_quantize_scalar;
}
