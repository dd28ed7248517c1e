/* cpu_features.h - the instruction sets that kernels come in, and which of them run here. */
#ifndef QUIRE_BASE_CPU_FEATURES_H
#define QUIRE_BASE_CPU_FEATURES_H

#include <stdbool.h>

#include "base/status.h"

enum qr_isa {
    QR_ISA_SCALAR,
    QR_ISA_NEON,       /* of aarch64, with dot products of bytes */
    QR_ISA_AVX2,       /* AVX2, FMA, F16C */
    QR_ISA_AVX512,     /* AVX-512 F, BW, DQ, VL */
    QR_ISA_AVX512VNNI, /* those, and VNNI: dot products of bytes */
    QR_ISA_AVX512BF16, /* those, and AVX512-BF16: products of pairs of BF16 */
    QR_ISA_AMX,        /* those, and AMX's products of bytes and of BF16 */
    QR_ISA_COUNT,
};

QR_BEGIN_DECLS

/* True when the processor and the operating system support it. Of AMX's registers the first call
 * asks Linux for leave to use them, for the whole process. */
bool qr_isa_supported(enum qr_isa isa);
/* The last one that is supported; but avx512bf16 only on AMD's processors, whose products of pairs
 * are twice as fast as F32 multiply-adds: on Intel's they are half as fast. */
enum qr_isa qr_isa_best(void);
/* "scalar", "neon", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx" */
const char *qr_isa_name(enum qr_isa isa);
bool qr_isa_parse(const char *name, enum qr_isa *isa);

QR_END_DECLS

#endif /* QUIRE_BASE_CPU_FEATURES_H */
