/*
 * probe_kernels.h - loops that do one thing as fast as a processor can: read memory, or multiply
 * and add in registers. Private to runtime/bench/cpu/.
 */
#ifndef QUIRE_RUNTIME_BENCH_CPU_PROBE_KERNELS_H
#define QUIRE_RUNTIME_BENCH_CPU_PROBE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum { QR_PEAK_CHAINS = 12 };

/* Multiplications and additions of one instruction. */
struct qr_peak_kernel {
    const char *name;    /* "f32 avx512" */
    enum qr_dtype dtype; /* of the factors: F32, BF16 or INT8 */
    int32_t operations;  /* of one iteration of `run`; a multiply-add is two */
    bool (*is_supported)(void);
    /* Adds products of factors [64] bytes to chains [QR_PEAK_CHAINS][64] bytes, of which smaller
     * vectors use a part; both aligned to 64. */
    void (*run)(int64_t n_iterations, const void *factors, void *chains);
};

extern const struct qr_peak_kernel qr_peak_kernels[];
extern const int32_t qr_n_peak_kernels; /* 0 on a processor for which there are none */

/* The sum of the words, so that all are read. `bytes` is aligned to 64, n_bytes a multiple of 512.
 */
typedef uint64_t (*qr_probe_read)(const void *bytes, size_t n_bytes);

QR_BEGIN_DECLS

/* The widest that runs here. To be asked for once and not for each read: a virtual machine answers
 * what its processor can do in the time that it takes to read some 200 KB. */
qr_probe_read qr_probe_reader(void);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CPU_PROBE_KERNELS_H */
