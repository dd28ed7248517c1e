/*
 * kv_pages.h - a KV pool of many sequences, filled by the kernel that fills it in a server, and
 * attention over it by its definition, for the rows that a benchmark checks.
 *
 * K and V come from two buffers of random rows, which every sequence, layer and stretch of
 * positions enters at another row: so all of the pool is different and the host needs to know
 * only the buffers. Elements are +-[0.5, 1) with 7 bits of mantissa, or the 3 bits that E4M3 has.
 */
#ifndef QUIRE_RUNTIME_BENCH_CUDA_KV_PAGES_H
#define QUIRE_RUNTIME_BENCH_CUDA_KV_PAGES_H

#include <stdint.h>

#include "attention/cuda/cuda_attention.h"
#include "runtime/bench/cuda/cuda_bench.h"

struct qr_kv_pages_config {
    struct qr_kv_geometry kv;
    int32_t n_heads;
    enum qr_dtype kv_type; /* BF16 or E4M3; queries are BF16 */
    int32_t n_seqs;
    const int32_t *lengths; /* [n_seqs] tokens */
    int32_t shared;         /* tokens that all sequences share, in the same pages; whole pages */
    int32_t chunk;          /* rows written at a time */
};

struct qr_kv_pages {
    struct qr_kv_pages_config config;
    qr_cu_address pool;
    int64_t page_bytes;
    int32_t n_pages;
    int32_t *block_table; /* [n_seqs][block_table_stride], places by chance */
    int32_t block_table_stride;
    uint16_t *k, *v; /* host, [chunk + shifts][n_kv_heads][head_dim] BF16 */
    int64_t row_elements;
};

QR_BEGIN_DECLS

/* Random BF16 elements as above; few_bits: those that E4M3 has too. */
void qr_random_bf16(uint64_t seed, bool few_bits, int64_t n, uint16_t *out);

/* Allocates and fills. On QR_OK the caller closes *out. */
QR_MUST_CHECK enum qr_status qr_kv_pages_open(struct qr_cuda_bench *bench,
                                              const struct qr_kv_pages_config *config,
                                              struct qr_kv_pages *out, struct qr_error *err);
void qr_kv_pages_close(struct qr_cuda_bench *bench,
                       struct qr_kv_pages *pages); /* or a zeroed one */

/* Bytes of K and V of one token in one layer. */
int64_t qr_kv_pages_token_bytes(const struct qr_kv_pages_config *config);

/* The attention of one query head of sequence `seq` at `position` in `layer`, in double:
 * q, out [head_dim]; scores [position + 1] is scratch. */
void qr_kv_pages_attend(const struct qr_kv_pages *pages, int32_t seq, int32_t layer, int32_t head,
                        int32_t position, const uint16_t *q, double *scores, double *out);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_BENCH_CUDA_KV_PAGES_H */
