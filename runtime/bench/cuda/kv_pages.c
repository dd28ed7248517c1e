/* kv_pages.c - see kv_pages.h for the contract. */
#include "runtime/bench/cuda/kv_pages.h"

#include <inttypes.h>
#include <math.h>

#include "base/alloc.h"
#include "base/dtype.h"
#include "runtime/sampling/philox.h"

enum { SHIFTS = 61 }; /* rows that a stretch may enter the buffers late; prime */

/* What fills the pool, and is gone afterwards. */
struct writer {
    struct qr_cuda_attention attention;
    qr_cu_address workspace;
    void *host_workspace;
    qr_cu_address q, k, v;
};

void qr_random_bf16(uint64_t seed, bool few_bits, int64_t n, uint16_t *out)
{
    const uint32_t mantissa = few_bits ? 0x70u : 0x7fu;

    for (int64_t i = 0; i < n; i += 8) {
        const struct qr_philox_block counter = {{(uint32_t)i, (uint32_t)(i >> 32), 0, 0}};
        struct qr_philox_block block = qr_philox(counter, seed);
        for (int64_t j = 0; j < 8 && i + j < n; j++) {
            uint32_t bits = block.word[j / 2] >> (j % 2 * 16);
            out[i + j] = (uint16_t)((bits & 0x8000u) | 0x3f00u | (bits & mantissa));
        }
    }
}

int64_t qr_kv_pages_token_bytes(const struct qr_kv_pages_config *config)
{
    return (int64_t)2 * config->kv.n_kv_heads * config->kv.head_dim *
           (int64_t)qr_dtype_size(config->kv_type);
}

/* The row of the buffers that holds K and V of a token. */
static int64_t source_row(const struct qr_kv_pages *pages, int32_t seq, int32_t layer,
                          int32_t position)
{
    int32_t chunk = pages->config.chunk;
    int32_t owner = position < pages->config.shared ? 0 : seq;
    int32_t shift = (owner * 7 + layer * 13 + position / chunk * 29) % SHIFTS;

    return shift + position % chunk;
}

void qr_kv_pages_attend(const struct qr_kv_pages *pages, int32_t seq, int32_t layer, int32_t head,
                        int32_t position, const uint16_t *q, double *scores, double *out)
{
    const struct qr_kv_pages_config *config = &pages->config;
    int32_t dim = config->kv.head_dim;
    int64_t kv_head = head / (config->n_heads / config->kv.n_kv_heads);
    double scale = 1 / sqrt((double)dim), largest = -INFINITY, sum = 0;

    for (int32_t t = 0; t <= position; t++) {
        const uint16_t *k =
            pages->k + source_row(pages, seq, layer, t) * pages->row_elements + kv_head * dim;
        double dot = 0;
        for (int32_t i = 0; i < dim; i++)
            dot += (double)qr_bf16_to_f32(q[i]) * (double)qr_bf16_to_f32(k[i]);
        scores[t] = dot * scale;
        largest = fmax(largest, scores[t]);
    }
    for (int32_t i = 0; i < dim; i++)
        out[i] = 0;
    for (int32_t t = 0; t <= position; t++) {
        const uint16_t *v =
            pages->v + source_row(pages, seq, layer, t) * pages->row_elements + kv_head * dim;
        double weight = exp(scores[t] - largest);
        sum += weight;
        for (int32_t i = 0; i < dim; i++)
            out[i] += weight * (double)qr_bf16_to_f32(v[i]);
    }
    for (int32_t i = 0; i < dim; i++)
        out[i] /= sum;
}

static int32_t pages_of(const struct qr_kv_pages_config *config, int32_t n_tokens)
{
    return (n_tokens + config->kv.page_size - 1) / config->kv.page_size;
}

/* Which page stands where: a shuffle of the pool (Durstenfeld, 1964), as after hours of serving. */
static enum qr_status place(struct qr_kv_pages *pages, struct qr_error *err)
{
    const struct qr_kv_pages_config *config = &pages->config;
    int32_t n_shared = pages_of(config, config->shared), longest = 0, n_pages = n_shared;

    for (int32_t seq = 0; seq < config->n_seqs; seq++) {
        int32_t n = pages_of(config, config->lengths[seq]);
        longest = n > longest ? n : longest;
        n_pages += n - n_shared;
    }
    pages->n_pages = n_pages;
    pages->block_table_stride = longest;
    pages->block_table = qr_calloc(QR_ARENA_ENGINE, (size_t)config->n_seqs * (size_t)longest,
                                   sizeof(*pages->block_table));
    int32_t *order = qr_calloc(QR_ARENA_ENGINE, (size_t)n_pages, sizeof(*order));
    if (pages->block_table == NULL || order == NULL) {
        qr_free(order);
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %d pages", n_pages);
    }
    for (int32_t i = 0; i < n_pages; i++)
        order[i] = i;
    for (int32_t i = n_pages - 1; i > 0; i--) {
        int32_t other = (int32_t)(qr_philox_uniform(3, (uint64_t)i) * (i + 1));
        int32_t swapped = order[i];
        order[i] = order[other];
        order[other] = swapped;
    }
    int32_t next = n_shared;
    for (int32_t seq = 0; seq < config->n_seqs; seq++) {
        int32_t *table = pages->block_table + (int64_t)seq * longest;
        for (int32_t i = 0; i < pages_of(config, config->lengths[seq]); i++)
            table[i] = i < n_shared ? order[i] : order[next++];
    }
    qr_free(order);
    return QR_OK;
}

static enum qr_status open_buffers(struct qr_cuda_bench *bench, struct qr_kv_pages *pages,
                                   struct writer *writer, struct qr_error *err)
{
    const struct qr_kv_pages_config *config = &pages->config;
    bool few_bits = config->kv_type == QR_DTYPE_E4M3;
    int64_t n = (int64_t)(config->chunk + SHIFTS) * pages->row_elements;
    int64_t q_bytes =
        (int64_t)config->chunk * config->n_heads * config->kv.head_dim * (int64_t)sizeof(uint16_t);
    size_t bytes = (size_t)n * sizeof(uint16_t);

    pages->k = qr_malloc(QR_ARENA_ENGINE, bytes);
    pages->v = qr_malloc(QR_ARENA_ENGINE, bytes);
    if (pages->k == NULL || pages->v == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "not enough memory for %zu bytes", 2 * bytes);
    qr_random_bf16(11, few_bits, n, pages->k);
    qr_random_bf16(12, few_bits, n, pages->v);
    QR_TRY(qr_cuda_bench_alloc(bench, "queries", q_bytes, &writer->q, err));
    QR_TRY(qr_cuda_bench_alloc(bench, "keys", (int64_t)bytes, &writer->k, err));
    QR_TRY(qr_cuda_bench_alloc(bench, "values", (int64_t)bytes, &writer->v, err));
    qr_cuda_zero(&bench->cuda, "queries", writer->q, (size_t)q_bytes);
    qr_cuda_copy_to_device(&bench->cuda, "keys", writer->k, pages->k, bytes);
    qr_cuda_copy_to_device(&bench->cuda, "values", writer->v, pages->v, bytes);
    qr_cuda_synchronize(&bench->cuda);
    return qr_cuda_take_failure(&bench->cuda, err);
}

static enum qr_status open_writer(struct qr_cuda_bench *bench, const struct qr_kv_pages *pages,
                                  struct writer *writer, struct qr_error *err)
{
    const struct qr_kv_pages_config *config = &pages->config;
    const struct qr_cuda_attention_config attention = {
        .kv = config->kv,
        .n_heads = config->n_heads,
        .activation = QR_DTYPE_BF16,
        .kv_type = config->kv_type,
        .max_rows = config->chunk,
        .max_seqs = 1,
        .max_blocks = pages->block_table_stride,
        .no_ranges = true,
    };

    QR_TRY(qr_cuda_attention_open(&bench->cuda, &attention, &writer->attention, err));
    QR_TRY(qr_cuda_bench_alloc(bench, "workspace", (int64_t)writer->attention.device_bytes,
                               &writer->workspace, err));
    writer->host_workspace = qr_cuda_host_alloc(&bench->cuda, writer->attention.host_bytes);
    if (writer->host_workspace == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no %zu bytes of pinned memory",
                       writer->attention.host_bytes);
    qr_cuda_attention_set_memory(&writer->attention, writer->workspace, writer->host_workspace);
    return QR_OK;
}

static void close_writer(struct qr_cuda_bench *bench, struct writer *writer)
{
    qr_cuda_host_free(&bench->cuda, writer->host_workspace);
    qr_cuda_free(&bench->cuda, writer->workspace);
    qr_cuda_free(&bench->cuda, writer->q);
    qr_cuda_free(&bench->cuda, writer->k);
    qr_cuda_free(&bench->cuda, writer->v);
}

/* Writes positions [first, first + n_rows) of one sequence, in all layers. */
static void write_chunk(struct qr_cuda_bench *bench, const struct qr_kv_pages *pages,
                        struct writer *writer, int32_t seq, int32_t first, int32_t n_rows)
{
    const struct qr_kv_pages_config *config = &pages->config;
    const int32_t query_start[] = {0, n_rows};
    const int32_t context_length[] = {first + n_rows};
    const struct qr_attention_batch batch = {
        .n_seqs = 1,
        .query_start = query_start,
        .context_length = context_length,
        .block_table = pages->block_table + (int64_t)seq * pages->block_table_stride,
        .block_table_stride = pages->block_table_stride,
    };

    qr_cuda_attention_plan(&writer->attention, &batch);
    for (int32_t layer = 0; layer < config->kv.n_layers; layer++) {
        uint64_t offset = (uint64_t)(source_row(pages, seq, layer, first) * pages->row_elements) *
                          sizeof(uint16_t);
        qr_cuda_rope_and_write_kv(&writer->attention, layer, writer->q, writer->k + offset,
                                  writer->v + offset, 0, pages->pool);
    }
    qr_cuda_synchronize(&bench->cuda); /* the plan's memory is used again */
}

static void write_all(struct qr_cuda_bench *bench, const struct qr_kv_pages *pages,
                      struct writer *writer)
{
    const struct qr_kv_pages_config *config = &pages->config;

    for (int32_t seq = 0; seq < config->n_seqs; seq++) {
        int32_t first = seq == 0 ? 0 : config->shared;
        while (first < config->lengths[seq]) {
            int32_t end = (first / config->chunk + 1) * config->chunk;
            /* A stretch of one owner within one chunk has consecutive rows in the buffers. */
            if (first < config->shared && end > config->shared)
                end = config->shared;
            if (end > config->lengths[seq])
                end = config->lengths[seq];
            write_chunk(bench, pages, writer, seq, first, end - first);
            first = end;
        }
    }
}

enum qr_status qr_kv_pages_open(struct qr_cuda_bench *bench,
                                const struct qr_kv_pages_config *config, struct qr_kv_pages *out,
                                struct qr_error *err)
{
    struct writer writer = {0};

    *out = (struct qr_kv_pages){
        .config = *config,
        .page_bytes = (int64_t)qr_cuda_kv_page_bytes(&config->kv, config->kv_type),
        .row_elements = (int64_t)config->kv.n_kv_heads * config->kv.head_dim,
    };
    enum qr_status status = place(out, err);
    if (status == QR_OK)
        status =
            qr_cuda_bench_alloc(bench, "KV pages", out->n_pages * out->page_bytes, &out->pool, err);
    if (status == QR_OK)
        status = open_buffers(bench, out, &writer, err);
    if (status == QR_OK)
        status = open_writer(bench, out, &writer, err);
    if (status == QR_OK) {
        /* NaN, where nothing is written: slots after the last token. */
        qr_cuda_check(&bench->cuda,
                      bench->cuda.driver->memset_d8_async(out->pool, 0xff,
                                                          (size_t)(out->n_pages * out->page_bytes),
                                                          bench->cuda.stream),
                      "poisoning %d pages", out->n_pages);
        write_all(bench, out, &writer);
        status = qr_cuda_take_failure(&bench->cuda, err);
    }
    close_writer(bench, &writer);
    if (status != QR_OK)
        qr_kv_pages_close(bench, out);
    return status;
}

void qr_kv_pages_close(struct qr_cuda_bench *bench, struct qr_kv_pages *pages)
{
    qr_cuda_free(&bench->cuda, pages->pool);
    qr_free(pages->block_table);
    qr_free(pages->k);
    qr_free(pages->v);
    *pages = (struct qr_kv_pages){0};
}
