/*
 * test_cuda_select.c - the best tokens of a row of logits, found on the device: == against a row
 * sorted on the host. Tokens drawn there: of those that the host's filters leave, where the number
 * falls.
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
#include "runtime/sampling/candidates.h"
#include "tests/support/cuda_ops_rig.h"

enum { ROWS = 3, K = QR_CUDA_SELECT_MAX_K };

/* Descending, equal ones by ascending id. */
static int by_rank(const void *a, const void *b)
{
    const struct qr_token_logit *left = a;
    const struct qr_token_logit *right = b;

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
    struct qr_token_logit *all = allocate((size_t)vocab_size * sizeof(*all));
    double sum = 0;

    for (int32_t i = 0; i < vocab_size; i++)
        all[i] = (struct qr_token_logit){.logit = logits[i], .token_id = i};
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

/* Rows of `vocab_size` logits through the device, of which the host is told k tokens each; the
 * result is the caller's. */
static char *select_rows(const float *logits, int32_t n_rows, int32_t vocab_size, int32_t k,
                         const int32_t *token_ids)
{
    const struct qr_cuda_selection_sizes sizes = {.n_rows = n_rows, .k = k, .n_told = k};
    const struct qr_cuda_draws none = {.n_draws = 0};
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
    qr_cuda_select(&select, device_logits, sizes, device_ids, &none, out);
    cuda_ops_rig_download(&rig, out, host, n_bytes);
    cuda_ops_rig_close(&rig);
    return host;
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

static void set_schedule(uint64_t seed)
{
    struct qr_emulator_settings settings = qr_emulator_default_settings();

    if (seed > 0) {
        settings.seed = seed;
        settings.n_workers = seed == 3 ? 2 : 1;
        settings.capability = seed == 2 ? 80 : 90;
    }
    qr_emulator_set(&settings);
}

static void a_row_depends_on_no_neighbour_or_schedule(void **state)
{
    (void)state;
    enum { VOCAB = 9001 };
    float *logits = make_logits(VOCAB);
    char *all = select_rows(logits, ROWS, VOCAB, K, NULL);

    for (uint64_t seed = 1; seed < 4; seed++) {
        set_schedule(seed);
        for (int32_t r = 0; r < ROWS; r++) {
            char *one = select_rows(logits + (size_t)r * VOCAB, 1, VOCAB, K, NULL);
            assert_memory_equal(one, row_of(all, r, K), qr_cuda_selected_bytes(K));
            free(one);
        }
    }
    set_schedule(0);
    free(all);
    free(logits);
}

/* ---- draws ---- */

enum { N_DRAWS = 5 }; /* of each row */

static const double uniforms[N_DRAWS] = {0, 0.3, 0.51, 0.77, 0x1.fffffffffffffp-1};

/* top-k of more tokens than there are is none. */
static struct qr_cuda_draw draw_of(const struct qr_candidate_filter *filter, int32_t vocab_size,
                                   double uniform, int32_t row)
{
    struct qr_candidate_filter bounded = *filter;

    if (bounded.top_k >= vocab_size)
        bounded.top_k = 0;
    return qr_cuda_draw_of(&bounded, uniform, row);
}

/* Tokens drawn from the rows, N_DRAWS of each by one filter, with a selection of which the host is
 * told one token; the result is the caller's. */
static struct qr_drawn_token *draw_rows(const float *logits, int32_t n_rows, int32_t vocab_size,
                                        const struct qr_candidate_filter *filter)
{
    const struct qr_cuda_selection_sizes sizes = {.n_rows = n_rows, .k = K, .n_told = 1};
    size_t n_draws = (size_t)n_rows * N_DRAWS;
    struct qr_cuda_draw *draws = allocate(n_draws * sizeof(*draws));
    struct qr_drawn_token *drawn = allocate(n_draws * sizeof(*drawn));
    struct cuda_ops_rig rig;
    struct qr_cuda_select select;

    for (size_t i = 0; i < n_draws; i++)
        draws[i] = draw_of(filter, vocab_size, uniforms[i % N_DRAWS], (int32_t)(i / N_DRAWS));
    open_select(&rig, vocab_size, n_rows, K, &select);
    const float *device_logits =
        cuda_ops_rig_upload(&rig, logits, (size_t)n_rows * (size_t)vocab_size * sizeof(float));
    const struct qr_cuda_draws on_device = {
        .draws = cuda_ops_rig_upload(&rig, draws, n_draws * sizeof(*draws)),
        .drawn = cuda_ops_rig_alloc(&rig, n_draws * sizeof(*drawn)),
        .n_draws = (int32_t)n_draws};
    void *out = cuda_ops_rig_alloc(&rig, (size_t)n_rows * qr_cuda_selected_bytes(1));
    qr_cuda_select(&select, device_logits, sizes, NULL, &on_device, out);
    cuda_ops_rig_download(&rig, on_device.drawn, drawn, n_draws * sizeof(*drawn));
    cuda_ops_rig_close(&rig);
    free(draws);
    return drawn;
}

/* Of the tokens that the host's filter leaves, it is the one where the number falls, but for the
 * rounding of weights. */
static void check_drawn(const float *row, int32_t vocab_size,
                        const struct qr_candidate_filter *filter, double uniform,
                        const struct qr_drawn_token *drawn)
{
    struct qr_candidates *candidates;
    double before = 0, weight = 0, total = 0;

    assert_int_equal(qr_candidates_create(vocab_size, &candidates), QR_OK);
    qr_candidates_filter(candidates, row, filter);
    float largest = -INFINITY;
    for (int32_t id = 0; id < vocab_size; id++)
        largest = row[id] > largest ? row[id] : largest;
    for (int32_t i = 0; i < qr_candidates_count(candidates); i++) {
        int32_t id = qr_candidates_id(candidates, i);
        double w = exp(((double)row[id] - (double)largest) / (double)filter->temperature);
        total += w;
        before += id < drawn->token_id ? w : 0;
        weight = id == drawn->token_id ? w : weight;
    }
    qr_candidates_destroy(candidates);
    if (weight == 0 || uniform < before / total - 1e-5 ||
        uniform > (before + weight) / total + 1e-5)
        fail_msg("%d of %d for %.9f by top-k %d, top-p %g, min-p %g: from %.9f to %.9f",
                 drawn->token_id, vocab_size, uniform, filter->top_k, (double)filter->top_p,
                 (double)filter->min_p, before / total, (before + weight) / total);
    assert_true(drawn->logit == row[drawn->token_id]);
}

/* Nothing, few tokens, more than a selection has; in number, in weight, and both. The second row
 * has few values, so that many tokens are left and where they end is decided among equal ones. */
static const struct qr_candidate_filter filters[] = {
    {.temperature = 1, .top_p = 1},
    {.temperature = 0.7f, .top_p = 1},
    {.temperature = 2.5f, .top_p = 1},
    {.temperature = 1, .top_k = 1, .top_p = 1},
    {.temperature = 1, .top_k = 40, .top_p = 1},
    {.temperature = 1.5f, .top_k = 256, .top_p = 0.7f},
    {.temperature = 1.5f, .top_k = 50, .top_p = 0.9f, .min_p = 0.1f},
    {.temperature = 3, .top_k = 257, .top_p = 1},
    {.temperature = 3, .top_k = 3000, .top_p = 0.6f, .min_p = 0.001f},
    {.temperature = 1, .top_p = 0.5f},
    {.temperature = 4, .top_p = 0.95f},
    {.temperature = 4, .top_p = 0.9999f},
    {.temperature = 1, .top_p = 1, .min_p = 0.2f},
    {.temperature = 5, .top_p = 1, .min_p = 0.01f},
    {.temperature = 5, .top_p = 0.8f, .min_p = 0.02f},
};
enum { N_FILTERS = sizeof(filters) / sizeof(filters[0]) };

static void tokens_are_drawn_from_what_filters_leave(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 100, 700, 8193, 32000, 128256};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t n = (size_t)sizes[s];
        float *logits = make_logits(sizes[s]);
        for (size_t f = 0; f < N_FILTERS; f++) {
            if (sizes[s] > 40000 && f % 4 != 0)
                continue;
            struct qr_drawn_token *drawn = draw_rows(logits, ROWS, sizes[s], &filters[f]);
            for (size_t i = 0; i < ROWS * N_DRAWS; i++) {
                check_drawn(logits + i / N_DRAWS * n, sizes[s], &filters[f], uniforms[i % N_DRAWS],
                            &drawn[i]);
                assert_true(drawn[i].unedited == drawn[i].logit);
            }
            free(drawn);
        }
        free(logits);
    }
}

static void a_draw_depends_on_no_neighbour_or_schedule(void **state)
{
    (void)state;
    enum { VOCAB = 9001 };
    float *logits = make_logits(VOCAB);

    for (size_t f = 0; f < N_FILTERS; f++) {
        struct qr_drawn_token *all = draw_rows(logits, ROWS, VOCAB, &filters[f]);
        for (size_t r = 0; r < ROWS; r++) {
            set_schedule(1 + (f + r) % 3);
            struct qr_drawn_token *one = draw_rows(logits + r * VOCAB, 1, VOCAB, &filters[f]);
            assert_memory_equal(one, all + r * N_DRAWS, N_DRAWS * sizeof(*one));
            free(one);
        }
        set_schedule(0);
        free(all);
    }
    free(logits);
}

static void nothing_is_drawn_from_what_is_no_number(void **state)
{
    (void)state;
    enum { VOCAB = 300 };
    const struct qr_candidate_filter filter = {.temperature = 1, .top_k = 7, .top_p = 0.9f};
    float *logits = allocate(2 * VOCAB * sizeof(float));

    logits[70] = NAN;
    for (size_t i = 0; i < VOCAB; i++)
        logits[VOCAB + i] = -INFINITY;
    struct qr_drawn_token *drawn = draw_rows(logits, 2, VOCAB, &filter);
    for (size_t i = 0; i < 2 * N_DRAWS; i++)
        assert_int_equal(drawn[i].token_id, -1);
    free(drawn);
    free(logits);
}

/* ---- edited rows ---- */

enum { N_EDITS = 700, EDITED_K = 30 };

enum { EDITED_DRAWS = 3 };

static const struct qr_candidate_filter edited_filters[EDITED_DRAWS] = {
    {.temperature = 0.8f, .top_p = 1},
    {.temperature = 1, .top_k = 12, .top_p = 0.9f},
    {.temperature = 6, .top_p = 0.9f}};

/* Edits of two of the three rows, the last one first: of tokens all over the row, the largest too,
 * some of them banned. The first is drawn from once, the other twice. */
struct edited_rows {
    struct qr_cuda_edited_row rows[2];
    struct qr_logit_edit edits[2 * N_EDITS];
    struct qr_cuda_draw draws[EDITED_DRAWS];
    struct qr_drawn_token drawn[EDITED_DRAWS];
};

static void make_edited_draws(int32_t vocab_size, struct qr_cuda_draw *draws)
{
    for (int32_t i = 0; i < EDITED_DRAWS; i++)
        draws[i] = draw_of(&edited_filters[i], vocab_size, 0.2 + 0.3 * i, i > 0);
}

static void make_edits(int32_t vocab_size, int32_t n_edits, struct edited_rows *to)
{
    for (int32_t r = 0; r < 2; r++) {
        to->rows[r] = (struct qr_cuda_edited_row){
            .logit_row = 2 - 2 * r, .first_edit = r * n_edits, .n_edits = n_edits};
        for (int32_t i = 0; i < n_edits; i++)
            to->edits[r * n_edits + i] = (struct qr_logit_edit){
                .token_id = (int32_t)((int64_t)i * vocab_size / n_edits),
                .add = i % 11 == 3 ? -INFINITY : cuda_ops_random(31, (uint64_t)i) * 4,
                .repetition = i % 3 == 0 ? 1 : 1.7f,
                .subtract = i % 2 == 0 ? 0 : 0.3f};
    }
    make_edited_draws(vocab_size, to->draws);
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
                        struct edited_rows *edited, float *after)
{
    const struct qr_cuda_selection_sizes sizes = {.n_rows = 2, .k = K, .n_told = EDITED_K};
    size_t logit_bytes = (size_t)ROWS * (size_t)vocab_size * sizeof(float);
    size_t n_bytes = 2 * qr_cuda_edited_bytes(EDITED_K);
    size_t edit_bytes = 2 * (size_t)n_edits * sizeof(edited->edits[0]);
    struct cuda_ops_rig rig;
    struct qr_cuda_select select;
    char *host = allocate(n_bytes);

    open_select(&rig, vocab_size, 2, K, &select);
    float *device_logits = cuda_ops_rig_upload(&rig, logits, logit_bytes);
    const struct qr_cuda_edits edits = {
        .rows = cuda_ops_rig_upload(&rig, edited->rows, sizeof(edited->rows)),
        .edits = cuda_ops_rig_upload(&rig, edited->edits, edit_bytes),
        .saved = cuda_ops_rig_alloc(&rig, 2 * (size_t)n_edits * sizeof(float))};
    const struct qr_cuda_draws draws = {
        .draws = cuda_ops_rig_upload(&rig, edited->draws, sizeof(edited->draws)),
        .drawn = cuda_ops_rig_alloc(&rig, sizeof(edited->drawn)),
        .n_draws = EDITED_DRAWS};
    void *out = cuda_ops_rig_alloc(&rig, n_bytes);
    qr_cuda_select_edited(&select, device_logits, sizes, &edits, &draws, out);
    cuda_ops_rig_download(&rig, out, host, n_bytes);
    cuda_ops_rig_download(&rig, draws.drawn, edited->drawn, sizeof(edited->drawn));
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

    check_row(row, vocab_size, EDITED_K, -1, selected);
    for (int32_t i = 0; i < EDITED_DRAWS; i++) {
        const struct qr_drawn_token *drawn = &edited->drawn[i];
        if (edited->draws[i].row != r)
            continue;
        check_drawn(row, vocab_size, &edited_filters[i], edited->draws[i].uniform, drawn);
        assert_true(drawn->unedited == before[drawn->token_id]);
    }
    for (int32_t i = 0; i < EDITED_K && i < vocab_size; i++)
        assert_true(unedited[i] == before[selected->candidates[i].token_id]);
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
        for (uint64_t seed = 2; seed < 4; seed++) { /* the same in every order */
            static struct edited_rows once_more;
            once_more = edited;
            memset(once_more.drawn, 0, sizeof(once_more.drawn));
            set_schedule(seed);
            char *again = run_edited(logits, sizes[s], n_edits, &once_more, after);
            assert_memory_equal(again, rows, 2 * qr_cuda_edited_bytes(EDITED_K));
            assert_memory_equal(once_more.drawn, edited.drawn, sizeof(edited.drawn));
            free(again);
        }
        set_schedule(0);
        free(rows);
        free(after);
        free(logits);
    }
}

static void what_is_no_number_is_reported(void **state)
{
    (void)state;
    enum { VOCAB = 9001, TOLD = 5, N = 4 };
    static const float bad[N] = {NAN, INFINITY, -NAN, 0.0f};
    float *logits = allocate(N * VOCAB * sizeof(float));

    for (size_t r = 0; r < N; r++) {
        for (size_t i = 0; i < VOCAB; i++)
            logits[r * VOCAB + i] = cuda_ops_random(r, i);
        logits[r * VOCAB + (r % 2 == 0 ? 17 : 8999)] = bad[r];
    }
    char *rows = select_rows(logits, N, VOCAB, TOLD, NULL);
    for (int32_t r = 0; r < N; r++)
        assert_int_equal(row_of(rows, r, TOLD)->invalid, r < 3);
    check_row(logits + 3 * VOCAB, VOCAB, TOLD, -1, row_of(rows, 3, TOLD));
    free(rows);

    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    rows = select_rows(logits, 1, VOCAB, TOLD, NULL);
    check_row(logits, VOCAB, TOLD, -1, row_of(rows, 0, TOLD));
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
        cmocka_unit_test(tokens_are_drawn_from_what_filters_leave),
        cmocka_unit_test(a_draw_depends_on_no_neighbour_or_schedule),
        cmocka_unit_test(nothing_is_drawn_from_what_is_no_number),
        cmocka_unit_test(rows_are_selected_from_as_edits_make_them),
        cmocka_unit_test(what_is_no_number_is_reported),
        cmocka_unit_test(a_vocabulary_that_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
