/*
 * attention_case.h - batches of paged attention whose values are a function of
 * (sequence, position, head, lane), so that the same rows can be laid out, chunked and
 * batched in any way and compared.
 *
 * Whatever the kernel has no business to read is NaN (other layers, free pages, slots
 * behind the context, pages behind the window) or a page number that lies nowhere (the rest of a
 * block table, pages behind the window).
 */
#ifndef QUIRE_TESTS_SUPPORT_ATTENTION_CASE_H
#define QUIRE_TESTS_SUPPORT_ATTENTION_CASE_H

#include <stdbool.h>

#include "attention/cpu/paged_attention.h"

enum { ATTENTION_CASE_SEQS = 8 };

enum attention_kernel {
    ATTENTION_REFERENCE,
    ATTENTION_SCALAR,
    ATTENTION_NEON,
    ATTENTION_AVX2,
    ATTENTION_AVX512,
    ATTENTION_AVX512BF16,
    ATTENTION_EMULATED_AVX512,
    ATTENTION_EMULATED_BF16, /* AVX512-BF16 */
    ATTENTION_KERNELS,
};

struct attention_case_seq {
    uint32_t id; /* which values it holds */
    int32_t context_length;
    int32_t n_rows; /* the last positions of the context */
};

struct attention_case {
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t page_size;
    int32_t n_threads;
    uint32_t placement; /* seed of the block tables */
    int32_t n_seqs;
    struct attention_case_seq seqs[ATTENTION_CASE_SEQS];
    int32_t window; /* as in struct qr_attention_params, like soft_cap */
    float soft_cap;
    enum qr_dtype kv_dtype;
    int32_t max_context; /* that memory for states is reserved for; 0: the longest */
    bool round_queries;  /* to what is BF16 once it is scaled */
};

/* The kernels of AVX-512 and AVX512-BF16 on SIMDe; NULL where that is not installed. */
extern const struct qr_attention_kernel *const attention_emulated_avx512;
extern const struct qr_attention_kernel *const attention_emulated_bf16;

bool attention_kernel_runs_here(enum attention_kernel kernel);
const char *attention_kernel_name(enum attention_kernel kernel);
/* Whether it rounds queries and weights of such KV to BF16. */
bool attention_kernel_rounds(enum attention_kernel kernel, enum qr_dtype kv_dtype);
/* Whose bits the kernel must have with such KV: another's, or its own where that cannot be built.
 */
enum attention_kernel attention_kernel_model(enum attention_kernel kernel, enum qr_dtype kv_dtype);

/* [n_rows][n_heads][head_dim] over all sequences, for the caller to free(). */
float *attention_case_run(const struct attention_case *test, enum attention_kernel kernel);
int32_t attention_case_rows(const struct attention_case *test);

/* A reproducible value in [-1, 1). */
float attention_value(uint32_t seed, uint32_t a, uint32_t b, uint32_t c);

#endif /* QUIRE_TESTS_SUPPORT_ATTENTION_CASE_H */
