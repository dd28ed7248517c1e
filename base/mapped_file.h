/* mapped_file.h - a file mapped read-only into memory. */
#ifndef QUIRE_BASE_MAPPED_FILE_H
#define QUIRE_BASE_MAPPED_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/status.h"

struct qr_mapped_file {
    const uint8_t *data;      /* NULL for an empty file */
    size_t size;              /* bytes */
    struct timespec modified; /* when it was opened: st_mtim and st_ctim */
    struct timespec changed;
};

QR_BEGIN_DECLS

/* Errors name the path. On error *file is zeroed and needs no close. */
QR_MUST_CHECK enum qr_status qr_mapped_file_open(const char *path, struct qr_mapped_file *file,
                                                 struct qr_error *err);
/*
 * Gives back the memory of the whole pages of data[n_bytes], whose content is lost: what is mapped
 * is read from its file again, what was allocated is zeros.
 */
void qr_forget_pages(const void *data, size_t n_bytes);
/*
 * The process's memory for data[n_bytes] is given back, for someone who has copied them: reading
 * them again reads the file. Bytes outside of the file's mapping are left alone.
 */
void qr_mapped_file_forget(const struct qr_mapped_file *file, const void *data, size_t n_bytes);
void qr_mapped_file_close(struct qr_mapped_file *file); /* accepts a zeroed one */

QR_END_DECLS

#endif /* QUIRE_BASE_MAPPED_FILE_H */
