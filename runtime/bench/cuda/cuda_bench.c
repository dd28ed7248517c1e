/* cuda_bench.c - opens the device, runs the groups, keeps their figures. */
#include "runtime/bench/cuda/cuda_bench.h"

#include "base/alloc.h"
#include "base/array.h"
#include "runtime/bench/cuda/read_bytes.h"

enum { CALLS = 20, REPLAYS = 15, SMOKE_CALLS = 2, SMOKE_REPLAYS = 2, L2_MULTIPLE = 4 };

struct group {
    uint32_t what;
    enum qr_status (*run)(struct qr_cuda_bench *bench, struct qr_error *err);
};

static const struct group groups[] = {
    {QR_BENCH_ATTENTION, qr_bench_attention},
    {QR_BENCH_MATMUL, qr_bench_matmul},
    {QR_BENCH_SWAP, qr_bench_swap},
    {QR_BENCH_STEP, qr_bench_step},
};

static int32_t read_grid(const struct qr_cuda_bench *bench)
{
    return bench->cuda.properties.n_sms * bench->read_bytes.blocks_per_sm;
}

enum qr_status qr_cuda_bench_open(struct qr_cuda_bench *bench,
                                  const struct qr_cuda_bench_config *config, struct qr_error *err)
{
    *bench = (struct qr_cuda_bench){.config = config};
    enum qr_status status = qr_cuda_open(config->platform, config->device, &bench->cuda, err);
    if (status == QR_OK)
        status = qr_cuda_find_kernel(&bench->cuda, "qr_read_bytes", QR_READ_BYTES_THREADS, 0,
                                     &bench->read_bytes, err);
    if (status == QR_OK)
        status = qr_cuda_bench_alloc(bench, "sums",
                                     (int64_t)read_grid(bench) * QR_READ_BYTES_THREADS / 32 *
                                         (int64_t)sizeof(uint32_t),
                                     &bench->read_sums, err);
    if (status != QR_OK)
        qr_cuda_bench_close(bench);
    return status;
}

void qr_cuda_bench_close(struct qr_cuda_bench *bench)
{
    qr_cuda_free(&bench->cuda, bench->read_sums);
    qr_cuda_close(&bench->cuda);
    qr_free(bench->figures);
    *bench = (struct qr_cuda_bench){0};
}

enum qr_status qr_cuda_bench_run(struct qr_cuda_bench *bench, struct qr_error *err)
{
    uint32_t what = bench->config->what;
    enum qr_status first = QR_OK;

    /* The ceiling of everything else: always measured. */
    if ((what & ~(uint32_t)QR_BENCH_DEVICE) == 0)
        return QR_OK;
    QR_TRY(qr_bench_bandwidth(bench, err));
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        struct qr_error failure;
        if ((what & groups[i].what) == 0)
            continue;
        enum qr_status status = groups[i].run(bench, &failure);
        if (status != QR_OK && first == QR_OK) {
            first = status;
            *err = failure;
        }
    }
    return first;
}

enum qr_status qr_cuda_bench_add(struct qr_cuda_bench *bench, const struct qr_cuda_figure *figure,
                                 struct qr_error *err)
{
    struct qr_cuda_figure *figures =
        qr_array_grow(QR_ARENA_ENGINE, bench->figures, bench->n_figures, &bench->capacity,
                      sizeof(*bench->figures));

    if (figures == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %d figures", bench->n_figures);
    bench->figures = figures;
    bench->figures[bench->n_figures++] = *figure;
    return QR_OK;
}

int32_t qr_cuda_bench_n_wrong(const struct qr_cuda_bench *bench)
{
    int32_t n_wrong = 0;

    for (int32_t i = 0; i < bench->n_figures; i++) {
        const struct qr_cuda_figure *figure = &bench->figures[i];
        if (figure->checked && !(figure->error <= figure->error_bound)) /* NaN is wrong too */
            n_wrong++;
    }
    return n_wrong;
}

int32_t qr_cuda_bench_n_calls(const struct qr_cuda_bench *bench, int32_t at_least)
{
    if (bench->config->smoke)
        return SMOKE_CALLS;
    return at_least > CALLS ? at_least : CALLS;
}

int32_t qr_cuda_bench_n_replays(const struct qr_cuda_bench *bench)
{
    return bench->config->smoke ? SMOKE_REPLAYS : REPLAYS;
}

int64_t qr_cuda_bench_uncached_bytes(const struct qr_cuda_bench *bench)
{
    return bench->config->smoke ? 1 : L2_MULTIPLE * bench->cuda.properties.l2_bytes;
}

void qr_cuda_bench_read(struct qr_cuda_bench *bench, qr_cu_address from, int64_t n_bytes)
{
    const struct qr_read_bytes_params params = {
        .from = (const void *)(uintptr_t)from,
        .n_chunks = n_bytes / 16,
        .sums = (uint32_t *)(uintptr_t)bench->read_sums,
    };

    qr_cuda_launch(&bench->cuda, &bench->read_bytes, read_grid(bench), 1, &params);
}

enum qr_status qr_cuda_bench_alloc(struct qr_cuda_bench *bench, const char *what, int64_t n_bytes,
                                   qr_cu_address *out, struct qr_error *err)
{
    *out = qr_cuda_alloc(&bench->cuda, (size_t)n_bytes);
    if (*out != 0)
        return QR_OK;
    return qr_fail(err, QR_ERR_NOMEM, "%s: %lld MiB of device memory are wanted, %lld MiB are free",
                   what, (long long)(n_bytes >> 20),
                   (long long)(qr_cuda_free_bytes(&bench->cuda) >> 20));
}
