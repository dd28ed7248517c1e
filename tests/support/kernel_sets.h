/* kernel_sets.h - the tables of CPU kernels that run here. */
#ifndef QUIRE_TESTS_SUPPORT_KERNEL_SETS_H
#define QUIRE_TESTS_SUPPORT_KERNEL_SETS_H

#include "runtime/ops/cpu/kernels.h"
#include "runtime/ops/cpu/packed_kernels.h"

enum { KERNEL_SETS_MAX = QR_ISA_COUNT + 2 };

/* Scalar first, the emulated ones last. Return how many were written. */
int kernel_sets(const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX]);
int packed_kernel_sets(const struct qr_packed_kernels *sets[KERNEL_SETS_MAX]);

/* NULL where SIMDe is not installed */
extern const struct qr_cpu_kernels *const kernels_emulated_avx512;
extern const struct qr_packed_kernels *const packed_emulated_avx512;
extern const struct qr_packed_kernels *const packed_emulated_amx;

#endif /* QUIRE_TESTS_SUPPORT_KERNEL_SETS_H */
