/* checkpoint.c - see checkpoint.h for the contract: look-up by name. */
#include "runtime/weights/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "runtime/weights/checkpoint_internal.h"
#include "runtime/weights/synthetic.h"

enum qr_status qr_checkpoint_no_memory(const struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for the checkpoint", checkpoint->dir);
}

static int by_name(const void *a, const void *b)
{
    const struct qr_tensor_entry *x = a;
    const struct qr_tensor_entry *y = b;
    return strcmp(x->name, y->name);
}

enum qr_status qr_checkpoint_sort(struct qr_checkpoint *checkpoint, struct qr_error *err)
{
    struct qr_tensor_entry *entries = checkpoint->tensors.entries;
    size_t count = checkpoint->tensors.count;

    if (count > 0)
        qsort(entries, count, sizeof(*entries), by_name);
    for (size_t i = 1; i < count; i++)
        if (strcmp(entries[i - 1].name, entries[i].name) == 0)
            return qr_fail(err, QR_ERR_INVALID, "tensor %s stands in both %s and %s",
                           entries[i].name, entries[i - 1].path, entries[i].path);
    return QR_OK;
}

struct qr_tensor_entry *qr_checkpoint_find_entry(const struct qr_checkpoint *checkpoint,
                                                 const char *name)
{
    struct qr_tensor_entry key = {.name = (char *)(uintptr_t)name};

    if (checkpoint->tensors.count == 0)
        return NULL;
    return bsearch(&key, checkpoint->tensors.entries, checkpoint->tensors.count, sizeof(key),
                   by_name);
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
    status = qr_gguf_is_path(dir) ? qr_checkpoint_load_gguf(checkpoint, err)
                                  : qr_checkpoint_load_safetensors(checkpoint, err);
    if (status != QR_OK || (status = qr_checkpoint_sort(checkpoint, err)) != QR_OK)
        goto fail;
    *out = checkpoint;
    return QR_OK;

fail:
    qr_checkpoint_close(checkpoint);
    return status;
}

enum qr_status qr_checkpoint_open_synthetic(const char *name, enum qr_dtype dtype,
                                            bool device_fills, struct qr_checkpoint **out,
                                            struct qr_error *err)
{
    *out = NULL;
    struct qr_checkpoint *checkpoint = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*checkpoint));
    if (checkpoint == NULL || (checkpoint->dir = qr_strdup(QR_ARENA_ENGINE, name)) == NULL) {
        qr_checkpoint_close(checkpoint);
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory for the checkpoint", name);
    }
    checkpoint->is_synthetic = true;
    checkpoint->device_fills = device_fills;
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
    for (size_t i = 0; i < checkpoint->n_gguf_files; i++)
        qr_gguf_close(&checkpoint->gguf_files[i]);
    qr_free(checkpoint->gguf_files);
    for (int32_t i = 0; i < checkpoint->n_copies; i++)
        qr_free(checkpoint->copies[i].data);
    qr_free(checkpoint->copies);
    qr_free(checkpoint->dir);
    qr_free(checkpoint);
}

const struct qr_tensor *qr_checkpoint_find(const struct qr_checkpoint *checkpoint, const char *name)
{
    const struct qr_tensor_entry *entry =
        checkpoint->is_synthetic ? NULL : qr_checkpoint_find_entry(checkpoint, name);
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
    if (checkpoint->device_fills) {
        out->synthetic = true;
        qr_synthetic_describe(name, n_dims, dims, &out->synthetic_key, &out->synthetic_bound);
    } else {
        void *data = qr_calloc_huge(QR_ARENA_ENGINE, n, qr_dtype_size(dtype));
        if (data == NULL)
            return qr_fail(err, QR_ERR_NOMEM, "%s: no memory for tensor %s, %zu bytes",
                           checkpoint->dir, name, n * qr_dtype_size(dtype));
        qr_synthetic_fill(name, n_dims, dims, dtype, data);
        out->data = data;
    }
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
    struct qr_tensor_entry *entry = qr_checkpoint_find_entry(checkpoint, name);
    const char *settings = checkpoint->n_gguf_files > 0 ? "its metadata" : "config.json";
    char wanted[128];
    char found[128];

    if (entry == NULL)
        return qr_fail(err, QR_ERR_NOT_FOUND,
                       "%s: tensor %s is missing; %s asks for it with shape %s", checkpoint->dir,
                       name, settings, format_shape(n_dims, dims, wanted, sizeof(wanted)));
    if (!entry->is_readable)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "%s: tensor %s has dtype %s; Quire computes with F32, F16, BF16, F8_E4M3 "
                       "and GGUF's Q4_0 to Q8_0 and Q4_K to Q6_K",
                       entry->path, name, entry->dtype_name);
    const struct qr_tensor *tensor = &entry->tensor;
    if (tensor->n_dims != n_dims || memcmp(tensor->dims, dims, (size_t)n_dims * sizeof(*dims)) != 0)
        return qr_fail(err, QR_ERR_INVALID, "%s: tensor %s has shape %s, but %s makes it %s",
                       entry->path, name,
                       format_shape(tensor->n_dims, tensor->dims, found, sizeof(found)), settings,
                       format_shape(n_dims, dims, wanted, sizeof(wanted)));
    QR_TRY(qr_checkpoint_finish(checkpoint, entry, err));
    *out = *tensor;
    return QR_OK;
}

/* Synthetic parts of a tensor are tensors of their own. */
static enum qr_status make_synthetic_rows(struct qr_checkpoint *checkpoint, const char *name,
                                          int32_t n_dims, const int64_t *dims, int64_t first,
                                          int64_t n, struct qr_tensor *out, struct qr_error *err)
{
    char part[256];
    int64_t part_dims[QR_TENSOR_MAX_DIMS];

    snprintf(part, sizeof(part), "%s[%lld]", name, (long long)first);
    memcpy(part_dims, dims, (size_t)n_dims * sizeof(*dims));
    part_dims[0] = n;
    return make_synthetic(checkpoint, part, n_dims, part_dims, out, err);
}

/* Makes the tensor its rows [first, first + n), with the scales that are theirs. */
static void cut_rows(struct qr_tensor *tensor, int64_t first, int64_t n)
{
    size_t row_bytes = (size_t)(qr_tensor_n_bytes(tensor) / tensor->dims[0]);

    tensor->data = (const char *)tensor->data + (size_t)first * row_bytes;
    tensor->dims[0] = n;
    if (tensor->scales == NULL)
        return;
    int64_t per_row = (tensor->dims[1] + tensor->scale_columns - 1) / tensor->scale_columns;
    tensor->scales += first / tensor->scale_rows * per_row;
    tensor->scale_first_row = (int32_t)(first % tensor->scale_rows);
}

enum qr_status qr_checkpoint_get_rows(struct qr_checkpoint *checkpoint, const char *name,
                                      int32_t n_dims, const int64_t *dims, int64_t first, int64_t n,
                                      struct qr_tensor *out, struct qr_error *err)
{
    QR_ASSERT(n_dims >= 1 && first >= 0 && n >= 1 && first + n <= dims[0]);
    if (checkpoint->is_synthetic)
        return make_synthetic_rows(checkpoint, name, n_dims, dims, first, n, out, err);
    QR_TRY(qr_checkpoint_get(checkpoint, name, n_dims, dims, out, err));
    cut_rows(out, first, n);
    return QR_OK;
}

/* to[r][c] = from[c][first + r]; from [n_in][n_all], to [n][n_in], of `size` bytes each */
static void transpose(const char *from, size_t n_in, size_t n_all, size_t first, size_t n,
                      size_t size, char *to)
{
    for (size_t c = 0; c < n_in; c++)
        for (size_t r = 0; r < n; r++)
            memcpy(to + (r * n_in + c) * size, from + (c * n_all + first + r) * size, size);
}

/* Whether the file has the transpose of what a Hugging Face checkpoint has. */
static bool is_transposed(const struct qr_checkpoint *checkpoint, const char *name)
{
    const struct qr_tensor_entry *entry = qr_checkpoint_find_entry(checkpoint, name);
    return entry != NULL && entry->change == QR_TENSOR_TRANSPOSED;
}

enum qr_status qr_checkpoint_get_transposed_rows(struct qr_checkpoint *checkpoint, const char *name,
                                                 const int64_t *dims, int64_t first, int64_t n,
                                                 struct qr_tensor *out, struct qr_error *err)
{
    const int64_t stored[2] = {dims[1], dims[0]};

    if (checkpoint->is_synthetic || is_transposed(checkpoint, name))
        return qr_checkpoint_get_rows(checkpoint, name, 2, dims, first, n, out, err);
    QR_ASSERT(first >= 0 && n >= 1 && first + n <= dims[0]);
    QR_TRY(qr_checkpoint_get(checkpoint, name, 2, stored, out, err));
    if (qr_dtype_block_size(out->dtype) != 1 || out->scales != NULL)
        return qr_fail(err, QR_ERR_UNSUPPORTED, "%s: tensor %s: %s cannot be transposed",
                       checkpoint->dir, name, qr_dtype_name(out->dtype));
    size_t size = qr_dtype_size(out->dtype);
    char *copy = qr_checkpoint_take(checkpoint, (size_t)n * (size_t)dims[1] * size);
    if (copy == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: no memory to transpose tensor %s", checkpoint->dir,
                       name);
    transpose(out->data, (size_t)dims[1], (size_t)dims[0], (size_t)first, (size_t)n, size, copy);
    qr_checkpoint_forget(checkpoint, out->data, (size_t)dims[0] * (size_t)dims[1] * size);
    out->data = copy;
    out->dims[0] = n;
    out->dims[1] = dims[1];
    return QR_OK;
}

/* Gives data[n_bytes] back where they are part of whole[size]. */
static void forget_part(const void *whole, size_t size, const void *data, size_t n_bytes)
{
    uintptr_t offset = (uintptr_t)data - (uintptr_t)whole;

    if (whole != NULL && (uintptr_t)data >= (uintptr_t)whole && offset <= size &&
        n_bytes <= size - offset)
        qr_forget_pages(data, n_bytes);
}

void qr_checkpoint_forget(const struct qr_checkpoint *checkpoint, const void *data, size_t n_bytes)
{
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        qr_mapped_file_forget(&checkpoint->shards[i].file, data, n_bytes);
    for (size_t i = 0; i < checkpoint->n_gguf_files; i++)
        qr_mapped_file_forget(&checkpoint->gguf_files[i].mapping, data, n_bytes);
    for (int32_t i = 0; i < checkpoint->n_copies; i++)
        forget_part(checkpoint->copies[i].data, checkpoint->copies[i].n_bytes, data, n_bytes);
    for (size_t i = 0; checkpoint->is_synthetic && i < checkpoint->tensors.count; i++) {
        const struct qr_tensor *tensor = &checkpoint->tensors.entries[i].tensor;
        forget_part(tensor->data, (size_t)qr_tensor_n_bytes(tensor), data, n_bytes);
    }
}

static void forget_file(const struct qr_mapped_file *file)
{
    qr_mapped_file_forget(file, file->data, file->size);
}

void qr_checkpoint_forget_files(const struct qr_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        forget_file(&checkpoint->shards[i].file);
    for (size_t i = 0; i < checkpoint->n_gguf_files; i++)
        forget_file(&checkpoint->gguf_files[i].mapping);
}

int64_t qr_checkpoint_n_parameters(const struct qr_checkpoint *checkpoint)
{
    int64_t total = 0;

    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct qr_tensor_entry *entry = &checkpoint->tensors.entries[i];
        if (entry->is_readable && qr_checkpoint_is_parameter(entry->name))
            total += qr_tensor_n_elements(&entry->tensor);
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

enum qr_dtype qr_checkpoint_dtype(const struct qr_checkpoint *checkpoint)
{
    int64_t bytes[QR_DTYPE_END] = {0};
    int largest = 0;

    if (checkpoint->is_synthetic)
        return checkpoint->synthetic_dtype;
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const struct qr_tensor_entry *entry = &checkpoint->tensors.entries[i];
        if (entry->is_readable)
            bytes[entry->tensor.dtype] += entry->end - entry->begin;
    }
    for (int i = 1; i < QR_DTYPE_END; i++)
        if (bytes[i] > bytes[largest])
            largest = i;
    return (enum qr_dtype)largest;
}
