/*
 * cpu_weights_cache.c - the CPU device's packed matrices on disk: found at the next start, or
 * written at this one. Whatever is wrong with the folder or a file in it is told in the log, and
 * the model is loaded without.
 */
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/ops/cpu/cpu_device_internal.h"

/* A warning about the cache's folder or file. */
static void warn(const char *event, const struct qr_error *err)
{
    char quoted[600];

    qr_log(QR_LOG_WARN, event, "reason=%s", qr_log_quote(err->message, quoted, sizeof(quoted)));
}

static void log_file(const char *event, const struct qr_cpu_weights_cache *cache,
                     const struct qr_tile_index *index, int64_t start_ns)
{
    char quoted[PATH_MAX];
    long long n_bytes = 0;

    for (int32_t i = 0; i < index->n; i++)
        n_bytes += (long long)index->entries[i].n_bytes;
    qr_log(QR_LOG_INFO, event, "file=%s matrices=%d bytes=%lld ms=%.0f",
           qr_log_quote(cache->path, quoted, sizeof(quoted)), index->n, n_bytes,
           (double)(qr_now_ns() - start_ns) * 1e-6);
}

/* The key, and the file's name, which is the key in hexadecimal. */
static enum qr_status name_cache(struct qr_cpu_device *cpu, const uint8_t *id, struct qr_error *err)
{
    struct qr_cpu_weights_cache *cache = &cpu->weights_cache;
    struct {
        uint8_t id[QR_CHECKPOINT_ID_BYTES];
        uint32_t pack_version;
        uint32_t quantize;
    } of = {.pack_version = QR_PACK_VERSION, .quantize = (uint32_t)cpu->quantize};
    XXH128_canonical_t hash;
    char path[PATH_MAX], name[2 * QR_TILE_KEY_BYTES + 1];

    memcpy(of.id, id, sizeof(of.id));
    XXH128_canonicalFromHash(&hash, XXH3_128bits(&of, sizeof(of)));
    memcpy(cache->key, hash.digest, sizeof(cache->key));
    for (int i = 0; i < QR_TILE_KEY_BYTES; i++)
        snprintf(name + 2 * i, 3, "%02x", cache->key[i]);
    if ((size_t)snprintf(path, sizeof(path), "%s/quire-%s.tiles", cache->dir, name) >= sizeof(path))
        return qr_fail(err, QR_ERR_INVALID, "weights cache '%s': its name is too long", cache->dir);
    cache->path = qr_strdup(QR_ARENA_ENGINE, path);
    return cache->path != NULL ? QR_OK : qr_fail(err, QR_ERR_NOMEM, "out of memory");
}

struct verify_work {
    const struct qr_tile_index *index;
    _Atomic int32_t damaged; /* an entry that is; -1: none */
};

static void verify(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct verify_work *work = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++)
        if (!qr_tile_entry_is_whole(&work->index->entries[i]))
            atomic_store(&work->damaged, (int32_t)i);
}

static void close_file(struct qr_cpu_weights_cache *cache)
{
    qr_tile_index_free(&cache->index);
    qr_mapped_file_close(&cache->file);
}

/* The file of an earlier start, all of whose bytes are what was written. */
static enum qr_status open_kept(struct qr_cpu_device *cpu, struct qr_error *err)
{
    struct qr_cpu_weights_cache *cache = &cpu->weights_cache;
    struct verify_work work = {.index = &cache->index, .damaged = -1};

    QR_TRY(qr_mapped_file_open(cache->path, &cache->file, err));
    enum qr_status status = qr_tile_file_parse(cache->path, cache->file.data, cache->file.size,
                                               cache->key, &cache->index, err);
    if (status == QR_OK) {
        /* All of it is read now, and at every step after. */
        (void)madvise((void *)(uintptr_t)cache->file.data, cache->file.size, MADV_WILLNEED);
        qr_cpu_run(&cpu->base, cache->index.n, 1, verify, &work);
        int32_t damaged = atomic_load(&work.damaged);
        if (damaged >= 0)
            status = qr_fail(err, QR_ERR_INVALID, "%s: the tiles of %s have another checksum",
                             cache->path, cache->index.entries[damaged].name);
    }
    if (status != QR_OK)
        close_file(cache);
    return status;
}

static enum qr_status open_or_create(struct qr_cpu_device *cpu, const uint8_t *id,
                                     struct qr_error *err)
{
    struct qr_cpu_weights_cache *cache = &cpu->weights_cache;
    int64_t start_ns = qr_now_ns();

    QR_TRY(name_cache(cpu, id, err));
    enum qr_status status = open_kept(cpu, err);
    if (status == QR_OK) {
        log_file("weights_cache_used", cache, &cache->index, start_ns);
        return QR_OK;
    }
    if (status != QR_ERR_NOT_FOUND)
        warn("weights_cache_bad", err);
    QR_TRY(qr_tile_writer_create(cache->dir, qr_cpu_most_weight_bytes(cpu), &cache->writer, err));
    cache->is_writing = true;
    return QR_OK;
}

void qr_cpu_begin_weights(struct qr_device *dev, const struct qr_checkpoint *checkpoint)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    uint8_t id[QR_CHECKPOINT_ID_BYTES];
    struct qr_error err = {""};

    if (cpu->weights_cache.dir == NULL)
        return;
    if (!qr_checkpoint_identify(checkpoint, id))
        qr_log(QR_LOG_INFO, "weights_cache_unused", "reason=\"synthetic weights are in no file\"");
    else if (open_or_create(cpu, id, &err) != QR_OK)
        warn("weights_cache_off", &err);
}

static const struct qr_tile_entry *find_entry(struct qr_cpu_weights_cache *cache, const char *name)
{
    for (int32_t i = 0; i < cache->index.n; i++) {
        int32_t at = (cache->next + i) % cache->index.n; /* asked for in the order of writing */
        if (strcmp(cache->index.entries[at].name, name) == 0) {
            cache->next = at + 1;
            return &cache->index.entries[at];
        }
    }
    return NULL;
}

bool qr_cpu_find_weight(struct qr_device *dev, struct qr_tensor *tensor)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);

    if (!qr_packs(tensor->dtype) || tensor->use == QR_USE_TABLE)
        return false;
    const struct qr_tile_entry *entry = find_entry(&cpu->weights_cache, tensor->name);
    return entry != NULL && entry->n_out == tensor->dims[0] && entry->n_in == tensor->dims[1] &&
           entry->dtype == qr_cpu_dtype_to_be(cpu, tensor) &&
           qr_cpu_adopt_tiles(cpu, tensor, entry->dtype, entry->tiles, NULL) == QR_OK;
}

/* Goes on without a file. */
static void stop_writing(struct qr_cpu_weights_cache *cache, const struct qr_error *err)
{
    warn("weights_cache_not_written", err);
    qr_tile_writer_abandon(cache->writer);
    cache->is_writing = false;
}

uint8_t *qr_cpu_weights_cache_take(struct qr_cpu_device *cpu, const struct qr_tensor *weight,
                                   enum qr_dtype dtype)
{
    struct qr_cpu_weights_cache *cache = &cpu->weights_cache;
    struct qr_error err = {""};
    uint8_t *tiles;

    if (!cache->is_writing || weight->name == NULL)
        return NULL;
    if (qr_tile_writer_take(cache->writer, weight->name, dtype, weight->dims[0], weight->dims[1],
                            &tiles, &err) == QR_OK)
        return tiles;
    stop_writing(cache, &err);
    return NULL;
}

static void add_checksums(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct qr_tile_index *index = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++)
        index->entries[i].checksum =
            qr_tile_checksum(index->entries[i].tiles, index->entries[i].n_bytes);
}

static void write_file(struct qr_cpu_device *cpu, const struct qr_checkpoint *checkpoint)
{
    struct qr_cpu_weights_cache *cache = &cpu->weights_cache;
    struct qr_tile_index *index = qr_tile_writer_index(cache->writer);
    int64_t start_ns = qr_now_ns();
    struct qr_error err = {""};
    enum qr_status status = QR_OK;

    if (!qr_checkpoint_is_unchanged(checkpoint))
        status = qr_fail(&err, QR_ERR_IO, "the model's files were written to as they were read");
    if (status == QR_OK) {
        qr_cpu_run(&cpu->base, index->n, 1, add_checksums, index);
        status = qr_tile_writer_publish(cache->writer, cache->key, cache->path, &err);
    }
    if (status != QR_OK) {
        stop_writing(cache, &err);
        return;
    }
    cache->is_writing = false;
    log_file("weights_cache_written", cache, index, start_ns);
}

void qr_cpu_end_weights(struct qr_device *dev, const struct qr_checkpoint *checkpoint)
{
    struct qr_cpu_device *cpu = qr_cpu_device_of(dev);
    const struct qr_cpu_quantized *count = &cpu->quantized;

    if (cpu->weights_cache.is_writing)
        write_file(cpu, checkpoint);
    if (count->n_asked + count->n_heads + count->n_other > 0)
        qr_log(count->n_other > 0 ? QR_LOG_WARN : QR_LOG_INFO, "weights_quantized",
               "matrices=%d heads_of_q8_0=%d of_other_formats=%d%s", count->n_asked, count->n_heads,
               count->n_other,
               count->n_other > 0 ? " reason=\"rows that are no whole blocks\"" : "");
}

void qr_cpu_weights_cache_close(struct qr_cpu_weights_cache *cache)
{
    close_file(cache);
    qr_tile_writer_close(cache->writer);
    qr_free(cache->path);
    qr_free(cache->dir);
}
