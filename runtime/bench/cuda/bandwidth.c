/*
 * bandwidth.c - how fast the device's memory is read and copied, and how fast bytes cross to the
 * host: the ceilings that everything else is compared with.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/bench/cuda/cuda_bench.h"
#include "runtime/bench/cuda/read_bytes.h"
#include "runtime/sampling/philox.h"

#define MIB(n) ((int64_t)(n) << 20)

struct memory {
    struct qr_cuda_bench *bench;
    qr_cu_address device; /* [2][n_bytes] */
    int64_t n_bytes;
    unsigned char *host; /* pinned, [n_host] */
    int64_t n_host;
};

static void enqueue_read(void *arg, int32_t call)
{
    struct memory *memory = arg;
    qr_cuda_bench_read(memory->bench, memory->device + (uint64_t)(call % 2 * memory->n_bytes),
                       memory->n_bytes);
}

static void enqueue_copy(void *arg, int32_t call)
{
    struct memory *memory = arg;
    struct qr_cuda *cuda = &memory->bench->cuda;
    qr_cu_address from = memory->device + (uint64_t)(call % 2 * memory->n_bytes);
    qr_cu_address to = memory->device + (uint64_t)((call + 1) % 2 * memory->n_bytes);

    qr_cuda_check(cuda,
                  cuda->driver->memcpy_dtod_async(to, from, (size_t)memory->n_bytes, cuda->stream),
                  "copying %" PRId64 " bytes on the device", memory->n_bytes);
}

static void enqueue_to_host(void *arg, int32_t call)
{
    struct memory *memory = arg;
    (void)call;
    qr_cuda_copy_to_host(&memory->bench->cuda, "bandwidth", memory->host, memory->device,
                         (size_t)memory->n_host);
}

static void enqueue_from_host(void *arg, int32_t call)
{
    struct memory *memory = arg;
    (void)call;
    qr_cuda_copy_to_device(&memory->bench->cuda, "bandwidth", memory->device, memory->host,
                           (size_t)memory->n_host);
}

static enum qr_status add(struct qr_cuda_bench *bench, const char *name, double bytes,
                          const struct qr_times *times, struct qr_error *err)
{
    struct qr_cuda_figure figure = {.group = "bandwidth", .times = *times, .bytes = bytes};

    snprintf(figure.name, sizeof(figure.name), "%s", name);
    return qr_cuda_bench_add(bench, &figure, err);
}

/* Random bytes, so that the measured reads are of what real data look like to the memory. */
static void fill_host(struct memory *memory)
{
    for (int64_t i = 0; i + 16 <= memory->n_host; i += 16) {
        const struct qr_philox_block counter = {{(uint32_t)i, (uint32_t)(i >> 32), 0, 0}};
        struct qr_philox_block block = qr_philox(counter, 1);
        memcpy(memory->host + i, block.word, 16);
    }
}

static void fill_device(struct memory *memory)
{
    for (int64_t at = 0; at < 2 * memory->n_bytes; at += memory->n_host) {
        int64_t n =
            2 * memory->n_bytes - at < memory->n_host ? 2 * memory->n_bytes - at : memory->n_host;
        qr_cuda_copy_to_device(&memory->bench->cuda, "bandwidth", memory->device + (uint64_t)at,
                               memory->host, (size_t)n);
    }
}

/* That the kernel reads every byte once: its sums add up to that of the words. */
static enum qr_status check_read(struct memory *memory, struct qr_cuda_figure *figure,
                                 struct qr_error *err)
{
    struct qr_cuda_bench *bench = memory->bench;
    struct qr_cuda *cuda = &bench->cuda;
    int32_t n_sums =
        cuda->properties.n_sms * bench->read_bytes.blocks_per_sm * QR_READ_BYTES_THREADS / 32;
    const uint32_t *words = (const uint32_t *)(const void *)memory->host;
    uint32_t expected = 0, found = 0;

    for (int64_t i = 0; i < memory->n_host / 4; i++)
        expected += words[i];
    qr_cuda_bench_read(bench, memory->device, memory->n_host);
    qr_cuda_copy_to_host(cuda, "sums", memory->host, bench->read_sums,
                         (size_t)n_sums * sizeof(uint32_t));
    qr_cuda_synchronize(cuda);
    QR_TRY(qr_cuda_take_failure(cuda, err));
    for (int32_t i = 0; i < n_sums; i++)
        found += words[i];
    figure->checked = true;
    figure->error = found == expected ? 0 : 1;
    return QR_OK;
}

static enum qr_status measure_device(struct memory *memory, struct qr_error *err)
{
    struct qr_cuda_bench *bench = memory->bench;
    int32_t n_calls = qr_cuda_bench_n_calls(bench, 0);
    const struct qr_timing_subject subjects[] = {
        {enqueue_read, memory, n_calls},
        {enqueue_copy, memory, n_calls},
    };
    struct qr_times times[2];
    double bytes = (double)memory->n_bytes;

    fill_device(memory);
    QR_TRY(qr_timing_run(&bench->cuda, subjects, 2, qr_cuda_bench_n_replays(bench), times, err));
    bench->read_rate = bytes / times[0].median;
    struct qr_cuda_figure read = {
        .group = "bandwidth", .name = "read", .times = times[0], .bytes = bytes};
    fill_device(memory);
    QR_TRY(check_read(memory, &read, err));
    QR_TRY(qr_cuda_bench_add(bench, &read, err));
    return add(bench, "copy, read and written", 2 * bytes, &times[1], err);
}

static enum qr_status measure_host(struct memory *memory, struct qr_error *err)
{
    struct qr_cuda_bench *bench = memory->bench;
    const struct qr_timing_subject subjects[] = {
        {enqueue_to_host, memory, 2},
        {enqueue_from_host, memory, 2},
    };
    struct qr_times times[2];

    QR_TRY(qr_timing_run(&bench->cuda, subjects, 2, qr_cuda_bench_n_replays(bench), times, err));
    QR_TRY(add(bench, "to host", (double)memory->n_host, &times[0], err));
    return add(bench, "from host", (double)memory->n_host, &times[1], err);
}

enum qr_status qr_bench_bandwidth(struct qr_cuda_bench *bench, struct qr_error *err)
{
    bool smoke = bench->config->smoke;
    struct memory memory = {
        .bench = bench,
        .n_bytes = smoke ? 1 << 18 : MIB(1024),
        .n_host = smoke ? 1 << 17 : MIB(256),
    };

    enum qr_status status =
        qr_cuda_bench_alloc(bench, "bandwidth", 2 * memory.n_bytes, &memory.device, err);
    if (status == QR_OK) {
        memory.host = qr_cuda_host_alloc(&bench->cuda, (size_t)memory.n_host);
        if (memory.host == NULL)
            status = qr_fail(err, QR_ERR_NOMEM, "bandwidth: no %" PRId64 " MiB of pinned memory",
                             memory.n_host >> 20);
    }
    if (status == QR_OK) {
        fill_host(&memory);
        status = measure_device(&memory, err);
    }
    if (status == QR_OK && (bench->config->what & (QR_BENCH_BANDWIDTH | QR_BENCH_SWAP)) != 0)
        status = measure_host(&memory, err);
    qr_cuda_host_free(&bench->cuda, memory.host);
    qr_cuda_free(&bench->cuda, memory.device);
    return status;
}
