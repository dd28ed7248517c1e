/*
 * cuda_step.c - how a step runs: its inputs go to the device in one copy, then its ops are
 * launched one by one, or, where every sequence decodes, as one CUDA graph that was captured when
 * the engine started. The host waits once, in end_step.
 *
 * A graph is for a number of rows; a step of fewer rows runs it with rows that nobody reads.
 * That changes no bits: a row's result does not depend on the others.
 */
#include <string.h>

#include "runtime/ops/cuda/cuda_device_internal.h"

static const int32_t step_sizes[QR_CUDA_N_STEP_SIZES] = {1,  2,  4,  8,   16,  24, 32,
                                                         48, 64, 96, 128, 192, 256};

/* Keys of the sequences of a captured step: one, or a beginning that they share. */
static const int32_t captured_lengths[QR_CUDA_N_STEP_VARIANTS] = {1, 2 * QR_CUDA_SPLIT + 1};

/* ---- capturing ---- */

static void fill_captured_batch(struct qr_cuda_device *cuda, int32_t n_rows, int32_t length)
{
    const struct qr_device_needs *needs = &cuda->needs;
    int32_t *query_start = cuda->captured_arrays;
    int32_t *context_length = query_start + needs->max_seqs + 1;
    int32_t *zeros = context_length + needs->max_seqs;

    for (int32_t i = 0; i < n_rows; i++) {
        query_start[i] = i;
        context_length[i] = length;
    }
    query_start[n_rows] = n_rows;
    cuda->captured_batch = (struct qr_batch){
        .n_rows = n_rows,
        .n_logit_rows = n_rows,
        .attention = {.n_seqs = n_rows,
                      .query_start = query_start,
                      .context_length = context_length,
                      .block_table = zeros,
                      .block_table_stride = 0},
    };
}

/* Captures nothing where it would never be replayed. */
static bool can_capture(const struct qr_cuda_device *cuda, int32_t n_rows, int32_t variant)
{
    const struct qr_device_needs *needs = &cuda->needs;

    return n_rows <= needs->max_seqs && n_rows <= needs->max_rows &&
           n_rows <= needs->max_logit_rows && captured_lengths[variant] <= needs->max_position &&
           (variant == 0 || n_rows > 1);
}

/* Plans a step of this shape. False: none like it will run, or it is not of this variant. */
static bool plan_captured(struct qr_cuda_device *cuda, int32_t n_rows, int32_t variant)
{
    if (!can_capture(cuda, n_rows, variant))
        return false;
    fill_captured_batch(cuda, n_rows, captured_lengths[variant]);
    cuda->attention.shares_all = true; /* so little is shared that it would never pay */
    qr_cuda_attention_plan(&cuda->attention, &cuda->captured_batch.attention);
    cuda->attention.shares_all = false;
    qr_cuda_synchronize(&cuda->cuda); /* a plan's memory is used again two plans later */
    bool shares = (cuda->attention.launches & QR_ATTENTION_LAUNCHES_RANGES) != 0;
    return shares == (variant == 1);
}

const struct qr_batch *qr_cuda_begin_capture(struct qr_device *dev)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    while (cuda->n_considered < QR_CUDA_N_STEP_SIZES * QR_CUDA_N_STEP_VARIANTS) {
        int32_t i = cuda->n_considered++;
        int32_t variant = i / QR_CUDA_N_STEP_SIZES;
        int32_t n_rows = step_sizes[i % QR_CUDA_N_STEP_SIZES];
        if (!plan_captured(cuda, n_rows, variant))
            continue;
        cuda->capturing = &cuda->steps[variant][i % QR_CUDA_N_STEP_SIZES];
        *cuda->capturing =
            (struct qr_cuda_step){.n_rows = n_rows, .launches = cuda->attention.launches};
        dev->batch = &cuda->captured_batch;
        qr_cuda_check(
            &cuda->cuda,
            cuda->cuda.driver->stream_begin_capture(cuda->cuda.stream, QR_CU_CAPTURE_THREAD_LOCAL),
            "capturing a step of %d rows", n_rows);
        return dev->batch;
    }
    return NULL;
}

enum qr_status qr_cuda_end_capture(struct qr_device *dev, struct qr_error *err)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);
    const struct qr_cu_driver *driver = cuda->cuda.driver;
    struct qr_cuda_step *step = cuda->capturing;
    qr_cu_graph graph = NULL;

    cuda->capturing = NULL;
    dev->batch = NULL;
    if (qr_cuda_check(&cuda->cuda, driver->stream_end_capture(cuda->cuda.stream, &graph),
                      "capturing a step of %d rows", step->n_rows) &&
        graph != NULL) {
        qr_cuda_check(&cuda->cuda, driver->graph_instantiate(&step->exec, graph, 0),
                      "making a graph of a step of %d rows", step->n_rows);
        (void)driver->graph_destroy(graph);
    }
    return qr_cuda_take_failure(&cuda->cuda, err);
}

void qr_cuda_destroy_steps(struct qr_cuda_device *cuda)
{
    for (int32_t variant = 0; variant < QR_CUDA_N_STEP_VARIANTS; variant++) {
        for (int32_t i = 0; i < QR_CUDA_N_STEP_SIZES; i++) {
            if (cuda->steps[variant][i].exec != NULL)
                (void)cuda->cuda.driver->graph_exec_destroy(cuda->steps[variant][i].exec);
        }
    }
}

/* ---- running ---- */

static void send_inputs(struct qr_cuda_device *cuda, const struct qr_batch *batch)
{
    memcpy(cuda->host.token_ids, batch->token_ids, (size_t)batch->n_rows * sizeof(int32_t));
    memcpy(cuda->host.positions, batch->positions, (size_t)batch->n_rows * sizeof(int32_t));
    memcpy(cuda->host.logit_rows, batch->logit_rows, (size_t)batch->n_logit_rows * sizeof(int32_t));
    *cuda->host.n_rows = batch->n_rows;
    qr_cuda_note_wishes(cuda, batch);
    qr_cuda_copy_to_device(&cuda->cuda, "the inputs of a step", qr_cuda_address(cuda->device.draws),
                           cuda->host.draws, cuda->input_bytes);
    qr_cuda_edits_send(cuda);
}

/* The smallest captured step that this one can run as; NULL: there is none. */
static const struct qr_cuda_step *find_step(const struct qr_cuda_device *cuda,
                                            const struct qr_batch *batch)
{
    uint32_t launches = cuda->attention.launches;

    for (int32_t variant = 0; variant < QR_CUDA_N_STEP_VARIANTS; variant++) {
        for (int32_t i = 0; i < QR_CUDA_N_STEP_SIZES; i++) {
            const struct qr_cuda_step *step = &cuda->steps[variant][i];
            if (step->exec != NULL && step->n_rows >= batch->n_rows &&
                step->n_rows >= batch->n_logit_rows && (launches & ~step->launches) == 0)
                return step;
        }
    }
    return NULL;
}

bool qr_cuda_begin_step(struct qr_device *dev, const struct qr_batch *batch)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    dev->batch = batch;
    qr_cuda_check(&cuda->cuda, cuda->cuda.driver->ctx_set_current(cuda->cuda.context),
                  "making the device current");
    send_inputs(cuda, batch);
    qr_cuda_attention_plan(&cuda->attention, &batch->attention);
    const struct qr_cuda_step *step = find_step(cuda, batch);
    if (step == NULL)
        return true;
    if (cuda->cuda.status == QR_OK)
        qr_cuda_check(&cuda->cuda, cuda->cuda.driver->graph_launch(step->exec, cuda->cuda.stream),
                      "launching a captured step of %d rows for %d", step->n_rows, batch->n_rows);
    qr_cuda_fetch_logits(cuda);
    return false;
}

enum qr_status qr_cuda_end_step(struct qr_device *dev, struct qr_error *err)
{
    struct qr_cuda_device *cuda = qr_cuda_device_of(dev);

    qr_cuda_synchronize(&cuda->cuda);
    dev->batch = NULL;
    return qr_cuda_take_failure(&cuda->cuda, err);
}
