/* temp_dir.c - see temp_dir.h for the contract. */
#include "tests/support/temp_dir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void qr_temp_dir_make(struct qr_temp_dir *dir)
{
    const char *base = getenv("TMPDIR");
    snprintf(dir->path, sizeof(dir->path), "%s/quire-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir->path));
}

void qr_temp_dir_write(const struct qr_temp_dir *dir, const char *name, const void *bytes,
                       size_t n_bytes)
{
    char path[QR_TEMP_PATH_MAX + 256];

    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
}

void qr_temp_dir_remove(struct qr_temp_dir *dir)
{
    char path[QR_TEMP_PATH_MAX + 256];
    struct dirent *entry;
    DIR *listing = opendir(dir->path);

    assert_non_null(listing);
    while ((entry = readdir(listing)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", dir->path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(path);
    }
    closedir(listing);
    assert_int_equal(rmdir(dir->path), 0);
}
