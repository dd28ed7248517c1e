/* checkpoint_safetensors.c - the safetensors files of a directory, and their index. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "runtime/weights/checkpoint_internal.h"
#include "runtime/weights/safetensors.h"

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE  "model.safetensors.index.json"

static char *join_path(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = qr_malloc(QR_ARENA_ENGINE, size);

    if (path != NULL)
        snprintf(path, size, "%s/%s", dir, name);
    return path;
}

static const struct qr_checkpoint_shard *find_shard(const struct qr_checkpoint *checkpoint,
                                                    const char *name)
{
    size_t prefix = strlen(checkpoint->dir) + 1;

    for (size_t i = 0; i < checkpoint->n_shards; i++)
        if (strcmp(checkpoint->shards[i].path + prefix, name) == 0)
            return &checkpoint->shards[i];
    return NULL;
}

/* `checkpoint->shards` has room for it. */
static enum qr_status open_shard(struct qr_checkpoint *checkpoint, const char *name,
                                 struct qr_error *err)
{
    struct qr_checkpoint_shard *shard = &checkpoint->shards[checkpoint->n_shards];

    if ((shard->path = join_path(checkpoint->dir, name)) == NULL)
        return qr_checkpoint_no_memory(checkpoint, err);
    checkpoint->n_shards++;
    QR_TRY(qr_mapped_file_open(shard->path, &shard->file, err));
    return qr_safetensors_parse(shard->path, shard->file.data, shard->file.size,
                                &checkpoint->tensors, err);
}

/* A plain name of a file in the directory: an index must not reach outside of it. */
static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static enum qr_status open_indexed_shards(struct qr_checkpoint *checkpoint, const char *index_path,
                                          json_t *weight_map, struct qr_error *err)
{
    const char *name;
    json_t *value;

    checkpoint->shards =
        qr_calloc(QR_ARENA_ENGINE, json_object_size(weight_map), sizeof(*checkpoint->shards));
    if (checkpoint->shards == NULL)
        return qr_checkpoint_no_memory(checkpoint, err);
    json_object_foreach(weight_map, name, value)
    {
        const char *file = json_string_value(value);
        if (file == NULL || !is_plain_name(file))
            return qr_fail(err, QR_ERR_INVALID,
                           "%s: tensor %s: \"%.128s\" is no name of a file in this directory",
                           index_path, name, file != NULL ? file : "(no string)");
        if (find_shard(checkpoint, file) != NULL)
            continue;
        enum qr_status status = open_shard(checkpoint, file, err);
        if (status == QR_ERR_NOT_FOUND)
            qr_error_prefix(err, "%s names it", index_path);
        QR_TRY(status);
    }
    return QR_OK;
}

static enum qr_status check_index(const struct qr_checkpoint *checkpoint, const char *index_path,
                                  json_t *weight_map, struct qr_error *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(weight_map, name, value)
    {
        const struct qr_tensor_entry *entry = qr_checkpoint_find_entry(checkpoint, name);
        const struct qr_checkpoint_shard *shard = find_shard(checkpoint, json_string_value(value));
        if (entry == NULL || entry->path != shard->path)
            return qr_fail(err, QR_ERR_INVALID, "%s: tensor %s is not in %s as the index says",
                           index_path, name, json_string_value(value));
    }
    return QR_OK;
}

static enum qr_status load_index(struct qr_checkpoint *checkpoint, const char *index_path,
                                 struct qr_error *err)
{
    struct qr_mapped_file file;
    json_error_t json_error;

    QR_TRY(qr_mapped_file_open(index_path, &file, err));
    json_t *index =
        json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &json_error);
    qr_mapped_file_close(&file);
    if (index == NULL)
        return qr_fail(err, QR_ERR_INVALID, "%s: no valid JSON: %s at line %d", index_path,
                       json_error.text, json_error.line);

    json_t *weight_map = json_object_get(index, "weight_map");
    enum qr_status status = QR_OK;
    if (json_object_size(weight_map) == 0)
        status = qr_fail(err, QR_ERR_INVALID, "%s: weight_map is missing, empty or no object",
                         index_path);
    if (status == QR_OK)
        status = open_indexed_shards(checkpoint, index_path, weight_map, err);
    if (status == QR_OK)
        status = qr_checkpoint_sort(checkpoint, err);
    if (status == QR_OK)
        status = check_index(checkpoint, index_path, weight_map, err);
    json_decref(index);
    return status;
}

static enum qr_status load_single(struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    checkpoint->shards = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*checkpoint->shards));
    if (checkpoint->shards == NULL)
        return qr_checkpoint_no_memory(checkpoint, err);
    return open_shard(checkpoint, SINGLE_FILE, err);
}

enum qr_status qr_checkpoint_load_safetensors(struct qr_checkpoint *checkpoint,
                                              struct qr_error *err)
{
    enum qr_status status;
    char *single = join_path(checkpoint->dir, SINGLE_FILE);
    char *index = join_path(checkpoint->dir, INDEX_FILE);

    if (single == NULL || index == NULL)
        status = qr_checkpoint_no_memory(checkpoint, err);
    else if (access(single, F_OK) == 0)
        status = load_single(checkpoint, err);
    else if (access(index, F_OK) == 0)
        status = load_index(checkpoint, index, err);
    else
        status = qr_fail(err, QR_ERR_NOT_FOUND, "%s: holds neither " SINGLE_FILE " nor " INDEX_FILE,
                         checkpoint->dir);
    qr_free(single);
    qr_free(index);
    return status;
}
