/* test_token_counts.c - against counting all tokens again, however they come. */
#include "runtime/sampling/token_counts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/sampling/philox.h"

enum { N_PROMPT = 300, N_OUTPUT = 500, MAX_ID = 200000 };

/* Few different tokens or many, close to each other or far apart. */
static int32_t token(uint64_t key, uint64_t i)
{
    static const int32_t n_different[] = {1, 7, 250, MAX_ID};
    int32_t spread = key % 8 < 4 ? 1 : MAX_ID / n_different[key % 4];

    return (int32_t)(qr_philox_uniform(key, i) * n_different[key % 4]) * spread;
}

static void assert_counted(const struct qr_token_counts *counts, const int32_t *tokens,
                           int32_t n_prompt, int32_t n_output)
{
    static int32_t expected[MAX_ID + 1]; /* of each token: 1 + how often it is in the output */
    const struct qr_token_count *items;
    int32_t n = qr_token_counts_get(counts, &items);
    int32_t at = 0;

    for (int32_t i = 0; i < n_prompt + n_output; i++) {
        int32_t id = tokens[i];
        if (expected[id] == 0) { /* for the first time */
            expected[id] = 1;
            assert_true(at < n && items[at++].token_id == id);
        }
        expected[id] += i >= n_prompt;
    }
    assert_int_equal(at, n);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(items[i].n_output, expected[items[i].token_id] - 1);
        expected[items[i].token_id] = 0;
    }
}

static void each_token_is_counted_once_and_in_order(void **state)
{
    (void)state;
    for (uint64_t key = 0; key < 40; key++) {
        int32_t tokens[N_PROMPT + N_OUTPUT];
        for (uint64_t i = 0; i < N_PROMPT + N_OUTPUT; i++)
            tokens[i] = token(key, i);
        struct qr_token_counts *counts;
        assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, N_PROMPT + N_OUTPUT, &counts),
                         QR_OK);
        for (int32_t n = 0; n <= N_OUTPUT; n += 1 + (int32_t)(key % 3) * 11) {
            int32_t n_prompt = n == 0 ? (int32_t)key : N_PROMPT;
            qr_token_counts_update(counts, tokens, n_prompt, tokens + N_PROMPT, n);
            qr_token_counts_update(counts, tokens, n_prompt, tokens + N_PROMPT, n); /* nothing */
            assert_counted(counts, tokens, n_prompt, n);
        }
        qr_token_counts_destroy(counts);
    }
    qr_token_counts_destroy(NULL);
}

/* As many different tokens as there is room for. */
static void a_full_table_works(void **state)
{
    (void)state;
    enum { N = 256 };
    struct qr_token_counts *counts;
    int32_t tokens[2 * N];

    for (int32_t i = 0; i < 2 * N; i++)
        tokens[i] = i % N * 512; /* the low bits are the same */
    assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, N, &counts), QR_OK);
    qr_token_counts_update(counts, tokens, N, tokens + N, N);
    assert_counted(counts, tokens, N, N);
    qr_token_counts_destroy(counts);
    assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, 1, &counts), QR_OK);
    qr_token_counts_update(counts, tokens, 1, tokens, 1);
    assert_counted(counts, (const int32_t[]){0, 0}, 1, 1);
    qr_token_counts_destroy(counts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_token_is_counted_once_and_in_order),
        cmocka_unit_test(a_full_table_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
