/* gguf.c - see gguf.h for the contract: reads and checks a file. gguf_values.c looks things up. */
#include "runtime/weights/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "runtime/weights/gguf_internal.h"

enum {
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 1 << 20,
    MAX_KEY = 65535,                   /* bytes, the format's limit */
    MAX_NAME = QR_TENSOR_NAME_MAX - 1, /* the format's limit is 64 */
    MIN_VALUE_BYTES = 13,              /* a key of 0 bytes, a type and a byte */
    MIN_TENSOR_BYTES = 32,
};

/* Where in the file is read. Each reader says false, and has filled *err, at its end. */
struct reader {
    const char *path;
    const uint8_t *data;
    size_t size;
    size_t at;
    struct qr_error *err;
};

static enum qr_status cut_short(const struct reader *reader, const char *what)
{
    return qr_fail(reader->err, QR_ERR_INVALID,
                   "%s: %s at byte %zu goes beyond the end of the file, %zu bytes; it may be cut "
                   "short",
                   reader->path, what, reader->at, reader->size);
}

static enum qr_status read_number(struct reader *reader, const char *what, size_t n_bytes,
                                  uint64_t *out)
{
    if (reader->size - reader->at < n_bytes)
        return cut_short(reader, what);
    *out = qr_gguf_little_endian(reader->data + reader->at, n_bytes);
    reader->at += n_bytes;
    return QR_OK;
}

static enum qr_status read_text(struct reader *reader, const char *what, struct qr_gguf_text *out)
{
    uint64_t length = 0;

    QR_TRY(read_number(reader, what, sizeof(length), &length));
    if (length > reader->size - reader->at)
        return cut_short(reader, what);
    *out = (struct qr_gguf_text){.bytes = (const char *)reader->data + reader->at,
                                 .n_bytes = (size_t)length};
    reader->at += (size_t)length;
    return QR_OK;
}

/* ---- metadata ---- */

static enum qr_status read_type(struct reader *reader, const struct qr_gguf_value *value,
                                enum qr_gguf_type *out)
{
    uint64_t type = 0;

    QR_TRY(read_number(reader, "the type of a value", sizeof(uint32_t), &type));
    if (type >= QR_GGUF_TYPES)
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED, "%s: %.*s: value type %llu is unknown",
                       reader->path, (int)value->key.n_bytes, value->key.bytes,
                       (unsigned long long)type);
    *out = (enum qr_gguf_type)type;
    return QR_OK;
}

/* Moves behind the items of the value. */
static enum qr_status skip_items(struct reader *reader, const struct qr_gguf_value *value)
{
    size_t item_bytes = qr_gguf_type_bytes(value->type);
    struct qr_gguf_text text = {0};

    if (value->type == QR_GGUF_STRING) {
        if (value->count > (reader->size - reader->at) / sizeof(uint64_t))
            return cut_short(reader, "an array of strings");
        for (uint64_t i = 0; i < value->count; i++)
            QR_TRY(read_text(reader, "a string", &text));
        return QR_OK;
    }
    if (value->count > (reader->size - reader->at) / item_bytes)
        return cut_short(reader, "a value");
    reader->at += (size_t)value->count * item_bytes;
    return QR_OK;
}

static enum qr_status read_value(struct reader *reader, struct qr_gguf_value *value)
{
    value->count = 1;
    QR_TRY(read_text(reader, "the key of a value", &value->key));
    if (value->key.n_bytes == 0 || value->key.n_bytes > MAX_KEY ||
        memchr(value->key.bytes, '\0', value->key.n_bytes) != NULL)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: the key before byte %zu has %zu bytes; it must have 1 to %d, none of "
                       "them 0",
                       reader->path, reader->at, value->key.n_bytes, MAX_KEY);
    QR_TRY(read_type(reader, value, &value->type));
    if (value->type == QR_GGUF_ARRAY) {
        value->is_array = true;
        QR_TRY(read_type(reader, value, &value->type));
        QR_TRY(read_number(reader, "the length of an array", sizeof(uint64_t), &value->count));
        if (value->type == QR_GGUF_ARRAY)
            return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                           "%s: %.*s: an array of arrays, which no model needs", reader->path,
                           (int)value->key.n_bytes, value->key.bytes);
    }
    value->data = reader->data + reader->at;
    return skip_items(reader, value);
}

static int by_key(const void *a, const void *b)
{
    return qr_gguf_compare(((const struct qr_gguf_value *)a)->key,
                           ((const struct qr_gguf_value *)b)->key);
}

static enum qr_status read_values(struct reader *reader, uint64_t count, struct qr_gguf *gguf)
{
    if (count > (reader->size - reader->at) / MIN_VALUE_BYTES)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: %llu metadata values cannot be in a file of %zu bytes", reader->path,
                       (unsigned long long)count, reader->size);
    gguf->values = qr_calloc(QR_ARENA_ENGINE, (size_t)count, sizeof(*gguf->values));
    if (gguf->values == NULL)
        return qr_fail(reader->err, QR_ERR_NOMEM, "%s: out of memory for its metadata",
                       reader->path);
    for (uint64_t i = 0; i < count; i++)
        QR_TRY(read_value(reader, &gguf->values[i]));
    gguf->n_values = (size_t)count;
    qsort(gguf->values, gguf->n_values, sizeof(*gguf->values), by_key);
    for (size_t i = 1; i < gguf->n_values; i++)
        if (by_key(&gguf->values[i - 1], &gguf->values[i]) == 0)
            return qr_fail(reader->err, QR_ERR_INVALID, "%s: the key %.*s stands in it twice",
                           reader->path, (int)gguf->values[i].key.n_bytes,
                           gguf->values[i].key.bytes);
    return QR_OK;
}

/* ---- tensors ---- */

static enum qr_status read_name(struct reader *reader, char name[MAX_NAME + 1])
{
    struct qr_gguf_text text = {0};

    QR_TRY(read_text(reader, "the name of a tensor", &text));
    if (text.n_bytes == 0 || text.n_bytes > MAX_NAME ||
        memchr(text.bytes, '\0', text.n_bytes) != NULL)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: the tensor name before byte %zu has %zu bytes; it must have 1 to %d, "
                       "none of them 0",
                       reader->path, reader->at, text.n_bytes, MAX_NAME);
    memcpy(name, text.bytes, text.n_bytes);
    name[text.n_bytes] = '\0';
    return QR_OK;
}

/* The file has the innermost dimension first. *n_elements is their product. */
static enum qr_status read_dims(struct reader *reader, const char *name, struct qr_tensor *tensor,
                                int64_t *n_elements)
{
    uint64_t n_dims = 0;

    QR_TRY(read_number(reader, "a tensor", sizeof(uint32_t), &n_dims));
    if (n_dims == 0 || n_dims > QR_TENSOR_MAX_DIMS)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: tensor %s: it has %llu dimensions; 1 to %d are read", reader->path,
                       name, (unsigned long long)n_dims, QR_TENSOR_MAX_DIMS);
    tensor->n_dims = (int32_t)n_dims;
    *n_elements = 1;
    for (int32_t i = tensor->n_dims - 1; i >= 0; i--) {
        uint64_t dim = 0;
        QR_TRY(read_number(reader, "a tensor", sizeof(dim), &dim));
        if (dim == 0 || dim > INT64_MAX ||
            __builtin_mul_overflow(*n_elements, (int64_t)dim, n_elements))
            return qr_fail(reader->err, QR_ERR_INVALID,
                           "%s: tensor %s: dimension %llu makes it empty or too large",
                           reader->path, name, (unsigned long long)dim);
        tensor->dims[i] = (int64_t)dim;
    }
    return QR_OK;
}

/* Fills what the ggml type says; *n_bytes is the size of the tensor. */
static enum qr_status read_format(struct reader *reader, struct qr_tensor_entry *entry,
                                  int64_t n_elements, int64_t *n_bytes)
{
    uint64_t type = 0;
    struct qr_ggml_type format;
    int64_t row = entry->tensor.dims[entry->tensor.n_dims - 1];

    QR_TRY(read_number(reader, "a tensor", sizeof(uint32_t), &type));
    if (!qr_ggml_type_find(type, &format))
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED, "%s: tensor %s: ggml type %llu is unknown",
                       reader->path, entry->name, (unsigned long long)type);
    entry->dtype_name = format.name;
    entry->is_readable = format.is_readable;
    entry->tensor.dtype = format.dtype;
    if (row % format.block != 0)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: tensor %s: rows of %lld elements are no whole %s blocks of %d",
                       reader->path, entry->name, (long long)row, format.name, format.block);
    if (__builtin_mul_overflow(n_elements / format.block, format.bytes, n_bytes))
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: tensor %s: it is too large", reader->path,
                       entry->name);
    return QR_OK;
}

/* The offsets begin at the data section, which is not known yet: `begin` and `end` say where. */
static enum qr_status read_tensor(struct reader *reader, uint64_t alignment, struct qr_gguf *gguf)
{
    char name[MAX_NAME + 1];
    struct qr_tensor_entry *entry;
    int64_t n_elements = 0;
    int64_t n_bytes = 0;
    uint64_t offset = 0;

    QR_TRY(read_name(reader, name));
    QR_TRY(qr_tensor_list_append(&gguf->tensors, reader->path, name, &entry, reader->err));
    QR_TRY(read_dims(reader, name, &entry->tensor, &n_elements));
    QR_TRY(read_format(reader, entry, n_elements, &n_bytes));
    QR_TRY(read_number(reader, "a tensor", sizeof(offset), &offset));
    if (offset % alignment != 0)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: tensor %s: offset %llu is no multiple of general.alignment %llu",
                       reader->path, name, (unsigned long long)offset,
                       (unsigned long long)alignment);
    if (offset > INT64_MAX || __builtin_add_overflow((int64_t)offset, n_bytes, &entry->end))
        return qr_fail(reader->err, QR_ERR_INVALID, "%s: tensor %s: offset %llu is too large",
                       reader->path, name, (unsigned long long)offset);
    entry->begin = (int64_t)offset;
    return QR_OK;
}

/* They lie within the data section and apart. Sorts them, and makes them point to their data. */
static enum qr_status place_tensors(const struct reader *reader, uint64_t alignment,
                                    struct qr_gguf *gguf)
{
    struct qr_tensor_entry *entries = gguf->tensors.entries;
    size_t count = gguf->tensors.count;
    size_t start = (reader->at + (size_t)alignment - 1) / (size_t)alignment * (size_t)alignment;
    int64_t size = start < reader->size ? (int64_t)(reader->size - start) : 0;

    qr_tensor_entries_sort(entries, count);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].end > size)
            return qr_fail(reader->err, QR_ERR_INVALID,
                           "%s: tensor %s: bytes %lld to %lld do not lie within the %lld bytes of "
                           "data; the file may be cut short",
                           reader->path, entries[i].name, (long long)entries[i].begin,
                           (long long)entries[i].end, (long long)size);
        if (i > 0 && entries[i].begin < entries[i - 1].end)
            return qr_fail(reader->err, QR_ERR_INVALID, "%s: tensor %s overlaps tensor %s",
                           reader->path, entries[i].name, entries[i - 1].name);
        entries[i].tensor.data = reader->data + start + (size_t)entries[i].begin;
    }
    return QR_OK;
}

static enum qr_status read_tensors(struct reader *reader, uint64_t count, struct qr_gguf *gguf)
{
    int64_t alignment = 0;

    QR_TRY(qr_gguf_get_int(gguf, "general.alignment", 8, MAX_ALIGNMENT, DEFAULT_ALIGNMENT,
                           &alignment, reader->err));
    if ((alignment & (alignment - 1)) != 0)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: general.alignment is %lld; it must be a power of two", reader->path,
                       (long long)alignment);
    if (count > (reader->size - reader->at) / MIN_TENSOR_BYTES)
        return qr_fail(reader->err, QR_ERR_INVALID,
                       "%s: %llu tensors cannot be in a file of %zu bytes", reader->path,
                       (unsigned long long)count, reader->size);
    for (uint64_t i = 0; i < count; i++)
        QR_TRY(read_tensor(reader, (uint64_t)alignment, gguf));
    return place_tensors(reader, (uint64_t)alignment, gguf);
}

/* ---- the file ---- */

static enum qr_status check_version(const struct reader *reader, uint64_t version)
{
    if (version >= VERSION_MIN && version <= VERSION_MAX)
        return QR_OK;
    if (version != 0 && version % (1 << 16) == 0)
        return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                       "%s: a big-endian GGUF file; convert the model to little-endian",
                       reader->path);
    return qr_fail(reader->err, QR_ERR_UNSUPPORTED,
                   "%s: GGUF version %llu; Quire reads %d and %d, convert the model again",
                   reader->path, (unsigned long long)version, VERSION_MIN, VERSION_MAX);
}

enum qr_status qr_gguf_parse(const char *path, const uint8_t *data, size_t size,
                             struct qr_gguf *out, struct qr_error *err)
{
    struct reader reader = {.path = path, .data = data, .size = size, .at = 4, .err = err};
    uint64_t version = 0;
    uint64_t n_tensors = 0;
    uint64_t n_values = 0;

    *out = (struct qr_gguf){.path = path};
    if (size < 4 || memcmp(data, "GGUF", 4) != 0)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: no GGUF file: it does not begin with the letters GGUF", path);
    QR_TRY(read_number(&reader, "the version", sizeof(uint32_t), &version));
    QR_TRY(check_version(&reader, version));
    QR_TRY(read_number(&reader, "the number of tensors", sizeof(n_tensors), &n_tensors));
    QR_TRY(read_number(&reader, "the number of values", sizeof(n_values), &n_values));
    QR_TRY(read_values(&reader, n_values, out));
    return read_tensors(&reader, n_tensors, out);
}

void qr_gguf_free(struct qr_gguf *gguf)
{
    qr_free(gguf->values);
    qr_tensor_list_free(&gguf->tensors);
    *gguf = (struct qr_gguf){0};
}

enum qr_status qr_gguf_open(const char *path, struct qr_gguf_file *out, struct qr_error *err)
{
    enum qr_status status;

    *out = (struct qr_gguf_file){.path = qr_strdup(QR_ARENA_ENGINE, path)};
    if (out->path == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory", path);
    status = qr_mapped_file_open(path, &out->mapping, err);
    if (status == QR_OK)
        status = qr_gguf_parse(out->path, out->mapping.data, out->mapping.size, &out->gguf, err);
    if (status != QR_OK)
        qr_gguf_close(out);
    return status;
}

void qr_gguf_close(struct qr_gguf_file *file)
{
    qr_gguf_free(&file->gguf);
    qr_mapped_file_close(&file->mapping);
    qr_free(file->path);
    *file = (struct qr_gguf_file){0};
}
