/*
 * cpu_logits.c - rows of logits: read where they are, or what is drawn from them selected, by all
 * threads, while they are in the caches.
 */
#include "base/alloc.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

enum qr_status qr_cpu_logits_open(struct qr_cpu_device *cpu, const struct qr_device_needs *needs,
                                  struct qr_error *err)
{
    struct qr_cpu_logits *logits = &cpu->logits;
    size_t n = (size_t)needs->max_logit_rows;

    logits->selections = qr_calloc(QR_ARENA_ENGINE, n, sizeof(*logits->selections));
    /* Zeroed by the system when they are first used: that of the most rows seldom is. */
    logits->tokens = qr_calloc(QR_ARENA_ENGINE, n * QR_SELECTION_MAX, sizeof(*logits->tokens));
    if (logits->selections == NULL || logits->tokens == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for what is drawn from %zu rows of logits", n);
    return QR_OK;
}

void qr_cpu_logits_close(struct qr_cpu_device *cpu)
{
    qr_free(cpu->logits.tokens);
    qr_free(cpu->logits.selections);
}

struct select_work {
    const struct qr_cpu_device *cpu;
    const struct qr_logit_wish *wishes;
};

static void select_rows(void *arg, int64_t first, int64_t last, int32_t worker)
{
    const struct select_work *work = arg;
    const struct qr_cpu_logits *logits = &work->cpu->logits;

    (void)worker;
    for (int64_t i = first; i < last; i++)
        work->cpu->kernels->select(logits->rows + (size_t)i * logits->vocab_size,
                                   (int32_t)logits->vocab_size, work->wishes[i],
                                   logits->tokens + i * QR_SELECTION_MAX, &logits->selections[i]);
}

void qr_cpu_read_logits(struct qr_device *dev, const float *rows, int32_t vocab_size)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    const struct qr_batch *batch = dev->batch;
    struct select_work work = {.cpu = cpu, .wishes = batch->logit_wishes};

    cpu->logits.rows = rows;
    cpu->logits.vocab_size = (size_t)vocab_size;
    cpu->logits.has_wishes = batch->logit_wishes != NULL;
    if (cpu->logits.has_wishes)
        qr_cpu_run(dev, batch->n_logit_rows, qr_cpu_rows_per_item(vocab_size), select_rows, &work);
}

struct qr_logit_row qr_cpu_logit_row(struct qr_device *dev, int32_t i)
{
    const struct qr_cpu_logits *logits = &qr_cpu_device_of(dev)->logits;
    struct qr_logit_row row = {.selection = {.sum_exp = 0}};

    if (logits->has_wishes)
        row.selection = logits->selections[i];
    if (row.selection.n == 0)
        row.logits = logits->rows + (size_t)i * logits->vocab_size;
    return row;
}

enum qr_status qr_cpu_whole_logit_row(struct qr_device *dev, int32_t i, const float **row,
                                      struct qr_error *err)
{
    const struct qr_cpu_logits *logits = &qr_cpu_device_of(dev)->logits;

    (void)err;
    *row = logits->rows + (size_t)i * logits->vocab_size;
    return QR_OK;
}
