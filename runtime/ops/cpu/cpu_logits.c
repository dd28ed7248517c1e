/*
 * cpu_logits.c - rows of logits: read where they are, or what is drawn from them selected, by all
 * threads, while they are in the caches. A row's edits are made in place and undone.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

/* Zeroed by the system when it is first used: that of the most rows seldom is. */
static bool open_selections(struct qr_cpu_selections *selections, size_t n)
{
    selections->of_row = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*selections->of_row));
    selections->tokens =
        qr_calloc(QR_ARENA_ENGINE, n * QR_SELECTION_MAX, sizeof(*selections->tokens));
    return selections->of_row != NULL && selections->tokens != NULL;
}

enum qr_status qr_cpu_logits_open(struct qr_cpu_device *cpu, const struct qr_device_needs *needs,
                                  struct qr_error *err)
{
    struct qr_cpu_logits *logits = &cpu->logits;
    size_t n = (size_t)needs->max_logit_rows;

    logits->unedited = qr_calloc(QR_ARENA_ENGINE, n * QR_SELECTION_MAX, sizeof(float));
    logits->drawn = qr_calloc(QR_ARENA_ENGINE, (size_t)needs->max_draws, sizeof(*logits->drawn));
    logits->saved = qr_calloc(QR_ARENA_ENGINE, (size_t)needs->max_edits, sizeof(float));
    logits->places = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*logits->places));
    logits->max_draws = needs->max_draws;
    logits->max_edits = needs->max_edits;
    if (!open_selections(&logits->raw, n) || !open_selections(&logits->edited, n) ||
        logits->unedited == NULL || (logits->drawn == NULL && needs->max_draws > 0) ||
        (logits->saved == NULL && needs->max_edits > 0) || logits->places == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for what is drawn from %zu rows of logits", n);
    return QR_OK;
}

static void close_selections(struct qr_cpu_selections *selections)
{
    qr_free(selections->tokens);
    qr_free(selections->of_row);
}

void qr_cpu_logits_close(struct qr_cpu_device *cpu)
{
    close_selections(&cpu->logits.raw);
    close_selections(&cpu->logits.edited);
    qr_free(cpu->logits.unedited);
    qr_free(cpu->logits.drawn);
    qr_free(cpu->logits.saved);
    qr_free(cpu->logits.places);
}

struct select_work {
    struct qr_cpu_device *cpu;
    const struct qr_logit_wish *wishes;
};

static void select_row(const struct qr_cpu_device *cpu, struct qr_cpu_selections *selections,
                       int64_t i, struct qr_logit_wish wish)
{
    const struct qr_cpu_logits *logits = &cpu->logits;

    cpu->kernels->select(logits->rows + (size_t)i * logits->vocab_size, (int32_t)logits->vocab_size,
                         wish, selections->tokens + i * QR_SELECTION_MAX,
                         logits->drawn + logits->places[i].first_draw, &selections->of_row[i]);
}

/* From the row as its edits make it. */
static void select_edited(struct qr_cpu_device *cpu, int64_t i, const struct qr_logit_wish *wish)
{
    struct qr_cpu_logits *logits = &cpu->logits;
    float *row = logits->rows + (size_t)i * logits->vocab_size;
    float *unedited = logits->unedited + i * QR_SELECTION_MAX;
    struct qr_selection *selection = &logits->edited.of_row[i];
    float *saved = logits->saved + logits->places[i].first_edit;

    for (int32_t e = 0; e < wish->n_edits; e++) {
        float *logit = row + wish->edits[e].token_id;
        saved[e] = *logit;
        *logit = qr_edit_logit(*logit, &wish->edits[e]);
    }
    select_row(cpu, &logits->edited, i, *wish);
    for (int32_t e = 0; e < wish->n_edits; e++)
        row[wish->edits[e].token_id] = saved[e];
    for (int32_t t = 0; t < selection->n; t++)
        unedited[t] = row[selection->tokens[t].token_id];
    selection->unedited = unedited;
    for (int32_t d = 0; d < selection->n_drawn; d++) {
        struct qr_drawn_token *drawn = logits->drawn + logits->places[i].first_draw + d;
        drawn->unedited = row[drawn->token_id];
    }
}

static void select_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct select_work *work = arg;
    struct qr_cpu_logits *logits = &work->cpu->logits;

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        struct qr_logit_wish wish = work->wishes[i];
        logits->edited.of_row[i].n = 0;
        if (wish.n_edits > 0 && wish.n_tokens > 0) { /* 0: it is wanted whole */
            select_edited(work->cpu, i, &wish);
            wish = (struct qr_logit_wish){.token_id = -1, .n_tokens = wish.n_reported};
        }
        select_row(work->cpu, &logits->raw, i, wish);
    }
}

static void place_rows(struct qr_cpu_logits *logits, const struct qr_logit_wish *wishes,
                       int32_t n_rows)
{
    int32_t n_draws = 0, n_edits = 0;

    for (int32_t i = 0; i < n_rows; i++) {
        logits->places[i] = (struct qr_cpu_row_place){.first_draw = n_draws, .first_edit = n_edits};
        n_draws += wishes[i].n_draws;
        n_edits += wishes[i].n_edits;
    }
    QR_ASSERT(n_draws <= logits->max_draws && n_edits <= logits->max_edits);
}

void qr_cpu_read_logits(struct qr_device *dev, float *rows, int32_t vocab_size)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    const struct qr_batch *batch = dev->batch;
    struct select_work work = {.cpu = cpu, .wishes = batch->logit_wishes};

    cpu->logits.rows = rows;
    cpu->logits.vocab_size = (size_t)vocab_size;
    cpu->logits.has_wishes = batch->logit_wishes != NULL;
    if (!cpu->logits.has_wishes)
        return;
    place_rows(&cpu->logits, batch->logit_wishes, batch->n_logit_rows);
    qr_cpu_run(dev, batch->n_logit_rows, qr_cpu_rows_per_item(vocab_size), select_rows, &work);
}

struct qr_logit_row qr_cpu_logit_row(struct qr_device *dev, int32_t i)
{
    const struct qr_cpu_logits *logits = &qr_cpu_device_of(dev)->logits;
    struct qr_logit_row row = {.selection = {.sum_exp = 0}};

    if (logits->has_wishes) {
        row.selection = logits->raw.of_row[i];
        row.edited = logits->edited.of_row[i];
    }
    if (row.selection.n == 0)
        row.logits = qr_cpu_whole_logit_row(dev, i);
    return row;
}

const float *qr_cpu_whole_logit_row(struct qr_device *dev, int32_t i)
{
    const struct qr_cpu_logits *logits = &qr_cpu_device_of(dev)->logits;
    return logits->rows + (size_t)i * logits->vocab_size;
}
