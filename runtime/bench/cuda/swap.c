/*
 * swap.c - KV pages of an 8B model (2 MiB each) to the host and back, by the two ways there are:
 * one copy a page, and a kernel over pinned memory. The floor is the link, measured with one copy
 * of 256 MiB; bandwidth.c has it.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "attention/cuda/cuda_attention.h"
#include "base/alloc.h"
#include "runtime/bench/cuda/cuda_bench.h"
#include "runtime/bench/cuda/kv_pages.h"

enum { N_PAGES = 64, SMOKE_PAGES = 4, POOL_FACTOR = 4 };

struct subject {
    struct qr_cuda_bench *bench;
    struct qr_cuda_attention attention;
    int64_t page_bytes;
    int32_t n_pages; /* moved at a time */
    int32_t pages[N_PAGES];
    void *host[N_PAGES];
    unsigned char *memory; /* pinned, [n_pages][page_bytes] */
    qr_cu_address pool;    /* [POOL_FACTOR * n_pages] */
    bool by_kernel;
    bool to_host;
};

static void enqueue_copies(struct subject *subject)
{
    struct qr_cuda *cuda = &subject->bench->cuda;

    for (int32_t i = 0; i < subject->n_pages; i++) {
        qr_cu_address page = subject->pool + (uint64_t)(subject->pages[i] * subject->page_bytes);
        if (subject->to_host)
            qr_cuda_copy_to_host(cuda, "a page", subject->host[i], page,
                                 (size_t)subject->page_bytes);
        else
            qr_cuda_copy_to_device(cuda, "a page", page, subject->host[i],
                                   (size_t)subject->page_bytes);
    }
}

static void enqueue_swap(void *arg, int32_t call)
{
    struct subject *subject = arg;
    struct qr_cuda *cuda = &subject->bench->cuda;
    (void)call;

    if (!subject->by_kernel) {
        enqueue_copies(subject);
        return;
    }
    const struct qr_page_transfer transfer = {
        .stream = cuda->stream,
        .to_host = subject->to_host,
        .kv_pool = subject->pool,
        .n_pages = subject->n_pages,
        .pages = subject->pages,
        .host = subject->host,
    };
    qr_cuda_check(cuda, qr_cuda_transfer_pages(&subject->attention, &transfer),
                  "moving %d pages by a kernel", subject->n_pages);
}

/* The link as bandwidth.c found it; 0 when it did not look. */
static double link_rate(const struct qr_cuda_bench *bench, bool to_host)
{
    for (int32_t i = 0; i < bench->n_figures; i++) {
        const struct qr_cuda_figure *figure = &bench->figures[i];
        if (strcmp(figure->group, "bandwidth") == 0 &&
            strcmp(figure->name, to_host ? "to host" : "from host") == 0)
            return figure->bytes / figure->times.median;
    }
    return 0;
}

static enum qr_status measure(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->bench;
    double rate = link_rate(bench, subject->to_host);
    const struct qr_timing_subject timed = {enqueue_swap, subject, 1};
    struct qr_cuda_figure figure = {.group = "swap", .target = 0.9};

    snprintf(figure.name, sizeof(figure.name), "%d pages %s host, %s", subject->n_pages,
             subject->to_host ? "to" : "from", subject->by_kernel ? "by a kernel" : "by copies");
    figure.bytes = (double)subject->n_pages * (double)subject->page_bytes;
    figure.floor_s = rate > 0 ? figure.bytes / rate : 0;
    QR_TRY(qr_timing_run_uncaptured(&bench->cuda, &timed, qr_cuda_bench_n_replays(bench),
                                    &figure.times, err));
    return qr_cuda_bench_add(bench, &figure, err);
}

/* In by one way and out by the other, over NaN: the same bytes. Then with the ways exchanged. */
static enum qr_status check(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda *cuda = &subject->bench->cuda;
    size_t n_bytes = (size_t)subject->n_pages * (size_t)subject->page_bytes;
    unsigned char *before = qr_malloc(QR_ARENA_ENGINE, n_bytes);
    struct qr_cuda_figure figure = {
        .group = "swap", .name = "in and out, both ways", .checked = true};

    if (before == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %zu bytes", n_bytes);
    qr_random_bf16(31, false, (int64_t)n_bytes / 2, (uint16_t *)(void *)before);
    for (int way = 0; way < 2; way++) {
        memcpy(subject->memory, before, n_bytes);
        subject->by_kernel = way == 0;
        subject->to_host = false;
        enqueue_swap(subject, 0);
        qr_cuda_synchronize(cuda);
        memset(subject->memory, 0xff, n_bytes);
        subject->by_kernel = way == 1;
        subject->to_host = true;
        enqueue_swap(subject, 0);
        qr_cuda_synchronize(cuda);
        if (memcmp(subject->memory, before, n_bytes) != 0)
            figure.error = 1;
        qr_cuda_zero(cuda, "pages", subject->pool, POOL_FACTOR * n_bytes);
    }
    qr_free(before);
    QR_TRY(qr_cuda_take_failure(cuda, err));
    return qr_cuda_bench_add(subject->bench, &figure, err);
}

static enum qr_status open_subject(struct subject *subject, struct qr_error *err)
{
    struct qr_cuda_bench *bench = subject->bench;
    bool smoke = bench->config->smoke;
    const struct qr_cuda_attention_config config = {
        .kv = {.n_layers = smoke ? 2 : 32, .n_kv_heads = 8, .head_dim = 128, .page_size = 16},
        .n_heads = 32,
        .activation = QR_DTYPE_BF16,
        .kv_type = QR_DTYPE_BF16,
        .max_rows = 1,
        .max_seqs = 1,
        .max_blocks = 1,
    };

    QR_TRY(qr_cuda_attention_open(&bench->cuda, &config, &subject->attention, err));
    subject->n_pages = smoke ? SMOKE_PAGES : N_PAGES;
    subject->page_bytes = (int64_t)qr_cuda_kv_page_bytes(&config.kv, config.kv_type);
    QR_TRY(qr_cuda_bench_alloc(bench, "KV pages",
                               POOL_FACTOR * subject->n_pages * subject->page_bytes, &subject->pool,
                               err));
    subject->memory =
        qr_cuda_host_alloc(&bench->cuda, (size_t)(subject->n_pages * subject->page_bytes));
    if (subject->memory == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no pinned memory for %d pages", subject->n_pages);
    for (int32_t i = 0; i < subject->n_pages; i++) {
        subject->pages[i] = i * POOL_FACTOR + i % POOL_FACTOR; /* apart, in no regular distance */
        subject->host[i] = subject->memory + i * subject->page_bytes;
    }
    return QR_OK;
}

enum qr_status qr_bench_swap(struct qr_cuda_bench *bench, struct qr_error *err)
{
    struct subject subject = {.bench = bench};

    enum qr_status status = open_subject(&subject, err);
    if (status == QR_OK)
        status = check(&subject, err);
    for (int i = 0; status == QR_OK && i < 4; i++) {
        subject.by_kernel = i % 2 == 1;
        subject.to_host = i < 2;
        status = measure(&subject, err);
    }
    qr_cuda_host_free(&bench->cuda, subject.memory);
    qr_cuda_free(&bench->cuda, subject.pool);
    if (status != QR_OK)
        qr_error_prefix(err, "swap");
    return status;
}
