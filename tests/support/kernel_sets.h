/* kernel_sets.h - the tables of CPU kernels that run here. */
#ifndef QUIRE_TESTS_SUPPORT_KERNEL_SETS_H
#define QUIRE_TESTS_SUPPORT_KERNEL_SETS_H

#include <stdbool.h>

#include "runtime/ops/cpu/kernels.h"
#include "runtime/ops/cpu/packed_kernels.h"

enum { KERNEL_SETS_MAX = QR_ISA_COUNT + 3 };

/* Scalar first, the emulated ones last. Return how many were written. */
int kernel_sets(const struct qr_cpu_kernels *sets[KERNEL_SETS_MAX]);
int packed_kernel_sets(const struct qr_packed_kernels *sets[KERNEL_SETS_MAX]);

/* The set whose results a set must have with matrices of BF16, bit for bit: scalar where
 * activations stay as they are, else the emulated set; NULL where that does not run here. */
const struct qr_packed_kernels *packed_bf16_reference(const struct qr_packed_kernels *set);

/* Whether products of BF16 matrices round their activations to it, by 2^-9 of each. */
bool rounds_to_bf16(enum qr_isa isa);

/* NULL where SIMDe is not installed */
extern const struct qr_cpu_kernels *const kernels_emulated_avx512;
extern const struct qr_packed_kernels *const packed_emulated_avx512;
extern const struct qr_packed_kernels *const packed_emulated_bf16;
extern const struct qr_packed_kernels *const packed_emulated_amx;

#endif /* QUIRE_TESTS_SUPPORT_KERNEL_SETS_H */
