/*
 * corpus_main.c - runs a fuzz target once on each file of a folder, and on nothing at all: how
 * ordinary builds keep the targets and what they have once found.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mapped_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    struct qr_mapped_file file;
    struct qr_error err = {0};

    if (qr_mapped_file_open(path, &file, &err) != QR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (file.size > 0)
        LLVMFuzzerTestOneInput(file.data, file.size);
    qr_mapped_file_close(&file);
    return 0;
}

static int run_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    int n_failed = 0;
    int n_files = 0;

    if (dir == NULL) {
        if (errno == ENOENT) /* a target without seeds */
            return 0;
        fprintf(stderr, "%s: %s\n", folder, strerror(errno));
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        n_failed += run_file(path);
        n_files++;
    }
    closedir(dir);
    printf("%d files\n", n_files);
    return n_failed;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    return run_folder(argv[1]) == 0 ? 0 : 1;
}
