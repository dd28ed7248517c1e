/* Attention on the device against the definition in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/support/cuda_attention_case.h"

static void check_on(const struct cuda_case *test, int32_t capability, const float *expected,
                     const char *what)
{
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    float bound = cuda_case_bound(test);
    size_t row = (size_t)(test->n_heads * test->head_dim);

    settings.capability = capability;
    struct cuda_case_run run = cuda_case_run(test, &settings);
    for (size_t i = 0; i < (size_t)cuda_case_rows(test) * row; i++)
        if (!(fabsf(run.out[i] - expected[i]) <= bound))
            fail_msg("%s, capability %d%s, row %zu, head %zu, element %zu: %g, not %g (%g)", what,
                     capability, test->wide ? ", warpgroups" : "", i / row,
                     i % row / (size_t)test->head_dim, i % (size_t)test->head_dim,
                     (double)run.out[i], (double)expected[i], (double)bound);
    free(run.out);
}

/* By the kernels of both capabilities, and by those of warpgroups where there are. */
static void check(const struct cuda_case *test, const char *what)
{
    float *expected = cuda_case_expected(test);
    struct cuda_case wide = *test;

    wide.wide = true;
    check_on(test, 80, expected, what);
    check_on(test, 90, expected, what);
    check_on(&wide, 90, expected, what);
    free(expected);
}

static const struct cuda_case mixed = {
    .n_heads = 8,
    .n_kv_heads = 2,
    .head_dim = 64,
    .page_size = 16,
    .activation = QR_DTYPE_BF16,
    .kv_type = QR_DTYPE_BF16,
    .n_seqs = 6,
    .seqs = {{1, 129, 1, 0, 0},
             {2, 300, 1, 0, 0},
             {3, 70, 33, 0, 0},
             {4, 1, 1, 0, 0},
             {5, 128, 1, 0, 0},
             {6, 140, 3, 0, 0}},
};

static const struct {
    enum qr_dtype activation, kv;
    const char *name;
} types[] = {
    {QR_DTYPE_BF16, QR_DTYPE_BF16, "bf16"},
    {QR_DTYPE_F16, QR_DTYPE_F16, "f16"},
    {QR_DTYPE_BF16, QR_DTYPE_E4M3, "bf16 over e4m3"},
    {QR_DTYPE_F16, QR_DTYPE_E4M3, "f16 over e4m3"},
};

static void every_head_dim_and_type(void **state)
{
    (void)state;
    static const int32_t head_dims[] = {64, 80, 96, 128, 256};
    for (size_t t = 0; t < 4; t++)
        for (size_t d = 0; d < 5; d++) {
            struct cuda_case test = mixed;
            test.head_dim = head_dims[d];
            test.n_heads = 4;
            test.activation = types[t].activation;
            test.kv_type = types[t].kv;
            check(&test, types[t].name);
        }
}

static void every_group(void **state)
{
    (void)state;
    for (int32_t group = 1; group <= 17; group += group < 4 ? 1 : group == 16 ? 1 : 3) {
        struct cuda_case test = mixed;
        test.n_seqs = 3;
        test.n_heads = 2 * group;
        check(&test, "group");
        test.n_kv_heads = 1;
        test.n_heads = group;
        test.head_dim = 128;
        check(&test, "group of one KV head");
    }
    struct cuda_case wide = mixed;
    wide.n_seqs = 3;
    wide.n_kv_heads = 1;
    wide.n_heads = 10;
    wide.head_dim = 256; /* two chains a KV head */
    check(&wide, "group of ten, 256 elements");
}

static void every_page_size(void **state)
{
    (void)state;
    for (int32_t page_size = 8; page_size <= 256; page_size *= 2)
        for (size_t t = 0; t < 3; t += 2) {
            struct cuda_case test = mixed;
            test.page_size = page_size;
            test.head_dim = 80;
            test.activation = types[t].activation;
            test.kv_type = types[t].kv;
            check(&test, "page size");
        }
}

static void every_length(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1,   2,   7,   8,   9,   15,  16,  17,
                                      127, 128, 129, 255, 256, 257, 300, 641};
    struct cuda_case test = mixed;
    test.n_heads = 2;
    test.n_seqs = CUDA_CASE_SEQS;
    for (int32_t s = 0; s < CUDA_CASE_SEQS; s++)
        test.seqs[s] = (struct cuda_case_seq){
            .id = (uint32_t)s + 40, .context_length = lengths[s], .n_rows = 1};
    check(&test, "decode");
    for (int32_t s = 0; s < CUDA_CASE_SEQS; s++)
        test.seqs[s].n_rows = lengths[s] < 40 ? lengths[s] : 40;
    check(&test, "prefill");
}

/* Groups of splits are folded into a total: by one block, by several, by the prefill. */
static void several_groups_of_splits(void **state)
{
    (void)state;
    for (size_t t = 0; t < 3; t += 2) {
        struct cuda_case test = mixed;
        test.n_heads = 4;
        test.activation = types[t].activation;
        test.kv_type = types[t].kv;
        test.n_seqs = 4;
        test.seqs[0] = (struct cuda_case_seq){1, 3100, 1, 0, 0};
        test.seqs[1] = (struct cuda_case_seq){2, 1024, 1, 0, 0};
        test.seqs[2] = (struct cuda_case_seq){3, 2200, 17, 0, 0};
        test.seqs[3] = (struct cuda_case_seq){4, 1025, 2, 0, 0};
        check(&test, "groups of splits");
        test.window = 1500;
        check(&test, "groups of splits, window");
    }
}

static void windows_and_caps(void **state)
{
    (void)state;
    static const int32_t windows[] = {1, 5, 16, 100, 128, 200};
    for (size_t w = 0; w < 6; w++) {
        struct cuda_case test = mixed;
        test.window = windows[w];
        check(&test, "window");
        test.hides_passed = true;
        check(&test, "window, passed pages given back");
        test.soft_cap = 2.0f;
        test.kv_type = QR_DTYPE_E4M3;
        check(&test, "window and soft cap");
    }
    struct cuda_case test = mixed;
    test.soft_cap = 5.0f;
    check(&test, "soft cap");
}

static void generic_shapes(void **state)
{
    (void)state;
    static const struct {
        enum qr_dtype activation, kv;
        int32_t head_dim;
    } shapes[] = {
        {QR_DTYPE_F32, QR_DTYPE_F32, 8},    {QR_DTYPE_F32, QR_DTYPE_F32, 128},
        {QR_DTYPE_F32, QR_DTYPE_F32, 24},   {QR_DTYPE_BF16, QR_DTYPE_BF16, 8},
        {QR_DTYPE_BF16, QR_DTYPE_BF16, 40}, {QR_DTYPE_F16, QR_DTYPE_F16, 112},
        {QR_DTYPE_BF16, QR_DTYPE_E4M3, 32}, {QR_DTYPE_F16, QR_DTYPE_E4M3, 208},
    };
    for (size_t i = 0; i < 8; i++) {
        struct cuda_case test = mixed;
        test.activation = shapes[i].activation;
        test.kv_type = shapes[i].kv;
        test.head_dim = shapes[i].head_dim;
        check(&test, "generic");
        test.window = 50;
        test.hides_passed = true;
        test.soft_cap = 3.0f;
        test.page_size = 8;
        check(&test, "generic, window and soft cap");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_head_dim_and_type),  cmocka_unit_test(every_group),
        cmocka_unit_test(every_page_size),          cmocka_unit_test(every_length),
        cmocka_unit_test(several_groups_of_splits), cmocka_unit_test(windows_and_caps),
        cmocka_unit_test(generic_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
