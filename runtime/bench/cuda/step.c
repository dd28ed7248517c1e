/*
 * step.c - decode steps of a whole model as a server takes them: the engine with its scheduler,
 * block manager and sampling, a batch of sequences with different prompts.
 *
 * A step's time is the time from one token of the first sequence to its next, while all sequences
 * of the batch decode. The floor is that of reading the weights (but the embedding's table, of
 * which a step needs some rows) and all KV pages once. Afterwards the first request runs alone, and
 * must give the same tokens; but of a batch only where steps of prompts, too, give a row the same
 * bits whatever else is in them.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "runtime/bench/cuda/cuda_bench.h"
#include "runtime/bench/step_cost.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/waiter.h"
#include "runtime/sampling/philox.h"

enum {
    MAX_BATCH = 64,
    MAX_PROMPT = 4096,
    BATCH_TOKENS = 4096, /* so many rows of prompts a step: 64 steps for the largest case */
    MAX_OUTPUT = 160,    /* the first sequence still decodes when the last one begins to */
    MIN_STEPS = 16,      /* with the whole batch, of a figure */
    SMOKE_SHARE = 128,
};

static const double prefill_limit_s = 45;

struct step_case {
    const char *name;
    int32_t batch;
    int32_t context; /* tokens of a prompt */
    double target;
    bool deterministic; /* prompts, too: decodes always are */
};

static const struct step_case cases[] = {
    {"batch 1, context 128", 1, 128, 0.80, false},
    {"batch 1, context 4k", 1, 4096, 0.80, false},
    {"batch 64, context 1k", 64, 1024, 0.85, true},
    {"batch 64, context 4k", 64, 4096, 0.85, false},
};

/* One request's tokens, and when they came. */
struct run {
    int32_t n_tokens;
    int32_t ids[MAX_OUTPUT];
    int64_t at_ns[MAX_OUTPUT];
    bool finished;
    struct qr_finish finish;
};

struct subject {
    struct qr_cuda_bench *bench;
    struct step_case shape;
    int32_t n_output;
    struct qr_engine *engine;
    int64_t start_ns;
    struct run runs[MAX_BATCH];
    struct run alone;
    int32_t prompt[MAX_PROMPT];
};

static void collect(void *arg, struct qr_stream *stream)
{
    struct run *run = qr_stream_owner(stream);
    struct qr_stream_chunk chunk;
    int64_t now_ns = qr_now_ns();
    (void)arg;

    for (qr_stream_take(stream, &chunk); !qr_stream_chunk_is_empty(&chunk);
         qr_stream_take(stream, &chunk)) {
        for (int32_t i = 0; i < chunk.n_tokens && run->n_tokens < MAX_OUTPUT; i++) {
            run->ids[run->n_tokens] = chunk.tokens[i].sampled.token_id;
            run->at_ns[run->n_tokens++] = now_ns;
        }
        if (chunk.finish != NULL) {
            run->finish = *chunk.finish;
            run->finished = true;
        }
        if (chunk.last)
            return;
    }
}

static enum qr_status submit(struct subject *subject, struct qr_waiter *waiter, int32_t prompt,
                             struct run *run, struct qr_stream **out, struct qr_error *err)
{
    int32_t vocab_size = qr_engine_model_config(subject->engine)->vocab_size;
    struct qr_request *request = qr_request_create();
    const char *field;
    int64_t retry_after_ns;

    if (request == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for a request");
    for (int32_t i = 0; i < subject->shape.context; i++)
        subject->prompt[i] =
            (int32_t)(qr_philox_uniform((uint64_t)prompt, (uint64_t)i) * vocab_size);
    request->sampling.temperature = 0;
    request->max_tokens = subject->n_output;
    request->ignore_eos = true;
    enum qr_status status =
        qr_request_set_prompt(request, subject->prompt, (size_t)subject->shape.context);
    if (status != QR_OK)
        (void)qr_fail(err, status, "not enough memory for a prompt");
    else
        status = qr_engine_submit(subject->engine, request, &waiter->group, run, out, &field,
                                  &retry_after_ns, err);
    if (status != QR_OK)
        qr_request_destroy(request);
    return status;
}

static enum qr_status check_end(const struct run *run, int32_t n_output, struct qr_error *err)
{
    if (run->finish.reason == QR_FINISH_LENGTH && run->n_tokens == n_output)
        return QR_OK;
    return qr_fail(err, QR_ERR_DEVICE, "a request ended with \"%s\" after %d tokens: %s",
                   qr_finish_reason_name(run->finish.reason), run->n_tokens,
                   run->finish.error.message);
}

/* Requests with the prompts 0 to n - 1, all at once, to their ends. */
static enum qr_status run_requests(struct subject *subject, struct run *runs, int32_t n,
                                   struct qr_error *err)
{
    struct qr_stream *streams[MAX_BATCH] = {NULL};
    enum qr_status status = QR_OK;
    struct qr_waiter waiter;
    int32_t n_submitted = 0;

    qr_waiter_init(&waiter);
    subject->start_ns = qr_now_ns();
    while (n_submitted < n && status == QR_OK) {
        status =
            submit(subject, &waiter, n_submitted, &runs[n_submitted], &streams[n_submitted], err);
        n_submitted += status == QR_OK;
    }
    for (int32_t i = 0; i < n_submitted; i++) {
        while (!runs[i].finished)
            qr_waiter_wait(&waiter, collect, NULL);
        if (status == QR_OK)
            status = check_end(&runs[i], subject->n_output, err);
    }
    for (int32_t i = 0; i < n_submitted; i++)
        qr_stream_unref(streams[i]);
    qr_waiter_destroy(&waiter);
    return status;
}

/* When the last sequence began to decode, and the first one ended. */
static void decode_window(const struct subject *subject, int64_t *from_ns, int64_t *to_ns)
{
    *from_ns = 0;
    *to_ns = INT64_MAX;
    for (int32_t i = 0; i < subject->shape.batch; i++) {
        const struct run *run = &subject->runs[i];
        if (run->at_ns[0] > *from_ns)
            *from_ns = run->at_ns[0];
        if (run->at_ns[run->n_tokens - 1] < *to_ns)
            *to_ns = run->at_ns[run->n_tokens - 1];
    }
}

/* Steps of the first sequence within the window, and their times. Tokens that were read together
 * share their time. */
static int32_t step_times(const struct subject *subject, struct qr_times *times)
{
    const struct run *run = &subject->runs[0];
    double seconds[MAX_OUTPUT];
    int64_t from_ns, to_ns;
    int32_t n = 0, last = -1;

    decode_window(subject, &from_ns, &to_ns);
    for (int32_t i = 0; i < run->n_tokens; i++) {
        if (run->at_ns[i] < from_ns || run->at_ns[i] > to_ns)
            continue;
        if (last >= 0 && run->at_ns[i] > run->at_ns[last]) {
            double step = (double)(run->at_ns[i] - run->at_ns[last]) * 1e-9 / (i - last);
            for (int32_t k = last; k < i; k++)
                seconds[n++] = step;
        }
        if (last < 0 || run->at_ns[i] > run->at_ns[last])
            last = i;
    }
    *times = n > 0 ? qr_timing_summary(seconds, n) : (struct qr_times){0};
    return n;
}

/* Tokens in the KV pages of all sequences in the middle of the window. */
static double tokens_held(const struct subject *subject)
{
    int64_t from_ns, to_ns;
    double n_tokens = 0;

    decode_window(subject, &from_ns, &to_ns);
    for (int32_t i = 0; i < subject->shape.batch; i++) {
        const struct run *run = &subject->runs[i];
        n_tokens += subject->shape.context;
        for (int32_t k = 0; k < run->n_tokens; k++)
            n_tokens += run->at_ns[k] <= from_ns + (to_ns - from_ns) / 2;
    }
    return n_tokens;
}

static enum qr_status add_prefill(const struct subject *subject, struct qr_error *err)
{
    const struct step_case *shape = &subject->shape;
    double n_rows = (double)shape->batch * shape->context;
    int64_t from_ns, to_ns;

    decode_window(subject, &from_ns, &to_ns);
    double seconds = (double)(from_ns - subject->start_ns) * 1e-9;
    struct qr_cuda_figure figure = {
        .group = "step",
        .times = {seconds, seconds, seconds},
        .tokens = n_rows,
        .flops = 2 * n_rows * (double)qr_engine_n_parameters(subject->engine),
    };
    snprintf(figure.name, sizeof(figure.name), "%s: its prompts", shape->name);
    snprintf(figure.note, sizeof(figure.note), "%.0f tokens/s", n_rows / seconds);
    return qr_cuda_bench_add(subject->bench, &figure, err);
}

/* For how long the device waits for the engine's thread, a step. */
static double between_steps_us(struct qr_engine *engine)
{
    struct qr_engine_stats stats;

    qr_engine_get_stats(engine, &stats);
    return (double)stats.between_ns * 1e-3 / (double)stats.n_steps;
}

static enum qr_status add_step(struct subject *subject, struct qr_error *err)
{
    const struct step_case *shape = &subject->shape;
    struct qr_engine *engine = subject->engine;
    struct qr_cuda_figure figure = {.group = "step",
                                    .tokens = shape->batch,
                                    .checked = shape->batch == 1 || shape->deterministic};
    int32_t n_steps = step_times(subject, &figure.times);

    if (n_steps < MIN_STEPS && !subject->bench->config->smoke)
        return qr_fail(err, QR_ERR_DEVICE, "the whole batch decoded together for %d steps only",
                       n_steps);
    snprintf(figure.name, sizeof(figure.name), "%s", shape->name);
    figure.bytes =
        qr_weight_bytes_read(qr_engine_model_config(engine), qr_engine_n_parameters(engine),
                             qr_engine_weight_bytes(engine)) +
        tokens_held(subject) * (double)qr_engine_kv_bytes_per_token(engine);
    figure.floor_s = figure.bytes / subject->bench->read_rate;
    figure.target = shape->target;
    if (figure.times.median > 0)
        snprintf(figure.note, sizeof(figure.note), "%.0f tokens/s, %.0f us between steps",
                 figure.tokens / figure.times.median, between_steps_us(engine));
    if (figure.checked) {
        QR_TRY(run_requests(subject, &subject->alone, 1, err));
        figure.error = memcmp(subject->alone.ids, subject->runs[0].ids,
                              (size_t)subject->n_output * sizeof(int32_t)) != 0;
    }
    return qr_cuda_bench_add(subject->bench, &figure, err);
}

static enum qr_status open_engine(struct subject *subject, struct qr_error *err)
{
    const struct qr_cuda_bench_config *bench = subject->bench->config;
    int32_t n_tokens = subject->shape.context + subject->n_output;
    struct qr_engine_config config;

    qr_engine_config_default(&config);
    config.model_path = bench->model;
    config.backend = bench->backend;
    config.device = bench->device;
    config.max_context = n_tokens;
    config.max_running = subject->shape.batch;
    config.max_batch_tokens = BATCH_TOKENS;
    config.prefix_cache = false; /* so that the one that runs alone computes all of its prompt */
    config.deterministic = subject->shape.deterministic;
    config.kv_pages = (n_tokens / config.page_size + 2) * subject->shape.batch;
    return qr_engine_create(&config, &subject->engine, err);
}

static enum qr_status run_case(struct qr_cuda_bench *bench, const struct step_case *shape,
                               double *prefill_s, struct qr_error *err)
{
    bool smoke = bench->config->smoke;
    struct subject *subject = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*subject));

    if (subject == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory");
    subject->bench = bench;
    subject->shape = *shape;
    subject->n_output = smoke ? 4 : MAX_OUTPUT;
    if (smoke) {
        subject->shape.batch = (shape->batch + 15) / 16;
        subject->shape.context = shape->context / SMOKE_SHARE;
    }
    enum qr_status status = open_engine(subject, err);
    if (status == QR_OK)
        status = run_requests(subject, subject->runs, subject->shape.batch, err);
    if (status == QR_OK)
        status = add_prefill(subject, err);
    if (status == QR_OK)
        status = add_step(subject, err);
    if (status == QR_OK) {
        int64_t from_ns, to_ns;
        decode_window(subject, &from_ns, &to_ns);
        *prefill_s = (double)(from_ns - subject->start_ns) * 1e-9;
    } else {
        qr_error_prefix(err, "step, %s", shape->name);
    }
    qr_engine_destroy(subject->engine);
    qr_free(subject);
    return status;
}

enum qr_status qr_bench_step(struct qr_cuda_bench *bench, struct qr_error *err)
{
    double prefill_s = 0, n_rows = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double wanted = (double)cases[i].batch * cases[i].context;
        double predicted_s = n_rows > 0 ? prefill_s * wanted / n_rows : 0;
        if (!bench->config->smoke && predicted_s > prefill_limit_s) {
            struct qr_cuda_figure figure = {.group = "step"};
            snprintf(figure.name, sizeof(figure.name), "%s", cases[i].name);
            snprintf(figure.note, sizeof(figure.note), "skipped: its prompts would take %.0f s",
                     predicted_s);
            QR_TRY(qr_cuda_bench_add(bench, &figure, err));
            continue;
        }
        QR_TRY(run_case(bench, &cases[i], &prefill_s, err));
        n_rows = wanted;
    }
    return QR_OK;
}
