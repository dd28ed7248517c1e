/* test_split.c - long contexts, whose splits are spread over threads: how they are cut, and that no
 * bit shows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "attention/cpu/paged_plan.h"
#include "tests/support/attention_case.h"

enum { SPLIT = QR_ATTENTION_SPLIT };

/* Around the ends of splits; decodes, and chunks whose rows stand in two splits. */
static const struct attention_case cases[] = {
    {1, 1, 16, 16, 1, 1, 1, {{1, SPLIT, 1}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {1, 1, 16, 16, 1, 1, 1, {{2, SPLIT + 1, 1}}, 0, 0.0f, QR_DTYPE_F32, 0, false},
    {4, 1, 24, 16, 1, 2, 1, {{3, 3 * SPLIT, 1}}, 0, 0.0f, QR_DTYPE_F16, 0, false},
    {4, 2, 40, 8, 1, 3, 1, {{4, 2 * SPLIT + 7, 10}}, 0, 0.0f, QR_DTYPE_BF16, 0, false},
    {6, 2, 16, 32, 1, 4, 1, {{5, 4 * SPLIT + 1, 2}}, 0, 5.0f, QR_DTYPE_F32, 0, false},
    {2, 1, 16, 256, 1, 5, 1, {{6, 2 * SPLIT + 3, 40}}, SPLIT, 0.0f, QR_DTYPE_F32, 0, false},
    {2, 2, 7, 16, 1, 6, 1, {{7, 4 * SPLIT - 1, 3}}, 700, 2.5f, QR_DTYPE_F16, 0, false},
    {1, 1, 16, 16, 1, 7, 1, {{8, 3 * SPLIT + 5, 20}}, 11, 0.0f, QR_DTYPE_F32, 0, false},
    {4,
     1,
     16,
     16,
     1,
     8,
     4,
     {{9, 1, 1}, {10, 5 * SPLIT, 1}, {11, 40, 40}, {12, SPLIT + 2, 3}},
     0,
     0.0f,
     QR_DTYPE_F32,
     0,
     false},
    {3,
     1,
     16,
     16,
     1,
     9,
     2,
     {{13, 2 * SPLIT, 0}, {14, 2 * SPLIT + 1, 50}},
     0,
     0.0f,
     QR_DTYPE_BF16,
     0,
     false},
};

enum { N_CASES = sizeof(cases) / sizeof(cases[0]) };

static size_t case_floats(const struct attention_case *test)
{
    return (size_t)attention_case_rows(test) * (size_t)test->n_heads * (size_t)test->head_dim;
}

static void assert_same(const struct attention_case *test, enum attention_kernel kernel,
                        const float *expected)
{
    float *got = attention_case_run(test, kernel);

    for (size_t i = 0; i < case_floats(test); i++) {
        if (!(got[i] == expected[i]))
            fail_msg("sequence %u, %s, %d threads, element %zu: %a, expected %a", test->seqs[0].id,
                     attention_kernel_name(kernel), test->n_threads, i, (double)got[i],
                     (double)expected[i]);
    }
    free(got);
}

static void threads_and_instruction_sets_change_no_bit(void **state)
{
    const int32_t threads[] = {1, 2, 3, 8};

    (void)state;
    for (int kernel = ATTENTION_SCALAR; kernel < ATTENTION_KERNELS; kernel++) {
        if (!attention_kernel_runs_here((enum attention_kernel)kernel)) {
            printf("skipped: %s does not run here\n",
                   attention_kernel_name((enum attention_kernel)kernel));
            continue;
        }
        for (int i = 0; i < N_CASES; i++) {
            struct attention_case test = cases[i];
            float *expected = attention_case_run(
                &test, attention_kernel_model((enum attention_kernel)kernel, test.kv_dtype));
            for (int t = 0; t < 4; t++) {
                test.n_threads = threads[t];
                assert_same(&test, (enum attention_kernel)kernel, expected);
            }
            free(expected);
        }
    }
}

/* Nor does it when states of no context, or of a short one, find memory. */
static void memory_changes_no_bit(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct attention_case test = cases[i];
        float *expected = attention_case_run(&test, ATTENTION_SCALAR);
        test.n_threads = 2;
        for (test.max_context = 1; test.max_context <= 2 * SPLIT; test.max_context += SPLIT)
            assert_same(&test, ATTENTION_SCALAR, expected);
        free(expected);
    }
}

static void kernels_agree_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct attention_case test = cases[i];
        test.n_threads = 2;
        float *expected = attention_case_run(&test, ATTENTION_REFERENCE);
        float *got = attention_case_run(&test, ATTENTION_SCALAR);
        for (size_t j = 0; j < case_floats(&test); j++) {
            double difference = (double)got[j] - (double)expected[j];
            if (!(difference <= 1e-5 && difference >= -1e-5))
                fail_msg("case %d, element %zu: %g, expected %g", i, j, (double)got[j],
                         (double)expected[j]);
        }
        free(expected);
        free(got);
    }
}

/* Rows of a whole prompt are those of its chunks and of decodes, by any number of threads. */
static void chunks_change_no_bit(void **state)
{
    enum { CONTEXT = 2 * SPLIT + 70, HEADS = 2, HEAD_DIM = 16 };
    const int32_t windows[] = {0, 90, SPLIT + 33};
    struct attention_case whole = {
        HEADS, 1, HEAD_DIM, 16, 1, 1, 1, {{1, CONTEXT, CONTEXT}}, 0, 0.0f, QR_DTYPE_F32, 0, false};

    (void)state;
    for (int w = 0; w < 3; w++) {
        whole.window = windows[w];
        float *expected = attention_case_run(&whole, ATTENTION_SCALAR);
        for (int32_t end = SPLIT - 1; end <= CONTEXT; end += 43) {
            struct attention_case chunk = whole;
            int32_t n = end % 2 == 0 ? 1 : 67;
            chunk.n_threads = 2 + end % 3;
            chunk.seqs[0].context_length = end;
            chunk.seqs[0].n_rows = n;
            assert_same(&chunk, ATTENTION_SCALAR, expected + (size_t)(end - n) * HEADS * HEAD_DIM);
        }
        free(expected);
    }
}

/* A batch of decodes without memory: plans ask for lengths only. */
struct batch {
    struct qr_attention_params params;
    struct qr_attention_batch rows;
    int32_t query_start[9];
    int32_t context_length[8];
};

static void fill_batch(struct batch *batch, int32_t n_kv_heads, int32_t n_seqs, int32_t n_keys)
{
    *batch = (struct batch){.params = {.kv = {1, n_kv_heads, 64, 16}, .n_heads = n_kv_heads * 4},
                            .rows = {.n_seqs = n_seqs}};
    for (int32_t s = 0; s < n_seqs; s++) {
        batch->query_start[s + 1] = s + 1;
        batch->context_length[s] = n_keys;
    }
    batch->rows.query_start = batch->query_start;
    batch->rows.context_length = batch->context_length;
    batch->params.batch = &batch->rows;
}

static struct qr_attention_workspace *make_workspace(const struct batch *batch, int32_t max_context,
                                                     int32_t n_threads)
{
    const struct qr_attention_limits limits = {8, max_context, batch->params.n_heads, 64,
                                               n_threads};
    struct qr_attention_workspace *workspace;

    assert_int_equal(qr_attention_workspace_create(&limits, &workspace), QR_OK);
    return workspace;
}

/* Items of a plan; each split of each sequence and kv head is in one of them. */
static int64_t count_items(const struct batch *batch, int32_t n_threads,
                           struct qr_attention_workspace *workspace)
{
    int32_t n_seqs = batch->rows.n_seqs;
    int32_t seen[8][8] = {{0}}; /* keys by sequence and kv head */

    qr_paged_plan(&batch->params, n_threads, workspace);
    for (int64_t i = 0; i < workspace->seqs[n_seqs].first_item; i++) {
        struct qr_attention_block block = qr_paged_plan_item(&batch->params, workspace, i);
        assert_true(block.end_key > block.first_key && block.first_key % SPLIT == 0);
        assert_int_equal(seen[block.seq][block.kv_head], block.first_key);
        seen[block.seq][block.kv_head] = block.end_key;
    }
    for (int32_t s = 0; s < n_seqs; s++) {
        for (int32_t h = 0; h < batch->params.kv.n_kv_heads; h++)
            assert_true(seen[s][h] >= batch->context_length[s] &&
                        seen[s][h] < batch->context_length[s] + SPLIT);
    }
    return workspace->seqs[n_seqs].first_item;
}

static void long_contexts_are_cut_where_threads_would_idle(void **state)
{
    struct batch batch;

    (void)state;
    fill_batch(&batch, 2, 1, 32 * SPLIT);
    struct qr_attention_workspace *workspace = make_workspace(&batch, 32 * SPLIT, 16);
    assert_int_equal(count_items(&batch, 16, workspace), 64);
    assert_int_equal(count_items(&batch, 1, workspace), 2);
    fill_batch(&batch, 2, 1, SPLIT);
    assert_int_equal(count_items(&batch, 16, workspace), 2); /* one split each */
    fill_batch(&batch, 8, 8, 8 * SPLIT);
    assert_int_equal(count_items(&batch, 16, workspace), 64); /* enough as they are */
    fill_batch(&batch, 2, 8, SPLIT);
    batch.context_length[3] = 32 * SPLIT;
    assert_true(count_items(&batch, 4, workspace) >= 14 + 2 * 4); /* one outlasts the others */
    qr_attention_workspace_destroy(workspace);
}

/* Sequences for whose states nothing is left stay whole. */
static void memory_bounds_what_is_cut(void **state)
{
    struct batch batch;

    (void)state;
    fill_batch(&batch, 1, 8, 8 * SPLIT);
    struct qr_attention_workspace *workspace = make_workspace(&batch, 8 * SPLIT, 16);
    assert_int_equal(count_items(&batch, 16, workspace), 4 * 8 + 4);
    for (int32_t s = 0; s < 8; s++)
        assert_true((workspace->seqs[s].states != NULL) == (s < 4));
    qr_attention_workspace_destroy(workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_instruction_sets_change_no_bit),
        cmocka_unit_test(memory_changes_no_bit),
        cmocka_unit_test(kernels_agree_with_the_definition),
        cmocka_unit_test(chunks_change_no_bit),
        cmocka_unit_test(long_contexts_are_cut_where_threads_would_idle),
        cmocka_unit_test(memory_bounds_what_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
