/* model_config_file.c - finds and reads config.json and generation_config.json. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mapped_file.h"
#include "runtime/models/gguf_config.h"

enum { PATH_SIZE = 4096 };

static enum qr_status join(const char *dir, const char *name, char path[PATH_SIZE],
                           struct qr_error *err)
{
    int n = snprintf(path, PATH_SIZE, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_SIZE)
        return qr_fail(err, QR_ERR_INVALID, "%.256s...: the path is too long", dir);
    return QR_OK;
}

static enum qr_status load_generation(const char *dir, struct qr_model_config *config,
                                      struct qr_error *err)
{
    char path[PATH_SIZE];
    struct qr_mapped_file file;

    QR_TRY(join(dir, "generation_config.json", path, err));
    if (access(path, F_OK) != 0)
        return QR_OK; /* many models have none */
    QR_TRY(qr_mapped_file_open(path, &file, err));
    enum qr_status status =
        qr_model_config_parse_generation(path, (const char *)file.data, file.size, config, err);
    qr_mapped_file_close(&file);
    return status;
}

enum qr_status qr_model_config_load(const char *path, struct qr_model_config *config,
                                    struct qr_error *err)
{
    char config_path[PATH_SIZE];
    struct qr_mapped_file file;
    struct stat info;

    *config = (struct qr_model_config){0};
    if (qr_gguf_is_path(path))
        return qr_gguf_config_load(path, config, err);
    if (stat(path, &info) != 0)
        return qr_fail(err, errno == ENOENT ? QR_ERR_NOT_FOUND : QR_ERR_IO, "%s: %s", path,
                       strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        QR_TRY(join(path, "config.json", config_path, err));
        path = config_path;
    }
    QR_TRY(qr_mapped_file_open(path, &file, err));
    enum qr_status status =
        qr_model_config_parse(path, (const char *)file.data, file.size, config, err);
    qr_mapped_file_close(&file);
    if (status != QR_OK)
        return status;

    size_t length = strlen(path);
    size_t name = strlen("config.json");
    if (length <= name || strcmp(path + length - name - 1, "/config.json") != 0)
        return QR_OK; /* a file of another name: what stands beside it may be of another model */
    char dir[PATH_SIZE];
    snprintf(dir, sizeof(dir), "%.*s", (int)(length - name - 1), path);
    return load_generation(dir, config, err);
}
