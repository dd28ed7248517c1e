/* checkpoint.c - see checkpoint.h for the contract: files, the index and look-up by name. */
#include "runtime/weights/checkpoint.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/mapped_file.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/synthetic.h"

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE  "model.safetensors.index.json"

struct shard {
    char *path;
    struct qr_mapped_file file;
};

struct qr_checkpoint {
    char *dir;
    struct shard *shards; /* [n_shards] */
    size_t n_shards;
    struct qr_tensor_list tensors; /* sorted by name; of a synthetic one: as they were asked for */
    bool is_synthetic;
    enum qr_dtype synthetic_dtype;
};

static enum qr_status no_memory(const struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for the checkpoint", checkpoint->dir);
}

static char *join_path(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = qr_malloc(QR_ARENA_ENGINE, size);

    if (path != NULL)
        snprintf(path, size, "%s/%s", dir, name);
    return path;
}

static const struct shard *find_shard(const struct qr_checkpoint *checkpoint, const char *name)
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
    struct shard *shard = &checkpoint->shards[checkpoint->n_shards];

    if ((shard->path = join_path(checkpoint->dir, name)) == NULL)
        return no_memory(checkpoint, err);
    checkpoint->n_shards++;
    QR_TRY(qr_mapped_file_open(shard->path, &shard->file, err));
    return qr_safetensors_parse(shard->path, shard->file.data, shard->file.size,
                                &checkpoint->tensors, err);
}

static int by_name(const void *a, const void *b)
{
    const struct qr_tensor_entry *x = a;
    const struct qr_tensor_entry *y = b;
    return strcmp(x->name, y->name);
}

static enum qr_status sort_tensors(struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    struct qr_tensor_entry *entries = checkpoint->tensors.entries;
    size_t count = checkpoint->tensors.count;

    qsort(entries, count, sizeof(*entries), by_name);
    for (size_t i = 1; i < count; i++)
        if (strcmp(entries[i - 1].name, entries[i].name) == 0)
            return qr_fail(err, QR_ERR_INVALID, "tensor %s stands in both %s and %s",
                           entries[i].name, entries[i - 1].path, entries[i].path);
    return QR_OK;
}

static const struct qr_tensor_entry *find_entry(const struct qr_checkpoint *checkpoint,
                                                const char *name)
{
    struct qr_tensor_entry key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, checkpoint->tensors.entries, checkpoint->tensors.count, sizeof(key),
                   by_name);
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
        return no_memory(checkpoint, err);
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
        const struct qr_tensor_entry *entry = find_entry(checkpoint, name);
        const struct shard *shard = find_shard(checkpoint, json_string_value(value));
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
        status = sort_tensors(checkpoint, err);
    if (status == QR_OK)
        status = check_index(checkpoint, index_path, weight_map, err);
    json_decref(index);
    return status;
}

static enum qr_status load_single(struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    checkpoint->shards = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*checkpoint->shards));
    if (checkpoint->shards == NULL)
        return no_memory(checkpoint, err);
    QR_TRY(open_shard(checkpoint, SINGLE_FILE, err));
    return sort_tensors(checkpoint, err);
}

static enum qr_status load_files(struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    enum qr_status status;
    char *single = join_path(checkpoint->dir, SINGLE_FILE);
    char *index = join_path(checkpoint->dir, INDEX_FILE);

    if (single == NULL || index == NULL)
        status = no_memory(checkpoint, err);
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

enum qr_status qr_checkpoint_open(const char *dir, struct qr_checkpoint **out, struct qr_error *err)
{
    enum qr_status status;

    *out = NULL;
    struct qr_checkpoint *checkpoint = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*checkpoint));
    if (checkpoint == NULL || (checkpoint->dir = qr_strdup(QR_ARENA_ENGINE, dir)) == NULL) {
        status = qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for the checkpoint", dir);
        goto fail;
    }
    if ((status = load_files(checkpoint, err)) != QR_OK)
        goto fail;
    *out = checkpoint;
    return QR_OK;

fail:
    qr_checkpoint_close(checkpoint);
    return status;
}

enum qr_status qr_checkpoint_open_synthetic(const char *name, enum qr_dtype dtype,
                                            struct qr_checkpoint **out, struct qr_error *err)
{
    *out = NULL;
    struct qr_checkpoint *checkpoint = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*checkpoint));
    if (checkpoint == NULL || (checkpoint->dir = qr_strdup(QR_ARENA_ENGINE, name)) == NULL) {
        qr_checkpoint_close(checkpoint);
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for the checkpoint", name);
    }
    checkpoint->is_synthetic = true;
    checkpoint->synthetic_dtype = dtype;
    *out = checkpoint;
    return QR_OK;
}

/* The tensors of a synthetic checkpoint are its own. */
static void free_synthetic(struct qr_checkpoint *checkpoint)
{
    for (size_t i = 0; checkpoint->is_synthetic && i < checkpoint->tensors.count; i++)
        qr_free((void *)(uintptr_t)checkpoint->tensors.entries[i].tensor.data);
}

void qr_checkpoint_close(struct qr_checkpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    free_synthetic(checkpoint);
    qr_tensor_list_free(&checkpoint->tensors);
    for (size_t i = 0; i < checkpoint->n_shards; i++) {
        qr_mapped_file_close(&checkpoint->shards[i].file);
        qr_free(checkpoint->shards[i].path);
    }
    qr_free(checkpoint->shards);
    qr_free(checkpoint->dir);
    qr_free(checkpoint);
}

const struct qr_tensor *qr_checkpoint_find(const struct qr_checkpoint *checkpoint, const char *name)
{
    const struct qr_tensor_entry *entry =
        checkpoint->is_synthetic ? NULL : find_entry(checkpoint, name);
    return entry != NULL && entry->is_readable ? &entry->tensor : NULL;
}

/* "[2, 3]" */
static const char *format_shape(int32_t n_dims, const int64_t *dims, char *out, size_t out_size)
{
    size_t length = 0;

    for (int32_t i = 0; i < n_dims && length < out_size; i++)
        length += (size_t)snprintf(out + length, out_size - length, "%s%lld", i > 0 ? ", " : "[",
                                   (long long)dims[i]);
    if (length < out_size)
        snprintf(out + length, out_size - length, "%s]", n_dims == 0 ? "[" : "");
    return out;
}

static enum qr_status make_synthetic(struct qr_checkpoint *checkpoint, const char *name,
                                     int32_t n_dims, const int64_t *dims, struct qr_tensor *out,
                                     struct qr_error *err)
{
    enum qr_dtype dtype = checkpoint->synthetic_dtype;
    struct qr_tensor_entry *entry;
    size_t n = 1;

    *out = (struct qr_tensor){.dtype = dtype, .n_dims = n_dims};
    for (int32_t i = 0; i < n_dims; i++) {
        out->dims[i] = dims[i];
        n *= (size_t)dims[i];
    }
    QR_TRY(qr_tensor_list_append(&checkpoint->tensors, checkpoint->dir, name, &entry, err));
    void *data = qr_calloc_huge(QR_ARENA_ENGINE, n, qr_dtype_size(dtype));
    if (data == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: no memory for tensor %s, %zu bytes", checkpoint->dir,
                       name, n * qr_dtype_size(dtype));
    qr_synthetic_fill(name, n_dims, dims, dtype, data);
    out->data = data;
    entry->dtype_name = qr_dtype_name(dtype);
    entry->is_readable = true;
    entry->tensor = *out;
    entry->end = (int64_t)(n * qr_dtype_size(dtype));
    return QR_OK;
}

enum qr_status qr_checkpoint_get(struct qr_checkpoint *checkpoint, const char *name, int32_t n_dims,
                                 const int64_t *dims, struct qr_tensor *out, struct qr_error *err)
{
    if (checkpoint->is_synthetic)
        return make_synthetic(checkpoint, name, n_dims, dims, out, err);
    const struct qr_tensor_entry *entry = find_entry(checkpoint, name);
    char wanted[128];
    char found[128];

    if (entry == NULL)
        return qr_fail(err, QR_ERR_NOT_FOUND,
                       "%s: tensor %s is missing; config.json asks for it with shape %s",
                       checkpoint->dir, name, format_shape(n_dims, dims, wanted, sizeof(wanted)));
    if (!entry->is_readable)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "%s: tensor %s has dtype %s; Quire computes with F32, F16 and BF16",
                       entry->path, name, entry->dtype_name);
    const struct qr_tensor *tensor = &entry->tensor;
    if (tensor->n_dims != n_dims || memcmp(tensor->dims, dims, (size_t)n_dims * sizeof(*dims)) != 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: tensor %s has shape %s, but config.json makes it %s", entry->path, name,
                       format_shape(tensor->n_dims, tensor->dims, found, sizeof(found)),
                       format_shape(n_dims, dims, wanted, sizeof(wanted)));
    *out = *tensor;
    return QR_OK;
}

int64_t qr_checkpoint_n_parameters(const struct qr_checkpoint *checkpoint)
{
    int64_t total = 0;

    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct qr_tensor_entry *entry = &checkpoint->tensors.entries[i];
        if (entry->is_readable)
            total += (entry->end - entry->begin) / (int64_t)qr_dtype_size(entry->tensor.dtype);
    }
    return total;
}

int64_t qr_checkpoint_n_bytes(const struct qr_checkpoint *checkpoint)
{
    int64_t total = 0;

    for (size_t i = 0; i < checkpoint->tensors.count; i++)
        total += checkpoint->tensors.entries[i].end - checkpoint->tensors.entries[i].begin;
    return total;
}

const char *qr_checkpoint_dtype_name(const struct qr_checkpoint *checkpoint)
{
    int64_t bytes[QR_DTYPE_COUNT] = {0};
    int largest = 0;

    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct qr_tensor_entry *entry = &checkpoint->tensors.entries[i];
        if (entry->is_readable)
            bytes[entry->tensor.dtype] += entry->end - entry->begin;
    }
    for (int i = 1; i < QR_DTYPE_COUNT; i++)
        if (bytes[i] > bytes[largest])
            largest = i;
    return qr_dtype_name((enum qr_dtype)largest);
}
