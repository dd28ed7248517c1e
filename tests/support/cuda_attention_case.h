/*
 * cuda_attention_case.h - batches of paged attention on a CUDA device, whose values are a function
 * of (sequence, position, head, element), so that the same rows can be computed in any company,
 * placement and way and compared bit by bit.
 *
 * Whatever a kernel has no business to read is NaN (other layers, free pages, slots behind the
 * context) or a page number that lies nowhere.
 */
#ifndef QUIRE_TESTS_SUPPORT_CUDA_ATTENTION_CASE_H
#define QUIRE_TESTS_SUPPORT_CUDA_ATTENTION_CASE_H

#include <stdbool.h>
#include <stdint.h>

#include "attention/cuda/cuda_attention.h"
#include "base/cuda/emulator/emulator.h"

enum { CUDA_CASE_SEQS = 16, CUDA_CASE_LAYERS = 2, CUDA_CASE_LAYER = 1 };

struct cuda_case_seq {
    uint32_t id; /* which values it holds */
    int32_t context_length;
    int32_t n_rows;     /* the last positions of the context */
    uint32_t prefix_id; /* whose values its first keys hold; sequences that share one share pages */
    int32_t prefix_length; /* a multiple of the page size; 0: none */
};

struct cuda_case {
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t page_size;
    enum qr_dtype activation;
    enum qr_dtype kv_type;
    int32_t window;    /* of the layer, 0: none */
    bool hides_passed; /* pages that the window has passed are not in the block tables */
    float soft_cap;    /* 0: none */
    bool wide;         /* prefill by warpgroups, where there are; else the bits of decode */
    bool ranges;       /* where sequences share a prefix, however little it saves */
    int32_t n_parts; /* that a chain's prefix may leave, of a step in which all share one; 0: any */
    bool replayed;   /* captured in a graph with another plan, then replayed with this one */
    uint32_t placement; /* seed of the block tables */
    int32_t n_seqs;
    struct cuda_case_seq seqs[CUDA_CASE_SEQS];
};

/* What a run left besides its output. */
struct cuda_case_run {
    uint32_t launches; /* QR_ATTENTION_LAUNCHES_* */
    int32_t n_states;  /* chains that were cut: states that the merge folded */
    int32_t n_merges;
    float *out; /* [n_rows][n_heads][head_dim], exact; for the caller to free() */
};

int32_t cuda_case_rows(const struct cuda_case *test);
/* On the device of cuda_platform.h; the emulated one with these settings. */
struct cuda_case_run cuda_case_run(const struct cuda_case *test,
                                   const struct qr_emulator_settings *settings);
/* qr_attention_reference on the values as the device holds them. */
float *cuda_case_expected(const struct cuda_case *test);
/* What an error may be: the rounding of the weights and of the output, for |v| < 1. */
float cuda_case_bound(const struct cuda_case *test);

/* ---- parts of it, for tests of other kernels ---- */

/* Elements of a type from F32 and back, rounded to nearest even. */
void cuda_case_encode(enum qr_dtype type, const float *from, size_t n, void *to);
void cuda_case_decode(enum qr_dtype type, const void *from, size_t n, float *to);
/* Bytes from the start of the pool to element d of K (V) of a token, as cuda_attention.h has it. */
size_t cuda_case_place(const struct qr_kv_geometry *kv, enum qr_dtype type, int32_t layer,
                       int32_t page, int32_t kv_head, int32_t slot, int32_t d, bool is_value);
/* A reproducible value in [-1, 1). */
float cuda_case_value(uint32_t seed, uint32_t a, uint32_t b, uint32_t c);

#endif /* QUIRE_TESTS_SUPPORT_CUDA_ATTENTION_CASE_H */
