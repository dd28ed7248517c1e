/* cpu_bench.c - see cpu_bench.h for the contract: the life of a benchmark, and its limits. */
#include "runtime/bench/cpu/cpu_bench.h"

#include <string.h>

#include "base/clock.h"

enum {
    PAGE_SIZE = 16,    /* tokens, as a server has without being told */
    MIN_MAX_ROWS = 64, /* of a step in which a context is filled */
};

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t largest_batch(const struct qr_cpu_bench_config *config)
{
    int32_t largest = config->long_context > 0 ? config->long_batch : 1;

    for (int32_t i = 0; i < config->n_batches; i++)
        largest = larger(largest, config->batches[i]);
    return largest;
}

static enum qr_status open_model(struct qr_cpu_bench *bench, struct qr_error *err)
{
    const struct qr_cpu_bench_config *config = &bench->config;
    const struct qr_device_config device = {.n_threads = config->n_threads,
                                            .isa = config->isa,
                                            .device = -1,
                                            .quantize = config->quantize,
                                            .weights_cache = config->weights_cache};
    int32_t batch = largest_batch(config);
    int32_t last_position = larger(config->context, config->long_context) + config->n_steps;
    int64_t start_ns = qr_now_ns();

    bench->max_rows = larger(larger(config->prompt, batch), MIN_MAX_ROWS);
    const struct qr_model_limits limits = {.max_rows = bench->max_rows,
                                           .max_logit_rows = batch,
                                           .kv_dtype = config->kv_dtype,
                                           .max_positions = larger(last_position, config->prompt),
                                           .max_seqs = batch,
                                           .page_size = PAGE_SIZE};
    QR_TRY(qr_device_open("cpu", &device, &bench->dev, err));
    QR_TRY(qr_model_open(config->model, bench->dev, &limits, &bench->model, err));
    bench->open_s = (double)(qr_now_ns() - start_ns) * 1e-9;
    bench->memory.weights = qr_model_weight_bytes(bench->model);
    const struct qr_model_config *model = qr_model_get_config(bench->model);
    bench->kv = (struct qr_kv_geometry){.n_layers = model->n_layers,
                                        .n_kv_heads = model->n_kv_heads,
                                        .head_dim = model->head_dim,
                                        .page_size = PAGE_SIZE};
    return QR_OK;
}

static enum qr_status allocate_kv(struct qr_cpu_bench *bench, struct qr_error *err)
{
    size_t n_bytes = (size_t)bench->n_pages * qr_kv_page_bytes(bench->dev, &bench->kv);

    bench->kv_pool = bench->dev->ops->alloc(bench->dev, n_bytes, QR_MEMORY_KV);
    if (bench->kv_pool == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for %zu bytes of KV pages", n_bytes);
    bench->memory.kv = (int64_t)n_bytes;
    return QR_OK;
}

/* So that the peak is not that of the probe (proc(5)). False: the system has no such thing. */
static bool reset_peak_memory(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    bool written = file != NULL && fputs("5", file) >= 0;

    return file != NULL && fclose(file) == 0 && written;
}

/* Bytes that /proc/self/status names; 0: it does not. */
static int64_t status_bytes(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long long kib = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %lld kB", &kib);
    }
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

/* Of the threads, between two cases. *peak: resident memory at most, without the probe's. */
static enum qr_status probe_reading(const struct qr_cpu_bench *bench, int64_t *peak,
                                    double *bytes_per_s, struct qr_error *err)
{
    struct qr_machine_limits limits;
    int64_t resident = status_bytes("VmHWM");

    *peak = *peak > resident ? *peak : resident;
    QR_TRY(
        qr_machine_probe_reading(bench->config.n_threads, bench->config.probe_bytes, &limits, err));
    *bytes_per_s = qr_machine_bandwidth(&limits);
    (void)reset_peak_memory(); /* run_cases knows whether it can be */
    return QR_OK;
}

static enum qr_status run_cases(struct qr_cpu_bench *bench, struct qr_error *err)
{
    bool resets = reset_peak_memory();
    int64_t peak = 0;
    double before, after;

    QR_TRY(open_model(bench, err));
    qr_cpu_bench_plan(bench);
    if (bench->n_pages > 0)
        QR_TRY(allocate_kv(bench, err));
    QR_TRY(probe_reading(bench, &peak, &before, err));
    for (int32_t i = 0; i < bench->n_cases; i++) {
        struct qr_cpu_case *of = &bench->cases[i];
        if (of->skipped[0] != '\0')
            continue;
        QR_TRY(qr_cpu_bench_run_case(bench, of, err));
        QR_TRY(probe_reading(bench, &peak, &after, err));
        of->read_bytes_per_s = before > after ? before : after;
        before = after;
    }
    bench->memory.resident = status_bytes("VmRSS");
    bench->memory.peak = resets ? peak : 0;
    return QR_OK;
}

static enum qr_status probe(const struct qr_cpu_bench *bench, struct qr_machine_limits *out,
                            struct qr_error *err)
{
    return qr_machine_probe(bench->config.n_threads, bench->config.probe_bytes, out, err);
}

enum qr_status qr_cpu_bench_run(struct qr_cpu_bench *bench,
                                const struct qr_cpu_bench_config *config, struct qr_error *err)
{
    *bench = (struct qr_cpu_bench){.config = *config};
    QR_TRY(probe(bench, &bench->before, err));
    QR_TRY(run_cases(bench, err));
    return probe(bench, &bench->after, err);
}

void qr_cpu_bench_close(struct qr_cpu_bench *bench)
{
    if (bench->kv_pool != NULL)
        bench->dev->ops->free(bench->dev, bench->kv_pool);
    qr_model_close(bench->model);
    qr_device_close(bench->dev);
}

struct qr_cpu_limit qr_cpu_bench_limit(const struct qr_machine_limits *limits,
                                       enum qr_dtype weight_dtype, const struct qr_cpu_case *of)
{
    struct qr_cpu_limit limit = {.peak = qr_machine_peak_for(limits, weight_dtype)};

    limit.read_s = of->bytes / of->read_bytes_per_s;
    if (limit.peak != NULL)
        limit.compute_s = of->flops / limit.peak->operations_per_s;
    limit.seconds = limit.read_s > limit.compute_s ? limit.read_s : limit.compute_s;
    return limit;
}
