/* mapped_file.c - see mapped_file.h for the contract. */
#include "base/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum qr_status map(int fd, const char *path, struct qr_mapped_file *file,
                          struct qr_error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return qr_fail(err, QR_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return qr_fail(err, QR_ERR_INVALID, "%s: not a regular file", path);
    file->modified = st.st_mtim;
    file->changed = st.st_ctim;
    if (st.st_size == 0)
        return QR_OK; /* nothing to map */
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return qr_fail(err, QR_ERR_IO, "%s: cannot map it: %s", path, strerror(errno));
    file->data = data;
    file->size = (size_t)st.st_size;
    return QR_OK;
}

enum qr_status qr_mapped_file_open(const char *path, struct qr_mapped_file *file,
                                   struct qr_error *err)
{
    *file = (struct qr_mapped_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return qr_fail(err, errno == ENOENT ? QR_ERR_NOT_FOUND : QR_ERR_IO, "%s: %s", path,
                       strerror(errno));
    enum qr_status status = map(fd, path, file, err);
    if (status != QR_OK)
        *file = (struct qr_mapped_file){0};
    close(fd); /* the mapping stays */
    return status;
}

void qr_forget_pages(const void *data, size_t n_bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t last = ((uintptr_t)data + n_bytes) / page * page;

    if (first < last)
        (void)madvise((void *)first, last - first, MADV_DONTNEED); /* only saves memory */
}

void qr_mapped_file_forget(const struct qr_mapped_file *file, const void *data, size_t n_bytes)
{
    uintptr_t begin = (uintptr_t)data;
    uintptr_t file_begin = (uintptr_t)file->data;

    if (file->data == NULL || begin < file_begin || begin - file_begin > file->size ||
        n_bytes > file->size - (begin - file_begin))
        return;
    qr_forget_pages(data, n_bytes);
}

void qr_mapped_file_close(struct qr_mapped_file *file)
{
    if (file->data != NULL)
        munmap((void *)(uintptr_t)file->data, file->size);
    *file = (struct qr_mapped_file){0};
}
