/*
 * test_cuda_select.c - the best tokens of a row of logits, found on the device: == against a row
 * sorted on the host.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cuda/emulator/emulator.h"
#include "runtime/ops/cuda/cuda_select.h"
#include "tests/support/cuda_ops_rig.h"

enum { ROWS = 3 };

/* Descending, equal ones by ascending id. */
static int by_rank(const void *a, const void *b)
{
    const struct qr_cuda_candidate *left = a;
    const struct qr_cuda_candidate *right = b;

    if (left->logit != right->logit)
        return left->logit > right->logit ? -1 : 1;
    return left->token_id < right->token_id ? -1 : 1;
}

static void *allocate(size_t n_bytes)
{
    void *memory = calloc(1, n_bytes);

    assert_non_null(memory);
    return memory;
}

static void check_row(const float *logits, int32_t vocab_size, int32_t k, int32_t token_id,
                      const struct qr_cuda_selected *selected)
{
    struct qr_cuda_candidate *all = allocate((size_t)vocab_size * sizeof(*all));
    double sum = 0;

    for (int32_t i = 0; i < vocab_size; i++)
        all[i] = (struct qr_cuda_candidate){logits[i], i};
    qsort(all, (size_t)vocab_size, sizeof(*all), by_rank);
    for (int32_t i = 0; i < k; i++) {
        int32_t id = i < vocab_size ? all[i].token_id : -1;
        float logit = i < vocab_size ? all[i].logit : -INFINITY;
        if (selected->candidates[i].token_id != id)
            fail_msg("candidate %d of %d is %d, not %d", i, k, selected->candidates[i].token_id,
                     id);
        assert_true(selected->candidates[i].logit == logit);
    }
    assert_int_equal(selected->invalid, 0);
    assert_true(selected->largest == all[0].logit);
    assert_true(selected->token_logit == (token_id < 0 ? 0.0f : logits[token_id]));
    for (int32_t i = 0; i < vocab_size && all[0].logit > -INFINITY; i++)
        sum += exp((double)logits[i] - (double)all[0].logit);
    /* Terms are exact to some 2^-22 of the argument's size, which is below 40 where they count;
     * 8192 additions of positive numbers in a tree of depth 25. */
    assert_true(fabs((double)selected->sum_exp - sum) <= 1e-5 * sum);
    free(all);
}

static void open_select(struct cuda_ops_rig *rig, int32_t vocab_size, int32_t n_rows, int32_t k,
                        struct qr_cuda_select *select)
{
    struct qr_error err = {""};

    cuda_ops_rig_open(rig);
    void *workspace =
        cuda_ops_rig_alloc(rig, qr_cuda_select_workspace_bytes(vocab_size, n_rows, k));
    if (qr_cuda_select_open(&rig->cuda, vocab_size, n_rows, k, workspace, select, &err) != QR_OK)
        fail_msg("%s", err.message);
}

/* Rows of `vocab_size` logits through the device, a token drawn from each unless `draws` is NULL;
 * the result is the caller's. */
static char *run_rows(const float *logits, int32_t n_rows, int32_t vocab_size, int32_t k,
                      const int32_t *token_ids, const struct qr_cuda_draw *draws)
{
    size_t n = (size_t)n_rows;
    size_t n_bytes = n * qr_cuda_selected_bytes(k);
    struct cuda_ops_rig rig;
    struct qr_cuda_select select;
    char *host = allocate(n_bytes);

    open_select(&rig, vocab_size, n_rows, k, &select);
    const float *device_logits =
        cuda_ops_rig_upload(&rig, logits, n * (size_t)vocab_size * sizeof(float));
    const int32_t *device_ids =
        token_ids == NULL ? NULL : cuda_ops_rig_upload(&rig, token_ids, n * sizeof(int32_t));
    void *out = cuda_ops_rig_alloc(&rig, n_bytes);
    qr_cuda_select(&select, device_logits, n_rows, k, device_ids, out);
    if (draws != NULL)
        qr_cuda_draw(&select, device_logits, n_rows, k,
                     cuda_ops_rig_upload(&rig, draws, n * sizeof(*draws)), out);
    cuda_ops_rig_download(&rig, out, host, n_bytes);
    cuda_ops_rig_close(&rig);
    return host;
}

static char *select_rows(const float *logits, int32_t n_rows, int32_t vocab_size, int32_t k,
                         const int32_t *token_ids)
{
    return run_rows(logits, n_rows, vocab_size, k, token_ids, NULL);
}

static char *draw_rows(const float *logits, int32_t n_rows, int32_t vocab_size,
                       const struct qr_cuda_draw *draws)
{
    return run_rows(logits, n_rows, vocab_size, 1, NULL, draws);
}

static const struct qr_cuda_selected *row_of(const char *rows, int32_t row, int32_t k)
{
    return (const void *)(rows + (size_t)row * qr_cuda_selected_bytes(k));
}

/* Three rows: random, few different values (and both zeros), mostly -inf. */
static float *make_logits(int32_t vocab_size)
{
    size_t n = (size_t)vocab_size;
    float *logits = allocate(ROWS * n * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        logits[i] = cuda_ops_random(21, i) * 12.0f;
        float coarse = truncf(cuda_ops_random(22, i) * 3.0f);
        logits[n + i] = coarse == 0 && i % 2 == 0 ? -0.0f : coarse;
        logits[2 * n + i] = i % 97 == 5 ? cuda_ops_random(23, i) : -INFINITY;
    }
    logits[2 * n + n / 2] = 1.0f;
    return logits;
}

static void candidates_are_the_first_of_the_sorted_row(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 100, 512, 8192, 8193, 32000, 128256};
    static const int32_t counts[] = {1, 2, 20, 256};
    static const int32_t wanted[ROWS] = {0, -1, 1};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        float *logits = make_logits(sizes[s]);
        const int32_t token_ids[ROWS] = {wanted[0], wanted[1], sizes[s] > 1 ? wanted[2] : 0};
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
            int32_t k = counts[c];
            if (sizes[s] > 40000 && k > 1 && k < 256)
                continue;
            char *rows = select_rows(logits, ROWS, sizes[s], k, token_ids);
            for (int32_t r = 0; r < ROWS; r++)
                check_row(logits + (size_t)r * (size_t)sizes[s], sizes[s], k, token_ids[r],
                          row_of(rows, r, k));
            free(rows);
        }
        free(logits);
    }
}

static void a_row_depends_on_no_neighbour_or_schedule(void **state)
{
    (void)state;
    enum { VOCAB = 9001, K = 40 };
    float *logits = make_logits(VOCAB);
    char *all = select_rows(logits, ROWS, VOCAB, K, NULL);

    for (uint64_t seed = 1; seed < 4; seed++) {
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        settings.seed = seed;
        settings.n_workers = seed == 3 ? 2 : 1;
        settings.capability = seed == 2 ? 80 : 90;
        qr_emulator_set(&settings);
        for (int32_t r = 0; r < ROWS; r++) {
            char *one = select_rows(logits + (size_t)r * VOCAB, 1, VOCAB, K, NULL);
            assert_memory_equal(one, row_of(all, r, K), qr_cuda_selected_bytes(K));
            free(one);
        }
    }
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);
    free(all);
    free(logits);
}

static double sum_of_weights(const float *logits, int32_t n, float largest, float temperature)
{
    double sum = 0;

    for (int32_t i = 0; i < n; i++)
        sum += exp(((double)logits[i] - (double)largest) / (double)temperature);
    return sum;
}

/* `uniform` lies in the token's part of the distribution, but for the rounding of weights. */
static void check_drawn(const float *logits, int32_t vocab_size, const struct qr_cuda_draw *draw,
                        const struct qr_cuda_selected *selected)
{
    int32_t id = selected->drawn_id;

    double total = 0;
    if (draw->temperature != 0)
        total = sum_of_weights(logits, vocab_size, selected->largest, draw->temperature);
    assert_true(fabs(selected->sum_weights - total) <= 1e-5 * total);
    if (draw->temperature == 0 || draw->uniform < 0) {
        assert_int_equal(id, -1);
        return;
    }
    assert_in_range(id, 0, vocab_size - 1);
    assert_true(selected->drawn_logit == logits[id] && logits[id] > -INFINITY);
    float largest = selected->largest;
    double before = sum_of_weights(logits, id, largest, draw->temperature) / total;
    double after = sum_of_weights(logits, id + 1, largest, draw->temperature) / total;
    if (draw->uniform < before - 1e-5 || draw->uniform > after + 1e-5)
        fail_msg("%d of %d for %.9f: from %.9f to %.9f", id, vocab_size, draw->uniform, before,
                 after);
}

static void tokens_are_drawn_where_the_number_falls(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 100, 8192, 8193, 32000, 128256};
    static const double uniforms[] = {0, 0.3, 0.77, 0x1.fffffffffffffp-1, -1};
    static const float temperatures[] = {1, 0.7f, 2.5f};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        float *logits = make_logits(sizes[s]);
        for (size_t u = 0; u < sizeof(uniforms) / sizeof(uniforms[0]); u++) {
            struct qr_cuda_draw draws[ROWS] = {{.uniform = 0}};
            for (size_t r = 0; r < ROWS; r++)
                draws[r] = (struct qr_cuda_draw){.uniform = uniforms[u],
                                                 .temperature = r == u ? 0 : temperatures[r]};
            char *rows = draw_rows(logits, ROWS, sizes[s], draws);
            for (int32_t r = 0; r < ROWS; r++)
                check_drawn(logits + (size_t)r * (size_t)sizes[s], sizes[s], &draws[r],
                            row_of(rows, r, 1));
            free(rows);
        }
        free(logits);
    }
}

static void a_draw_depends_on_no_neighbour_or_schedule(void **state)
{
    (void)state;
    enum { VOCAB = 9001 };
    static const struct qr_cuda_draw draws[ROWS] = {{.uniform = 0.1, .temperature = 1},
                                                    {.uniform = 0.6, .temperature = 0.8f},
                                                    {.uniform = 0.99, .temperature = 1.2f}};
    float *logits = make_logits(VOCAB);
    char *all = draw_rows(logits, ROWS, VOCAB, draws);

    for (uint64_t seed = 1; seed < 4; seed++) {
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        settings.seed = seed;
        settings.n_workers = seed == 3 ? 2 : 1;
        settings.capability = seed == 2 ? 80 : 90;
        qr_emulator_set(&settings);
        for (int32_t r = 0; r < ROWS; r++) {
            char *one = draw_rows(logits + (size_t)r * VOCAB, 1, VOCAB, &draws[r]);
            assert_memory_equal(one, row_of(all, r, 1), qr_cuda_selected_bytes(1));
            free(one);
        }
    }
    struct qr_emulator_settings settings = qr_emulator_default_settings();
    qr_emulator_set(&settings);
    free(all);
    free(logits);
}

/* ---- edited rows ---- */

enum { N_EDITS = 700, EDITED_K = 30 };

/* Edits of two of the three rows, the last one first: of tokens all over the row, the largest too,
 * some of them banned. */
struct edited_rows {
    struct qr_cuda_edited_row rows[2];
    struct qr_logit_edit edits[2 * N_EDITS];
    struct qr_cuda_draw draws[2];
};

static void make_edits(int32_t vocab_size, int32_t n_edits, struct edited_rows *to)
{
    for (int32_t r = 0; r < 2; r++) {
        to->rows[r] = (struct qr_cuda_edited_row){
            .logit_row = 2 - 2 * r, .first_edit = r * n_edits, .n_edits = n_edits};
        to->draws[r] = (struct qr_cuda_draw){.uniform = 0.4 + 0.3 * r, .temperature = 0.8f};
        for (int32_t i = 0; i < n_edits; i++)
            to->edits[r * n_edits + i] = (struct qr_logit_edit){
                .token_id = (int32_t)((int64_t)i * vocab_size / n_edits),
                .add = i % 11 == 3 ? -INFINITY : cuda_ops_random(31, (uint64_t)i) * 4,
                .repetition = i % 3 == 0 ? 1 : 1.7f,
                .subtract = i % 2 == 0 ? 0 : 0.3f};
    }
}

static float *edit_row(const float *logits, int32_t vocab_size, const struct qr_logit_edit *edits,
                       int32_t n_edits)
{
    float *row = allocate((size_t)vocab_size * sizeof(float));

    memcpy(row, logits, (size_t)vocab_size * sizeof(float));
    for (int32_t i = 0; i < n_edits; i++)
        row[edits[i].token_id] = qr_edit_logit(row[edits[i].token_id], &edits[i]);
    return row;
}

/* The device's selections of the edited rows; *after gets its logits, as they are then. */
static char *run_edited(const float *logits, int32_t vocab_size, int32_t n_edits,
                        const struct edited_rows *edited, float *after)
{
    size_t logit_bytes = (size_t)ROWS * (size_t)vocab_size * sizeof(float);
    size_t n_bytes = 2 * qr_cuda_edited_bytes(EDITED_K);
    size_t edit_bytes = 2 * (size_t)n_edits * sizeof(edited->edits[0]);
    struct cuda_ops_rig rig;
    struct qr_cuda_select select;
    char *host = allocate(n_bytes);

    open_select(&rig, vocab_size, 2, EDITED_K, &select);
    float *device_logits = cuda_ops_rig_upload(&rig, logits, logit_bytes);
    const struct qr_cuda_edits edits = {
        .rows = cuda_ops_rig_upload(&rig, edited->rows, sizeof(edited->rows)),
        .edits = cuda_ops_rig_upload(&rig, edited->edits, edit_bytes),
        .saved = cuda_ops_rig_alloc(&rig, 2 * (size_t)n_edits * sizeof(float)),
        .draws = cuda_ops_rig_upload(&rig, edited->draws, sizeof(edited->draws))};
    void *out = cuda_ops_rig_alloc(&rig, n_bytes);
    qr_cuda_select_edited(&select, device_logits, 2, EDITED_K, &edits, out);
    cuda_ops_rig_download(&rig, out, host, n_bytes);
    cuda_ops_rig_download(&rig, device_logits, after, logit_bytes);
    cuda_ops_rig_close(&rig);
    return host;
}

static void check_edited(const float *logits, int32_t vocab_size, int32_t n_edits,
                         const struct edited_rows *edited, int32_t r, const char *rows)
{
    const struct qr_cuda_selected *selected =
        (const void *)(rows + (size_t)r * qr_cuda_edited_bytes(EDITED_K));
    const float *unedited = (const void *)(selected->candidates + EDITED_K);
    const float *before = logits + (size_t)edited->rows[r].logit_row * (size_t)vocab_size;
    float *row = edit_row(before, vocab_size, edited->edits + r * n_edits, n_edits);
    struct qr_cuda_selected *as_raw = allocate(qr_cuda_selected_bytes(EDITED_K));

    memcpy(as_raw, selected, qr_cuda_selected_bytes(EDITED_K));
    as_raw->token_logit = 0; /* none was asked for */
    check_row(row, vocab_size, EDITED_K, -1, as_raw);
    check_drawn(row, vocab_size, &edited->draws[r], selected);
    assert_true(selected->token_logit == before[selected->drawn_id]);
    for (int32_t i = 0; i < EDITED_K && i < vocab_size; i++)
        assert_true(unedited[i] == before[selected->candidates[i].token_id]);
    free(as_raw);
    free(row);
}

static void rows_are_selected_from_as_edits_make_them(void **state)
{
    (void)state;
    static const int32_t sizes[] = {2, 100, 9001, 32000};
    static struct edited_rows edited;

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        int32_t n_edits = sizes[s] / 2 < N_EDITS ? sizes[s] / 2 : N_EDITS;
        size_t n_bytes = (size_t)ROWS * (size_t)sizes[s] * sizeof(float);
        float *logits = make_logits(sizes[s]);
        float *after = allocate(n_bytes);
        make_edits(sizes[s], n_edits, &edited);
        char *rows = run_edited(logits, sizes[s], n_edits, &edited, after);
        for (int32_t r = 0; r < 2; r++)
            check_edited(logits, sizes[s], n_edits, &edited, r, rows);
        assert_memory_equal(after, logits, n_bytes);
        for (uint64_t seed = 1; seed < 3; seed++) { /* the same in every order */
            struct qr_emulator_settings settings = qr_emulator_default_settings();
            settings.seed = seed;
            settings.n_workers = (int)seed;
            qr_emulator_set(&settings);
            char *again = run_edited(logits, sizes[s], n_edits, &edited, after);
            assert_memory_equal(again, rows, 2 * qr_cuda_edited_bytes(EDITED_K));
            free(again);
        }
        struct qr_emulator_settings settings = qr_emulator_default_settings();
        qr_emulator_set(&settings);
        free(rows);
        free(after);
        free(logits);
    }
}

static void what_is_no_number_is_reported(void **state)
{
    (void)state;
    enum { VOCAB = 9001, K = 5, N = 4 };
    static const float bad[N] = {NAN, INFINITY, -NAN, 0.0f};
    float *logits = allocate(N * VOCAB * sizeof(float));

    for (size_t r = 0; r < N; r++) {
        for (size_t i = 0; i < VOCAB; i++)
            logits[r * VOCAB + i] = cuda_ops_random(r, i);
        logits[r * VOCAB + (r % 2 == 0 ? 17 : 8999)] = bad[r];
    }
    char *rows = select_rows(logits, N, VOCAB, K, NULL);
    for (int32_t r = 0; r < N; r++)
        assert_int_equal(row_of(rows, r, K)->invalid, r < 3);
    check_row(logits + 3 * VOCAB, VOCAB, K, -1, row_of(rows, 3, K));
    free(rows);

    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    rows = select_rows(logits, 1, VOCAB, K, NULL);
    check_row(logits, VOCAB, K, -1, row_of(rows, 0, K));
    free(rows);
    free(logits);
}

static void a_vocabulary_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct cuda_ops_rig rig;
    struct qr_cuda_select select;
    struct qr_error err = {""};

    cuda_ops_rig_open(&rig);
    assert_int_equal(
        qr_cuda_select_open(&rig.cuda, QR_CUDA_SELECT_MAX_VOCAB + 1, 1, 1, NULL, &select, &err),
        QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "262145"));
    cuda_ops_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_are_the_first_of_the_sorted_row),
        cmocka_unit_test(a_row_depends_on_no_neighbour_or_schedule),
        cmocka_unit_test(tokens_are_drawn_where_the_number_falls),
        cmocka_unit_test(a_draw_depends_on_no_neighbour_or_schedule),
        cmocka_unit_test(rows_are_selected_from_as_edits_make_them),
        cmocka_unit_test(what_is_no_number_is_reported),
        cmocka_unit_test(a_vocabulary_that_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
