/* cpu_cases.c - the cases of `quire bench cpu`: what they are, and a run of one. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/bench/cpu/cpu_bench.h"
#include "runtime/bench/step_cost.h"
#include "runtime/ops/batch_arrays.h"
#include "runtime/sampling/philox.h"

/* Rows of one step: so many of each of the first n_seqs sequences, from one position on. */
struct step {
    int32_t n_seqs;
    int32_t first_position;
    int32_t n_rows; /* of a sequence */
};

static int32_t end_of(const struct qr_cpu_case *of)
{
    return of->context + of->n_steps * of->n_rows;
}

/* KV pages of one sequence at the end of a run. */
static int32_t pages_per_seq(const struct qr_cpu_bench *bench, const struct qr_cpu_case *of)
{
    return (end_of(of) - 1) / bench->kv.page_size + 1;
}

/* Sequences that grow together take their pages in turn, as they do in a server. */
static int32_t page_of(const struct qr_cpu_case *of, int32_t seq, int32_t block)
{
    return block * of->batch + seq;
}

/* ---- what they are ---- */

static void set_cost(const struct qr_cpu_bench *bench, struct qr_cpu_case *of)
{
    const struct qr_model_config *model = qr_model_get_config(bench->model);
    int64_t n_parameters = qr_model_n_parameters(bench->model);
    double n_rows = (double)of->n_steps * of->n_rows;
    double scores = n_rows * of->context + n_rows * (n_rows + 1) / 2;
    double kv_token_bytes =
        (double)qr_model_config_kv_bytes_per_token(model, (int64_t)bench->dev->kv_size);
    struct qr_step_shape shape = {
        .n_rows = of->batch * n_rows,
        .n_logit_rows = (double)of->batch * of->n_steps,
        .n_keys = of->batch * (of->is_prefill ? end_of(of) : scores),
        .n_scores = of->batch * scores,
    };

    of->tokens = shape.n_rows;
    if (model->n_experts > 0) /* chance decides how many of them a step reads */
        return;
    of->bytes = of->n_steps *
                    qr_weight_bytes_read(model, n_parameters, qr_model_weight_bytes(bench->model)) +
                shape.n_keys * kv_token_bytes;
    of->flops = qr_step_flops(model, n_parameters, &shape);
}

/* Appends the case, with the reason where it cannot run. */
static void add_case(struct qr_cpu_bench *bench, struct qr_cpu_case of)
{
    int32_t max_position = qr_model_get_config(bench->model)->max_position;
    int32_t n_pages = of.batch * pages_per_seq(bench, &of);
    double bytes = (double)n_pages * (double)qr_kv_page_bytes(bench->dev, &bench->kv);
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);

    if (of.is_prefill)
        snprintf(of.name, sizeof(of.name), "prefill %d", of.n_rows);
    else
        snprintf(of.name, sizeof(of.name), "decode, batch %d, context %d", of.batch, of.context);
    set_cost(bench, &of);
    if (end_of(&of) > max_position)
        snprintf(of.skipped, sizeof(of.skipped), "the model has %d positions, this takes %d",
                 max_position, end_of(&of));
    else if (bytes > memory / 2)
        snprintf(of.skipped, sizeof(of.skipped),
                 "its KV takes %.1f GB, more than half of this machine's memory", bytes * 1e-9);
    else if (n_pages > bench->n_pages)
        bench->n_pages = n_pages;
    bench->cases[bench->n_cases++] = of;
}

void qr_cpu_bench_plan(struct qr_cpu_bench *bench)
{
    const struct qr_cpu_bench_config *config = &bench->config;

    if (config->prompt > 0)
        add_case(bench,
                 (struct qr_cpu_case){
                     .is_prefill = true, .batch = 1, .n_steps = 1, .n_rows = config->prompt});
    for (int32_t i = 0; i < config->n_batches; i++)
        add_case(bench, (struct qr_cpu_case){.batch = config->batches[i],
                                             .context = config->context,
                                             .n_steps = config->n_steps,
                                             .n_rows = 1});
    if (config->long_context > 0)
        add_case(bench, (struct qr_cpu_case){.batch = config->long_batch,
                                             .context = config->long_context,
                                             .n_steps = config->n_steps,
                                             .n_rows = 1});
}

/* ---- a run ---- */

static enum qr_status make_arrays(const struct qr_cpu_bench *bench, const struct qr_cpu_case *of,
                                  struct qr_batch_arrays *arrays, struct qr_error *err)
{
    int32_t n_blocks = pages_per_seq(bench, of);
    const struct qr_batch_sizes sizes = {.n_rows = bench->max_rows,
                                         .n_logit_rows = of->batch,
                                         .n_seqs = of->batch,
                                         .n_blocks = n_blocks};

    if (qr_batch_arrays_make(&sizes, arrays) != QR_OK) {
        qr_batch_arrays_free(arrays);
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for a batch");
    }
    for (int32_t seq = 0; seq < of->batch; seq++) {
        for (int32_t block = 0; block < n_blocks; block++)
            arrays->block_table[seq * n_blocks + block] = page_of(of, seq, block);
    }
    return QR_OK;
}

/* Logits are wanted of the last row of each sequence. */
static enum qr_status run_step(struct qr_cpu_bench *bench, const struct qr_cpu_case *of,
                               struct qr_batch_arrays *arrays, const struct step *step,
                               struct qr_error *err)
{
    int32_t vocab_size = qr_model_get_config(bench->model)->vocab_size;
    int32_t n_rows = 0;

    for (int32_t seq = 0; seq < step->n_seqs; seq++) {
        for (int32_t i = 0; i < step->n_rows; i++, n_rows++) {
            int32_t position = step->first_position + i;
            double chance = qr_philox_uniform((uint64_t)seq, (uint64_t)position);
            arrays->token_ids[n_rows] = (int32_t)(chance * vocab_size);
            arrays->positions[n_rows] = position;
        }
        arrays->logit_rows[seq] = n_rows - 1;
        arrays->query_start[seq + 1] = n_rows;
        arrays->context_length[seq] = step->first_position + step->n_rows;
    }
    const struct qr_batch batch = {.n_rows = n_rows,
                                   .token_ids = arrays->token_ids,
                                   .positions = arrays->positions,
                                   .attention = {.n_seqs = step->n_seqs,
                                                 .query_start = arrays->query_start,
                                                 .context_length = arrays->context_length,
                                                 .block_table = arrays->block_table,
                                                 .block_table_stride = pages_per_seq(bench, of)},
                                   .n_logit_rows = step->n_seqs,
                                   .logit_rows = arrays->logit_rows};
    return qr_model_forward(bench->model, &batch, &bench->kv, bench->kv_pool, err);
}

/* The first sequence's context is computed, the others get copies in pages of their own. */
static enum qr_status fill_contexts(struct qr_cpu_bench *bench, const struct qr_cpu_case *of,
                                    struct qr_batch_arrays *arrays, struct qr_error *err)
{
    const struct qr_ops *ops = bench->dev->ops;
    size_t page_bytes = qr_kv_page_bytes(bench->dev, &bench->kv);

    for (int32_t done = 0; done < of->context; done += bench->max_rows) {
        int32_t left = of->context - done;
        struct step step = {1, done, left < bench->max_rows ? left : bench->max_rows};
        QR_TRY(run_step(bench, of, arrays, &step, err));
    }
    for (int32_t block = 0; block * bench->kv.page_size < of->context; block++) {
        for (int32_t seq = 1; seq < of->batch; seq++)
            ops->copy_page(bench->dev, bench->kv_pool, page_bytes, page_of(of, 0, block),
                           page_of(of, seq, block));
    }
    return QR_OK;
}

static enum qr_status run_steps(struct qr_cpu_bench *bench, const struct qr_cpu_case *of,
                                struct qr_batch_arrays *arrays, int32_t n_steps, double *seconds,
                                struct qr_error *err)
{
    int64_t start_ns = qr_now_ns();

    for (int32_t i = 0; i < n_steps; i++) {
        struct step step = {of->batch, of->context + i * of->n_rows, of->n_rows};
        QR_TRY(run_step(bench, of, arrays, &step, err));
    }
    *seconds = (double)(qr_now_ns() - start_ns) * 1e-9;
    return QR_OK;
}

enum qr_status qr_cpu_bench_run_case(struct qr_cpu_bench *bench, struct qr_cpu_case *of,
                                     struct qr_error *err)
{
    struct qr_batch_arrays arrays;
    double sorted[QR_MAX_RUNS], warm_up;

    QR_TRY(make_arrays(bench, of, &arrays, err));
    enum qr_status status = fill_contexts(bench, of, &arrays, err);
    if (status == QR_OK)
        status = run_steps(bench, of, &arrays, 1, &warm_up, err);
    for (int32_t i = 0; i < bench->config.n_runs && status == QR_OK; i++) {
        status = run_steps(bench, of, &arrays, of->n_steps, &of->seconds[i], err);
        sorted[i] = of->seconds[i];
    }
    qr_batch_arrays_free(&arrays);
    if (status != QR_OK) {
        qr_error_prefix(err, "%s", of->name);
        return status;
    }
    of->n_runs = bench->config.n_runs;
    of->median_s = qr_median(sorted, of->n_runs);
    return QR_OK;
}
