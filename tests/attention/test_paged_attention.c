#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/attention_case.h"

/* Of values in [-1, 1], with scores up to about 30: float's own rounding of the scores
 * alone makes 30 * 2^-24 of each weight. */
#define TOLERANCE 1e-5

static const struct attention_case shapes[] = {
    {4, 4, 64, 16, 2, 1, 1, {{1, 100, 100}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {8, 4, 64, 16, 1, 2, 3, {{1, 65, 1}, {2, 64, 64}, {3, 63, 7}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {8,
     1,
     8,
     8,
     2,
     3,
     4,
     {{1, 1, 1}, {2, 300, 1}, {3, 129, 33}, {4, 64, 1}},
     0,
     0.0f,
     QR_DTYPE_F32,
     0,
     false},
    {3, 3, 1, 32, 1, 4, 2, {{5, 70, 70}, {6, 128, 1}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {6, 2, 7, 64, 2, 5, 3, {{7, 66, 5}, {8, 200, 40}, {9, 2, 2}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {5, 1, 80, 128, 1, 6, 2, {{10, 150, 9}, {11, 257, 1}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {14,
     2,
     128,
     256,
     2,
     7,
     3,
     {{12, 256, 3}, {13, 260, 1}, {14, 31, 31}},
     0,
     0.0f,
     QR_DTYPE_F32,
     0,
     false},
    {4, 2, 100, 16, 1, 8, 2, {{15, 77, 20}, {16, 192, 2}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {2, 1, 512, 16, 1, 9, 1, {{17, 130, 5}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {40, 1, 16, 16, 2, 10, 2, {{18, 90, 4}, {19, 65, 1}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {4, 2, 15, 8, 1, 11, 2, {{20, 130, 130}, {21, 9, 1}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {2, 2, 33, 16, 1, 12, 1, {{22, 5000, 2}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
};

enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* What layers may have besides. */
static const struct {
    int32_t window;
    float soft_cap;
    enum qr_dtype kv_dtype;
} variants[] = {{0, 0.0f, QR_DTYPE_F32},  {1, 0.0f, QR_DTYPE_F32},    {37, 0.0f, QR_DTYPE_F32},
                {64, 0.0f, QR_DTYPE_F32}, {130, 2.5f, QR_DTYPE_F32},  {0, 20.0f, QR_DTYPE_F32},
                {0, 0.0f, QR_DTYPE_BF16}, {37, 20.0f, QR_DTYPE_BF16}, {0, 0.0f, QR_DTYPE_F16},
                {130, 2.5f, QR_DTYPE_F16}};

enum { N_VARIANTS = sizeof(variants) / sizeof(variants[0]), N_CASES = N_SHAPES * N_VARIANTS };

static struct attention_case case_of(int i)
{
    struct attention_case test = shapes[i / N_VARIANTS];
    test.window = variants[i % N_VARIANTS].window;
    test.soft_cap = variants[i % N_VARIANTS].soft_cap;
    test.kv_dtype = variants[i % N_VARIANTS].kv_dtype;
    return test;
}

static size_t case_floats(const struct attention_case *test)
{
    return (size_t)attention_case_rows(test) * (size_t)test->n_heads * (size_t)test->head_dim;
}

/* Beside it, weights are rounded to BF16: by a 2^-9th of each at most. */
#define ROUNDED_TOLERANCE (TOLERANCE + 0x1p-9)

static enum attention_kernel fastest_kernel(void)
{
    if (attention_kernel_runs_here(ATTENTION_NEON))
        return ATTENTION_NEON;
    return attention_kernel_runs_here(ATTENTION_AVX2) ? ATTENTION_AVX2 : ATTENTION_SCALAR;
}

/* That multiplies pairs of BF16; the reference where none can run. */
static enum attention_kernel pairs_kernel(void)
{
    if (attention_kernel_runs_here(ATTENTION_AVX512BF16))
        return ATTENTION_AVX512BF16;
    return attention_kernel_runs_here(ATTENTION_EMULATED_BF16) ? ATTENTION_EMULATED_BF16
                                                               : ATTENTION_REFERENCE;
}

static void assert_near_definition(const struct attention_case *test, int i,
                                   enum attention_kernel kernel, double tolerance)
{
    float *expected = attention_case_run(test, ATTENTION_REFERENCE);
    float *got = attention_case_run(test, kernel);

    for (size_t j = 0; j < case_floats(test); j++) {
        if (!(fabs((double)got[j] - (double)expected[j]) <= tolerance))
            fail_msg("case %d, %s, element %zu: %g, expected %g", i, attention_kernel_name(kernel),
                     j, (double)got[j], (double)expected[j]);
    }
    free(expected);
    free(got);
}

static void kernels_agree_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct attention_case test = case_of(i);
        assert_near_definition(&test, i, fastest_kernel(), TOLERANCE);
        test.round_queries = true;
        if (test.kv_dtype == QR_DTYPE_BF16)
            assert_near_definition(&test, i, pairs_kernel(), ROUNDED_TOLERANCE);
    }
}

static void assert_same_bits(const struct attention_case *test, int i, enum attention_kernel kernel)
{
    enum attention_kernel model = attention_kernel_model(kernel, test->kv_dtype);
    float *expected = attention_case_run(test, model);
    float *got = attention_case_run(test, kernel);

    for (size_t j = 0; j < case_floats(test); j++) {
        if (!(got[j] == expected[j]))
            fail_msg("case %d, %s, element %zu: %a, %s %a", i, attention_kernel_name(kernel), j,
                     (double)got[j], attention_kernel_name(model), (double)expected[j]);
    }
    free(got);
    free(expected);
}

/* Bits of the scalar kernel are the bits of all, but for those that multiply pairs of BF16. */
static void instruction_sets_agree_in_every_bit(void **state)
{
    (void)state;
    for (int kernel = ATTENTION_SCALAR + 1; kernel < ATTENTION_KERNELS; kernel++) {
        if (!attention_kernel_runs_here((enum attention_kernel)kernel)) {
            printf("skipped: %s does not run here\n",
                   attention_kernel_name((enum attention_kernel)kernel));
            continue;
        }
        for (int i = 0; i < N_CASES; i++) {
            const struct attention_case test = case_of(i);
            assert_same_bits(&test, i, (enum attention_kernel)kernel);
        }
    }
}

/* The sequence that the tests below lay out in every way, and who computes it. */
enum { CONTEXT = 203, HEADS = 6, HEAD_DIM = 40 };

static enum attention_kernel kernel_in_use;

static struct attention_case plain = {
    .n_heads = HEADS,
    .n_kv_heads = 2,
    .head_dim = HEAD_DIM,
    .page_size = 16,
    .n_threads = 1,
    .placement = 1,
    .n_seqs = 1,
    .seqs = {{42, CONTEXT, CONTEXT}},
};

static void assert_same_rows(const float *got, const float *expected, int32_t first, int32_t n)
{
    size_t row_floats = HEADS * HEAD_DIM;

    for (size_t i = 0; i < (size_t)n * row_floats; i++) {
        if (!(got[i] == expected[(size_t)first * row_floats + i]))
            fail_msg("position %zu: %a, expected %a", (size_t)first + i / row_floats,
                     (double)got[i], (double)expected[(size_t)first * row_floats + i]);
    }
}

static void assert_gives(const struct attention_case *test, const float *expected)
{
    float *got = attention_case_run(test, kernel_in_use);
    assert_same_rows(got, expected, 0, CONTEXT);
    free(got);
}

static void chunks_change_no_bit(void)
{
    const int32_t sizes[] = {1, 7, 64, 100};
    float *expected = attention_case_run(&plain, kernel_in_use);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int32_t first = 0; first < CONTEXT; first += sizes[i]) {
            struct attention_case chunk = plain;
            int32_t n = first + sizes[i] < CONTEXT ? sizes[i] : CONTEXT - first;
            chunk.seqs[0].context_length = first + n;
            chunk.seqs[0].n_rows = n;
            float *got = attention_case_run(&chunk, kernel_in_use);
            assert_same_rows(got, expected, first, n);
            free(got);
        }
    }
    free(expected);
}

static void pages_change_no_bit(void)
{
    float *expected = attention_case_run(&plain, kernel_in_use);

    for (int32_t page_size = 8; page_size <= 256; page_size *= 2) {
        for (uint32_t placement = 1; placement <= 3; placement++) {
            struct attention_case test = plain;
            test.page_size = page_size;
            test.placement = placement;
            assert_gives(&test, expected);
        }
    }
    free(expected);
}

static void threads_change_no_bit(void)
{
    float *expected = attention_case_run(&plain, kernel_in_use);

    for (int32_t n_threads = 1; n_threads <= 4; n_threads++) {
        struct attention_case test = plain;
        test.n_threads = n_threads;
        assert_gives(&test, expected);
    }
    free(expected);
}

static void neighbours_change_no_bit(void)
{
    struct attention_case test = plain;
    float *expected = attention_case_run(&plain, kernel_in_use);

    test.n_seqs = 5;
    test.n_threads = 2;
    const struct attention_case_seq seqs[] = {
        {1, 300, 1}, {2, 17, 17}, {42, CONTEXT, 50}, {3, 90, 9}, {4, 64, 1}};
    memcpy(test.seqs, seqs, sizeof(seqs));
    float *got = attention_case_run(&test, kernel_in_use);
    size_t before = (size_t)(1 + 17) * HEADS * HEAD_DIM;
    assert_same_rows(got + before, expected, CONTEXT - 50, 50);
    free(got);
    free(expected);
}

/* A sequence that has no row in this step takes part in nothing. */
static void sequences_without_rows_are_passed_over(void)
{
    struct attention_case test = plain;
    float *expected = attention_case_run(&plain, kernel_in_use);

    test.n_seqs = 3;
    const struct attention_case_seq seqs[] = {{1, 30, 0}, {42, CONTEXT, 3}, {2, 17, 0}};
    memcpy(test.seqs, seqs, sizeof(seqs));
    float *got = attention_case_run(&test, kernel_in_use);
    assert_same_rows(got, expected, CONTEXT - 3, 3);
    free(got);
    free(expected);
}

struct check {
    void (*run)(void);
};

static struct check checks[] = {{chunks_change_no_bit},
                                {pages_change_no_bit},
                                {threads_change_no_bit},
                                {neighbours_change_no_bit},
                                {sequences_without_rows_are_passed_over}};

static void in_every_variant(void **state)
{
    const struct check *check = *state;

    for (int i = 0; i < N_VARIANTS; i++) {
        plain.window = variants[i].window;
        plain.soft_cap = variants[i].soft_cap;
        plain.kv_dtype = variants[i].kv_dtype;
        kernel_in_use = fastest_kernel();
        check->run();
        kernel_in_use = pairs_kernel();
        if (plain.kv_dtype == QR_DTYPE_BF16)
            check->run();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree_with_the_definition),
        cmocka_unit_test(instruction_sets_agree_in_every_bit),
        {"chunks_change_no_bit", in_every_variant, NULL, NULL, &checks[0]},
        {"pages_change_no_bit", in_every_variant, NULL, NULL, &checks[1]},
        {"threads_change_no_bit", in_every_variant, NULL, NULL, &checks[2]},
        {"neighbours_change_no_bit", in_every_variant, NULL, NULL, &checks[3]},
        {"sequences_without_rows_are_passed_over", in_every_variant, NULL, NULL, &checks[4]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
