/* tile_writer.c - see tile_writer.h for the contract. */
#include "runtime/ops/cpu/tile_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/assert.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "runtime/ops/cpu/packed.h"

enum {
    FILE_MODE = 0644,
    MOVED_BYTES = 1 << 26, /* at a time, from the file to memory */
};

struct qr_tile_writer {
    char *dir;
    int fd;         /* -1: there is no file any more */
    char *part;     /* its name while it is in the making; NULL: none */
    uint8_t *bytes; /* [capacity] the mapping; those from `used` on are not to be touched */
    size_t capacity;
    size_t used;
    size_t reserved; /* bytes that the file has */
    struct qr_tile_index index;
    int32_t index_capacity;
};

static enum qr_status fail_in(const struct qr_tile_writer *writer, const char *what, int error,
                              struct qr_error *err)
{
    return qr_fail(err, error == ENOENT ? QR_ERR_NOT_FOUND : QR_ERR_IO,
                   "weights cache '%s': %s: %s; name a folder that exists, is writable and has "
                   "room",
                   writer->dir, what, strerror(error));
}

/* On file systems without O_TMPFILE; a process that dies leaves it behind. */
static enum qr_status open_named(struct qr_tile_writer *writer, struct qr_error *err)
{
    char path[PATH_MAX];

    if ((size_t)snprintf(path, sizeof(path), "%s/quire-part.XXXXXX", writer->dir) >= sizeof(path))
        return fail_in(writer, "cannot make a file", ENAMETOOLONG, err);
    writer->fd = mkostemp(path, O_CLOEXEC);
    if (writer->fd < 0)
        return fail_in(writer, "cannot make a file", errno, err);
    (void)fchmod(writer->fd, FILE_MODE); /* as the other kind; less is no harm */
    writer->part = qr_strdup(QR_ARENA_ENGINE, path);
    if (writer->part == NULL) {
        unlink(path);
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    }
    return QR_OK;
}

static enum qr_status open_file(struct qr_tile_writer *writer, struct qr_error *err)
{
    writer->fd = open(writer->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, FILE_MODE);
    if (writer->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        QR_TRY(open_named(writer, err));
    if (writer->fd < 0)
        return fail_in(writer, "cannot make a file", errno, err);
    void *bytes = mmap(NULL, writer->capacity, PROT_READ | PROT_WRITE, MAP_SHARED, writer->fd, 0);
    if (bytes == MAP_FAILED)
        return fail_in(writer, "cannot map a file", errno, err);
    writer->bytes = bytes;
    return QR_OK;
}

enum qr_status qr_tile_writer_create(const char *dir, size_t max_bytes, struct qr_tile_writer **out,
                                     struct qr_error *err)
{
    *out = NULL;
    struct qr_tile_writer *writer = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*writer));
    if (writer == NULL || (writer->dir = qr_strdup(QR_ARENA_ENGINE, dir)) == NULL) {
        qr_free(writer);
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    }
    writer->fd = -1;
    writer->capacity = max_bytes;
    writer->used = sizeof(struct qr_tile_head);
    enum qr_status status = open_file(writer, err);
    if (status != QR_OK) {
        qr_tile_writer_close(writer);
        return status;
    }
    *out = writer;
    return QR_OK;
}

/* The file is gone when its last page is unmapped. */
static void drop_file(struct qr_tile_writer *writer)
{
    if (writer->part != NULL)
        unlink(writer->part);
    qr_free(writer->part);
    writer->part = NULL;
    if (writer->fd >= 0)
        close(writer->fd);
    writer->fd = -1;
}

void qr_tile_writer_close(struct qr_tile_writer *writer)
{
    if (writer == NULL)
        return;
    drop_file(writer);
    if (writer->bytes != NULL)
        munmap(writer->bytes, writer->capacity);
    for (int32_t i = 0; i < writer->index.n; i++)
        qr_free((void *)(uintptr_t)writer->index.entries[i].name);
    qr_tile_index_free(&writer->index);
    qr_free(writer->dir);
    qr_free(writer);
}

/* Makes the file `size` bytes that the disk has: touching others of a mapping ends the process. */
static enum qr_status reserve(struct qr_tile_writer *writer, size_t size, struct qr_error *err)
{
    struct rlimit limit;

    if (size > writer->capacity)
        return fail_in(writer, "more tiles than the model has weights", EFBIG, err);
    /* Growing a file past this limit is a signal that ends the process. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < (rlim_t)size)
        return fail_in(writer, "ulimit -f", EFBIG, err);
    if (size <= writer->reserved)
        return QR_OK;
    int error =
        posix_fallocate(writer->fd, (off_t)writer->reserved, (off_t)(size - writer->reserved));
    if (error != 0)
        return fail_in(writer, "cannot set room aside", error, err);
    writer->reserved = size;
    return QR_OK;
}

enum qr_status qr_tile_writer_take(struct qr_tile_writer *writer, const char *name,
                                   enum qr_dtype dtype, int64_t n_out, int64_t n_in,
                                   uint8_t **tiles, struct qr_error *err)
{
    struct qr_tile_index *index = &writer->index;
    size_t n_bytes = qr_tile_bytes(dtype, n_out, n_in);

    QR_ASSERT(writer->fd >= 0 && strlen(name) < QR_TILE_NAME_MAX && n_bytes > 0);
    struct qr_tile_entry *grown = qr_array_grow(QR_ARENA_ENGINE, index->entries, index->n,
                                                &writer->index_capacity, sizeof(*grown));
    if (grown == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    index->entries = grown;
    QR_TRY(reserve(writer, writer->used + n_bytes, err));
    char *copy = qr_strdup(QR_ARENA_ENGINE, name);
    if (copy == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    *tiles = writer->bytes + writer->used;
    writer->used += n_bytes;
    grown[index->n++] = (struct qr_tile_entry){.name = copy,
                                               .dtype = dtype,
                                               .n_out = n_out,
                                               .n_in = n_in,
                                               .tiles = *tiles,
                                               .n_bytes = n_bytes};
    return QR_OK;
}

struct qr_tile_index *qr_tile_writer_index(struct qr_tile_writer *writer)
{
    return &writer->index;
}

static enum qr_status append_record(const struct qr_tile_writer *writer,
                                    const struct qr_tile_entry *entry, struct qr_buffer *out)
{
    static const char zeros[8] = "";
    struct qr_tile_record record = {.tiles_at = (uint64_t)(entry->tiles - writer->bytes),
                                    .checksum = entry->checksum,
                                    .n_out = entry->n_out,
                                    .n_in = entry->n_in,
                                    .name_bytes = (uint32_t)strlen(entry->name) + 1};
    const char *dtype = qr_dtype_name(entry->dtype);

    memcpy(record.dtype, dtype, strnlen(dtype, sizeof(record.dtype)));
    QR_TRY(qr_buffer_append(out, &record, sizeof(record)));
    QR_TRY(qr_buffer_append(out, entry->name, record.name_bytes));
    size_t missing = sizeof(zeros) - record.name_bytes % sizeof(zeros);
    return qr_buffer_append(out, zeros, missing % sizeof(zeros));
}

/* Index and head. */
static enum qr_status write_ends(struct qr_tile_writer *writer,
                                 const uint8_t key[QR_TILE_KEY_BYTES], struct qr_error *err)
{
    struct qr_buffer index = {.arena = QR_ARENA_ENGINE};
    struct qr_tile_head head = {.magic = QR_TILE_MAGIC,
                                .version = QR_TILE_FILE_VERSION,
                                .n_matrices = (uint32_t)writer->index.n,
                                .index_at = writer->used};
    enum qr_status status = QR_OK;

    for (int32_t i = 0; i < writer->index.n && status == QR_OK; i++)
        status = append_record(writer, &writer->index.entries[i], &index);
    if (status != QR_OK) {
        qr_fail(err, status, "out of memory");
    } else if ((status = reserve(writer, writer->used + index.length, err)) == QR_OK) {
        memcpy(head.key, key, sizeof(head.key));
        head.file_bytes = writer->used + index.length;
        head.checksum = qr_tile_head_checksum(&head, index.data, index.length);
        memcpy(writer->bytes + writer->used, index.data, index.length);
        memcpy(writer->bytes, &head, sizeof(head));
    }
    qr_buffer_free(&index);
    return status;
}

/* A name of its own for a file that has none, so that it can take another's place. */
static enum qr_status name_file(struct qr_tile_writer *writer, struct qr_error *err)
{
    char file[64], path[PATH_MAX];

    if (writer->part != NULL)
        return QR_OK;
    snprintf(file, sizeof(file), "/proc/self/fd/%d", writer->fd);
    if ((size_t)snprintf(path, sizeof(path), "%s/quire-part.%ld.%lld", writer->dir, (long)getpid(),
                         (long long)qr_now_ns()) >= sizeof(path))
        return fail_in(writer, "cannot name its file", ENAMETOOLONG, err);
    if (linkat(AT_FDCWD, file, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
        return fail_in(writer, "cannot name its file", errno, err);
    writer->part = qr_strdup(QR_ARENA_ENGINE, path);
    if (writer->part == NULL) {
        unlink(path);
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    }
    return QR_OK;
}

enum qr_status qr_tile_writer_publish(struct qr_tile_writer *writer,
                                      const uint8_t key[QR_TILE_KEY_BYTES], const char *path,
                                      struct qr_error *err)
{
    QR_TRY(write_ends(writer, key, err));
    QR_TRY(name_file(writer, err));
    if (rename(writer->part, path) != 0)
        return fail_in(writer, "cannot name its file", errno, err);
    qr_free(writer->part);
    writer->part = NULL;
    drop_file(writer);
    (void)mprotect(writer->bytes, writer->capacity, PROT_READ); /* nobody writes to them */
    return QR_OK;
}

void qr_tile_writer_abandon(struct qr_tile_writer *writer)
{
    for (size_t at = 0; at < writer->used; at += MOVED_BYTES) {
        size_t n = writer->used - at < MOVED_BYTES ? writer->used - at : MOVED_BYTES;
        void *copy = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED)
            goto drop; /* the rest stays in the file, which loses its name */
        qr_wish_huge_pages(copy, n);
        memcpy(copy, writer->bytes + at, n);
        if (mremap(copy, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, writer->bytes + at) == MAP_FAILED) {
            munmap(copy, n);
            goto drop;
        }
    }
    (void)ftruncate(writer->fd, 0); /* what is left of the mapping would keep the disk's blocks */

drop:
    drop_file(writer);
}
