/* temp_dir.h - a directory of a test's own, for the files it makes up. */
#ifndef QUIRE_TESTS_SUPPORT_TEMP_DIR_H
#define QUIRE_TESTS_SUPPORT_TEMP_DIR_H

#include <stddef.h>

enum { QR_TEMP_PATH_MAX = 256 };

struct qr_temp_dir {
    char path[QR_TEMP_PATH_MAX];
};

/* Fails the running test on error. Flat: the files in it, no folders. */
void qr_temp_dir_make(struct qr_temp_dir *dir);
void qr_temp_dir_write(const struct qr_temp_dir *dir, const char *name, const void *bytes,
                       size_t n_bytes);
void qr_temp_dir_remove(struct qr_temp_dir *dir); /* and what is in it */

#endif /* QUIRE_TESTS_SUPPORT_TEMP_DIR_H */
