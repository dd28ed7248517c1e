/*
 * record_file.c - see record_file.h for the contract.
 *
 * Two buffers: the engine fills one while the thread writes the other. The lock is held
 * to copy bytes in and to swap the two, never while the disk works. When the one being
 * filled is full, the disk is too slow: the bound on memory is kept and the recording ends.
 */
#include "runtime/engine/record_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { BUFFER_BYTES = 4 << 20 };

struct qr_record_file {
    char *path;
    int fd;
    int64_t max_bytes; /* INT64_MAX: no bound */
    pthread_t thread;
    bool thread_started;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t news;   /* for the thread: bytes, or the end */
    uint8_t *fill;         /* [BUFFER_BYTES] */
    size_t n_fill;
    int64_t n_taken; /* bytes since open */
    bool has_ended;  /* takes no more, for `reason` */
    enum qr_record_end reason;
    bool is_closing;

    /* The thread's own. */
    uint8_t *drain; /* [BUFFER_BYTES] */
    int64_t n_written;
};

static const char *const reason_names[QR_RECORD_END_COUNT] = {
    [QR_RECORD_END_CLOSED] = "closed",
    [QR_RECORD_END_TOO_SLOW] = "disk_too_slow",
    [QR_RECORD_END_FAILED] = "disk_failed",
    [QR_RECORD_END_LIMIT] = "size_limit",
};

/* With the lock held. */
static void end_recording(struct qr_record_file *file, enum qr_record_end reason)
{
    if (file->has_ended)
        return;
    file->has_ended = true;
    file->reason = reason;
    pthread_cond_signal(&file->news);
}

static bool take_bytes(void *arg, const void *bytes, size_t n)
{
    struct qr_record_file *file = arg;

    pthread_mutex_lock(&file->mutex);
    if ((int64_t)n + QR_RECORD_END_BYTES > file->max_bytes - file->n_taken) {
        end_recording(file, QR_RECORD_END_LIMIT);
    } else if (n > BUFFER_BYTES - file->n_fill) {
        end_recording(file, QR_RECORD_END_TOO_SLOW);
    } else if (!file->has_ended) {
        memcpy(file->fill + file->n_fill, bytes, n);
        file->n_fill += n;
        file->n_taken += (int64_t)n;
        pthread_cond_signal(&file->news);
    }
    bool goes_on = !file->has_ended;
    pthread_mutex_unlock(&file->mutex);
    return goes_on;
}

/* 0, or the errno of what failed. */
static int write_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno != EINTR)
            return errno;
        if (written > 0) {
            bytes += written;
            n -= (size_t)written;
        }
    }
    return 0;
}

/* Waits for bytes, which are in `drain` afterwards. 0: there will be no more. */
static size_t take_filled(struct qr_record_file *file)
{
    pthread_mutex_lock(&file->mutex);
    while (file->n_fill == 0 && !file->has_ended && !file->is_closing)
        pthread_cond_wait(&file->news, &file->mutex);
    uint8_t *filled = file->fill;
    size_t n = file->n_fill;
    file->fill = file->drain;
    file->n_fill = 0;
    file->drain = filled;
    pthread_mutex_unlock(&file->mutex);
    return n;
}

static void note_failure(struct qr_record_file *file, int error)
{
    char quoted[600];

    pthread_mutex_lock(&file->mutex);
    end_recording(file, QR_RECORD_END_FAILED);
    file->reason = QR_RECORD_END_FAILED; /* whatever it was that ended before */
    pthread_mutex_unlock(&file->mutex);
    qr_log(QR_LOG_WARN, "recording_failed", "file=%s error=\"%s\"",
           qr_log_quote(file->path, quoted, sizeof(quoted)), strerror(error));
    /* The mark belongs behind whole records; in what is not a file there is nothing to cut. */
    if (ftruncate(file->fd, file->n_written) == 0)
        (void)lseek(file->fd, file->n_written, SEEK_SET);
}

static void write_end_mark(struct qr_record_file *file, enum qr_record_end reason)
{
    uint8_t mark[QR_RECORD_END_BYTES];
    char quoted[600];

    qr_record_end_mark(reason, mark);
    bool is_marked = write_all(file->fd, mark, sizeof(mark)) == 0;
    qr_log(QR_LOG_WARN, "recording_ended", "file=%s reason=%s bytes=%lld marked=%s",
           qr_log_quote(file->path, quoted, sizeof(quoted)), reason_names[reason],
           (long long)file->n_written, is_marked ? "true" : "false");
}

static void *write_to_disk(void *arg)
{
    struct qr_record_file *file = arg;
    size_t n;

    while ((n = take_filled(file)) > 0) {
        int error = write_all(file->fd, file->drain, n);
        if (error != 0) {
            note_failure(file, error);
            break;
        }
        file->n_written += (int64_t)n;
    }
    pthread_mutex_lock(&file->mutex);
    bool has_ended = file->has_ended;
    enum qr_record_end reason = file->reason;
    pthread_mutex_unlock(&file->mutex);
    if (has_ended)
        write_end_mark(file, reason);
    return NULL;
}

/* A recording that is there already may be what is left of a crash: it is kept. */
static enum qr_status open_path(struct qr_record_file *file, struct qr_error *err)
{
    struct stat info;
    int flags = O_WRONLY | O_CLOEXEC;

    if (stat(file->path, &info) != 0 || S_ISREG(info.st_mode)) {
        char old[4096];
        if (snprintf(old, sizeof(old), "%s.old", file->path) >= (int)sizeof(old))
            return qr_fail(err, QR_ERR_INVALID, "%.64s...: the path is too long", file->path);
        if (rename(file->path, old) != 0 && errno != ENOENT)
            return qr_fail(err, QR_ERR_IO, "%s: cannot be renamed to %s.old: %s", file->path,
                           file->path, strerror(errno));
        flags |= O_CREAT | O_EXCL;
    }
    file->fd = open(file->path, flags, 0600); /* prompts are nobody else's business */
    if (file->fd < 0)
        return qr_fail(err, QR_ERR_IO, "%s: cannot be opened for a recording: %s", file->path,
                       strerror(errno));
    return QR_OK;
}

enum qr_status qr_record_file_open(const char *path, int64_t max_bytes, struct qr_record_file **out,
                                   struct qr_error *err)
{
    enum qr_status status;

    *out = NULL;
    struct qr_record_file *file = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*file));
    if (file == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory", path);
    file->fd = -1;
    file->max_bytes = max_bytes > 0 ? max_bytes : INT64_MAX;
    pthread_mutex_init(&file->mutex, NULL);
    pthread_cond_init(&file->news, NULL);
    file->path = qr_strdup(QR_ARENA_ENGINE, path);
    file->fill = qr_malloc(QR_ARENA_ENGINE, BUFFER_BYTES);
    file->drain = qr_malloc(QR_ARENA_ENGINE, BUFFER_BYTES);
    if (file->path == NULL || file->fill == NULL || file->drain == NULL) {
        status = qr_fail(err, QR_ERR_NOMEM, "%s: out of memory", path);
        goto fail;
    }
    if ((status = open_path(file, err)) != QR_OK)
        goto fail;
    if (pthread_create(&file->thread, NULL, write_to_disk, file) != 0) {
        status = qr_fail(err, QR_ERR_NOMEM, "%s: cannot start the thread that writes it", path);
        goto fail;
    }
    file->thread_started = true;
    *out = file;
    return QR_OK;

fail:
    qr_record_file_close(file);
    return status;
}

void qr_record_file_close(struct qr_record_file *file)
{
    if (file == NULL)
        return;
    if (file->thread_started) {
        pthread_mutex_lock(&file->mutex);
        file->is_closing = true;
        pthread_cond_signal(&file->news);
        pthread_mutex_unlock(&file->mutex);
        pthread_join(file->thread, NULL);
    }
    if (file->fd >= 0)
        close(file->fd);
    pthread_cond_destroy(&file->news);
    pthread_mutex_destroy(&file->mutex);
    qr_free(file->drain);
    qr_free(file->fill);
    qr_free(file->path);
    qr_free(file);
}

struct qr_record_sink qr_record_file_sink(struct qr_record_file *file)
{
    return (struct qr_record_sink){.write = take_bytes, .arg = file};
}

void qr_record_file_origin(struct qr_record_origin *origin)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *origin = (struct qr_record_origin){
        .version = QUIRE_VERSION,
        .start_unix_ns = (int64_t)now.tv_sec * QR_NS_PER_SEC + now.tv_nsec,
        .start_ns = qr_now_ns(),
    };
}
