/*
 * attention.c - paged attention at the shapes of an 8B model: 32 query heads, 8 KV heads, head_dim
 * 128, pages of 16 tokens at places by chance. Targets: docs/gpu.md.
 *
 * Calls of a graph turn to another layer each: together the layers are far larger than the cache,
 * and a layer's pages lie as far apart as in a server.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "runtime/bench/cuda/kv_pages.h"
#include "runtime/sampling/philox.h"

enum {
    MAX_SEQS = 64,
    N_PLANS = 9,    /* timed */
    N_CHECKED = 24, /* pairs of a row and a head */
    CHUNK = 4096,
};

struct attention_case {
    const char *name;
    enum qr_dtype kv_type;
    int32_t n_seqs;
    int32_t length;    /* tokens of a sequence */
    int32_t first;     /* of the first one; 0: as the others */
    int32_t shared;    /* tokens of a common prefix */
    int32_t n_queries; /* rows of each sequence, its last ones */
    bool no_ranges;
    bool deterministic;
    double target;
    double target_s;
};

static const struct attention_case cases[] = {
    {.name = "decode bf16 64x4k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 64,
     .length = 4096,
     .n_queries = 1,
     .target = 0.95},
    {.name = "decode bf16 8x16k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 8,
     .length = 16384,
     .n_queries = 1,
     .target = 0.95},
    {.name = "decode bf16 1x4k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 1,
     .length = 4096,
     .n_queries = 1,
     .target_s = 8e-6},
    {.name = "decode bf16 8x1k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 8,
     .length = 1024,
     .n_queries = 1,
     .target_s = 11e-6},
    {.name = "decode fp8 64x4k",
     .kv_type = QR_DTYPE_E4M3,
     .n_seqs = 64,
     .length = 4096,
     .n_queries = 1,
     .target = 0.90},
    {.name = "decode fp8 8x32k",
     .kv_type = QR_DTYPE_E4M3,
     .n_seqs = 8,
     .length = 32768,
     .n_queries = 1,
     .target = 0.90},
    {.name = "decode bf16 1x64k + 63x1k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 64,
     .length = 1024,
     .first = 65536,
     .n_queries = 1,
     .target = 0.85},
    {.name = "decode bf16 64x(8k shared + 512)",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 64,
     .length = 8704,
     .shared = 8192,
     .n_queries = 1,
     .target = 0.80},
    {.name = "the same, no cascade",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 64,
     .length = 8704,
     .shared = 8192,
     .n_queries = 1,
     .no_ranges = true},
    {.name = "prefill bf16 4k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 1,
     .length = 4096,
     .n_queries = 4096},
    {.name = "the same, deterministic",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 1,
     .length = 4096,
     .n_queries = 4096,
     .deterministic = true},
    {.name = "prefill bf16 512 after 16k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 1,
     .length = 16896,
     .n_queries = 512},
    {.name = "prefill bf16 40 after 16k",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 1,
     .length = 16424,
     .n_queries = 40},
    {.name = "the same, not in ranges",
     .kv_type = QR_DTYPE_BF16,
     .n_seqs = 1,
     .length = 16424,
     .n_queries = 40,
     .no_ranges = true},
};

/* A case while it is measured. */
struct subject {
    struct qr_cuda_bench *bench;
    struct attention_case shape;
    int32_t lengths[MAX_SEQS];
    int32_t query_start[MAX_SEQS + 1];
    int32_t n_rows;
    struct qr_kv_pages pages;
    struct qr_cuda_attention attention;
    qr_cu_address workspace, q, out;
    void *host_workspace;
    uint16_t *host_q; /* [n_rows][n_heads][head_dim] BF16 */
    uint16_t *host_out;
    double *scores;
    int64_t n_bytes; /* read by one call */
};

/* The device's geometry is an 8B model's; a smoke test's is as small as the kernels allow. */
static void set_geometry(const struct qr_cuda_bench *bench, struct subject *subject,
                         struct qr_kv_pages_config *out)
{
    bool smoke = bench->config->smoke;

    *out = (struct qr_kv_pages_config){
        .kv = {.n_layers = smoke ? 2 : 32,
               .n_kv_heads = smoke ? 2 : 8,
               .head_dim = smoke ? 64 : 128,
               .page_size = 16},
        .n_heads = smoke ? 8 : 32,
        .kv_type = subject->shape.kv_type,
        .n_seqs = subject->shape.n_seqs,
        .lengths = subject->lengths,
        .shared = subject->shape.shared,
        .chunk = smoke ? 128 : CHUNK,
    };
}

static int32_t at_least_1(int32_t value)
{
    return value < 1 ? 1 : value;
}

static void set_shape(const struct qr_cuda_bench *bench, const struct attention_case *from,
                      struct subject *subject)
{
    struct attention_case *shape = &subject->shape;

    *shape = *from;
    if (bench->config->smoke) {
        shape->n_seqs = at_least_1(from->n_seqs / 16);
        shape->length = from->length / 32;
        shape->first = from->first / 128;
        shape->shared = from->shared / 32;
        shape->n_queries = at_least_1(from->n_queries / 32);
    }
    for (int32_t seq = 0; seq < shape->n_seqs; seq++) {
        subject->lengths[seq] = seq == 0 && shape->first > 0 ? shape->first : shape->length;
        subject->query_start[seq + 1] = subject->query_start[seq] + shape->n_queries;
    }
    subject->n_rows = subject->query_start[shape->n_seqs];
}

/* Bytes of distinct tokens, queries and results: what must cross the memory's bus. */
static double bytes_of(const struct subject *subject)
{
    const struct qr_kv_pages_config *config = &subject->pages.config;
    int64_t n_tokens = config->shared;

    for (int32_t seq = 0; seq < config->n_seqs; seq++)
        n_tokens += config->lengths[seq] - config->shared;
    return (double)n_tokens * (double)qr_kv_pages_token_bytes(config) +
           2.0 * subject->n_rows * config->n_heads * config->kv.head_dim * sizeof(uint16_t);
}

/* Two products of head_dim multiplications and additions for each visible key. */
static double flops_of(const struct subject *subject)
{
    const struct qr_kv_pages_config *config = &subject->pages.config;
    double n_pairs = 0;

    for (int32_t seq = 0; seq < config->n_seqs; seq++) {
        double n = subject->shape.n_queries;
        n_pairs += n * config->lengths[seq] - n * (n - 1) / 2;
    }
    return 4 * n_pairs * config->n_heads * config->kv.head_dim;
}

static void enqueue_attend(void *arg, int32_t call)
{
    struct subject *subject = arg;
    const struct qr_kv_pages_config *config = &subject->pages.config;
    const struct qr_cuda_attend_params params = {
        .layer = call % config->kv.n_layers,
        .scale = 1 / sqrtf((float)config->kv.head_dim),
        .q = subject->q,
        .kv_pool = subject->pages.pool,
        .out = subject->out,
    };

    qr_cuda_attend(&subject->attention, &params);
}

/* Reads as many bytes as one call of attention must, another stretch of the pool each time. */
static void enqueue_read(void *arg, int32_t call)
{
    struct subject *subject = arg;
    int64_t pool_bytes = subject->pages.n_pages * subject->pages.page_bytes;
    int64_t n_places = pool_bytes / subject->n_bytes;

    qr_cuda_bench_read(subject->bench,
                       subject->pages.pool +
                           (uint64_t)(call % at_least_1((int32_t)n_places) * subject->n_bytes),
                       subject->n_bytes < pool_bytes ? subject->n_bytes : pool_bytes);
}

static struct qr_attention_batch batch_of(const struct subject *subject)
{
    return (struct qr_attention_batch){
        .n_seqs = subject->shape.n_seqs,
        .query_start = subject->query_start,
        .context_length = subject->lengths,
        .block_table = subject->pages.block_table,
        .block_table_stride = subject->pages.block_table_stride,
    };
}

/* Median of the host's time for a plan; the last one stays in force. */
static double time_plan(struct subject *subject)
{
    struct qr_attention_batch batch = batch_of(subject);
    double seconds[N_PLANS];

    for (int32_t i = 0; i < N_PLANS; i++) {
        int64_t start = qr_now_ns();
        qr_cuda_attention_plan(&subject->attention, &batch);
        seconds[i] = (double)(qr_now_ns() - start) * 1e-9;
        qr_cuda_synchronize(&subject->bench->cuda);
    }
    return qr_timing_summary(seconds, N_PLANS).median;
}

/* One call on layer `layer` after the timing, into NaN, against the definition. */
static enum qr_status check(struct subject *subject, int32_t layer, struct qr_cuda_figure *figure,
                            struct qr_error *err)
{
    struct qr_cuda *cuda = &subject->bench->cuda;
    const struct qr_kv_pages_config *config = &subject->pages.config;
    int32_t dim = config->kv.head_dim;
    int64_t n = (int64_t)subject->n_rows * config->n_heads * dim;
    double difference = 0, norm = 0, expected[QR_CUDA_ATTENTION_MAX_HEAD_DIM];

    qr_cuda_check(cuda,
                  cuda->driver->memset_d8_async(subject->out, 0xff, (size_t)n * 2, cuda->stream),
                  "poisoning the result");
    enqueue_attend(subject, layer);
    qr_cuda_copy_to_host(cuda, "attention", subject->host_out, subject->out, (size_t)n * 2);
    qr_cuda_synchronize(cuda);
    QR_TRY(qr_cuda_take_failure(cuda, err));
    for (int64_t i = 0; i < n; i++) {
        if (isnan(qr_bf16_to_f32(subject->host_out[i])))
            difference = NAN; /* not written, or worse */
    }
    for (int32_t i = 0; i < N_CHECKED; i++) {
        int32_t row = (int32_t)(qr_philox_uniform(5, (uint64_t)i) * subject->n_rows);
        int32_t head = (int32_t)(qr_philox_uniform(6, (uint64_t)i) * config->n_heads);
        int32_t seq = row / subject->shape.n_queries;
        int32_t position = config->lengths[seq] - (subject->query_start[seq + 1] - row);
        int64_t at = ((int64_t)row * config->n_heads + head) * dim;
        qr_kv_pages_attend(&subject->pages, seq, layer, head, position, subject->host_q + at,
                           subject->scores, expected);
        for (int32_t d = 0; d < dim; d++) {
            double found = (double)qr_bf16_to_f32(subject->host_out[at + d]);
            difference += (found - expected[d]) * (found - expected[d]);
            norm += expected[d] * expected[d];
        }
    }
    figure->checked = true;
    figure->error = sqrt(difference / norm);
    figure->error_bound = 1e-2; /* BF16 in, weights and out */
    return QR_OK;
}

static enum qr_status open_queries(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->bench;
    const struct qr_kv_pages_config *config = &subject->pages.config;
    int64_t n = (int64_t)subject->n_rows * config->n_heads * config->kv.head_dim;
    int64_t n_scores = (int64_t)subject->pages.block_table_stride * config->kv.page_size;

    subject->host_q = qr_malloc(QR_ARENA_ENGINE, (size_t)n * sizeof(uint16_t));
    subject->host_out = qr_malloc(QR_ARENA_ENGINE, (size_t)n * sizeof(uint16_t));
    subject->scores = qr_malloc(QR_ARENA_ENGINE, (size_t)n_scores * sizeof(double));
    if (subject->host_q == NULL || subject->host_out == NULL || subject->scores == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "attention: not enough memory");
    qr_random_bf16(13, config->kv_type == QR_DTYPE_E4M3, n, subject->host_q);
    QR_TRY(qr_cuda_bench_alloc(bench, "queries", n * 2, &subject->q, err));
    QR_TRY(qr_cuda_bench_alloc(bench, "results", n * 2, &subject->out, err));
    qr_cuda_copy_to_device(&bench->cuda, "queries", subject->q, subject->host_q, (size_t)n * 2);
    qr_cuda_synchronize(&bench->cuda);
    return qr_cuda_take_failure(&bench->cuda, err);
}

static enum qr_status open_attention(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->bench;
    const struct qr_kv_pages_config *config = &subject->pages.config;
    const struct qr_cuda_attention_config attention = {
        .kv = config->kv,
        .n_heads = config->n_heads,
        .activation = QR_DTYPE_BF16,
        .kv_type = config->kv_type,
        .max_rows = subject->n_rows,
        .max_seqs = config->n_seqs,
        .max_blocks = subject->pages.block_table_stride,
        .no_ranges = subject->shape.no_ranges,
        .deterministic = subject->shape.deterministic,
    };

    QR_TRY(qr_cuda_attention_open(&bench->cuda, &attention, &subject->attention, err));
    QR_TRY(qr_cuda_bench_alloc(bench, "workspace", (int64_t)subject->attention.device_bytes,
                               &subject->workspace, err));
    subject->host_workspace = qr_cuda_host_alloc(&bench->cuda, subject->attention.host_bytes);
    if (subject->host_workspace == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no %zu bytes of pinned memory",
                       subject->attention.host_bytes);
    qr_cuda_attention_set_memory(&subject->attention, subject->workspace, subject->host_workspace);
    return QR_OK;
}

static void close_subject(struct subject *subject)
{
    struct qr_cuda *cuda = &subject->bench->cuda;

    qr_cuda_host_free(cuda, subject->host_workspace);
    qr_cuda_free(cuda, subject->workspace);
    qr_cuda_free(cuda, subject->q);
    qr_cuda_free(cuda, subject->out);
    qr_kv_pages_close(subject->bench, &subject->pages);
    qr_free(subject->host_q);
    qr_free(subject->host_out);
    qr_free(subject->scores);
}

static enum qr_status measure(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->bench;
    const struct attention_case *shape = &subject->shape;
    int32_t n_layers = subject->pages.config.kv.n_layers;
    int32_t n_calls = qr_cuda_bench_n_calls(bench, n_layers);
    bool decodes = shape->n_queries == 1;
    struct qr_cuda_figure figure = {.group = "attention",
                                    .bytes = bytes_of(subject),
                                    .flops = flops_of(subject),
                                    .target = shape->target,
                                    .target_s = shape->target_s};
    const struct qr_timing_subject subjects[] = {
        {enqueue_attend, subject, n_calls},
        {enqueue_read, subject, n_calls},
    };
    struct qr_times times[2] = {{0}};

    snprintf(figure.name, sizeof(figure.name), "%s", shape->name);
    subject->n_bytes = (int64_t)figure.bytes / 16 * 16;
    figure.plan_s = time_plan(subject);
    QR_TRY(qr_timing_run(&bench->cuda, subjects, decodes ? 2 : 1, qr_cuda_bench_n_replays(bench),
                         times, err));
    figure.times = times[0];
    if (decodes) { /* prefill is bound by arithmetic */
        figure.read_s = times[1].median;
        figure.floor_s = figure.bytes / bench->read_rate;
    }
    QR_TRY(check(subject, n_layers - 1, &figure, err));
    return qr_cuda_bench_add(bench, &figure, err);
}

static enum qr_status run_case(struct qr_cuda_bench *bench, const struct attention_case *shape,
                               struct qr_error *err)
{
    struct subject subject = {.bench = bench};
    struct qr_kv_pages_config config;

    set_shape(bench, shape, &subject);
    set_geometry(bench, &subject, &config);
    enum qr_status status = qr_kv_pages_open(bench, &config, &subject.pages, err);
    if (status == QR_OK)
        status = open_queries(&subject, err);
    if (status == QR_OK)
        status = open_attention(&subject, err);
    if (status == QR_OK)
        status = measure(&subject, err);
    close_subject(&subject);
    if (status != QR_OK)
        qr_error_prefix(err, "%s", shape->name);
    return status;
}

enum qr_status qr_bench_attention(struct qr_cuda_bench *bench, struct qr_error *err)
{
    enum qr_status first = QR_OK;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qr_error failure;
        enum qr_status status = run_case(bench, &cases[i], &failure);
        if (status != QR_OK && first == QR_OK) {
            first = status;
            *err = failure;
        }
    }
    return first;
}
