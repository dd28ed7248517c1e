/* word_counts.c - see word_counts.h for the contract. */
#include "runtime/tokenizer/word_counts.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"

enum { CHUNK_BYTES = 1 << 20 };

/* The part of a file that begins a multiple of CHUNK_BYTES in, from one newline to another. */
struct chunk {
    int32_t file;
    size_t begin;
};

struct worker {
    struct qr_word_counts counts;
    void *state;
    enum qr_status status;
    int32_t file; /* at which it failed */
};

struct reader {
    const struct qr_word_cutter *cutter;
    const struct qr_trainer_config *config;
    struct qr_mapped_file *files; /* [n_files] */
    int32_t n_files;
    struct chunk *chunks; /* [n_chunks] */
    int64_t n_chunks;
    struct worker *workers; /* [n_threads] */
    _Atomic int64_t bytes_done;
    int64_t bytes_total;
};

enum qr_status qr_word_counts_add(struct qr_word_counts *counts, const char *text, size_t n_bytes,
                                  int64_t count)
{
    int32_t index;

    QR_TRY(qr_string_table_add(&counts->words, text, n_bytes, &index));
    if (index >= counts->capacity) {
        int32_t capacity = counts->words.capacity;
        int64_t *grown =
            qr_realloc(QR_ARENA_ENGINE, counts->counts, (size_t)capacity * sizeof(*counts->counts));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        memset(grown + counts->capacity, 0, (size_t)(capacity - counts->capacity) * sizeof(*grown));
        counts->counts = grown;
        counts->capacity = capacity;
    }
    counts->counts[index] += count;
    return QR_OK;
}

/* The first position at or after `at` where a line begins. */
static size_t line_at(const struct qr_mapped_file *file, size_t at)
{
    if (at == 0 || at >= file->size)
        return at < file->size ? at : file->size;
    const uint8_t *newline = memchr(file->data + at - 1, '\n', file->size - at + 1);
    return newline == NULL ? file->size : (size_t)(newline - file->data) + 1;
}

static enum qr_status count_chunk(struct reader *reader, const struct chunk *chunk,
                                  struct worker *worker)
{
    const struct qr_mapped_file *file = &reader->files[chunk->file];
    const char *text = (const char *)file->data;
    size_t end = line_at(file, chunk->begin + CHUNK_BYTES);

    worker->file = chunk->file;
    for (size_t at = line_at(file, chunk->begin); at < end;) {
        size_t next = line_at(file, at + 1);
        QR_TRY(reader->cutter->cut(worker->state, text + at, next - at, &worker->counts));
        at = next;
    }
    return QR_OK;
}

static void count_chunks(void *arg, int64_t first, int64_t last, int32_t worker_index)
{
    struct reader *reader = arg;
    struct worker *worker = &reader->workers[worker_index];
    const struct qr_trainer_config *config = reader->config;

    for (int64_t i = first; i < last && worker->status == QR_OK; i++) {
        worker->status = count_chunk(reader, &reader->chunks[i], worker);
        int64_t done = atomic_fetch_add(&reader->bytes_done, CHUNK_BYTES);
        /* The caller's thread is worker 0. */
        if (worker_index == 0 && config->progress != NULL && done < reader->bytes_total)
            config->progress(config->progress_arg, "reading", done, reader->bytes_total);
    }
}

static enum qr_status open_files(struct reader *reader, const char *const *files,
                                 struct qr_error *err)
{
    size_t n_files = (size_t)reader->n_files;

    reader->files = qr_calloc(QR_ARENA_ENGINE, n_files, sizeof(*reader->files));
    if (reader->files == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < n_files; i++) {
        QR_TRY(qr_mapped_file_open(files[i], &reader->files[i], err));
        reader->bytes_total += (int64_t)reader->files[i].size;
        reader->n_chunks += (int64_t)(reader->files[i].size / CHUNK_BYTES) + 1;
    }
    reader->chunks = qr_calloc(QR_ARENA_ENGINE, (size_t)reader->n_chunks, sizeof(*reader->chunks));
    if (reader->chunks == NULL)
        return QR_ERR_NOMEM;
    int64_t n = 0;
    for (int32_t i = 0; i < reader->n_files; i++) {
        for (size_t begin = 0; begin <= reader->files[i].size; begin += CHUNK_BYTES)
            reader->chunks[n++] = (struct chunk){.file = i, .begin = begin};
    }
    return QR_OK;
}

static enum qr_status run_workers(struct reader *reader)
{
    int32_t n_threads = reader->config->n_threads;
    struct qr_thread_pool *pool = NULL;

    reader->workers = qr_calloc(QR_ARENA_ENGINE, (size_t)n_threads, sizeof(*reader->workers));
    if (reader->workers == NULL)
        return QR_ERR_NOMEM;
    for (int32_t i = 0; i < n_threads; i++)
        QR_TRY(reader->cutter->begin(reader->cutter->model, &reader->workers[i].state));
    QR_TRY(qr_thread_pool_create(n_threads, &pool));
    qr_thread_pool_run(pool, reader->n_chunks, 1, count_chunks, reader);
    qr_thread_pool_destroy(pool);
    return QR_OK;
}

static enum qr_status gather(struct reader *reader, const char *const *files,
                             struct qr_word_counts *counts, struct qr_error *err)
{
    for (int32_t i = 0; i < reader->config->n_threads; i++) {
        struct worker *worker = &reader->workers[i];
        if (worker->status != QR_OK)
            return qr_fail(err, worker->status, "%s: counting its words failed: %s",
                           files[worker->file], qr_status_name(worker->status));
        for (int32_t k = 0; k < worker->counts.words.count; k++)
            QR_TRY(qr_word_counts_add(counts, qr_string_table_text(&worker->counts.words, k),
                                      qr_string_table_length(&worker->counts.words, k),
                                      worker->counts.counts[k]));
        qr_word_counts_free(&worker->counts);
    }
    return QR_OK;
}

static void close_reader(struct reader *reader)
{
    for (int32_t i = 0; i < reader->n_files && reader->files != NULL; i++)
        qr_mapped_file_close(&reader->files[i]);
    for (int32_t i = 0; i < reader->config->n_threads && reader->workers != NULL; i++) {
        reader->cutter->end(reader->workers[i].state);
        qr_word_counts_free(&reader->workers[i].counts);
    }
    qr_free(reader->files);
    qr_free(reader->chunks);
    qr_free(reader->workers);
}

enum qr_status qr_word_counts_read(struct qr_word_counts *counts,
                                   const struct qr_word_cutter *cutter,
                                   const struct qr_trainer_config *config, const char *const *files,
                                   int32_t n_files, struct qr_error *err)
{
    struct reader reader = {.cutter = cutter, .config = config, .n_files = n_files};
    enum qr_status status = open_files(&reader, files, err);

    if (status == QR_OK)
        status = run_workers(&reader);
    if (status == QR_OK)
        status = gather(&reader, files, counts, err);
    if (status == QR_OK && config->progress != NULL)
        config->progress(config->progress_arg, "reading", reader.bytes_total, reader.bytes_total);
    close_reader(&reader);
    return status;
}

void qr_word_counts_free(struct qr_word_counts *counts)
{
    qr_string_table_free(&counts->words);
    qr_free(counts->counts);
    *counts = (struct qr_word_counts){0};
}
