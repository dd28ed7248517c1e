/* test_logit_edits.c - what bias, bans and penalties make of a row, as a list and by definition. */
#include "runtime/sampling/logit_edits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sampling/philox.h"

enum { VOCAB = 90, HISTORY = 70 };

static void penalties_bias_and_bans_change_the_row(void **state)
{
    (void)state;
    const struct qr_logit_bias bias = {1, 2.0f};
    struct qr_sampling_params plain, params;

    qr_sampling_params_default(&plain);
    assert_false(qr_sampling_changes_row(&plain, 0));
    assert_true(qr_sampling_changes_row(&plain, 1));
    params = plain;
    params.n_logit_bias = 1;
    params.logit_bias = &bias;
    assert_true(qr_sampling_changes_row(&params, 0));
    params = plain;
    params.repetition_penalty = 1.1f;
    assert_true(qr_sampling_changes_row(&params, 0));
    params = plain;
    params.presence_penalty = 0.1f;
    assert_true(qr_sampling_changes_row(&params, 0));
    params = plain;
    params.frequency_penalty = -0.1f;
    assert_true(qr_sampling_changes_row(&params, 0));
}

static int32_t count_of(const int32_t *token_ids, int32_t n, int32_t token_id)
{
    int32_t count = 0;

    for (int32_t i = 0; i < n; i++)
        count += token_ids[i] == token_id;
    return count;
}

/* Token by token, with nothing kept between them. */
static float edited_by_definition(float logit, int32_t token_id,
                                  const struct qr_sampling_params *params,
                                  const struct qr_token_history *h)
{
    int32_t n_output = count_of(h->output, h->n_output, token_id);

    for (int32_t i = 0; i < params->n_logit_bias; i++)
        logit += params->logit_bias[i].token_id == token_id ? params->logit_bias[i].bias : 0;
    if (count_of(h->banned, h->n_banned, token_id) > 0)
        logit = -INFINITY;
    if (n_output + count_of(h->prompt, h->n_prompt, token_id) > 0)
        logit = logit > 0 ? logit / params->repetition_penalty : logit * params->repetition_penalty;
    if (n_output > 0)
        logit -= params->presence_penalty + params->frequency_penalty * (float)n_output;
    return logit;
}

static struct qr_token_counts *new_counts(int32_t capacity)
{
    struct qr_token_counts *counts;

    assert_int_equal(qr_token_counts_create(QR_ARENA_REQUEST, capacity, &counts), QR_OK);
    return counts;
}

static void edits_are_what_the_parameters_mean(void **state)
{
    (void)state;
    const struct qr_logit_bias bias[] = {{7, 2.5f}, {11, -1.25f}, {7, 0.5f}};
    const int32_t banned[] = {3, 11, 42};
    struct qr_logit_editor *editor;
    int64_t n_edits = 0;

    assert_int_equal(qr_logit_editor_create(VOCAB, &editor), QR_OK);
    for (uint64_t key = 0; key < 500; key++) { /* one leaves nothing behind for the next */
        int32_t tokens[HISTORY];
        float logits[VOCAB], edited[VOCAB];
        bool is_edited[VOCAB] = {false};
        const struct qr_logit_edit *edits;
        struct qr_sampling_params params;
        for (uint64_t i = 0; i < HISTORY; i++)
            tokens[i] = (int32_t)(qr_philox_uniform(key, i) * VOCAB / (double)(1 + key % 5));
        for (uint64_t i = 0; i < VOCAB; i++)
            edited[i] = logits[i] = (float)(floor(qr_philox_uniform(key + 1000, i) * 64) / 4 - 8);
        qr_sampling_params_default(&params);
        params.repetition_penalty = key % 3 == 0 ? 1 : key % 3 == 1 ? 2 : 0.5f;
        params.presence_penalty = key % 4 < 2 ? 0 : 0.25f;
        params.frequency_penalty = key % 5 < 2 ? 0 : key % 5 == 2 ? 0.5f : -0.25f;
        params.n_logit_bias = (int32_t)(key % 4);
        params.logit_bias = bias;
        const struct qr_token_history history = {.prompt = tokens,
                                                 .n_prompt = (int32_t)(key % 40),
                                                 .output = tokens + key % 40,
                                                 .n_output = (int32_t)(key % 31),
                                                 .banned = banned,
                                                 .n_banned = (int32_t)(key / 7 % 4),
                                                 .counts = new_counts(VOCAB)};
        int32_t n = qr_logit_edits_make(editor, &params, &history, &edits);
        n_edits += n;
        assert_true(n == 0 || qr_sampling_changes_row(&params, history.n_banned));
        for (int32_t i = 0; i < n; i++) {
            assert_false(is_edited[edits[i].token_id]); /* each token once */
            is_edited[edits[i].token_id] = true;
            edited[edits[i].token_id] = qr_edit_logit(edited[edits[i].token_id], &edits[i]);
        }
        for (int32_t id = 0; id < VOCAB; id++)
            assert_true(edited[id] == edited_by_definition(logits[id], id, &params, &history));
        qr_token_counts_destroy(history.counts);
    }
    assert_true(n_edits > 5000);
    qr_logit_editor_destroy(editor);
}

/* As a sequence grows, with counts that are kept: the edits are those of counting anew. Halfway
 * another one goes on from what was counted. */
static void kept_counts_give_the_same_edits(void **state)
{
    (void)state;
    enum { N_PROMPT = 20 };
    struct qr_logit_editor *editor;
    struct qr_sampling_params params;

    qr_sampling_params_default(&params);
    params.repetition_penalty = 1.5f;
    params.frequency_penalty = 0.25f;
    assert_int_equal(qr_logit_editor_create(VOCAB, &editor), QR_OK);
    for (uint64_t key = 0; key < 50; key++) {
        int32_t tokens[HISTORY];
        for (uint64_t i = 0; i < HISTORY; i++)
            tokens[i] = (int32_t)(qr_philox_uniform(key, i) * VOCAB / (double)(1 + key % 7));
        struct qr_token_counts *counts = new_counts(HISTORY), *copy = new_counts(HISTORY);
        for (int32_t n = 0; n <= HISTORY - N_PROMPT; n += 1 + n % 3) {
            struct qr_logit_edit anew[VOCAB];
            const struct qr_logit_edit *edits;
            struct qr_token_history history = {.prompt = tokens,
                                               .n_prompt = N_PROMPT,
                                               .output = tokens + N_PROMPT,
                                               .n_output = n,
                                               .counts = new_counts(HISTORY)};
            int32_t n_anew = qr_logit_edits_make(editor, &params, &history, &edits);
            memcpy(anew, edits, (size_t)n_anew * sizeof(*edits));
            qr_token_counts_destroy(history.counts);
            history.counts = n % 2 == 0 ? counts : copy;
            if (n % 2 == 1)
                qr_token_counts_copy(copy, counts);
            assert_int_equal(qr_logit_edits_make(editor, &params, &history, &edits), n_anew);
            assert_memory_equal(edits, anew, (size_t)n_anew * sizeof(*edits));
        }
        qr_token_counts_destroy(copy);
        qr_token_counts_destroy(counts);
    }
    qr_logit_editor_destroy(editor);
}

static void nothing_is_edited_without_reason(void **state)
{
    (void)state;
    const int32_t tokens[] = {1, 2, 3};
    struct qr_token_history history = {.prompt = tokens, .n_prompt = 3};
    struct qr_logit_editor *editor;
    const struct qr_logit_edit *edits;
    struct qr_sampling_params params;

    assert_int_equal(qr_logit_editor_create(VOCAB, &editor), QR_OK);
    qr_sampling_params_default(&params);
    assert_int_equal(qr_logit_edits_make(editor, &params, &history, &edits), 0);
    history.counts = new_counts(VOCAB);
    params.presence_penalty = 1; /* of an output that has not begun */
    assert_int_equal(qr_logit_edits_make(editor, &params, &history, &edits), 0);
    params.repetition_penalty = 1.5f;
    assert_int_equal(qr_logit_edits_make(editor, &params, &history, &edits), 3);
    qr_token_counts_destroy(history.counts);
    qr_logit_editor_destroy(editor);
    qr_logit_editor_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalties_bias_and_bans_change_the_row),
        cmocka_unit_test(edits_are_what_the_parameters_mean),
        cmocka_unit_test(kept_counts_give_the_same_edits),
        cmocka_unit_test(nothing_is_edited_without_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
