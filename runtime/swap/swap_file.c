/* swap_file.c - see swap_file.h for the contract. */
#include "runtime/swap/swap_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

static double gib(double n_bytes)
{
    return n_bytes / (1024.0 * 1024.0 * 1024.0);
}

static int open_then_unlink(const char *dir)
{
    char path[PATH_MAX];

    if ((size_t)snprintf(path, sizeof(path), "%s/quire-swap.XXXXXX", dir) >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static enum qr_status open_unnamed(struct qr_swap_file *file, const char *dir, struct qr_error *err)
{
    file->fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (file->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        file->fd = open_then_unlink(dir); /* a file system or a kernel without O_TMPFILE */
    if (file->fd >= 0)
        return QR_OK;

    switch (errno) {
    case ENOENT:
        return qr_fail(err, QR_ERR_NOT_FOUND,
                       "swap folder '%s' does not exist; create it or name another", dir);
    case ENOTDIR:
        return qr_fail(err, QR_ERR_INVALID, "swap folder '%s' is not a folder; name another", dir);
    case EACCES:
    case EPERM:
    case EROFS:
        return qr_fail(err, QR_ERR_IO,
                       "swap folder '%s' is not writable (%s); permit it or name another", dir,
                       strerror(errno));
    default:
        return qr_fail(err, QR_ERR_IO, "swap folder '%s': cannot make a file in it: %s", dir,
                       strerror(errno));
    }
}

/* Asked before the space is taken: to fill the disk first would harm others meanwhile. */
static enum qr_status check_room(int fd, const char *dir, int64_t n_bytes, struct qr_error *err)
{
    struct statvfs fs;
    struct rlimit limit;

    /* Growing a file past this limit is a signal that ends the process. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < (rlim_t)n_bytes)
        return qr_fail(err, QR_ERR_IO,
                       "swap folder '%s': %.2f GiB wanted, but this process may write files of "
                       "%.2f GiB at most (ulimit -f); raise the limit or want less",
                       dir, gib((double)n_bytes), gib((double)limit.rlim_cur));
    if (fstatvfs(fd, &fs) != 0)
        return qr_fail(err, QR_ERR_IO, "swap folder '%s': %s", dir, strerror(errno));
    double free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
    if (fs.f_blocks > 0 && free_bytes < (double)n_bytes)
        return qr_fail(err, QR_ERR_IO,
                       "swap folder '%s': %.2f GiB wanted, but its disk has %.2f GiB free; want "
                       "less or name a folder on another disk",
                       dir, gib((double)n_bytes), gib(free_bytes));
    return QR_OK;
}

static enum qr_status take_room(int fd, const char *dir, int64_t n_bytes, struct qr_error *err)
{
    QR_TRY(check_room(fd, dir, n_bytes, err));
    if (fallocate(fd, 0, 0, n_bytes) == 0)
        return QR_OK;
    if (errno == EOPNOTSUPP && ftruncate(fd, n_bytes) == 0) {
        char quoted[PATH_MAX];
        qr_log(QR_LOG_INFO, "swap_not_reserved", "dir=%s bytes=%lld",
               qr_log_quote(dir, quoted, sizeof(quoted)), (long long)n_bytes);
        return QR_OK;
    }
    return qr_fail(err, QR_ERR_IO,
                   "swap folder '%s': cannot set aside %.2f GiB: %s; want less or name a folder on "
                   "another disk",
                   dir, gib((double)n_bytes), strerror(errno));
}

/* 0, or the errno of what failed; EIO when not all bytes went through. */
static int write_and_read(int fd, void *slot, size_t slot_bytes)
{
    ssize_t n = pwrite(fd, slot, slot_bytes, 0);
    if (n >= 0)
        n = pread(fd, slot, slot_bytes, 0);
    if (n < 0)
        return errno;
    return (size_t)n == slot_bytes ? 0 : EIO;
}

/*
 * A file system may refuse O_DIRECT at once, or take it and refuse every access: with
 * alignments of its own, for example. Only an access tells.
 */
static enum qr_status choose_direct(struct qr_swap_file *file, const char *dir, size_t slot_bytes,
                                    struct qr_error *err)
{
    void *slot = qr_aligned_alloc(QR_ARENA_ENGINE, QR_SWAP_ALIGNMENT, slot_bytes);
    if (slot == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory for a swap buffer of %zu bytes", slot_bytes);
    memset(slot, 0, slot_bytes);

    int flags = fcntl(file->fd, F_GETFL);
    file->direct = fcntl(file->fd, F_SETFL, flags | O_DIRECT) == 0;
    int failure = file->direct ? 0 : errno;
    if (file->direct && (failure = write_and_read(file->fd, slot, slot_bytes)) == EINVAL)
        file->direct = fcntl(file->fd, F_SETFL, flags & ~O_DIRECT) != 0;
    if (!file->direct) {
        char quoted[PATH_MAX];
        qr_log(QR_LOG_INFO, "swap_buffered", "dir=%s reason=\"O_DIRECT: %s\"",
               qr_log_quote(dir, quoted, sizeof(quoted)), strerror(failure));
        failure = write_and_read(file->fd, slot, slot_bytes);
    }
    qr_free(slot);
    if (failure != 0)
        return qr_fail(err, QR_ERR_IO, "swap folder '%s': cannot write and read a file in it: %s",
                       dir, strerror(failure));
    return QR_OK;
}

enum qr_status qr_swap_file_open(struct qr_swap_file *file, const char *dir, int64_t slot_bytes,
                                 int32_t n_slots, struct qr_error *err)
{
    *file = (struct qr_swap_file){.fd = -1};
    int64_t n_bytes;
    if (__builtin_mul_overflow(slot_bytes, (int64_t)n_slots, &n_bytes))
        n_bytes = INT64_MAX;

    enum qr_status status = open_unnamed(file, dir, err);
    if (status == QR_OK)
        status = take_room(file->fd, dir, n_bytes, err);
    if (status == QR_OK)
        status = choose_direct(file, dir, (size_t)slot_bytes, err);
    if (status != QR_OK)
        qr_swap_file_close(file);
    return status;
}

void qr_swap_file_close(struct qr_swap_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct qr_swap_file){.fd = -1};
}
