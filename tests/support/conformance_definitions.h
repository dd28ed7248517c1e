/*
 * conformance_definitions.h - what each primitive is, written down a second time: plain C and
 * double precision, by the text of the PTX ISA, sharing nothing with the emulator or
 * primitives.cuh.
 */
#ifndef QUIRE_TESTS_SUPPORT_CONFORMANCE_DEFINITIONS_H
#define QUIRE_TESTS_SUPPORT_CONFORMANCE_DEFINITIONS_H

#include <stdbool.h>
#include <stdint.h>

/* How the words of a kernel are made. */
enum conformance_fill {
    FILL_BITS,      /* any bits */
    FILL_FLOATS,    /* numbers of all sizes, zeros, infinities, NaN, subnormal numbers */
    FILL_BF16_EDGE, /* every bf16, and what lies between it and the next: where rounding turns */
    FILL_F16_EDGE,  /* the same for f16 */
    FILL_E4M3_EDGE, /* the same for e4m3 */
    FILL_COUNT,     /* 0, 1, 2 ... in both halves of a word */
    FILL_INTEGERS_BF16, /* fragments of small integers: every sum is exact */
    FILL_INTEGERS_F16,
    FILL_NUMBERS_BF16, /* fragments of numbers in about [-4, 4] */
    FILL_NUMBERS_F16,
};

enum { CONFORMANCE_MAX_OUT = 32, CONFORMANCE_ONLY = 1000 };

struct conformance_case {
    const char *kernel; /* without qr_conformance_ */
    int n_in, n_out;    /* words of a thread; out: at most CONFORMANCE_MAX_OUT */
    enum conformance_fill fill;
    int n_threads;  /* a multiple of 128 */
    int capability; /* or a later one; CONFORMANCE_ONLY more: this one alone */
    /* Whether thread i's words are right, `in` and `out` being those of all threads. Writes what
     * was expected. */
    bool (*check)(const struct conformance_case *c, const uint32_t *in, const uint32_t *out, int i,
                  uint32_t *expected);
};

extern const struct conformance_case conformance_cases[];
extern const int n_conformance_cases;

#endif /* QUIRE_TESTS_SUPPORT_CONFORMANCE_DEFINITIONS_H */
