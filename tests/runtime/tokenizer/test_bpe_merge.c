/*
 * test_bpe_merge.c - short and long pieces, and those with very many pairs, are joined as by
 * the definition: always the smallest rank, of equal ones the leftmost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/bpe_merge.h"

enum { MAX_SYMBOLS = 9000, N_IDS = 40 };

/*
 * A made-up vocabulary: id and rank are hashes of the two ids. `spread` is the number of
 * ranks: few make many ties, very many go beyond the last bucket of the queue.
 */
struct vocabulary {
    uint32_t spread;
    bool is_sparse; /* half of the pairs are not joined */
};

static int32_t join(const void *arg, const char *text, const struct qr_bpe_symbol *left,
                    const struct qr_bpe_symbol *right, int32_t *rank)
{
    const struct vocabulary *vocabulary = arg;
    uint32_t hash = (uint32_t)(left->id * N_IDS + right->id + 1) * UINT32_C(2654435761);

    (void)text;
    if (vocabulary->is_sparse && hash >> 31 != 0)
        return -1;
    *rank = (int32_t)((hash >> 8) % vocabulary->spread);
    return left->length + right->length > 12 ? -1 : (int32_t)(hash % N_IDS);
}

/* Joins by a look at all pairs each time; returns how many symbols are left. */
static int32_t join_slowly(const struct vocabulary *vocabulary, struct qr_bpe_symbol *symbols,
                           int32_t n)
{
    for (;;) {
        int32_t least = INT32_MAX;
        int32_t at = -1;
        int32_t joined = -1;
        for (int32_t i = 0; i + 1 < n; i++) {
            int32_t rank;
            int32_t id = symbols[i].is_frozen || symbols[i + 1].is_frozen
                             ? -1
                             : join(vocabulary, NULL, &symbols[i], &symbols[i + 1], &rank);
            if (id >= 0 && rank < least) {
                least = rank;
                at = i;
                joined = id;
            }
        }
        if (at < 0)
            return n;
        symbols[at].id = joined;
        symbols[at].length += symbols[at + 1].length;
        memmove(&symbols[at + 1], &symbols[at + 2], (size_t)(n - at - 2) * sizeof(*symbols));
        n--;
    }
}

static void check(const struct vocabulary *vocabulary, struct qr_bpe_scratch *scratch, int32_t n,
                  uint32_t seed)
{
    static struct qr_bpe_symbol expected[MAX_SYMBOLS];

    assert_int_equal(qr_bpe_begin(scratch, (size_t)n), QR_OK);
    for (int32_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        qr_bpe_add_symbol(scratch, 1, (int32_t)(seed >> 8) % N_IDS, seed >> 25 == 0);
        expected[i] = scratch->symbols[i];
    }
    assert_int_equal(qr_bpe_merge(scratch, join, vocabulary, NULL), QR_OK);
    int32_t n_left = join_slowly(vocabulary, expected, n);
    int32_t at = 0;
    for (int32_t i = 0; i < n_left; i++, at = scratch->symbols[at].next) {
        assert_true(at >= 0);
        assert_int_equal(scratch->symbols[at].id, expected[i].id);
        assert_int_equal(scratch->symbols[at].length, expected[i].length);
    }
    assert_int_equal(at, -1);
}

static void as_by_definition(void **state)
{
    static const int32_t sizes[] = {1, 2, 3, 17, 47, 48, 49, 50, 300, 4095, 4097, MAX_SYMBOLS};
    static const struct vocabulary vocabularies[] = {
        {.spread = 1},
        {.spread = 5},
        {.spread = 1000, .is_sparse = true},
        {.spread = 1 << 20},
    };
    struct qr_bpe_scratch scratch = {0};

    (void)state;
    for (size_t v = 0; v < sizeof(vocabularies) / sizeof(vocabularies[0]); v++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            for (uint32_t seed = 1; seed <= (sizes[i] < 1000 ? 50 : 1); seed++)
                check(&vocabularies[v], &scratch, sizes[i], seed);
        }
    }
    qr_bpe_scratch_free(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_by_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
