#include "runtime/sampling/candidates.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/sampling/philox.h"

enum { MAX_VOCAB = 300 };

/* The filters as they are defined: sort everything, then cut three times. */
struct oracle {
    int32_t n;
    int32_t ids[MAX_VOCAB];
    double weights[MAX_VOCAB];
};

static const float *sort_logits;

static int by_logit_then_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sort_logits[x] != sort_logits[y])
        return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static void oracle_filter(struct oracle *oracle, const float *logits, int32_t vocab_size,
                          const struct qr_candidate_filter *filter)
{
    double total = 0, mass = 0;
    int32_t n = 0;

    for (int32_t i = 0; i < vocab_size; i++)
        oracle->ids[i] = i;
    sort_logits = logits;
    qsort(oracle->ids, (size_t)vocab_size, sizeof(int32_t), by_logit_then_id);
    if (filter->top_k > 0 && filter->top_k < vocab_size)
        vocab_size = filter->top_k;
    for (int32_t i = 0; i < vocab_size; i++) {
        double below = (double)logits[oracle->ids[i]] - (double)logits[oracle->ids[0]];
        oracle->weights[i] = exp(below / (double)filter->temperature);
        total += oracle->weights[i];
    }
    while (n < vocab_size && (filter->top_p >= 1 || mass < (double)filter->top_p * total))
        mass += oracle->weights[n++];
    while (n > 0 && (oracle->weights[n - 1] == 0 || oracle->weights[n - 1] < (double)filter->min_p))
        n--;
    oracle->n = n;
}

static bool oracle_has(const struct oracle *oracle, int32_t id)
{
    for (int32_t i = 0; i < oracle->n; i++) {
        if (oracle->ids[i] == id)
            return true;
    }
    return false;
}

static uint64_t draws;

static double random_uniform(void)
{
    return qr_philox_uniform(99, draws++);
}

/* Some with many ties, zeros of both signs, or -inf. */
static void random_logits(float *logits, int32_t vocab_size)
{
    double spread = 0.1 + 20 * random_uniform();
    bool coarse = random_uniform() < 0.3;

    for (int32_t i = 0; i < vocab_size; i++) {
        double value = spread * (random_uniform() - 0.5);
        logits[i] = (float)(coarse ? rint(value) : value);
        if (random_uniform() < 0.05)
            logits[i] = -INFINITY;
    }
    logits[(int32_t)(random_uniform() * vocab_size)] = coarse ? -0.0f : 0.5f;
}

static void filters_keep_what_they_are_defined_to_keep(void **state)
{
    (void)state;
    static const int32_t top_ks[] = {0, 1, 2, 5, 40, MAX_VOCAB, 1 << 30};
    static const float top_ps[] = {1.0f, 0.95f, 0.5f, 0.1f, 1e-6f};
    static const float min_ps[] = {0.0f, 0.05f, 0.5f, 1.0f};
    static const float temperatures[] = {1.0f, 0.1f, 3.0f, 0.001f, 100.0f};
    static struct oracle oracle;
    float logits[MAX_VOCAB];

    for (int round = 0; round < 3000; round++) {
        int32_t vocab_size = 1 + (int32_t)(random_uniform() * (MAX_VOCAB - 1));
        struct qr_candidate_filter filter = {
            .temperature = temperatures[(int)(random_uniform() * 5)],
            .top_k = top_ks[round % 7],
            .top_p = top_ps[round / 7 % 5],
            .min_p = min_ps[round / 35 % 4],
        };
        struct qr_candidates *candidates;
        random_logits(logits, vocab_size);
        oracle_filter(&oracle, logits, vocab_size, &filter);
        assert_int_equal(qr_candidates_create(vocab_size, &candidates), QR_OK);
        qr_candidates_filter(candidates, logits, &filter);
        if (qr_candidates_count(candidates) != oracle.n)
            fail_msg("round %d: %d candidates, expected %d", round, qr_candidates_count(candidates),
                     oracle.n);
        for (int32_t i = 0; i < oracle.n; i++) {
            assert_true(oracle_has(&oracle, qr_candidates_id(candidates, i)));
            assert_true(i == 0 ||
                        qr_candidates_id(candidates, i - 1) < qr_candidates_id(candidates, i));
        }
        qr_candidates_destroy(candidates);
    }
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { VOCAB = 60, DRAWS = 60000 };
    static const struct qr_candidate_filter filters[] = {
        {1.0f, 0, 1.0f, 0.0f}, {0.7f, 0, 1.0f, 0.0f}, {1.3f, 12, 1.0f, 0.0f},
        {1.0f, 0, 0.8f, 0.0f}, {1.0f, 0, 1.0f, 0.1f}, {1.0f, 20, 0.9f, 0.02f},
    };
    static struct oracle oracle;
    float logits[VOCAB];
    struct qr_candidates *candidates;

    for (int32_t i = 0; i < VOCAB; i++)
        logits[i] = (float)(4 * random_uniform());
    assert_int_equal(qr_candidates_create(VOCAB, &candidates), QR_OK);
    for (size_t f = 0; f < sizeof(filters) / sizeof(filters[0]); f++) {
        int32_t seen[VOCAB] = {0};
        double total = 0, chi_square = 0;
        oracle_filter(&oracle, logits, VOCAB, &filters[f]);
        qr_candidates_filter(candidates, logits, &filters[f]);
        for (uint64_t position = 0; position < DRAWS; position++)
            seen[qr_candidates_draw(candidates, qr_philox_uniform(f, position))]++;
        for (int32_t i = 0; i < oracle.n; i++)
            total += oracle.weights[i];
        int32_t n_seen = 0;
        for (int32_t i = 0; i < oracle.n; i++) {
            double expected = DRAWS * oracle.weights[i] / total;
            double error = seen[oracle.ids[i]] - expected;
            chi_square += error * error / expected;
            n_seen += seen[oracle.ids[i]];
        }
        assert_int_equal(n_seen, DRAWS); /* nothing that was filtered out */
        double freedom = oracle.n - 1;
        assert_true(chi_square < freedom + 5 * sqrt(2 * freedom));
    }
    qr_candidates_destroy(candidates);
}

static void ends_of_the_unit_interval_give_likely_tokens(void **state)
{
    (void)state;
    const float logits[] = {-INFINITY, 1.0f, -1e30f, 1.0f, -INFINITY};
    const struct qr_candidate_filter filter = {.temperature = 1.0f, .top_p = 1.0f};
    struct qr_candidates *candidates;

    assert_int_equal(qr_candidates_create(5, &candidates), QR_OK);
    qr_candidates_filter(candidates, logits, &filter);
    assert_int_equal(qr_candidates_count(candidates), 2);
    assert_int_equal(qr_candidates_draw(candidates, 0.0), 1);
    assert_int_equal(qr_candidates_draw(candidates, 0.5), 3);
    assert_int_equal(qr_candidates_draw(candidates, 1.0 - 0x1p-53), 3);
    qr_candidates_destroy(candidates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_keep_what_they_are_defined_to_keep),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(ends_of_the_unit_interval_give_likely_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
